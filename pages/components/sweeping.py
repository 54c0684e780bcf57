"""Asking for a sweep: which head, along which axes, on what budget, what it costs, and the button that starts it."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from faces.datasets import find
from faces.heads import HEADS
from faces.knobs import Knob, Value
from pages.components.knobs import sliders
from pages.components.runs import allowed, dataset_title, duration, plain, subtitle
from pages.components.session import the_store
from pages.components.settings import ask_budget, ask_dataset, ask_head, ask_held_out
from trainer import sweep
from trainer.store import Run, Store
from trainer.sweep import Axis, Cost, Sweep
from trainer.telling import sentence

NO_AXIS = "none"
GRID, SEARCH = "Every cell of the grid", "Search (Optuna)"
FROZEN = (
    "A head alone moves nothing when the encoder stands still, so one linear layer (D numbers to {dim}) is trained "
    "between the two, on features computed once. It ranks settings for that layer: a fast first look, no replacement "
    "for whole trainings."
)
PATIENT = (
    "Optuna's TPE suggests points, the first few by chance. A run that is worse than half of the others after the same "
    "epoch, by more than chance, is given up and shown as pruned. It goes on when this page is closed."
)


def ask_sweep(first: bool) -> None:
    """Everything that makes a sweep, and its start; `first` opens it."""
    with st.expander("Set up a sweep", icon=":material/grid_on:", expanded=first):
        left, right = st.columns([1.7, 1], gap="large")
        with left:
            with st.grid(min_column_width=200):
                dataset = ask_dataset()
                with st.container(gap="xxsmall"):
                    head = ask_head()
            axes = _ask_axes(head, dataset)
            with st.container(horizontal=True, vertical_alignment="bottom"):
                way = st.segmented_control(
                    "Which points", [GRID, SEARCH], default=GRID, required=True, key="way", bind="query-params",
                    help=PATIENT,
                )  # fmt: skip
                trials = 0
                with st.container(width=130):
                    if way == SEARCH:
                        trials = st.number_input("Points", 4, 200, 25, key="trials", bind="query-params")
                many = st.slider("Seeds of each point", 1, 5, 2, key="sweepseeds", bind="query-params", width=200)
        with right:
            frozen = _ask_frozen(dataset)
            held_out = ask_held_out(dataset)
            names = {axis.name for axis in axes}
            budget = ask_budget(dataset, seed=False, noise="noise" not in names)
            if frozen:
                kept = frozen.config
                same = {name: getattr(kept, name) for name in ("size", "encoder", "pretrained")}
                budget |= {**same, "crop": 0, "frozen_from": frozen.id}
                st.caption(FROZEN.format(dim=budget["dim"]))
            budget |= {"held_out": held_out}
            others = {
                name: knob
                for name, knob in HEADS.about(head).knobs.items()
                if name not in names and (isinstance(knob, Knob) or not knob.live or name == "seam")
            }
            knobs: dict[str, Value] = {}
            if others:
                with st.popover(f"Other knobs of {head}", icon=":material/tune:"):
                    knobs = sliders(others, len(find(dataset).class_names) - held_out, head)
        terms = {name: value for name, value in budget.items() if name not in names}
        _offer(head, axes, terms, knobs, many, int(trials))


def _ask_axes(head: str, dataset: str) -> list[Axis]:
    """One to three axes, each with its range; what makes no axis is said."""
    known = sweep.axes_of(head, dataset)
    own = [name for name in HEADS.about(head).knobs if name in known]
    usual = [*dict.fromkeys([*[name for name in ("s", "m", "m2") if name in own], *own, "lr", "weight_decay"])]
    axes: list[Axis] = []
    taken: list[str] = []
    for place, word in enumerate(("Axis to the right", "Axis upwards", "Map by map")):
        options = [name for name in known if name not in taken]
        default = usual[place] if place < 2 else NO_AXIS
        options = options if place == 0 else [NO_AXIS, *options]
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            name = st.selectbox(
                word, options, options.index(default) if default in options else 0, bind="query-params",
                key=f"axis{place + 1}.{head}", width=132, help=known[default].meaning if default in known else None,
            )  # fmt: skip
            if not name or name == NO_AXIS:
                continue
            taken.append(name)
            try:
                axes.append(_ask_range(head, name, known[name], dataset))
            except ValueError as error:
                st.caption(f":orange[{plain(str(error))}]")
    return axes


def _ask_range(head: str, name: str, knob: Knob, dataset: str) -> Axis:
    if name == "noise":
        levels = find(dataset).noise
        chosen = st.multiselect("Levels, %", levels, levels[:3], key="axis.noise", bind="query-params")
        return Axis(name, tuple(sorted(chosen)))
    low, high, log = sweep.usual(name, knob)
    kind = int if knob.whole else float
    key = f"{head}.{name}" if name in HEADS.about(head).knobs else name  # one head's m is not another's
    form: dict[str, Any] = {"bind": "query-params", "width": 80, "format": None if knob.whole else "%g"}
    ends = kind(knob.low), kind(knob.high)
    begin = st.number_input("from", *ends, kind(low), key=f"{key}.from", step=kind(1) if knob.whole else None, **form)
    end = st.number_input("to", *ends, kind(high), key=f"{key}.to", step=kind(1) if knob.whole else None, **form)
    steps = st.number_input("steps", 2, 15, 5, key=f"{key}.steps", bind="query-params", width=72)
    factors = st.checkbox(
        "factors",
        log,
        key=f"{key}.log",
        bind="query-params",
        help="Steps of equal factors (1, 2, 4), not equal steps.",
    )
    return Axis.spaced(name, begin, end, int(steps), factors, knob.whole)


def _ask_frozen(dataset: str) -> Run | None:
    """The run whose encoder is kept, if one is."""
    store = the_store()
    able = {run.id: run for run in freezable(store, dataset)}
    if not able:
        st.caption("Once a run here has finished, its encoder can be frozen for fast sweeps.")
        return None
    name = st.selectbox(
        "Freeze the encoder", ["", *able], key=f"frozen.{dataset}", bind="query-params",
        format_func=lambda name: _called(able[name]) if name else "no, train it in every run",
        help="The finished encoder of an earlier run stays as it is, and a run takes about a second.",
    )  # fmt: skip
    return able.get(name or "")


def freezable(store: Store, dataset: str, most: int = 20) -> list[Run]:
    """The newest finished runs whose encoder can be kept."""
    runs = (
        run
        for run in store.runs(("finished",), slice(0, sweep.RECENT))
        if run.config.dataset == dataset and not run.config.frozen_from
    )
    found: list[Run] = []
    for run in runs:
        if len(found) < most and store.folder(run.id).weighed:
            found.append(run)
    return found


def _called(run: Run) -> str:
    return f"{run.config.head} · {subtitle(run.config)}"


def _offer(
    head: str, axes: list[Axis], terms: Mapping[str, Any], knobs: Mapping[str, Value], seeds: int, trials: int
) -> None:
    """The cost and the button, or why it cannot be."""
    store, data = the_store(), find(terms["dataset"])
    try:
        made = Sweep(head, tuple(axes), terms, knobs, seeds, trials)
        cost = sweep.cost(store, made)
    except ValueError as error:
        st.warning(plain(str(error)), icon=":material/warning:")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            f"{'Search with' if trials else 'Train'} {cost.runs} runs" if cost.runs else "Open the map", type="primary",
            icon=":material/play_arrow:", on_click=_start, args=(made,),
            **allowed(store, "submit", able=data.counts is not None),
        )  # fmt: skip
        st.caption(told_cost(made, cost))
    if data.counts is None:
        st.page_link("manage/data.py", label=f"Get {data.title} on the Data page", icon=":material/photo_library:")


def told_cost(made: Sweep, cost: Cost) -> str:
    """Runs, those that need no training, and about how long the others take, with where that is known from."""
    points = f"{made.trials} points" if made.trials else " × ".join(str(len(axis.values)) for axis in made.axes)
    said = f"{points}{'' if made.trials else ' cells'}"
    said += f" × {made.seeds} seed{'s' * (made.seeds > 1)} = {made.count} runs"
    said += " at most" if made.trials else ""
    said += f", {cost.done} of them trained already" if cost.done else ""
    said += f", {cost.open} under way" if cost.open else ""
    if not cost.runs:
        return f"{said}. Nothing is left to train."
    if cost.seconds is None:
        return f"{said}. No earlier run like these to estimate the time from."
    about = f"{said}. About {duration(cost.seconds)} on this machine"
    if cost.earlier:
        return f"{about}, estimated from {cost.earlier} earlier run{'s' * (cost.earlier > 1)}."
    return f"{about} by a rough rule (images at the speed of one server core): none like these has been trained here."


def _start(made: Sweep) -> None:
    try:
        st.session_state["sweep"] = sweep.start(the_store(), made)
        st.session_state["tuneview"] = "Map"
    except (ValueError, OSError) as error:
        st.toast(plain(sentence(error)), icon=":material/error:")


def called(name: str, made: Sweep) -> str:
    """A sweep in a list of sweeps."""
    cells = f"{made.trials} points" if made.trials else f"{made.count // made.seeds} cells"
    seeds = f"{made.seeds} seed{'s' * (made.seeds > 1)}"
    frozen = ", frozen encoder" if made.terms.get("frozen_from") else ""
    when = made.note.rpartition(" · ")[2][:16]
    return f"{made.title} on {dataset_title(made.dataset)} · {cells} × {seeds}{frozen} · {when}"
