"""Asking for a run: dataset, head, knobs, and the rest. All of it is kept in the URL."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from faces.datasets import Dataset, available, find
from faces.encoders import ENCODERS
from faces.heads import HEADS, in_families, scored
from faces.knobs import Choice, Knob, Value
from pages.components.knobs import key_of, sliders
from pages.components.runs import NO_LOGITS
from trainer.config import TERMS, RunConfig

OWN = "own"  # in the URL: the controls are not set to the settings of the run that is shown
KEYS = {"ramp": "margin_ramp"}  # names in the URL where they are not the terms'; `ramp` is a switch of another page
WORDS = {
    "epochs": "Epochs", "dim": "Embedding size D", "batch": "Batch", "lr": "Learning rate",
    "weight_decay": "Weight decay", "optimizer": "Optimizer", "schedule": "Schedule", "crop": "Crop, pixels",
    "seed": "Seed", "ramp": "Margin ramp", "warp": "Warp", "threads": "CPU threads",
}  # fmt: skip
ASKED = {*WORDS, "dataset", "size", "encoder"}  # settings that there is a control for, of those that presets name


def ask_dataset() -> str:
    """Which dataset, by name."""
    names = {data.title: name for name, data in available().items()}
    title = st.selectbox("Dataset", list(names), key="dataset", bind="query-params")
    return names.get(title or "", "digits")


def ask_head() -> str:
    """Which head, with what it is in a few words."""
    names = in_families(HEADS)
    head = st.selectbox("Head", names, index=names.index("ArcFace"), key="head", bind="query-params") or "ArcFace"
    about = HEADS.about(head)
    more = "" if scored(head) else f". {NO_LOGITS}"
    st.markdown(f":small[{about.family}: {about.title}, [{about.born[:4]}]({about.source}){more}]")
    return head


def ask_knobs(
    head: str, classes: int, kind: type[Knob | Choice], on_turn: Callable[[str, str], None] | None = None
) -> dict[str, Value]:
    """The head's own knobs that are numbers (`kind` Knob), or those that are one of a few names (Choice)."""
    knobs = {name: knob for name, knob in HEADS.about(head).knobs.items() if isinstance(knob, kind)}
    return sliders(knobs, classes, head, on_turn)


def ask_held_out(dataset: str) -> int:
    """How many classes no training sees."""
    most = max(len(find(dataset).class_names) - 2, 0)
    return st.number_input(
        "Held-out classes", 0, most, 0, key="held_out", bind="query-params",
        help="Classes that no training sees, drawn from the seed. At the end the head is asked who is who on their "
        "images. Two or more make a verification.",
    )  # fmt: skip


def ask_budget(dataset: str, seed: bool = True, noise: bool = True, ramp: bool = True) -> dict[str, Any]:
    """Encoder, image size, epochs and the other settings that every head shares; without `ramp` no margin can rise."""
    with st.grid(min_column_width=130):
        return _budget(dataset, seed, noise, ramp)


def _budget(dataset: str, seed: bool, noise: bool, ramp: bool) -> dict[str, Any]:
    data = find(dataset)
    size = data.sizes[0]
    with st.container():  # keeps the places of what follows: a widget that moves drops out of the URL
        if len(data.sizes) > 1:
            size = st.selectbox("Image size, pixels", data.sizes, key="size", bind="query-params")
    encoders = [name for name in ENCODERS if size >= getattr(ENCODERS.about(name), "smallest", 1)]
    usual = encoders.index(data.terms.get("encoder", "ResNet9"))
    encoder = st.selectbox(
        "Encoder", encoders, index=usual, key=f"encoder{'-tiny' if size <= 16 else ''}", bind="query-params",
        help="  \n".join(f"**{name}**: {ENCODERS.about(name).title}" for name in encoders),
    )  # fmt: skip
    asked: dict[str, Any] = {"dataset": dataset, "size": size, "encoder": encoder}
    for name in WORDS:
        term = TERMS[name]
        if (name == "seed" and not seed) or (name == "crop" and not data.moved):
            continue
        if name == "warp" and name not in data.terms:
            continue
        if isinstance(term, Choice):
            asked[name] = st.selectbox(WORDS[name], term.options, key=name, bind="query-params", help=term.meaning)
            continue
        kind, usually = int if term.whole else float, data.terms.get(name, term.start(2))
        asked[name] = st.number_input(
            WORDS[name], kind(term.low), kind(term.high), kind(usually), key=KEYS.get(name, name),
            bind="query-params", help=term.meaning, format=None if term.whole else "%g", step=1 if term.whole else None,
            disabled=name == "ramp" and not ramp,
        )  # fmt: skip
    if noise and len(data.noise) > 1:
        asked["noise"] = st.selectbox(
            "Wrong training labels, %", data.noise, key="noise", bind="query-params",
            help="Imagewoof comes with lists of labels made wrong on purpose; validation labels stay true.",
        )  # fmt: skip
    if data.compared:
        asked["drop_duplicates"] = st.toggle(
            "Drop near duplicates", key="drop_duplicates", bind="query-params", help=dropped(data)
        )
    if getattr(ENCODERS.about(encoder), "pretrained", False):
        asked["pretrained"] = st.toggle(
            "ImageNet weights", key="pretrained", bind="query-params",
            help="Imagewoof is cut from ImageNet: these weights have seen most validation images with their labels.",
        )  # fmt: skip
    return asked


def dropped(data: Dataset) -> str:
    """What dropping near duplicates leaves out."""
    try:
        count = len(set(data.duplicates()[:, 0].tolist()))
    except ValueError:
        return "Leaves out training images that nearly equal a validation image; they are looked for before training."
    return f"Leaves out {count:,} training images that nearly equal a validation image. Validation stays as it is."


def adopt(config: RunConfig, over: bool = True) -> None:
    """Set the controls to a run's settings, before they are drawn.

    Without `over`, a URL that says anything about settings is left to say it all: it names only those that
    are not at their default, and OWN when the settings are not the run's.
    """
    if config.dataset not in available() or config.head not in HEADS:
        return
    data = find(config.dataset)
    values: dict[str, Any] = {"dataset": data.title, "head": config.head}
    values |= {KEYS.get(name, name): getattr(config, name) for name in WORDS}
    values[f"encoder{'-tiny' if config.size <= 16 else ''}"] = config.encoder
    if len(data.sizes) > 1:
        values["size"] = config.size
    if len(data.noise) > 1:
        values["noise"] = config.noise
    if data.compared:
        values["drop_duplicates"] = config.drop_duplicates
    values |= {"pretrained": config.pretrained, "held_out": config.held_out}
    classes = len(data.class_names) - config.held_out
    for name, knob in HEADS.about(config.head).knobs.items():
        values[key_of(config.head, name, knob, classes)] = config.knobs.get(name, knob.start(classes))
    if over or not {*values, OWN} & set(st.query_params):
        st.session_state.update(values)
        st.session_state["adopted names"] = list(values)


def forget() -> None:
    """Let go of what `adopt` has set, on a page whose controls have the same names and start from values of their own.

    Streamlit would keep it for every page, where what a person sets ends with the page.
    """
    for name in st.session_state.pop("adopted names", ()):
        if name in st.session_state:
            del st.session_state[name]
    st.session_state.pop("adopted", None)


def mark(asked: dict[str, Any], config: RunConfig | None) -> None:
    """Say in the URL whether the controls are set to something else than the run's settings."""
    own = config is not None and any(getattr(config, name) != value for name, value in asked.items())
    if own and OWN not in st.query_params:
        st.query_params[OWN] = "1"
    elif not own and OWN in st.query_params:
        del st.query_params[OWN]
