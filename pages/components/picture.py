"""The embeddings of one or more runs in one picture, at their newest moment or at one that is asked for."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from faces.files import read_json
from faces.projections import PROJECTIONS, class_turn
from pages.components import blocks
from pages.components.faceview import Panel, faceview
from pages.components.runs import class_names, names, plain, work
from pages.components.session import the_store
from trainer.pictures import AT_ONCE, draw, picture_name, warming_file
from trainer.store import Run

COMPUTING = "computing"
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


def pending(runs: Sequence[Run], newest: dict[str, int], projection: str, axes: int) -> bool:
    """Whether a picture of some run's newest snapshot is still being computed."""
    name = picture_name(projection, axes)
    return any(moment(run, newest.get(run.id), name)[1] == COMPUTING for run in runs)


def picture(runs: Sequence[Run], newest: dict[str, int], projection: str, axes: int, *, height: int, key: str) -> bool:
    """Draw the runs side by side under one camera; True when every panel shows its newest snapshot.

    With several runs each panel is turned, as a whole, so that its class centroids lie nearest to those
    of the first: only then do two pictures differ because the embeddings do.
    """
    name = picture_name(projection, axes)
    panels, waits, first = [], [], None
    for run, title in zip(runs[:7], names(runs[:7]), strict=True):
        step, word = moment(run, newest.get(run.id), name)
        waits.append(word)
        rotate = None
        if step is not None and len(runs) > 1:
            first = first or (run.id, step)
            rotate = _rotation(first, (run.id, step), name)
        panels.append(
            Panel(
                f"{run.id} {name}",  # another projection is another picture: the old one must not stand in for it
                title if len(runs) > 1 else "",
                _under(run, step, name, word),
                blocks.address(run.id, step, name) if step is not None else None,
                rotate,
            )
        )
    classes = class_names(the_store(), runs[0])
    shown = ", ".join(run.config.head for run in runs)
    kind = f"{PROJECTIONS[projection].title} on {axes} axes"
    label = f"{kind} of the embeddings of {shown}, coloured by {len(classes)} classes"
    faceview(panels, classes, 3 if axes == 3 else 2, height=height, label=label, key=key)
    if any(panel.url for panel in panels):
        st.caption(KEPT, help=KEPT_HELP)
    if COMPUTING in waits:
        done = f" · {waits.count('')} of {len(waits)} pictures done" if len(waits) > 1 else ""
        share, said = _computed(runs, newest, projection, name)
        st.progress(share, said + done)
    for word in set(waits) - {"", COMPUTING}:
        st.warning(plain(word))
    return all(word != COMPUTING for word in waits)


def _computed(runs: Sequence[Run], newest: dict[str, int], projection: str, name: str) -> tuple[float, str]:
    """How far the projector is with one of these pictures, or with getting ready: a share and a sentence."""
    files = [the_store().folder(run).progress_file(name, step) for run, step in newest.items()]
    for file in (*files, warming_file(projection)):
        if told := read_json(file):
            return work(told)
    return 0.0, f"{PROJECTIONS[projection].title} waits for its turn."


def _under(run: Run, step: int | None, name: str, word: str) -> str:
    if step is None:
        states = {"queued": "waiting for its turn", "running": "starting"}
        return COMPUTING if word else states.get(run.state, run.state)
    quality = _quality(run.id, step, name)
    return f"step {step}" + (f" · trust {quality[0]:.2f} · KNN {quality[1]:.0%}" if quality else "")


@st.cache_data(max_entries=5000, show_spinner=False)
def _quality(run: str, step: int, name: str) -> list[float]:
    """A picture's trustworthiness and the KNN accuracy inside it; nothing when it has not been measured."""
    found = the_store().folder(run).points(name, step)
    return [] if found is None else found.quality.tolist()


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
