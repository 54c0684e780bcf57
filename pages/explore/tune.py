"""Tune: one head over ranges of its settings, as a map that fills while it trains, and all runs at a glance."""

import html
from collections.abc import Sequence
from typing import Any

import streamlit as st

from faces import figures
from faces.figures import Ruled, Spot, Stand, Tile
from faces.palette import SCALE, head_ink
from pages.components import runs as told
from pages.components.explained import over_seeds, put_in, why
from pages.components.live import POLL, live
from pages.components.picture import Look, picture
from pages.components.session import color, echart, head_colors, paper, remember, the_store
from pages.components.settings import adopt
from pages.components.sweeping import ask_sweep, called
from trainer import RunConfig, comparison, sweep
from trainer.comparison import MEASURES, Measure
from trainer.store import Run
from trainer.sweep import Cell, Mark, Sweep

APART = (  # settings that part equal ground
    "noise", "drop_duplicates", "pretrained", "frozen_from", "crop", "area", "grow", "ramp", "optimizer", "schedule",
)  # fmt: skip

SIGNS = {"failed": "✕", "training": "▸", "waiting": "…", "pruned": "⊘", "stopped": "■", "none": "·"}
WORDS = {"none": "not trained", "done": "done"}
SHARES = [name for name, measure in MEASURES.items() if measure.times == 100]
MOST = 400  # runs drawn as lines
NEWEST = 2000  # finished runs that are looked at for lines and the front
AT_ONCE = 7  # runs that Compare shows

store = the_store()


# ---- the map --------------------------------------------------------------------------------------------


def ask_which() -> str:
    """Which sweep; kept in the URL."""
    found = sweep.sweeps(store)
    if st.session_state.get("sweep") not in found:
        linked = st.query_params.get("map", "")
        st.session_state["sweep"] = linked if linked in found else next(iter(found))
    name = st.selectbox(
        "Sweep", list(found), key="sweep", format_func=lambda name: called(name, found[name]),
        label_visibility="collapsed",
    )  # fmt: skip
    remember("map", name)
    return name


def moving(name: str, cells: Sequence[Cell]) -> bool:
    """Whether something of a sweep trains, waits, or is still to be suggested."""
    return sweep.searching(store, name) or any(cell.open for cell in cells)


@told.forgiving
def show_map(name: str, metric: str, third: float | None) -> bool:
    """The live part: how far it is, the map, and what has been chosen on it. True when nothing moves."""
    made, measure = sweep.read(store, name), MEASURES[metric]
    cells = sweep.look(store, made, metric)
    actions(name, made, cells)
    there = [cell for cell in cells if len(made.axes) < 3 or cell.point[2] == third]
    if not there:
        word = "The search is getting ready; its first points appear in a moment."
        st.info(word, icon=":material/hourglass_empty:")
        return not moving(name, cells)
    left, right = st.columns([2.1, 1], gap="large")
    with left:
        kind = "point" if made.trials else "cell"
        st.caption(f":material/ads_click: Click a {kind} to open its embedding, shift-click more of them to compare.")
        rows = len(made.axes[1].values) if len(made.axes) > 1 else 1
        event: Any = echart(
            draw(made, there, measure), key=f"map {name} {third}", on_select="rerun", alt=alt(made, there, measure),
            height=460 if made.trials else min(116 + 60 * max(rows, 2), 760),
        )  # fmt: skip
        named = st.multiselect(
            f"Choose {kind}s", [cell.point for cell in there], key=f"chosen {name} {third}",
            format_func=lambda point: sweep.spelled(made, point), placeholder=f"Or choose {kind}s by name",
            label_visibility="collapsed", max_selections=AT_ONCE,
        )  # fmt: skip
    with right:
        clicked = [at for group in event.selection.selected for at in group["data_indices"] if at < len(there)]
        chosen = [*dict.fromkeys([*clicked, *(at for at, cell in enumerate(there) if cell.point in named)])]
        if said := sweep.verdict(cells, made, measure):
            st.markdown(f"**{said}**")
        if chosen:
            detail(made, [there[at] for at in chosen], measure)
        best = sweep.ranked(cells, made, measure)[:1]
        why({metric: put_in(metric, looks(made, [there[at] for at in chosen] or best))}, "map")
        legend(made, there)
    settled = embeddings([there[at] for at in chosen]) if chosen else True
    return settled and not moving(name, cells)


def actions(name: str, made: Sweep, cells: Sequence[Cell]) -> None:
    """How much is done, and the buttons that stop a sweep or let it go on."""
    states = [part.state for cell in cells for part in cell.parts]
    ended = sum(state in ("done", "failed", "pruned") for state in states)
    total = made.count
    if made.trials:  # what is pruned needs no other seeds
        total -= sum(
            part.state == "none" for cell in cells if cell.state in ("pruned", "failed") for part in cell.parts
        )
    said = [f"{states.count('done')} of {total} runs are done"]
    said += [
        f"{states.count(state)} {state}" for state in ("training", "failed", "pruned", "stopped") if state in states
    ]
    going = moving(name, cells)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(ended / max(total, 1), 1.0), " · ".join(said))
        if going:
            st.button(
                "Stop all",
                icon=":material/stop:",
                on_click=told.tried,
                args=(sweep.stop, store, name),
                **told.allowed(store, "stop", made.owner),
            )
        elif ended < total and (not made.trials or states.count("stopped") or len(cells) < made.trials):
            st.button(
                "Go on",
                icon=":material/resume:",
                on_click=told.tried,
                args=(sweep.go_on, store, name),
                **told.allowed(store, "resume", made.owner),
            )
        if not going and "failed" in states:
            st.button(
                "Try the failed again",
                icon=":material/refresh:",
                on_click=told.tried,
                args=(sweep.try_again, store, name),
                **told.allowed(store, "resume", made.owner),
            )
        if not going:
            st.button(
                "Forget",
                icon=":material/delete:",
                type="tertiary",
                on_click=told.tried,
                args=(sweep.forget, store, name),
                **{"help": "Takes this sweep off the list. Its runs stay."} | told.allowed(store, "delete", made.owner),
            )
    if reason := sweep.why_ended(store, name):
        st.warning(told.plain(reason), icon=":material/warning:")


def draw(made: Sweep, cells: Sequence[Cell], measure: Measure) -> dict[str, Any]:
    """The map of a grid, or of the points of a search."""
    scale = [color(ink) for ink in (SCALE if measure.higher else SCALE[::-1])]
    axes = made.axes[:2]
    titles = (axes[0].name, axes[1].name if len(axes) > 1 else "")
    if made.trials:
        spots = [
            Spot(cell.point[0], cell.point[1] if len(axes) > 1 else 0, shown(cell, measure), sign(cell),
                 words(made, cell, measure))
            for cell in cells
        ]  # fmt: skip
        ends = [(axis.values[0], axis.values[-1], axis.log) for axis in axes] + [(-1, 1, False)]
        lines = [Ruled(mark.name, mark.xs, mark.ys) for mark in inside(made)]
        return figures.spot_map(spots, (ends[0], ends[1]), titles, scale, measure.unit, paper(), lines)
    columns, rows = ([f"{value:.3g}" for value in axis.values] for axis in (*axes, axes[0])[:2])
    rows = rows if len(axes) > 1 else [""]
    tiles = [
        Tile(
            axes[0].values.index(cell.point[0]), axes[1].values.index(cell.point[1]) if len(axes) > 1 else 0,
            shown(cell, measure), label(cell, measure), words(made, cell, measure),
        )
        for cell in cells
    ]  # fmt: skip
    return figures.heat_map(tiles, columns, rows, titles, scale, measure.unit, paper(), placed(made))


def shown(cell: Cell, measure: Measure) -> float | None:
    """The mean of a cell as it is said."""
    return None if cell.mean is None else measure.times * cell.mean


def sign(cell: Cell) -> str:
    """A sign for what is not simply done."""
    return SIGNS.get(cell.state, "")


def label(cell: Cell, measure: Measure) -> str:
    """What stands in a cell: its mean, and a sign for what is not simply done."""
    return " ".join(filter(None, [measure.said(cell.mean, unit=False) if cell.mean is not None else "", sign(cell)]))


def words(made: Sweep, cell: Cell, measure: Measure) -> str:
    """What a cell says when it is looked at, as HTML."""
    lines = [f"<b>{html.escape(sweep.spelled(made, cell.point))}</b>"]
    if cell.scores:
        seeds = len(cell.scores)
        lines.append(f"{measure.about(cell.scores)}, {seeds} seed{'s' * (seeds > 1)}")
    for part in cell.parts:
        if part.state != "done":
            reason = html.escape(part.reason)[:120].replace("{", "(").replace("}", ")")
            lines.append(f"seed {part.seed}: {WORDS.get(part.state, part.state)}{f' ({reason})' if reason else ''}")
    return "<br>".join(lines)


def inside(made: Sweep) -> list[Mark]:
    """The marks that lie within the axes."""
    if len(made.axes) < 2:
        return []
    return [
        mark
        for mark in sweep.marks(made)
        if any(
            made.axes[0].place(x) is not None and made.axes[1].place(y) is not None
            for x, y in zip(mark.xs, mark.ys, strict=True)
        )
    ]


def placed(made: Sweep) -> list[Ruled]:
    """The marks in places of the grid's columns and rows; an upright or level one from edge to edge."""
    lines = []
    for mark in inside(made):
        ends = [len(axis.values) - 0.5 for axis in made.axes[:2]]
        at = [
            (made.axes[0].place(x), made.axes[1].place(y)) for x, y in zip(mark.xs, mark.ys, strict=True)
        ]  # fmt: skip
        points = [(x, y) for x, y in at if x is not None and y is not None]
        if len(set(mark.xs)) == 1:
            points = [(points[0][0], -0.5), (points[0][0], ends[1])]
        elif len(set(mark.ys)) == 1:
            points = [(-0.5, points[0][1]), (ends[0], points[0][1])]
        lines.append(Ruled(mark.name, *zip(*points, strict=True)))
    return lines


def legend(made: Sweep, cells: Sequence[Cell]) -> None:
    """The signs that occur, the lines and what they say, also of those that lie outside the map."""
    there = {cell.state for cell in cells}
    signs = [f"{sign} {WORDS.get(state, state)}" for state, sign in SIGNS.items() if state in there]
    within = inside(made)
    lines = [
        f"**{mark.name}**: {mark.words}{'' if mark in within else ' (outside this map)'}" for mark in sweep.marks(made)
    ]
    st.caption("  \n".join([*lines, " · ".join(signs)]))


def alt(made: Sweep, cells: Sequence[Cell], measure: Measure) -> str:
    """The map in a sentence."""
    scores = [cell.mean for cell in cells if cell.mean is not None]
    if not scores:
        return f"{measure.title} over {made.title}: nothing yet."
    span = f"{measure.said(min(scores))} to {measure.said(max(scores))}"
    return f"{measure.title} over {made.title}: {span} in {len(scores)} of {len(cells)} points."


def detail(made: Sweep, cells: Sequence[Cell], measure: Measure) -> None:
    """The chosen cells: their scores seed by seed, and the way to their embeddings."""
    with st.container(border=True, key="chosen cells"):
        for cell in cells:
            with st.container(horizontal=True, vertical_alignment="center"):
                about = measure.about(cell.scores) if cell.scores else WORDS.get(cell.state, cell.state)
                st.markdown(f"**{sweep.spelled(made, cell.point)}** · {about}", width="content")
                for part in cell.parts:
                    if part.run and part.state != "waiting":
                        label = f"Seed {part.seed} in the live view" if len(cells) == 1 else f"Seed {part.seed}"
                        if st.button(label, key=f"open {part.run.id}", icon=":material/open_in_new:"):
                            open_run(part.run)
            for part in cell.parts:
                if part.state in ("failed", "pruned") and part.reason:
                    st.caption(f"{SIGNS[part.state]} seed {part.seed} {part.state}: {told.plain(part.reason)}")
        if len(cells) > 1:
            pair = [
                next((part.run for part in cell.parts if part.run and part.state == "done"), None) for cell in cells
            ]
            names = [run.id for run in pair if run]
            several = "both" if len(names) == 2 else f"the {min(len(names), AT_ONCE)}"
            if len(names) < 2:
                st.caption("Two cells with a finished run can be compared.")
            elif st.button(f"Compare {several} side by side", type="primary", icon=":material/compare:"):
                st.session_state["chosen"] = names[:AT_ONCE]
                st.session_state["source"] = "Chosen runs"
                st.switch_page(
                    "explore/compare.py", query_params={"source": "Chosen runs", "runs": ",".join(names[:AT_ONCE])}
                )


def looks(made: Sweep, cells: Sequence[Cell]) -> dict[str, list[dict[str, float]]]:
    """The metrics that the scores of some cells are from, seed by seed."""
    counted = {cell.point: [part.run for part in cell.parts if part.score is not None and part.run] for cell in cells}
    latest = store.latest([run.id for runs in counted.values() for run in runs])
    return {
        sweep.spelled(made, point): [latest[run.id]["metrics"] for run in runs if run.id in latest]
        for point, runs in counted.items()
    }


def embeddings(cells: Sequence[Cell]) -> bool:
    """The embeddings of the chosen cells side by side, of the first seed that has some; True when they are drawn."""
    parts = [
        next((part for part in cell.parts if part.state in ("done", "training", "pruned")), None) for cell in cells
    ]
    runs = [part.run for part in parts if part and part.run][:AT_ONCE]
    latest = store.latest([run.id for run in runs])
    runs = [run for run in runs if run.id in latest]
    return not runs or picture(runs, latest, Look("pca", 2), height=430, key="chosen embeddings")


def open_run(run: Run) -> None:
    """Show a run in the live view."""
    if run.config.head and run.config.dataset:
        adopt(run.config)
    st.session_state["adopted"] = True
    st.switch_page("explore/explore.py", query_params={"run": run.id})


def page_map() -> None:
    """Choose a sweep and watch it."""
    if not sweep.sweeps(store):
        st.info(
            "There is no sweep yet. Set one up above; its cost is said before it starts.",
            icon=":material/arrow_upward:",
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = ask_which()
        made = sweep.read(store, name)
        titles = {MEASURES[each].title: each for each in SHARES if each != "dnn_accuracy_with_labels"}
        title = st.selectbox(
            "Measure", list(titles), key="tunemetric", bind="query-params", width=220, label_visibility="collapsed"
        )
    third: float | None = None
    if len(made.axes) > 2:
        axis = made.axes[2]
        third = st.segmented_control(
            axis.name, axis.values, default=axis.values[0], required=True, key=f"third {name}",
            format_func=lambda value: f"{axis.name} = {value:g}",
        )  # fmt: skip
    metric = titles.get(title or "", "knn_accuracy")
    live(show_map, moving(name, sweep.look(store, made, metric)), name, metric, third, every=POLL)
    st.caption(
        "± is the standard deviation over seeds; a point is tied with the best when the paired t interval of their "
        "difference, all of them together (Bonferroni), leaves 0 in. **What to notice.** Is there a ridge, or one cell "
        "that was lucky? Do good cells keep away from the lines: too small an s, more margin than fits?"
    )
    if made.terms.get("frozen_from"):
        st.caption(
            ":material/ac_unit: The encoder was frozen: only one linear layer and the head were trained, so this map "
            "ranks settings for that layer."
        )


# ---- all runs -------------------------------------------------------------------------------------------


def page_runs() -> None:
    """Every finished run as a line across its settings and measures."""
    runs, latest = chosen_runs()
    if len(runs) < 2:
        st.info("Two finished runs or more make lines to compare.", icon=":material/info:")
        return
    if len(runs) > MOST:
        st.caption(f"The newest {MOST} of {len(runs)} runs are drawn.")
    runs = runs[:MOST]
    columns = sweep.columns(runs, latest)
    titles = [
        MEASURES[column.name].title.removesuffix(" accuracy").replace("TAR at FAR", "TAR") if column.measure
        else column.name.replace("_", " ")
        for column in columns
    ]  # fmt: skip
    rows = [
        [percent(column.values[place]) if column.measure else column.values[place] for column in columns]
        for place in range(len(runs))
    ]
    shade = next((at for at, column in enumerate(columns) if column.name == "knn_accuracy"), len(columns) - 1)
    chart = figures.parallel(titles, rows, shade, [color(one) for one in SCALE], paper())
    echart(
        chart, key="parallel", height=520, alt=f"{len(runs)} runs across {', '.join(titles)}, coloured by KNN accuracy"
    )
    why({column.name: [] for column in reversed(columns) if column.measure}, "runs")
    st.caption(
        "A line is a run; measures in per cent, KNN accuracy colours the line. Drag along an axis to keep only runs "
        "that pass there, click it to let all pass again. **What to notice.** Brush the best KNN accuracies: do the "
        "lines come from one place on s and m, or from everywhere?"
    )


def percent(value: Any) -> float | None:
    """A share as per cent."""
    return None if value is None else round(100 * value, 2)


def chosen_runs() -> tuple[list[Run], dict[str, Any]]:
    """The complete runs of a dataset, newest first, with their newest facts."""
    every = store.runs(("finished",), slice(0, NEWEST))
    names = list(dict.fromkeys(run.config.dataset for run in every))
    if not names:
        return [], {}
    dataset = st.selectbox("Runs on", names, key="runson", bind="query-params", format_func=told.dataset_title)
    runs = [run for run in every if run.config.dataset == dataset]
    latest = store.latest([run.id for run in runs])
    return sweep.complete(runs, latest), latest


# ---- the front ------------------------------------------------------------------------------------------


def page_front() -> None:
    """KNN accuracy on known classes against verification on classes that no training saw."""
    every = store.runs(("finished",), slice(0, NEWEST))
    latest = store.latest([run.id for run in every if run.config.held_out])
    tars = [name for name in MEASURES if name.startswith("tar_at")]
    runs = [run for run in sweep.complete(every, latest) if any(name in latest[run.id]["metrics"] for name in tars)]
    if not runs:
        st.info(
            "Verification asks whether two pictures show the same class, of classes that no training saw. No finished "
            "run kept any out: set Held-out classes (3, say) in a sweep above, or on the page Which head is best.",
            icon=":material/arrow_upward:",
        )
        return
    groups: dict[str, list[Run]] = {}
    for run in runs:
        config = run.config
        where = f"{told.dataset_title(config.dataset)}, {config.held_out} classes held out"
        where += (
            f", {config.encoder} {config.size} px, D = {config.dim}, {config.epochs} epoch{'s' * (config.epochs > 1)}"
        )
        fixed = [f"{name} {vars(config)[name]}" for name in APART if vars(config)[name] != getattr(RunConfig, name)]
        where += "".join(f", {word}" for word in fixed)
        groups.setdefault(where, []).append(run)
    with st.container(horizontal=True):
        which = st.selectbox("Runs on equal ground", list(groups), key="ground", bind="query-params")
        titles = {MEASURES[name].title: name for name in tars}
        title = st.selectbox(
            "Verification",
            list(titles),
            list(titles).index("TAR at FAR 0.01"),
            key="tar",
            bind="query-params",
            width=220,
        )
    x, y = titles.get(title or "", tars[0]), "knn_accuracy"
    stands = stand(groups[which or next(iter(groups))], latest, x, y)
    if not stands:
        st.info("These runs have no such measure; choose another one.", icon=":material/info:")
        return
    chart = figures.pareto(stands, (MEASURES[x].title, MEASURES[y].title), paper())
    best = [one.name for one in stands if one.best]
    echart(chart, key="front", height=520, alt=f"KNN accuracy against verification; on the front: {', '.join(best)}")
    scores = {
        name: {one.name: [pair[at] / 100 for pair in one.runs] for one in stands if one.best}
        for at, name in ((1, y), (0, x))
    }
    why({name: over_seeds(name, row) for name, row in scores.items()}, "front")
    seeds = [len(one.runs) for one in stands]
    st.caption(
        f"A large mark is the mean of one head and its settings over its seeds ({min(seeds)} to {max(seeds)} here), "
        "small dots its runs. Outlined and named are those that no other one beats in both. **What to notice.** Known "
        "classes and strangers ask for different things: is the front a corner, or a trade? Dots beyond the dashed "
        "line say how much of it is luck."
    )


def stand(runs: Sequence[Run], latest: dict[str, Any], x: str, y: str) -> list[Stand]:
    """The settings among these runs by two measures, means over seeds."""
    groups = []
    for group in comparison.siblings(runs, latest):
        metrics = [latest[run.id]["metrics"] for run in group]
        if pairs := [(100 * one[x], 100 * one[y]) for one in metrics if x in one and y in one]:
            groups.append((group[0], pairs))
    names = told.names([run for run, _ in groups])
    means = [tuple(sum(column) / len(column) for column in zip(*pairs, strict=True)) for _, pairs in groups]
    best = set(sweep.front([(mean[0], mean[1]) for mean in means]))
    colors = head_colors(run.config.head for run, _ in groups)
    return [
        Stand(
            name, mean[0], mean[1], pairs, colors[run.config.head], head_ink(run.config.head).shape, place in best
        )
        for place, (name, mean, (run, pairs)) in enumerate(zip(names, means, groups, strict=True))
    ]  # fmt: skip


VIEWS = {"Map": page_map, "All runs": page_runs, "Pareto front": page_front}

st.title("Which s and m suit this head?")
st.markdown(
    "One head over a grid of its settings, or searched. Every cell is a real training that you can open, and a grid "
    "trains nothing that has been trained already."
)
ask_sweep(first=not sweep.sweeps(store))
view = st.segmented_control(
    "Show", list(VIEWS), default="Map", required=True, key="tuneview", bind="query-params", label_visibility="collapsed"
)
told.forgiving(VIEWS[view or "Map"])()
