"""The circle and the sphere: a head trained live beside softmax, on embeddings of two or three numbers.

This is the toy figure of the ArcFace paper (https://arxiv.org/abs/1801.07698, figure 3), except that it is trained in
front of the reader. Both runs have the same start, order of images and budget: the terms of the preset "circle".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st

from faces import figures
from faces.datasets import find
from faces.evaluation import angles, class_means, lost_classes
from faces.feasibility import angle_asked, limits, spacing, warning
from faces.heads import HEADS, in_families, margined
from faces.knobs import Choice, Knob, Value
from pages.components import runs as told
from pages.components.curves import draw_curves
from pages.components.explained import EXPLAINED, meaning, put_in_all, why
from pages.components.knobs import sliders
from pages.components.live import live
from pages.components.picture import Look, pending, picture
from pages.components.session import head_colors, the_store
from pages.components.settings import forget
from trainer.config import RunConfig
from trainer.naming import stamped
from trainer.presets import PRESETS, circle_knobs
from trainer.store import Run
from trainer.telling import sentence

SOFTMAX = "Classification"
NOTE = "Circle"  # how the note of runs that were trained here begins
TERMS = PRESETS["circle"].terms
PLACES = {"Circle": 2, "Sphere": 3}
EVERY = len(find(TERMS["dataset"]).class_names)
NAMES = in_families(name for name in HEADS if name != SOFTMAX)

store = the_store()


def ask() -> RunConfig | None:
    """The settings of the head's run, as the controls say; None where there is no such run, which is said."""
    place = st.segmented_control(
        "Embeddings on", list(PLACES), default="Circle", required=True, key="dims", bind="query-params",
        label_visibility="collapsed", width="stretch",
    )  # fmt: skip
    head = st.selectbox("Head", NAMES, index=NAMES.index("ArcFace"), key="head", bind="query-params") or "ArcFace"
    about = HEADS.about(head)
    st.markdown(f":small[{about.family}: {about.title}, [{about.born[:4]}]({about.source})]")
    turns, below, rest = st.container(key="circle turns"), st.container(), st.container(key="circle rest")
    with turns:
        knobs = ask_knobs(head, Knob)
        ramp = st.toggle(
            "Margin ramp", value=True, key="ramp", bind="query-params", disabled=not margined(head), help=RAMP
        )  # fmt: skip
    room, after = turns.container(), rest.container()
    with rest.expander("Classes, seed and terms", icon=":material/settings:"):
        knobs |= ask_knobs(head, Choice)
        classes = st.segmented_control(
            "Classes", [EVERY, EVERY - 2], default=EVERY, required=True, key="classes", bind="query-params",
            help="Digits has ten. With eight, two that the seed draws are left out.",
        )  # fmt: skip
        seed = st.number_input("Seed", 0, 99, 0, key="seed", bind="query-params")
        st.caption(said_terms())
    held_out = EVERY - (classes or EVERY)
    terms = {**TERMS, "dim": PLACES[place or "Circle"], "seed": seed, "held_out": held_out}
    try:
        config = RunConfig(head=head, knobs=knobs, **{**terms, "ramp": TERMS["ramp"] if ramp else 0.0})
    except ValueError as error:
        room.warning(str(error), icon=":material/warning:")
        config = None
    with room:
        announce(config)
    with below:
        offer(config)
    with after:
        show_room(config)
    return config


RAMP = (
    f"The margin starts from nothing and rises to its value over the first {TERMS['ramp']:.0%} of training. With two "
    "or three numbers a margin that is there from the start can catch classes on the wrong side of others for good."
)


def ask_knobs(head: str, kind: type[Knob | Choice]) -> dict[str, Value]:
    """The head's knobs of a kind, from values that fit the circle. Those that are live turn the run that trains."""
    usual = circle_knobs(head)
    knobs = {
        name: started(name, knob, usual[name])
        for name, knob in HEADS.about(head).knobs.items()
        if isinstance(knob, kind)
    }
    return sliders(knobs, EVERY, head, turn)


def started(name: str, knob: Knob | Choice, usual: Value) -> Knob | Choice:
    """The knob with this value at first. One that follows from the classes stays as it is."""
    if isinstance(knob, Choice):
        return replace(knob, options=(str(usual), *(option for option in knob.options if option != usual)))
    return knob if usual == knob.start(EVERY) else replace(knob, default=knob.check(name, usual))


def turn(knob: str, key: str) -> None:
    """Hand a turned knob to the run that trains."""
    for run in shown():
        same = run.open and run.config.head == st.session_state.get("head", "ArcFace")
        if same and not store.why_not("turn", run.owner):  # sliders of who only looks set a run of their own
            try:
                store.turn(run.id, **{knob: st.session_state[key]})
                st.toast(f"{told.said(knob, st.session_state[key])} from the next step on", icon=":material/tune:")
            except (ValueError, OSError) as error:
                st.toast(told.plain(sentence(error)), icon=":material/error:")


def said_terms() -> str:
    """What both runs share."""
    config = RunConfig(**TERMS)
    return (
        f"{find(config.dataset).title}, {config.encoder}, {config.epochs} epochs, batch {config.batch}, "
        f"{config.optimizer} with a learning rate of {config.lr:g}: chosen so that most heads come apart in seconds."
    )


def announce(config: RunConfig | None) -> None:
    """Say of a margin that cannot fit, before it is trained, that it cannot."""
    if config:
        classes = EVERY - config.held_out
        cases = limits(HEADS.about(config.head), config.knobs, classes, config.dim).values()
        for word in sorted({warning(found, classes, config.dim) for found in cases} - {""}):
            st.warning(f"{word} Try it all the same: which classes find no place?", icon=":material/warning:")


def show_room(config: RunConfig | None) -> None:
    """How much of the room between centers the margin asks for."""
    if config is None:
        return
    about, classes, dim = HEADS.about(config.head), EVERY - config.held_out, config.dim
    apart, asked = spacing(classes, dim), angle_asked(about, config.knobs, classes, dim)
    there, where = math.degrees(apart.angle), "circle" if dim == 2 else "sphere"
    words = f"{classes} centers on the {where} can be {'' if apart.exact else 'at best '}{there:.1f}° apart"
    if asked is not None and margined(config.head):
        gauge = figures.angle_gauge(math.degrees(asked), there, head_colors([config.head])[config.head])
        alt = f"{math.degrees(asked):.1f}° between centers are asked for, and there are {there:.1f}°"
        words += f"; the margin asks for {math.degrees(asked):.1f}°"
        draw_curves([{**gauge, "question": "", "words": "", "alt": alt, "tall": 64, "file": "margin"}], key="gauge")
    st.caption(f"{words}.")


def offer(config: RunConfig | None) -> None:
    """The button that trains, and one that stops."""
    st.button(
        "Train both", type="primary", icon=":material/play_arrow:", width="stretch", on_click=told.tried,
        args=(train, config), **told.allowed(store, "submit", able=config is not None),
    )  # fmt: skip
    pair = current(config)
    with st.container():  # keeps the places of what follows
        if any(run.open for run in pair):
            st.button(
                "Stop", icon=":material/stop:", width="stretch", on_click=stop, args=([run.id for run in pair],),
                **told.allowed(store, "stop", pair[0].owner),
            )  # fmt: skip
            if not store.why_not("turn", pair[0].owner):
                st.caption(":material/tune: The sliders turn the head while it trains.")


def beside(config: RunConfig) -> RunConfig:
    """Softmax on the same terms."""
    own = {name: getattr(config, name) for name in (*TERMS, "dim", "seed", "held_out", "ramp")}
    return RunConfig(head=SOFTMAX, **own)


def shown() -> list[Run]:
    """The pair of runs that the URL names, softmax first; none when it names none that is here."""
    try:
        run = store.run(st.query_params.get("pair", ""))
    except ValueError:
        return []
    pair = store.runs(note=run.note) if run.note else [run]
    return sorted(pair, key=lambda run: run.config.head != SOFTMAX)[:2]


def current(config: RunConfig | None) -> list[Run]:
    """The pair that the URL names, else the newest of these settings.

    Who comes without wishes sees the newest of any, and on a first visit one that starts by itself.
    """
    if config and not shown():
        wishless = not st.query_params
        earlier = [run for run in store.runs(note=NOTE) if run.config.head != SOFTMAX]
        if known := trained(config) or earlier * wishless:
            st.query_params["pair"] = known[0].id
        elif wishless and not store.why_not("submit"):
            told.tried(train, config)
    return shown()


def trained(config: RunConfig) -> list[Run]:
    """Runs of exactly these settings that were trained here, newest first."""
    return [run for run in store.runs(note=NOTE) if run.config == config]


def train(config: RunConfig) -> None:
    """Train both, or join those who watch the same two train."""
    open_runs = [run for run in trained(config) if run.open]
    if open_runs:
        st.query_params["pair"] = open_runs[0].id
        return
    note = stamped(f"{NOTE} · {config.head}")
    _, st.query_params["pair"] = store.submit_many([beside(config), config], note)


def stop(names: Sequence[str]) -> None:
    """Stop what still trains."""
    for name in names:
        told.tried(store.stop, name)


@told.forgiving
def show(names: list[str], look: Look) -> bool:
    """The live part: how far both are, their picture, what came of it. True when nothing moves any more."""
    pair = [store.run(name) for name in names]
    latest = store.latest(names)
    if any(run.open for run in pair):
        share = sum(latest[name]["step"] / latest[name]["steps"] for name in names if name in latest) / len(names)
        st.progress(share, "  ·  ".join(state(run, latest.get(run.id)) for run in pair))
    for run in pair:
        if run.state in ("failed", "interrupted"):
            st.error(f"{run.config.head}: {told.plain(run.reason)}", icon=":material/error:")
    settled = picture(pair, latest, look, height=500, key="circle", wishes=False)
    outcome(pair, latest)
    return settled and not any(run.open for run in pair)


def state(run: Run, facts: Mapping[str, Any] | None) -> str:
    """How far one of the two is, with its margins on their way."""
    if not facts or not run.open:
        return f"{run.config.head}: {run.state if facts else 'starting'}"
    words = f"{run.config.head}: epoch {facts['epoch']:.1f} of {run.config.epochs}"
    if run.config.ramp and facts["epoch"] < run.config.ramp * run.config.epochs:
        rising = [
            name
            for name, knob in HEADS.about(run.config.head).knobs.items()
            if getattr(knob, "neutral", None) is not None
        ]
        words += "".join(f", {name} = {facts['knobs'][name]:.2f} and rising" for name in rising)
    return words


def outcome(pair: Sequence[Run], latest: Mapping[str, Mapping[str, Any]]) -> None:
    """Scores of both, and the classes that found no place."""
    rows, lost, looks = [], {}, dict[str, list[dict[str, float]]]()
    scored = all(told.has_logits(run.config) for run in pair)  # the class mean stands in for a head without logits
    measures = [name for name in TOLD if name != "ncm_accuracy" or not scored]
    for run, name in zip(pair, told.names(pair), strict=True):
        if run.id in latest:
            numbers, gone = measured(run.id, latest[run.id]["step"])
            looks[name] = [latest[run.id]["metrics"] | numbers]
            values = latest[run.id]["knobs"].items()
            knobs = ", ".join(f"{name} {value:.3g}" for name, value in values if not isinstance(value, str))
            rows.append(
                {
                    "Head": run.config.head,
                    "Knobs now": knobs or "–",
                    **{EXPLAINED[each].title: said(run, each, looks[name][0]) for each in measures},
                    "Training time": told.duration(latest[run.id]["seconds"]),
                }
            )
            if not run.open:
                lost[run] = gone
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch", column_config=COLUMNS)
        why(put_in_all(measures, looks), "outcome")
    for run, gone in lost.items():
        if gone:
            names = ", ".join(told.class_names(store, run)[label] for label in gone)
            st.warning(
                f"{run.config.head} has lost {len(gone)} of {len(told.class_names(store, run)) - run.config.held_out} "
                f"classes: less than half of the images of {names} are named right. {hint(run.config)}",
                icon=":material/merge:",
            )


TOLD = ("knn_accuracy", "dnn_accuracy", "ncm_accuracy", "spread", "nearest_two")  # the table's measures
COLUMNS = {EXPLAINED[name].title: st.column_config.TextColumn(help=meaning(name)) for name in TOLD}


def said(run: Run, name: str, numbers: Mapping[str, float]) -> str:
    """A measure of a run for people."""
    if name == "dnn_accuracy" and not told.has_logits(run.config):
        return "no class logits"
    return EXPLAINED[name].said(numbers[name]) if name in numbers else "–"


@st.cache_data(max_entries=1000, show_spinner=False)
def measured(name: str, step: int) -> tuple[dict[str, float], list[int]]:
    """How close together and far apart the classes lie at a moment of a run, and those it has lost."""
    snapshot = store.snapshot(name, step)
    classes, middles = class_means(snapshot.embeddings, snapshot.labels)
    own, _ = angles(snapshot.embeddings, snapshot.labels, middles, classes)
    _, between = angles(middles, classes, middles, classes)
    known = (snapshot.predictions >= 0).any()
    lost = lost_classes(snapshot.predictions, snapshot.labels).tolist() if known else []
    return {"spread": float(np.median(own)), "nearest_two": float(between.min())}, lost


def hint(config: RunConfig) -> str:
    """What to try when classes were lost."""
    if not margined(config.head):
        return "Another seed may come apart."
    if not config.ramp:
        return "Turn the margin ramp on, or take a smaller margin."
    return "Take a smaller margin or a larger s, or try another seed."


st.title("What does a head do to the circle?")
st.markdown(
    "Here the encoder gets two numbers for each image, or three, so the picture is the embedding itself. "
    "**Classification** (softmax) trains beside the head you choose, on the same images from the same start. Arrows "
    "are class centers. Shaded: an image here would fail the margin, whatever its class."
)

forget()
controls, view = st.columns([1, 2.6], gap="large")
with controls:
    config = ask()
pair = shown()
with view, st.container(key="circle view"):
    if not pair:
        st.info(
            "Nothing has been trained with these settings yet. Guess where the ten digits will lie, then press "
            "**Train both**: it takes some seconds.", icon=":material/arrow_back:",
        )  # fmt: skip
    else:
        own = pair[-1].config
        with st.container():
            if config is not None and own != config:
                st.caption(
                    f":material/info: Shown is {own.head}, {told.subtitle(own)}. Train both to see these settings."
                )
        look = Look("pca", min(own.dim, 3))
        names = [run.id for run in pair]
        live(show, any(run.open for run in pair) or pending(pair, store.latest(names), look), names, look)
        st.markdown(
            "**What to notice.** Softmax may use length: press **Lengths** under the picture and its classes become "
            "spokes, each image as far out as it is sure. A head on angles throws length away: all that it can do is "
            f"to part the directions. {HEADS.about(own.head).notice}"
        )
