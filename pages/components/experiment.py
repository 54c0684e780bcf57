"""Experiments: queue heads over seeds and noise levels as one action, and choose one that was queued."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from faces.datasets import find
from faces.heads import HEADS
from faces.knobs import Value, fixed_scale, settle
from pages.components.feasibility import feasibility
from pages.components.recorded import offer
from pages.components.runs import allowed, duration, plain
from pages.components.session import remember, the_store
from pages.components.settings import ASKED, adopt, ask_budget, ask_dataset, ask_held_out
from trainer import comparison
from trainer.config import RunConfig
from trainer.presets import PRESETS
from trainer.store import Run
from trainer.telling import sentence


def ask_experiment(first: bool, seeds: int) -> None:
    """Heads, shared settings, seeds and noise levels, what they cost, and the button that queues them all.

    `first` opens it; `seeds` is the usual number. Pages with another usual number keep it under another name in
    the URL.
    """
    with st.expander("Train heads on equal terms", icon=":material/playlist_play:", expanded=first):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Settings of", width="content")
            for name, preset in PRESETS.items():
                if not set(preset.terms) <= ASKED:
                    continue  # from a shell only: nothing of it may be lost here
                st.button(preset.title, key=f"preset {name}", type="tertiary", on_click=_adopt, args=(preset.terms,))
        left, right = st.columns(2, gap="large")
        with left:
            dataset = ask_dataset()
            heads = st.multiselect("Heads", list(HEADS), comparison.SEVEN, key="heads", bind="query-params")
            classes = len(find(dataset).class_names)
            held_out = ask_held_out(dataset)
            knobs = _ask_knobs(heads, classes - held_out)
            many = st.slider(
                "Seeds: trainings of each head", 1, 5, seeds, key=f"seeds{seeds}" if seeds > 1 else "seeds",
                bind="query-params",
            )  # fmt: skip
            st.caption("The spread between seeds is chance: one seed shows pictures, three or more support a ranking.")
            below = st.container()
        with right:
            budget, noises = _ask_rest(dataset)
        with below:
            asked = {head: comparison.shared(head, knobs) for head in heads}
            feasibility(
                {head: settle(HEADS.about(head).knobs, own, classes - held_out) for head, own in asked.items()},
                classes - held_out, budget["dim"],
            )  # fmt: skip
            budget |= {"held_out": held_out} if held_out else {}
        here = find(dataset).counts is not None
        if not here:
            word = f"Get {find(dataset).title} on the Data page"
            st.page_link("manage/data.py", label=word, icon=":material/photo_library:")
        label = f"Train {_counted(len(heads), 'head')}"
        label += f" × {many} seeds" if many > 1 else ""
        label += f" × {len(noises)} noise levels" if len(noises) > 1 else ""
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                label, type="primary", icon=":material/play_arrow:", on_click=_train,
                args=(knobs, budget, many, heads, noises),
                **allowed(the_store(), "submit", able=bool(here and heads and noises)),
            )  # fmt: skip
            st.caption(_cost(budget, len(heads) * many * len(noises)))
        offer()


def _adopt(terms: Mapping[str, Any]) -> None:
    adopt(RunConfig(**terms))


def _ask_knobs(heads: Sequence[str], classes: int) -> dict[str, Value]:
    word = "for every head that has one"
    s = st.slider(
        f"s · scale of the logits, {word}", 0.5, 64.0, fixed_scale(classes), 0.01, key=f"all.s{classes}",
        bind="query-params",
    )  # fmt: skip
    m = st.slider(f"m · margin, {word}", 0.0, 1.0, 0.25, 0.01, key="all.m", bind="query-params")
    knobs: dict[str, Value] = {"s": s, "m": m}
    with st.container():  # keeps the places of what follows
        for name in knobs:
            own = [
                head for head in heads if name in HEADS.about(head).knobs and name not in comparison.shared(head, knobs)
            ]
            if own:
                st.caption(f"{knobs[name]:g} is no {name} of {', '.join(own)}, which keeps its default.")
    return knobs


def _ask_rest(dataset: str) -> tuple[dict[str, Any], list[int]]:
    budget = ask_budget(dataset, seed=False, noise=False)
    data = find(dataset)
    noises = list(data.noise[:1])
    with st.container():
        if len(data.noise) > 1:
            noises = st.multiselect(
                "Wrong training labels, %", data.noise, noises, key="noises", bind="query-params",
                help="Each level trains every head and seed anew. Validation labels stay true.",
            )  # fmt: skip
    return budget, noises


def _cost(budget: Mapping[str, Any], count: int) -> str:
    """How many runs, and about how long they take."""
    seconds, earlier = comparison.expected(the_store().runs(("finished",)), budget, count)
    if seconds is None:
        return f"{_counted(count, 'run')}; no earlier run to estimate the time from."
    return f"{_counted(count, 'run')}, about {duration(seconds)}; estimated from {_counted(earlier, 'earlier run')}."


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _train(
    knobs: Mapping[str, Value], budget: Mapping[str, Any], seeds: int, heads: Sequence[str], noises: Sequence[int]
) -> None:
    """Queue the experiment and show it."""
    try:
        note = comparison.submit_all(the_store(), knobs, budget, seeds, heads, noises)
    except (ValueError, OSError) as error:
        st.toast(plain(sentence(error)), icon=":material/error:")
        return
    st.session_state.update(together=note, source="Trained together")


def ask_group(groups: Mapping[str, list[Run]], **look: Any) -> list[Run]:
    """Which experiment, and which of its noise levels; both are kept in the URL."""
    notes = list(groups)
    if st.session_state.get("together") not in groups:
        linked = st.query_params.get("group", "")
        begun = (note for note in notes if any(run.state != "queued" for run in groups[note]))
        st.session_state["together"] = linked if linked in groups else next(begun, notes[0])
    note = st.selectbox("Trained together", notes, key="together", **look)
    remember("group", note)
    return groups[note]


def ask_noise(group: Sequence[Run]) -> list[Run]:
    """The runs of one noise level of an experiment."""
    levels = sorted({run.config.noise for run in group})
    with st.container():  # keeps the places of what follows
        level = levels[0]
        if len(levels) > 1:
            level = st.segmented_control(
                "Wrong training labels, %", levels, default=levels[0], required=True, key="level", bind="query-params"
            )
    return [run for run in group if run.config.noise == level]
