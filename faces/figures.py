"""Charts as plain values: ECharts options for what moves while a run trains, Plotly for what stands still."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Curve = tuple[Iterable[Any], Iterable[Any]]  # x and y


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


def history_curve(history: Sequence[Mapping[str, Any]], metric: str) -> Curve:
    """One metric of a run over its epochs, where it was measured."""
    told = [(facts["epoch"], facts["metrics"][metric]) for facts in history if metric in facts["metrics"]]
    return [epoch for epoch, _ in told], [value for _, value in told]


def still_lines(curves: Mapping[str, Curve], colors: Mapping[str, str], x: str, y: str, log: bool = False) -> Any:
    """A Plotly figure of shares of one (shown as per cent) over one axis, one line per name."""
    import plotly.graph_objects as go

    shares = [float(share) for _, ys in curves.values() for share in ys]
    close = max(shares, default=1) - min(shares, default=0) < 0.1  # else two ticks would read the same
    figure = go.Figure()
    for name, (xs, ys) in curves.items():
        figure.add_scatter(
            x=list(xs), y=list(ys), name=name, mode="lines+markers", line={"color": colors[name], "width": 2},
            marker={"size": 5}, hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(
        height=360, margin={"l": 8, "r": 8, "t": 8, "b": 8}, hovermode="x unified",
        legend={"orientation": "h", "y": -0.32, "x": 0},
    )  # fmt: skip
    figure.update_xaxes(title=x, type="log" if log else "linear", showgrid=False)
    figure.update_yaxes(title=y, tickformat=".1%" if close else ".0%", nticks=6)
    return figure
