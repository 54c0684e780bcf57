"""Charts as plain values: ECharts options for what moves while a run trains, Plotly for what stands still."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from faces.knobs import Number, Value
from faces.palette import SHAPES, Paper, head_ink

Curve = tuple[Iterable[Any], Iterable[Any]]  # x and y


def graph_objects() -> Any:
    """Plotly's figures, slow to load. pandas goes first: Plotly takes it half loaded while another thread is at it."""
    import_module("pandas")
    return import_module("plotly.graph_objects")


def lines(
    curves: Mapping[str, Curve], colors: Mapping[str, str], x: str, y: str, percent: bool = False, dots: bool = False
) -> dict[str, Any]:
    """An ECharts option for named curves over one axis. `percent` shows shares of one as per cent."""
    label = {"formatter": "{value} %"} if percent else {}
    times = 100 if percent else 1
    return {
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 28, "containLabel": True},
        "legend": {"top": 0, "left": 0, "icon": "circle", "itemWidth": 8, "itemHeight": 8, "show": len(curves) > 1},
        "tooltip": {"trigger": "axis", "valueFormatter": "%.1f" if percent else "%.3f"},
        "animationDuration": 200,
        "xAxis": {"type": "value", "name": x, "nameLocation": "middle", "nameGap": 24, "splitLine": {"show": False}},
        "yAxis": {
            "type": "value", "name": y if len(curves) == 1 else "", "nameTextStyle": {"align": "left"},
            "axisLabel": label, "scale": not percent, "max": 100 if percent else None,
        },
        "series": [
            {
                "name": name, "type": "line", "color": colors[name], "lineStyle": {"width": 2}, "symbolSize": 5,
                "showSymbol": dots or len(list(xs)) < 3,
                "data": [[round(float(a), 4), round(float(b) * times, 4)] for a, b in zip(xs, ys, strict=True)],
            }
            for name, (xs, ys) in curves.items()
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line over angles: `x` in degrees, NaN in `y` for a gap. A `faint` one is a background, and not in the legend.

    `dash` is Plotly's name of it. With an `edge`, all between the line and this value is shaded in its colour.
    """

    name: str
    x: Sequence[float] | ndarray
    y: Sequence[float] | ndarray
    color: str
    width: float = 2.0
    dash: str = "solid"
    faint: bool = False
    edge: float | None = None


@dataclass(frozen=True)
class Dot:
    """A point that is to be noticed, with a few words beside it; a `sign` is the words alone."""

    x: float
    y: float
    color: str
    words: str = ""
    filled: bool = True
    sign: bool = False


def over_angles(
    lines: Sequence[Line],
    dots: Sequence[Dot] = (),
    low: float = 0.0,
    high: float = 1.0,
    step: float = 0.25,
    upright: Mapping[float, str] = MappingProxyType({}),
    level: Mapping[float, str] = MappingProxyType({}),
    x: str = "θ, angle to the own class",
    y: str = "",
    unit: str = "",
) -> dict[str, Any]:
    """A picture for assets/curves.js: lines over the angle to the own class, 0 to 180 degrees.

    `low`, `high`, `step` and `unit` are those of the upright axis, which is not drawn without a step. `upright` and
    `level` are thin lines across the picture with their words, by the angle or the value they stand at. Lines over the
    same angles share a table.
    """
    tables = {np.asarray(line.x, float).tobytes(): np.round(line.x, 2).tolist() for line in lines}
    places = {table: place for place, table in enumerate(tables)}
    return {
        "x": x,
        "y": {"low": low, "high": high, "step": step, "title": y, "unit": unit},
        "tables": list(tables.values()),
        "lines": [
            {
                "name": line.name, "color": line.color, "width": line.width, "dash": line.dash, "faint": line.faint,
                "table": places[np.asarray(line.x, float).tobytes()],
                "y": [None if math.isnan(value) else round(value, 4) for value in np.asarray(line.y, float).tolist()],
                **({} if line.edge is None else {"edge": line.edge}),
            }
            for line in lines
        ],
        "dots": [vars(dot) for dot in dots],
        "upright": list(upright.items()),
        "level": list(level.items()),
    }  # fmt: skip


def angle_plane(theta: ndarray, boundary: ndarray, own: str, sample: Dot) -> dict[str, Any]:
    """A picture for assets/curves.js of who wins between two classes, by the angles to both of them, in degrees.

    `boundary` is the least angle to the other class at which the own one wins, for each `theta` to the own, 180 for
    none; the other class wins where the same holds the other way round. What is left is not decided.
    """
    won = boundary < 180
    last = min(int(np.flatnonzero(won)[-1]) + 2 if won.any() else 1, len(theta))
    x, y = theta[:last], boundary[:last]
    corner = [180.0] * bool(won[-1])
    diagonal = np.linspace(0.0, 180.0, 46)
    signs = [Dot(45.0, 155.0, GREY, "own class wins", sign=True), Dot(135.0, 24.0, GREY, "other class wins", sign=True)]
    middle = 90.0 if abs(sample.x - 90) > 30 or abs(sample.y - 90) > 12 else 130.0
    aside = np.zeros(len(diagonal), bool)
    if float(np.interp(middle, theta, boundary)) > middle + 25:
        signs.append(Dot(middle, middle - 3, GREY, "undecided", sign=True))
        aside = np.abs(diagonal - middle) < 12
    lines = [
        Line("", x, y, own, 2.5, edge=180.0),
        Line("", np.append(y, corner), np.append(x, corner), GREY, 1.5, edge=0.0),
        Line("", diagonal, np.where(aside, np.nan, diagonal), GREY, 1.0, "dot"),
    ]
    return over_angles(
        lines, [*signs, sample], 0.0, 180.0, 30.0,
        x="θ₁, angle to the own class", y="θ₂, angle to the other class", unit="°",
    )  # fmt: skip


def angle_gauge(asked: float, there: float, color: str) -> dict[str, Any]:
    """A picture for assets/curves.js of an angle that is asked for, a bar within the one that there is, in degrees."""
    bars = [Line("", [0.0, there], [0.5, 0.5], GREY, 12.0, faint=True), Line("", [0.0, asked], [0.5, 0.5], color, 12.0)]
    return over_angles(bars, step=0.0, upright={round(there, 2): f"{there:.1f}°"}, x="")


def crossing(x: ndarray, y: ndarray, level: float) -> float | None:
    """The first x at which a line falls below a level; None when it starts below or never falls."""
    below = np.flatnonzero(y < level)
    if not len(below) or below[0] == 0:
        return None
    k = below[0]
    return float(x[k - 1] + (x[k] - x[k - 1]) * (y[k - 1] - level) / (y[k - 1] - y[k]))


QUICK = {"animationDuration": 0, "animationDurationUpdate": 0}


def history_curve(history: Sequence[Mapping[str, Any]], metric: str) -> Curve:
    """One metric of a run over its epochs, where it was measured."""
    told = [(facts["epoch"], facts["metrics"][metric]) for facts in history if metric in facts["metrics"]]
    return [epoch for epoch, _ in told], [value for _, value in told]


DASHES = ("solid", "dash", "dot", "dashdot")  # as many as inks have shapes


def dashes(heads: Sequence[str]) -> list[str]:
    """A Plotly dash for each line, such that lines of heads with one colour differ; a fifth one repeats the first."""
    found: list[tuple[str, str]] = []
    for head in heads:
        ink = head_ink(head)
        turns = range(SHAPES.index(ink.shape), SHAPES.index(ink.shape) + len(DASHES))
        ways = [(ink.light, DASHES[turn % len(DASHES)]) for turn in turns]
        found.append(next((way for way in ways if way not in found), ways[0]))
    return [dash for _, dash in found]


def still_lines(
    curves: Mapping[str, Curve],
    colors: Mapping[str, str],
    x: str,
    y: str,
    log: bool = False,
    dash: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """A Plotly figure of shares of one (shown as per cent) over one axis, one line per name, dashed if said."""
    go = graph_objects()

    shares = [float(share) for _, ys in curves.values() for share in ys]
    close = max(shares, default=1) - min(shares, default=0) < 0.1  # else two ticks would read the same
    figure = go.Figure()
    for name, (xs, ys) in curves.items():
        line = {"color": colors[name], "width": 2, "dash": dash.get(name, "solid")}
        figure.add_scatter(
            x=list(xs), y=list(ys), name=name, mode="lines+markers", line=line, marker={"size": 5},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(
        height=360, margin={"l": 8, "r": 8, "t": 8, "b": 8}, hovermode="x unified",
        legend={"orientation": "h", "y": -0.32, "x": 0},
    )  # fmt: skip
    figure.update_xaxes(title=x, type="log" if log else "linear", showgrid=False)
    figure.update_yaxes(title=y, tickformat=".1%" if close else ".0%", nticks=6)
    return figure


GREY = "#8a929c"  # of lines: stands out on white and on near-black


def inked(chart: Any, paper: Paper) -> Any:
    """An ECharts option, or a Plotly figure, whose words can be read on this paper.

    Streamlit's theme writes axes in a grey of 3.7 against white.
    """
    if not isinstance(chart, dict):
        chart.update_layout(font_color=paper.ink, legend_font_color=paper.ink)
        for axes in (chart.update_xaxes, chart.update_yaxes):
            axes(tickfont_color=paper.quiet, title_font_color=paper.quiet)
        return chart
    return {name: _inked(name, part, paper) for name, part in chart.items()}


WORDS = {"xAxis": ("axisLabel", "nameTextStyle"), "yAxis": ("axisLabel", "nameTextStyle"), "visualMap": ("textStyle",)}


def _inked(name: str, part: Any, paper: Paper) -> Any:
    """A part of an option: `name` is its key, or that of the list it stands in."""
    if isinstance(part, list):
        return [_inked(name, one, paper) for one in part]
    if not isinstance(part, dict):
        return part
    found = {key: _inked(key, value, paper) for key, value in part.items()}
    if name == "legend":
        found["textStyle"] = {"color": paper.ink, **found.get("textStyle", {})}
    for key in WORDS.get(name, ()):
        found[key] = {"color": paper.quiet, **found.get(key, {})}
    return found


PLAIN = {"displayModeBar": False}  # a Plotly chart without its row of buttons


def still_ranking(rows: Sequence[Mapping[str, Any]], x: str, unit: str, digits: int) -> Any:
    """A Plotly dot plot of heads, the first at the top: a dot per seed, the mean, and an interval around it.

    Each row has `head`, `color`, `rank` (a word, or ""), `scores`, `mean`, `within` (half the interval of the
    difference to the first row, or None) and `tied`: whether it belongs to the shaded heads. The seeds of a row
    stand below one another, the first at the top, so that equal scores stay two dots. An interval that
    goes much further than all scores leaves the picture.
    """
    go = graph_objects()

    figure = go.Figure()
    for place, row in enumerate(rows):
        y, color = len(rows) - place, row["color"]
        if row["tied"]:
            figure.add_shape(
                type="rect", xref="paper", x0=0, x1=1, y0=y - 0.5, y1=y + 0.5, fillcolor=GREY, opacity=0.1,
                line_width=0, layer="below",
            )  # fmt: skip
        name = f"<b>{row['head']}</b><br>"
        if len(row["scores"]) > 1:
            figure.add_scatter(
                x=list(row["scores"]), y=np.linspace(y - 0.06, y - 0.34, len(row["scores"])), mode="markers",
                marker={"color": color, "size": 7, "opacity": 0.65},
                hovertemplate=f"{name}a seed: %{{x:.{digits}f}}{unit}<extra></extra>",
            )  # fmt: skip
        if row["within"]:
            figure.add_scatter(
                x=[row["mean"] - row["within"], row["mean"] + row["within"]], y=[y + 0.2] * 2, mode="lines+markers",
                line={"color": color, "width": 2}, marker={"symbol": "line-ns", "size": 10, "line_width": 2,
                "line_color": color}, hoverinfo="skip",
            )  # fmt: skip
        figure.add_scatter(
            x=[row["mean"]], y=[y + 0.2 * (len(row["scores"]) > 1)], mode="markers",
            marker={"color": color, "size": 13},
            hovertemplate=f"{name}%{{x:.{digits}f}}{unit}<extra></extra>",
        )  # fmt: skip
    if rows and any(row["within"] for row in rows):
        figure.add_vline(rows[0]["mean"], line={"color": GREY, "width": 1, "dash": "dot"}, layer="below")
    ticks = [f"<b>{row['head']}</b>" + (f"<br>{row['rank']}" if row["rank"] else "") for row in rows]
    figure.update_layout(height=54 * len(rows) + 60, margin={"l": 8, "r": 12, "t": 4, "b": 8}, showlegend=False)
    every = [score for row in rows for score in row["scores"]]
    ends = [row["mean"] + side * (row["within"] or 0) for row in rows for side in (-1, 1)]
    low, high, across = min(every), max(every), max(every) - min(every) or 1.0
    low, high = min(low, max(min(ends), low - across)), max(high, min(max(ends), high + across))
    pad = 0.06 * (high - low or 1.0)
    figure.update_xaxes(title=x, ticksuffix=unit, nticks=6, zeroline=False, range=[low - pad, high + pad])
    figure.update_yaxes(
        tickvals=list(range(len(rows), 0, -1)), ticktext=ticks, range=[0.5, len(rows) + 0.5], showgrid=False,
        zeroline=False, automargin=True, fixedrange=True,
    )  # fmt: skip
    return figure


def at_rates(
    far: Float[ndarray, " points"], tar: Float[ndarray, " points"], rates: Float[ndarray, " R"]
) -> Float[ndarray, " R"]:
    """The share of own pairs that a ROC curve (its FAR rising) accepts at no more than each of these FARs; else 0."""
    place = np.searchsorted(far, rates, side="right") - 1  # (R,)
    return np.where(place >= 0, np.asarray(tar)[place.clip(0)], 0.0)


def still_roc(curves: Mapping[str, Sequence[ndarray]], colors: Mapping[str, str], rates: Float[ndarray, " R"]) -> Any:
    """A Plotly figure of ROC curves at the same FARs: a thin line per seed, their mean bold, one ink per head."""
    go = graph_objects()

    figure = go.Figure()
    figure.add_scatter(
        x=list(rates), y=list(rates), mode="lines", line={"color": GREY, "width": 1, "dash": "dot"},
        name="a coin", hoverinfo="skip",
    )  # fmt: skip
    for (head, seeds), dash in zip(curves.items(), dashes(list(curves)), strict=True):
        for tars in seeds if len(seeds) > 1 else ():
            figure.add_scatter(
                x=list(rates), y=list(tars), mode="lines", line={"color": colors[head], "width": 1}, opacity=0.35,
                legendgroup=head, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
        figure.add_scatter(
            x=list(rates), y=np.mean(seeds, 0).tolist(), mode="lines",
            line={"color": colors[head], "width": 2, "dash": dash}, name=head, legendgroup=head,
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(
        height=460, margin={"l": 8, "r": 28, "t": 8, "b": 8}, hovermode="x unified",
        legend={"orientation": "h", "y": -0.2, "x": 0},
    )  # fmt: skip
    figure.update_xaxes(
        title="FAR: unlike pairs that are accepted", type="log", showgrid=True, hoverformat=".3%",
        tickvals=[1e-4, 1e-3, 1e-2, 1e-1, 1], ticktext=["0.01 %", "0.1 %", "1 %", "10 %", "100 %"],
        range=[float(np.log10(min(rates))), 0],
    )  # fmt: skip
    figure.update_yaxes(title="TAR: like pairs that are accepted", tickformat=".0%", range=[0, 1.01])
    return figure


DEGREES = np.arange(0, 181, 2)  # edges of the bars in a picture of angles


def per_degree(angles: Float[ndarray, " N"]) -> Float[ndarray, " bars"]:
    """How angles (radians) spread: the share of them in each degree, one number for every two degrees to 180."""
    counts, _ = np.histogram(np.degrees(angles), DEGREES)
    return counts / max(len(angles), 1) / np.diff(DEGREES)


def still_angles(spreads: Mapping[str, Float[ndarray, " bars"]], color: str, top: float) -> Any:
    """A small Plotly figure of how angles spread (`per_degree`), as areas for validation and as lines for training.

    `spreads` has "own" and "other", the angles to the own and to the nearest other center of validation images,
    and, when training images were embedded, "train own" and "train other". `top` is the height of the picture.
    """
    go = graph_objects()

    middle = (DEGREES[:-1] + DEGREES[1:]) / 2
    figure = go.Figure()
    for which, ink in (("other", GREY), ("own", color)):
        name = f"{'own center' if which == 'own' else 'nearest other'}: validation"
        figure.add_scatter(
            x=middle, y=spreads[which], mode="lines", line={"color": ink, "width": 0}, fill="tozeroy", name=name,
            opacity=0.5, hovertemplate="%{y:.1%}",
        )  # fmt: skip
        if f"train {which}" in spreads:
            figure.add_scatter(
                x=middle, y=spreads[f"train {which}"], mode="lines", line={"color": ink, "width": 2},
                name=name.replace("validation", "training"), hovertemplate="%{y:.1%}",
            )  # fmt: skip
    figure.update_layout(
        height=170, margin={"l": 4, "r": 4, "t": 4, "b": 4}, showlegend=False, hovermode="x unified",
    )  # fmt: skip
    figure.update_xaxes(range=[0, 120], tickvals=[0, 30, 60, 90, 120], ticktext=["0°", "30°", "60°", "90°", "120°"])
    figure.update_yaxes(range=[0, top * 1.05], showticklabels=False, showgrid=False, zeroline=False)
    return figure


def still_noise(
    curves: Mapping[str, Mapping[int, tuple[float, float]]], colors: Mapping[str, str], y: str, unit: str, digits: int
) -> Any:
    """A Plotly figure of scores against the percentage of wrong labels: (mean, spread or 0) by level and head.

    The levels stand at equal distances, since those on offer lie close together at one end.
    """
    go = graph_objects()

    levels = sorted({level for line in curves.values() for level in line})
    figure, dash = go.Figure(), dashes(list(curves))
    for place, (head, line) in enumerate(curves.items()):
        shift = 0.022 * (place - (len(curves) - 1) / 2)  # else the spreads would hide one another
        own = [level for level in levels if level in line]
        figure.add_scatter(
            x=[levels.index(level) + shift for level in own], y=[line[level][0] for level in own], name=head,
            mode="lines+markers", line={"color": colors[head], "width": 2, "dash": dash[place]}, marker={"size": 7},
            error_y={"array": [line[level][1] for level in own], "color": colors[head], "thickness": 1.2, "width": 3},
            hovertemplate=f"{head}: %{{y:.{digits}f}}{unit}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        height=420, margin={"l": 8, "r": 8, "t": 8, "b": 8}, legend={"orientation": "h", "y": -0.2, "x": 0}
    )
    figure.update_xaxes(
        title="wrong training labels", tickvals=list(range(len(levels))), ticktext=[f"{level} %" for level in levels],
        showgrid=False,
    )  # fmt: skip
    figure.update_yaxes(title=y, ticksuffix=unit, nticks=6, zeroline=False)
    return figure


def still_shares(shares: Mapping[int, Sequence[float]], color: str) -> Any:
    """A Plotly figure of the share of training images that each sub-center wins, by percentage of wrong labels.

    One bar per noise level, its parts the shares, largest first.
    """
    go = graph_objects()

    levels = sorted(shares)
    red, green, blue = bytes.fromhex(color[1:])
    figure = go.Figure()
    for center in range(max(map(len, shares.values()), default=0)):
        figure.add_bar(
            y=[f"{level} %" for level in levels], x=[shares[level][center] for level in levels], orientation="h",
            marker={"color": f"rgba({red},{green},{blue},{max(1 - 0.28 * center, 0.1):.2f})"},
            name=f"sub-center {center + 1}",
            texttemplate="%{x:.0%}", textposition="inside", insidetextanchor="middle", hovertemplate="%{x:.1%}",
        )  # fmt: skip
    figure.update_layout(
        barmode="stack", height=44 * len(levels) + 90, margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "y": -0.35, "x": 0, "traceorder": "normal"},
    )  # fmt: skip
    figure.update_layout(uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_xaxes(tickformat=".0%", range=[0, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], showgrid=False)
    figure.update_yaxes(title="wrong labels", autorange="reversed", type="category")
    return figure


def still_two_ways(rows: Sequence[tuple[str, float, float]], colors: Mapping[str, str], names: tuple[str, str]) -> Any:
    """A Plotly figure of two shares per head, the first row at the top: a filled and a hollow dot on one line."""
    go = graph_objects()

    figure = go.Figure()
    for place, (head, first, second) in enumerate(rows):
        y, color = len(rows) - place, colors[head]
        figure.add_scatter(
            x=[first, second], y=[y, y], mode="lines+markers", line={"color": color, "width": 2, "backoff": 7},
            marker={"size": 13, "symbol": ["circle", "circle-open"], "color": color,
            "line": {"width": 2, "color": color}},
            customdata=names, hovertemplate=f"<b>{head}</b><br>%{{customdata}}: %{{x:.1%}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(height=40 * len(rows) + 60, margin={"l": 8, "r": 12, "t": 4, "b": 8}, showlegend=False)
    figure.update_xaxes(title="DNN accuracy", tickformat=".3~p", nticks=6, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(rows), 0, -1)), ticktext=[head for head, _, _ in rows],
        range=[0.5, len(rows) + 0.5], showgrid=False, zeroline=False, automargin=True,
    )  # fmt: skip
    return figure


@dataclass(frozen=True)
class Tile:
    """A cell of a heat map: its column and row, its value, a word or sign in it, and what it says when looked at."""

    column: int
    row: int
    value: float | None
    label: str
    words: str


@dataclass(frozen=True)
class Ruled:
    """A line over a heat map, in places of its columns and rows (the first at 0), with a short name."""

    name: str
    xs: Sequence[Number]
    ys: Sequence[Number]


def heat_map(
    tiles: Sequence[Tile],
    columns: Sequence[str],
    rows: Sequence[str],
    titles: tuple[str, str],
    scale: Sequence[str],
    unit: str,
    paper: Paper,
    ruled: Sequence[Ruled] = (),
) -> dict[str, Any]:
    """An ECharts option for values over two settings. Clicking selects tiles, several at a time, in their order.

    `scale` are colours from little to much, between the least and the largest value. Tiles without a value are there,
    in grey, with their sign.
    """
    span = _span(tile.value for tile in tiles)
    data = [_coloured(tile, tile.column, tile.row, span, scale, paper.empty, paper) for tile in tiles]
    few = len(columns) <= 8
    axis = {"axisTick": {"show": False}, "axisLine": {"show": False}, "splitLine": {"show": False}}
    hidden = {"type": "value", "show": False, "min": -0.5}
    return {
        "grid": {"left": 8, "right": 12, "top": 18 + 16 * _upright(ruled), "bottom": 78, "containLabel": True},
        **QUICK,
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": [
            {**axis, "type": "category", "data": list(columns), "name": titles[0], "nameLocation": "middle",
             "nameGap": 28},
            {**hidden, "max": len(columns) - 0.5},
        ],
        "yAxis": [
            {**axis, "type": "category", "data": list(rows), "name": titles[1], "nameTextStyle": {"align": "left"},
             "nameLocation": "end", "nameGap": 6},
            {**hidden, "max": len(rows) - 0.5},
        ],
        "visualMap": _bar(span, scale, unit),
        "series": [
            {
                "type": "heatmap", "name": "cells", "data": data, "selectedMode": "multiple",
                "itemStyle": {"borderColor": paper.ground, "borderWidth": 2, "borderRadius": 4},
                "label": {"fontSize": 12 if few else 10, "lineHeight": 15},
                "emphasis": {"itemStyle": {"borderColor": GREY, "borderWidth": 2}},
                "select": {"itemStyle": {"borderColor": paper.ink, "borderWidth": 4}},
            },
            *(part for place, line in enumerate(ruled) for part in _over(line, place, paper)),
        ],
    }  # fmt: skip


def _span(values: Iterable[float | None]) -> tuple[float, float]:
    """The least and the largest value, never the same."""
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return low, high if high > low else low + 1e-6


def _bar(span: tuple[float, float], scale: Sequence[str], unit: str) -> dict[str, Any]:
    """The scale under a map, where there is more than one value."""
    low, high = span
    return {
        "type": "continuous", "min": low, "max": high, "orient": "horizontal", "left": "center", "bottom": 0,
        "itemHeight": 130, "itemWidth": 12, "inRange": {"color": list(scale)}, "seriesIndex": 0,
        "text": [f"{high:.1f}{unit}", f"{low:.1f}{unit}"], "show": high - low > 2e-6, "hoverLink": False,
    }  # fmt: skip


def _coloured(
    one: "Tile | Spot",
    x: Number,
    y: Number,
    span: tuple[float, float],
    scale: Sequence[str],
    unknown: str,
    paper: Paper,
) -> dict[str, Any]:
    """One value of a map: its place, its colour between the ends, its label and its words."""
    low, high = span
    fill = unknown if one.value is None else _blend(scale, (one.value - low) / (high - low))
    pen = paper.ink if one.value is None else _readable(fill)
    return {
        "name": f"{x}, {y}",  # ECharts selects all that share a name
        "value": [x, y, low if one.value is None else round(one.value, 3)],
        "label": {"show": bool(one.label), "formatter": one.label, "color": pen},
        "itemStyle": {"color": fill},
        "tooltip": {"formatter": one.words},
    }


def _upright(ruled: Sequence[Ruled]) -> int:
    """How many lines stand upright, and so have their name above the map."""
    return sum(len(set(line.xs)) == 1 for line in ruled)


def _over(line: Ruled, place: int, paper: Paper) -> list[dict[str, Any]]:
    """A line that can be seen on any colour: dashed, on a pale ground, with its name on a plate at its end."""
    upright = len(set(line.xs)) == 1
    points = [[round(float(x), 4), round(float(y), 4)] for x, y in zip(line.xs, line.ys, strict=True)]
    name = {
        "show": True, "formatter": line.name, "color": paper.ink, "backgroundColor": paper.ground, "padding": [2, 5],
        "fontSize": 11, "borderRadius": 3, "position": "top" if upright else "insideBottomLeft",
        "offset": [0, 4 - 16 * place] if upright else [0, 0], "align": "center" if upright else "left",
    }  # fmt: skip
    end = max(points, key=lambda point: point[1]) if upright else min(points)
    common = {"type": "line", "xAxisIndex": 1, "yAxisIndex": 1, "silent": True, "symbol": "none", "data": points,
              "tooltip": {"show": False}}  # fmt: skip
    return [
        {**common, "z": 4, "lineStyle": {"color": paper.ground, "width": 5, "opacity": 0.75}},
        {**common, "z": 5, "lineStyle": {"color": paper.ink, "width": 2, "type": DASH[place % len(DASH)]}},
        {
            "type": "scatter", "xAxisIndex": 1, "yAxisIndex": 1, "silent": True, "symbolSize": 1, "z": 6,
            "clip": False,
            "data": [{"value": end, "label": name}], "tooltip": {"show": False}, "itemStyle": {"color": "transparent"},
        },
    ]  # fmt: skip


DASH = ("dashed", "dotted", "solid")


def _blend(scale: Sequence[str], share: float) -> str:
    """The colour at a share of the way through a scale."""
    rows = np.array([list(bytes.fromhex(color[1:])) for color in scale])
    place = min(max(share, 0.0), 1.0) * (len(rows) - 1)
    mixed = [np.interp(place, np.arange(len(rows)), rows[:, channel]) for channel in range(3)]
    return "#" + "".join(f"{round(float(value)):02x}" for value in mixed)


def _readable(fill: str) -> str:
    """Black or white, whichever stands out more on a colour (WCAG's relative luminance)."""
    shares = np.array(list(bytes.fromhex(fill[1:]))) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return "#000000" if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.179 else "#ffffff"


@dataclass(frozen=True)
class Spot:
    """A point of a search: where it lies, as a `Tile` otherwise. `value` None: nothing came of it."""

    x: Number
    y: Number
    value: float | None
    label: str
    words: str


def spot_map(
    spots: Sequence[Spot],
    ends: tuple[tuple[Number, Number, bool], tuple[Number, Number, bool]],
    titles: tuple[str, str],
    scale: Sequence[str],
    unit: str,
    paper: Paper,
    ruled: Sequence[Ruled] = (),
) -> dict[str, Any]:
    """The same as `heat_map` for points anywhere between the `ends` of two axes: low, high, whether by equal factors.

    The lines are in values of the axes.
    """
    span = _span(spot.value for spot in spots)
    data = []
    for spot in spots:
        one = _coloured(spot, spot.x, spot.y, span, scale, GREY, paper)
        one["symbolSize"] = 14 if spot.value is None else 26 if spot.value == span[1] else 18
        one["itemStyle"]["opacity"] = 0.5 if spot.value is None else 1.0
        data.append(one)

    def both(end: tuple[Number, Number, bool], title: dict[str, Any]) -> list[dict[str, Any]]:
        begin, last, log = end
        line = {"show": True, "lineStyle": {"opacity": 0.25}}
        scale = {"type": "log" if log else "value", "logBase": 2, "min": begin, "max": last}
        return [{**scale, **title, "splitLine": line}, {**scale, "show": False}]

    return {
        "grid": {"left": 8, "right": 16, "top": 18 + 16 * _upright(ruled), "bottom": 78, "containLabel": True},
        **QUICK,
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": both(ends[0], {"name": titles[0], "nameLocation": "middle", "nameGap": 28}),
        "yAxis": both(ends[1], {"name": titles[1], "nameTextStyle": {"align": "left"}, "nameGap": 6}),
        "visualMap": _bar(span, scale, unit),
        "series": [
            {
                "type": "scatter", "name": "points", "data": data, "selectedMode": "multiple", "clip": False, "z": 7,
                "itemStyle": {"borderColor": paper.ground, "borderWidth": 1.5},
                "label": {"fontSize": 11, "position": "inside"},
                "select": {"itemStyle": {"borderColor": paper.ink, "borderWidth": 4}},
            },
            *(part for place, line in enumerate(ruled) for part in _over(line, place, paper)),
        ],
    }  # fmt: skip


def parallel(
    titles: Sequence[str],
    rows: Sequence[Sequence[Value | None]],
    shade: int,
    scale: Sequence[str],
    paper: Paper,
) -> dict[str, Any]:
    """An ECharts option of parallel coordinates: a line per row, coloured by the column `shade`; it passes over None.

    Columns of words have their words as places. One that spans more than a factor of eight has equal factors.
    Dragging along an axis brushes; on a narrow screen the axes lie.
    """
    axes = []
    for place, title in enumerate(titles):
        column = [row[place] for row in rows if row[place] is not None]
        axis: dict[str, Any] = {"dim": place, "name": title}
        if any(isinstance(value, str) for value in column):
            axis |= {"type": "category", "data": sorted({str(value) for value in column})}
        else:
            numbers = [float(value) for value in column if value is not None]
            low, high = min(numbers, default=0.0), max(numbers, default=1.0)
            log = low > 0 and high / low > 8
            ends = {"min": low, "max": high if high > low else low + 1}
            axis |= {"type": "log" if log else "value", "logBase": 2, **ends}
            if all(number.is_integer() for number in numbers) and not log:
                axis["minInterval"] = 1
        axes.append(axis)
    shades = [float(row[shade]) for row in rows if isinstance(row[shade], int | float)]  # type: ignore[arg-type]
    low, high = min(shades, default=0.0), max(shades, default=1.0)
    wide = {"left": 46, "right": 56, "top": 40, "bottom": 64, "layout": "horizontal"}
    tall = {"left": 96, "right": 24, "top": 30, "bottom": 64, "layout": "vertical"}

    def named(where: str) -> list[dict[str, str]]:
        return [{"nameLocation": where}] * len(axes)

    default = {
        "nameTextStyle": {"color": paper.ink, "fontSize": 12}, "axisLabel": {"color": paper.ink, "fontSize": 11},
        "axisLine": {"lineStyle": {"color": GREY, "width": 1}}, "axisTick": {"lineStyle": {"color": GREY}},
        "areaSelectStyle": {"width": 22, "borderColor": GREY, "color": GREY, "opacity": 0.35}, "nameGap": 14,
    }  # fmt: skip
    return {
        "baseOption": {
            **QUICK,
            "parallel": {**wide, "parallelAxisDefault": default},
            "parallelAxis": axes,
            "visualMap": {
                "type": "continuous", "min": low, "max": high if high > low else low + 1e-6, "dimension": shade,
                "orient": "horizontal", "left": "center", "bottom": 0, "itemHeight": 130, "itemWidth": 12,
                "inRange": {"color": list(scale)}, "text": [f"{high:.1f} %", f"{low:.1f} %"], "hoverLink": False,
            },
            "series": [
                {
                    "type": "parallel", "lineStyle": {"width": 1.6, "opacity": 0.6}, "inactiveOpacity": 0.03,
                    "activeOpacity": 0.95, "data": [["-" if value is None else value for value in row] for row in rows],
                }
            ],
        },
        "media": [
            {"query": {"maxWidth": 560}, "option": {"parallel": tall, "parallelAxis": named("start")}},
            {"option": {"parallel": wide, "parallelAxis": named("end")}},
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class Stand:
    """Where settings stand by two measures: the mean, its runs, its name and its colour; whether on the front."""

    name: str
    x: float
    y: float
    runs: Sequence[tuple[float, float]]
    color: str
    shape: str
    best: bool


SYMBOLS = {"circle": "circle", "square": "rect", "triangle": "triangle", "plus": "diamond"}  # ECharts has no plus


def pareto(stands: Sequence[Stand], titles: tuple[str, str], paper: Paper) -> dict[str, Any]:
    """An ECharts option of settings by two measures in per cent: means, their runs faint, and the front as a line."""
    best = sorted((stand.x, stand.y) for stand in stands if stand.best)
    steps = [list(best[0])] if best else []
    for x, y in best[1:]:
        steps += [[steps[-1][0], y] if y > steps[-1][1] else [x, steps[-1][1]], [x, y]]
    tip = "{a}<br>" + f"{titles[0]} %, {titles[1]} %: " + "{c}"
    return {
        "grid": {"left": 10, "right": 24, "top": 24, "bottom": 30, "containLabel": True},
        **QUICK,
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": {"type": "value", "scale": True, "name": f"{titles[0]}, %", "nameLocation": "middle", "nameGap": 28},
        "yAxis": {"type": "value", "scale": True, "name": f"{titles[1]}, %", "nameTextStyle": {"align": "left"}},
        "series": [
            {
                "type": "line", "data": steps, "symbol": "none", "silent": True, "z": 1,
                "lineStyle": {"color": GREY, "width": 1.5, "type": "dashed"},
            },
            *(
                {
                    "type": "scatter", "name": stand.name, "data": [[round(x, 2), round(y, 2)] for x, y in stand.runs],
                    "symbolSize": 5, "itemStyle": {"color": stand.color, "opacity": 0.45}, "silent": True, "z": 2,
                }
                for stand in stands if len(stand.runs) > 1
            ),
            *(
                {
                    "type": "scatter", "name": stand.name, "data": [[round(stand.x, 2), round(stand.y, 2)]],
                    "symbol": SYMBOLS[stand.shape], "symbolSize": 15 if stand.best else 10, "z": 4 if stand.best else 3,
                    "itemStyle": {
                        "color": stand.color, "opacity": 1.0 if stand.best else 0.75, "borderColor": paper.ink,
                        "borderWidth": 1.5 if stand.best else 0,
                    },
                    "label": {"show": stand.best, "formatter": stand.name, "position": "top", "color": paper.ink,
                              "fontSize": 11},
                    "labelLayout": {"hideOverlap": True}, "tooltip": {"formatter": tip},
                }
                for stand in stands
            ),
        ],
    }  # fmt: skip
