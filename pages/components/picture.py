"""The embeddings of one or more runs in one picture, at their newest moment or at one that is asked for."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import streamlit as st

from faces.files import heard, written
from faces.knobs import Value
from faces.projections import PROJECTIONS
from faces.seals import DamagedError
from pages.components import blocks
from pages.components.explained import kept, why
from pages.components.faceview import Panel, faceview
from pages.components.knobs import sliders
from pages.components.runs import allowed, class_names, names, plain, work
from pages.components.session import the_store
from pages.components.shown import sheets
from pages.components.teaching import folded
from trainer.naming import plain_name
from trainer.pictures import AT_ONCE, JUDGED, KNOWN, TOUR, picture_name, warming_file, with_shuffled_labels
from trainer.scene import alignment
from trainer.store import Run
from trainer.telling import sentence

COMPUTING = "computing"
MOMENTS = 256  # that a panel travels through; a slider has hardly more places
KEPT = "**trust** and **KNN** over a picture say how much of the embeddings' neighbourhoods it keeps."
RAW = "The axes are the embeddings' own numbers: nothing is projected, and nothing is lost."
TURNED = " Panels are turned as a whole, so that classes lie as in the first."
SHUFFLED = (
    "Deals the labels out to the points anew, always in the same way: this is what chance looks like. Nothing else "
    "changes; KNN is then counted for these labels."
)
LOST = 20.0  # seconds without a new look after which a picture that is being refined is asked for again
Latest = Mapping[str, Mapping[str, Any]]  # of each run the facts of its newest snapshot, as from `Store.latest`


@dataclass(frozen=True)
class Look:
    """Which picture is asked for. `fixed` wishes PCA on the axes of the last moment, `shuffled` labels by chance."""

    projection: str
    axes: int
    knobs: Mapping[str, Value] = field(default_factory=dict)
    fixed: bool = False
    shuffled: bool = False

    def name(self, run: Run, newest: int | None) -> str:
        """The picture's name. While a run is open its last moment is not known: then each has axes of its own."""
        if self.fixed and newest and not run.open:
            return picture_name("pca", self.axes, basis=newest)
        return picture_name(self.projection, self.axes, **self.knobs)


def projection_choice() -> Look:
    """Ask for projection, number of axes and the settings of the picture; all are kept in the URL."""
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
        projection, fixed = names[title or "PCA"], False
        asked = PROJECTIONS[projection].knobs
        with folded("Settings", ":material/tune:", "shuffled", "basis", *(f"{projection}.{name}" for name in asked)):
            shuffled = st.toggle("Shuffle the labels", key="shuffled", bind="query-params", help=SHUFFLED)
            if projection == "pca":
                ways = ["each moment", "the last moment"]
                fixed = ways[1] == st.segmented_control(
                    "Axes of", ways, default=ways[0], required=True, key="basis", bind="query-params",
                    help="Axes of each moment are turned to lie as those before. Axes of the last moment, the same for "
                    "all, are there when a run has ended; early moments then show less of their variance.",
                )  # fmt: skip
            knobs = sliders(asked, 2, projection)
            if knobs:
                st.caption("A picture with other settings is computed once and kept.")
    return Look(projection, int((axes or "2-D")[0]), knobs, fixed, shuffled)


def steps_of(latest: Latest) -> dict[str, int]:
    """The newest step of each run that has a snapshot."""
    return {name: facts["step"] for name, facts in latest.items()}


def moment(run: Run, newest: int | None, name: str, drawn: Sequence[int]) -> tuple[int | None, str]:
    """The step of which a picture can be shown now, and a word when a newer one is on its way or failed.

    `drawn` are the steps of which it exists.
    """
    if newest is None:
        return None, ""
    if newest in drawn:
        if name not in AT_ONCE and lost(run, newest, name):
            want(run, newest, name)
        return newest, ""
    before = [step for step in drawn if step < newest]
    if name in AT_ONCE and run.open:  # the worker draws these with the snapshot, a moment before or after
        return (before[-1] if before else None), ""
    reason = want(run, newest, name)
    return (before[-1] if before else None), reason or COMPUTING


def want(run: Run, step: int, name: str) -> str:
    """Ask for a picture; why it failed or cannot even be asked for, "" while it is on its way."""
    try:
        return the_store().want(run.id, step, name)
    except (OSError, DamagedError) as error:  # a disk that is full or read-only, a damaged list of runs
        return sentence(error)


def refining(run: Run, step: int | None, name: str) -> tuple[int, int, float] | None:
    """Iterations done, of how many, and KL of a picture that is still being refined; None for a finished one."""
    if step is None or name in AT_ONCE:
        return None
    points = the_store().folder(run.id).points(name, step)
    if points is None or not len(points.refining):
        return None
    done, total, divergence = points.refining.tolist()
    return int(done), int(total), divergence


def lost(run: Run, step: int, name: str) -> bool:
    """Whether a picture is unfinished and nobody has refined it for a while, though nobody has paused it."""
    folder = the_store().folder(run.id)
    with suppress(FileNotFoundError):
        old = time.time() - written(folder.points_file(name, step)) > LOST
        return old and not folder.paused(name) and refining(run, step, name) is not None
    return False


def drawn_steps(run: Run, name: str) -> list[int]:
    """The steps of which this picture exists, in order."""
    return the_store().folder(run.id).drawn(name)


def track(newest: int | None, drawn: Sequence[int]) -> list[int]:
    """The steps to travel through, in order: of those drawn at most `MOMENTS`, evenly thinned, and the last."""
    drawn = [] if newest is None else [step for step in drawn if step <= newest]
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


def pending(runs: Sequence[Run], latest: Latest, look: Look) -> bool:
    """Whether a picture of some run's newest snapshot is still being computed or refined."""
    newest = steps_of(latest)
    for run in runs:
        name = look.name(run, newest.get(run.id))
        step, word = moment(run, newest.get(run.id), name, drawn_steps(run, name))
        if word == COMPUTING or (refining(run, step, name) and not paused(run, name)):
            return True
    return False


def paused(run: Run, name: str) -> bool:
    """Whether somebody has paused the refining of this picture."""
    return the_store().folder(run.id).paused(name)


def picture(runs: Sequence[Run], latest: Latest, look: Look, *, height: int, key: str, wishes: bool = True) -> bool:
    """Draw the runs side by side under one camera; True when every panel shows its newest snapshot, finished.

    With several runs each panel is turned, as a whole, so that its class centroids lie nearest to those
    of the first: only then do two pictures differ because the embeddings do. Without `wishes` no key asks for
    another picture.
    """
    follow_wish()
    newest = steps_of(latest)
    panels, waits, first = [], [], None
    numbers: dict[str, list[str]] = {}  # over the panels, with the values put in
    runs = runs[:7]
    called = [look.name(run, newest.get(run.id)) for run in runs]
    drawn = [drawn_steps(run, name) for run, name in zip(runs, called, strict=True)]
    moments = [
        moment(run, newest.get(run.id), name, steps) for run, name, steps in zip(runs, called, drawn, strict=True)
    ]
    tracks = [track(newest.get(run.id), steps) for run, steps in zip(runs, drawn, strict=True)]
    going = [refining(run, step, name) for run, (step, _), name in zip(runs, moments, called, strict=True)]
    images = sheets(the_store(), runs, latest)
    for run, title, name, (step, word), steps, still, sheet in zip(
        runs, names(runs), called, moments, tracks, going, images, strict=True
    ):
        waits.append(word)
        rotate, told = None, ["labels shuffled"] * look.shuffled
        looks = still[0] if still else 0
        whose = plain(f"{title}, step {step}" if len(runs) > 1 else f"Step {step}")
        raw = look.projection == "pca" and run.config.dim == look.axes
        if step is not None:
            for number, line in _kept(run.id, step, name, looks, look.shuffled, raw).items():
                numbers.setdefault(number, []).append(f"{whose}: {line}")
        if step is not None and len(runs) > 1:
            mine = (run.id, step, name, looks)
            first = first or mine
            rotate, residual = _fit(first, mine)
            if mine != first and residual == residual and run.config.dim != look.axes:
                told.append(f"residual {residual:.2f}")
                numbers.setdefault("residual", []).append(f"{whose}: {residual:.2f}")
        if still:
            told.append(f"{'paused' if paused(run, name) else 'refining'} {still[0]}/{still[1]}, KL {still[2]:.2f}")
        panels.append(
            Panel(
                f"{run.id} {name}",  # another projection is another picture: the old one must not stand in for it
                title if len(runs) > 1 else "",
                _waiting(run, word) if step is None else f"step {step}",
                blocks.address(run.id, "*", name, looks, look.shuffled) if step is not None else None,
                rotate,
                steps=steps,
                total=latest[run.id]["steps"] if run.id in latest else 0,
                facts=None if look.shuffled else blocks.facts_address(run.id, "*"),
                images=sheet,
                inspected=None if look.shuffled else blocks.inspected_address(run.id, "*", "*"),
                told=" · ".join(told),
                **linear(run, steps, look, name),
            )
        )
    classes = class_names(the_store(), runs[0])
    shown = ", ".join(run.config.head for run in runs)
    kind = f"{PROJECTIONS[look.projection].title} on {look.axes} axes"
    label = f"{kind} of the embeddings of {shown}, coloured by {len(classes)} classes"
    label += ", which chance has dealt out" if look.shuffled else ""
    live = any(run.open for run in runs)
    faceview(
        panels, classes, 3 if look.axes == 3 else 2, height=height, label=label, key=key, live=live,
        file=picture_file(runs, called[0]),
        on_wished=(lambda: wish(st.session_state[key].wished or {})) if wishes else None,
    )  # fmt: skip
    if words := _caption(panels, look, runs, newest):
        with st.container(horizontal=True, wrap=False):
            st.caption(words)
            why(numbers, key, "Explain")
    if any(going):
        _pause([(run, name) for run, name, still in zip(runs, called, going, strict=True) if still], key)
    if COMPUTING in waits:
        done = f" · {waits.count('')} of {len(waits)} pictures done" if len(waits) > 1 else ""
        share, said = _computed(runs, newest, look)
        st.progress(share, said + done)
    for word in set(waits) - {"", COMPUTING}:
        st.warning(plain(word))
    still = [run for run, name, going in zip(runs, called, going, strict=True) if going and not paused(run, name)]
    return not still and all(word != COMPUTING for word in waits)


def picture_file(runs: Sequence[Run], name: str) -> str:
    """How the names of saved pictures begin: whose, and which."""
    first, kind = runs[0].config, plain_name(name)
    whose = "-".join([plain_name(first.head), plain_name(first.dataset), f"seed{first.seed}"])
    return f"faces-{whose if len(runs) == 1 else f'{len(runs)}-runs-{plain_name(first.dataset)}'}-{kind}"


def linear(run: Run, steps: Sequence[int], look: Look, name: str) -> dict[str, Any]:
    """What a panel tells of a picture whose axes are directions of the embeddings; nothing of another."""
    if look.projection != "pca":
        return {}
    known = [] if look.shuffled else sorted({*steps} & {*drawn_steps(run, name + KNOWN)})
    raw = run.config.dim == look.axes
    return {
        "raw": raw, "linear": not raw,
        "tour": blocks.address(run.id, "*", TOUR, 0, look.shuffled) if run.config.dim > look.axes else None,
        "known": blocks.address(run.id, "*", name + KNOWN) if known else None, "known_steps": known,
    }  # fmt: skip


def _caption(panels: Sequence[Panel], look: Look, runs: Sequence[Run], newest: dict[str, int]) -> str:
    """What the numbers over the panels say, or that nothing is lost; nothing while there is no picture."""
    if all(panel.raw for panel in panels):
        return RAW + TURNED * (len(panels) > 1)
    return KEPT + _axes(look, runs, newest) if any(panel.url for panel in panels) else ""


def _axes(look: Look, runs: Sequence[Run], newest: dict[str, int]) -> str:
    """Of which moment the axes are."""
    if look.projection != "pca":
        return ""
    if not look.fixed:
        return " Each moment has axes of its own, turned to lie as those before."
    if any(run.open for run in runs):
        return " Until a run has ended, each of its moments has axes of its own, turned to lie as those before."
    steps = ", ".join(str(step) for step in sorted({newest[run.id] for run in runs if run.id in newest}))
    return f" All moments of a panel are shown on the axes of its last one (step {steps})."


def _pause(going: Sequence[tuple[Run, str]], key: str) -> None:
    """Let a viewer stop the refining, for all viewers, or go on."""
    stopped = all(paused(run, name) for run, name in going)
    word, icon = ("Refine", ":material/play_arrow:") if stopped else ("Pause refining", ":material/pause:")
    store = the_store()
    may = next((told for run, _ in going if (told := allowed(store, "pause", run.owner))["disabled"]), {})
    if st.button(word, icon=icon, key=f"{key} refining", type="tertiary", **may):
        for run, name in going:
            store.pause(run.id, name, not stopped)
        st.rerun()


def _computed(runs: Sequence[Run], newest: dict[str, int], look: Look) -> tuple[float, str]:
    """How far the projector is with one of these pictures, or with getting ready: a share and a sentence."""
    files = [
        the_store().folder(run.id).progress_file(look.name(run, newest[run.id]), newest[run.id])
        for run in runs
        if run.id in newest
    ]
    for file in (*files, warming_file(look.projection)):
        if told := heard(file):
            return work(told)
    return 0.0, f"{PROJECTIONS[look.projection].title} waits for its turn."


def _waiting(run: Run, word: str) -> str:
    states = {"queued": "waiting for its turn", "running": "starting"}
    return COMPUTING if word else states.get(run.state, run.state)


@lru_cache(2000)
def _kept(run: str, step: int, name: str, looks: int, shuffled: bool, raw: bool) -> dict[str, str]:
    """What is told of a picture over its panel, with the values put in; nothing of one that nobody has measured."""
    points = the_store().folder(run).points(name, step)
    if points is None:
        return {}
    quality = (with_shuffled_labels(points) if shuffled else points).quality
    return kept(quality, min(len(points.points), JUDGED), raw) if len(quality) else {}


@lru_cache(2000)
def _fit(reference: tuple[str, int, str, int], mine: tuple[str, int, str, int]) -> tuple[list[float] | None, float]:
    """Nine numbers that turn a picture's centroids onto the reference's, and the residual of the two.

    A picture is told by run, step, name and look. None and nan when it is the reference, or when one is gone.
    """
    if reference == mine:
        return None, float("nan")
    theirs, ours = (the_store().folder(run).points(name, step) for run, step, name, _ in (reference, mine))
    if theirs is None or ours is None:
        return None, float("nan")
    return alignment(theirs, ours)
