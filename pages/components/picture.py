"""The embeddings of one or more runs in one picture, at their newest moment or at one that is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from faces.files import read_json
from faces.projections import PROJECTIONS, class_turn
from pages.components import blocks
from pages.components.faceview import Panel, faceview
from pages.components.runs import class_names, names, plain, work
from pages.components.session import the_store
from pages.components.shown import sheets
from trainer.pictures import AT_ONCE, KNOWN, TOUR, draw, picture_name, warming_file
from trainer.store import Run

COMPUTING = "computing"
MOMENTS = 256  # that a panel travels through; a slider has hardly more places
KEPT = "**trust** and **KNN** over a picture say how much of the embeddings' neighbourhoods it keeps."
KEPT_HELP = (
    "trust is trustworthiness: 1 when the 5 nearest points of each point are also among its nearest embeddings by "
    "cosine, about 0.5 when they are anybody. KNN is the share of points whose 5 nearest points in the picture vote "
    "for their class; compare it with KNN accuracy, which is counted on the embeddings."
)


def projection_choice() -> tuple[str, int]:
    """Ask for projection and number of axes; both are kept in the URL."""
    names = {projection.title: name for name, projection in PROJECTIONS.items()}
    with st.container(horizontal=True, vertical_alignment="center"):
        title = st.segmented_control(
            "Projection", list(names), default="PCA", required=True, key="projection", bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
        axes = st.segmented_control(
            "Axes", ["2-D", "3-D"], default="2-D", required=True, key="axes", bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
    return names[title or "PCA"], int((axes or "2-D")[0])


def moment(run: Run, newest: int | None, name: str) -> tuple[int | None, str]:
    """The step of which a picture can be shown now, and a word when a newer one is on its way or failed."""
    if newest is None:
        return None, ""
    drawn = the_store().folder(run.id).drawn(name)
    if newest in drawn:
        return newest, ""
    before = [step for step in drawn if step < newest]
    if name in AT_ONCE and run.open:  # the worker draws these with the snapshot, a moment before or after
        return (before[-1] if before else None), ""
    if name in AT_ONCE:  # it went away between the two
        draw(the_store().folder(run.id), the_store().snapshot(run.id, newest), name)
        return newest, ""
    reason = the_store().want(run.id, newest, name)
    return (before[-1] if before else None), reason or COMPUTING


def track(run: Run, newest: int | None, name: str) -> list[int]:
    """The steps of which this picture can be shown, in order: at most `MOMENTS`, evenly thinned, and the last."""
    if newest is None:
        return []
    drawn = [step for step in the_store().folder(run.id).drawn(name) if step <= newest]
    return sorted({*drawn[:: 1 << max(0, (len(drawn) - 1) // MOMENTS).bit_length()], *drawn[-1:]})


def wish(wished: Mapping[str, Any]) -> None:
    """Take over a projection or number of axes that was chosen by a key."""
    if (projection := wished.get("projection")) in PROJECTIONS:
        st.session_state["projection"] = PROJECTIONS[projection].title
    if wished.get("axes") in (2, 3):
        st.session_state["axes"] = f"{wished['axes']}-D"
    st.session_state["wished"] = True


def follow_wish() -> None:
    """Run the whole page again when a key asked for another picture: the choice lies outside of the live part."""
    if st.session_state.pop("wished", False):
        st.rerun()


def pending(runs: Sequence[Run], newest: dict[str, int], projection: str, axes: int) -> bool:
    """Whether a picture of some run's newest snapshot is still being computed."""
    name = picture_name(projection, axes)
    return any(moment(run, newest.get(run.id), name)[1] == COMPUTING for run in runs)


def picture(runs: Sequence[Run], newest: dict[str, int], projection: str, axes: int, *, height: int, key: str) -> bool:
    """Draw the runs side by side under one camera; True when every panel shows its newest snapshot.

    With several runs each panel is turned, as a whole, so that its class centroids lie nearest to those
    of the first: only then do two pictures differ because the embeddings do.
    """
    follow_wish()
    name = picture_name(projection, axes)
    panels, waits, first = [], [], None
    runs = runs[:7]
    moments = [moment(run, newest.get(run.id), name) for run in runs]
    tracks = [track(run, newest.get(run.id), name) for run in runs]
    begun = the_store().latest(newest)
    images = sheets(the_store(), runs, begun)
    for run, title, (step, word), steps, sheet in zip(runs, names(runs), moments, tracks, images, strict=True):
        waits.append(word)
        rotate = None
        if step is not None and len(runs) > 1:
            first = first or (run.id, step)
            rotate = _rotation(first, (run.id, step), name)
        panels.append(
            Panel(
                f"{run.id} {name}",  # another projection is another picture: the old one must not stand in for it
                title if len(runs) > 1 else "",
                _waiting(run, word) if step is None else f"step {step}",
                blocks.address(run.id, "*", name) if step is not None else None,
                rotate,
                steps=steps,
                total=begun[run.id]["steps"] if run.id in begun else 0,
                facts=blocks.facts_address(run.id, "*"),
                images=sheet,
                inspected=blocks.inspected_address(run.id, "*", "*"),
                **linear(run, steps, projection, axes),
            )
        )
    classes = class_names(the_store(), runs[0])
    shown = ", ".join(run.config.head for run in runs)
    kind = f"{PROJECTIONS[projection].title} on {axes} axes"
    label = f"{kind} of the embeddings of {shown}, coloured by {len(classes)} classes"
    live = any(run.open for run in runs)
    faceview(
        panels, classes, 3 if axes == 3 else 2, height=height, label=label, key=key, live=live,
        on_wished=lambda: wish(st.session_state[key].wished or {}),
    )  # fmt: skip
    if any(panel.url for panel in panels):
        st.caption(KEPT, help=KEPT_HELP)
    if COMPUTING in waits:
        done = f" · {waits.count('')} of {len(waits)} pictures done" if len(waits) > 1 else ""
        share, said = _computed(runs, newest, projection, name)
        st.progress(share, said + done)
    for word in set(waits) - {"", COMPUTING}:
        st.warning(plain(word))
    return all(word != COMPUTING for word in waits)


def linear(run: Run, steps: Sequence[int], projection: str, axes: int) -> dict[str, Any]:
    """What a panel tells of a picture whose axes are directions of the embeddings; nothing of another."""
    if projection != "pca":
        return {}
    name = picture_name(projection, axes)
    known = sorted({*steps} & {*the_store().folder(run.id).drawn(name + KNOWN)})
    raw = run.config.dim == axes
    return {
        "raw": raw, "linear": not raw,
        "tour": blocks.address(run.id, "*", TOUR) if run.config.dim > axes else None,
        "known": blocks.address(run.id, "*", name + KNOWN) if known else None, "known_steps": known,
    }  # fmt: skip


def _computed(runs: Sequence[Run], newest: dict[str, int], projection: str, name: str) -> tuple[float, str]:
    """How far the projector is with one of these pictures, or with getting ready: a share and a sentence."""
    files = [the_store().folder(run).progress_file(name, step) for run, step in newest.items()]
    for file in (*files, warming_file(projection)):
        if told := read_json(file):
            return work(told)
    return 0.0, f"{PROJECTIONS[projection].title} waits for its turn."


def _waiting(run: Run, word: str) -> str:
    states = {"queued": "waiting for its turn", "running": "starting"}
    return COMPUTING if word else states.get(run.state, run.state)


@st.cache_data(max_entries=2000, show_spinner=False)
def _rotation(reference: tuple[str, int], mine: tuple[str, int], name: str) -> list[float] | None:
    """Nine numbers that turn a picture's centroids onto the reference's, or None when it is the reference."""
    if reference == mine:
        return None
    theirs, ours = (the_store().folder(run).points(name, step) for run, step in (reference, mine))
    if theirs is None or ours is None:
        return None
    rotation, axes = np.eye(3), ours.points.shape[1]
    found = class_turn(ours.points, ours.labels, theirs.points, theirs.labels)
    rotation[:axes, :axes] = found.T  # the component multiplies from the left
    return [round(float(number), 6) for number in rotation.ravel()]
