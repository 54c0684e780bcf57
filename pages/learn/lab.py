"""The margin lab: one head, its knobs, and pictures of what they do, without any training.

Every line is drawn by the head's own `forward` and `loss` (faces/sketches.py), in a process that has torch loaded
(trainer/sketching.py): the first visitor to this page starts it, after its title and controls are painted.
tests/benchmarks/lab.py measures a step of a slider.
"""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from faces.heads import HEADS, angled, in_families
from faces.knobs import Choice, Knob, Value
from faces.palette import DARK
from pages.components import curves, session
from pages.components.feasibility import feasibility
from pages.components.knobs import key_of, sliders
from pages.components.settings import OWN

NAMES = in_families(filter(angled, HEADS))
SAMPLE = {
    "theta": ("θ · a sample's angle to its class", 60),
    "other": ("θ₂ · to the nearest other class", 90),
}


@st.cache_resource(show_spinner="The heads' own formulas are being loaded, once per server: some seconds")
def ready() -> None:
    """The process that draws has loaded them."""
    curves.sketcher.warm()


@st.fragment
def lab(name: str, classes: int, dim: int, choices: Mapping[str, Value], places: Mapping[str, Any]) -> None:
    """The sliders, and what they change, in its places on the page: at each step nothing else is sent or drawn."""
    knobs = {**sliders(live_knobs(name, Knob), classes, f"lab.{name}"), **choices}
    drawn = sliders(getattr(HEADS.about(name), "drawn", {}), classes, f"lab.{name}")
    sample = ask_sample()
    asked = {
        "name": name, "classes": classes, "dim": dim, "knobs": knobs, "drawn": drawn, **sample,
        "dark": session.paper() is DARK,
    }  # fmt: skip
    try:
        with places["formula"]:
            ready()
            found = curves.sketcher.drawn(asked)
    except (ValueError, RuntimeError) as error:
        for place in places.values():
            place.empty()
        places["formula"].warning(str(error), icon=":material/warning:")
        return
    places["formula"].markdown(found["formula"])
    with places["pictures"]:
        curves.draw_curves(found["pictures"], "pictures", curves.Followed(asked, followed(name, classes)))
    with places["room"]:
        feasibility({name: found["knobs"]}, classes, dim)
        st.page_link(
            "explore/explore.py", label="Train it with these knobs", icon=":material/explore:",
            query_params=link(name, knobs, dim),
        )  # fmt: skip


def ask_head() -> str:
    """Which head, of those whose logits are made of angles."""
    name = st.selectbox("Head", NAMES, index=NAMES.index("ArcFace"), key="lab", bind="query-params") or "ArcFace"
    about = HEADS.about(name)
    st.markdown(f":small[{about.family}: {about.title}, [{about.born[:4]}]({about.source})]")
    return name


def ask_size() -> tuple[int, int]:
    """How many classes in how many dimensions."""
    with st.grid(min_column_width=100):
        classes = st.number_input(
            "Classes C",
            *curves.CLASSES,
            10,
            key="lab.C",
            bind="query-params",
            help="Two or more: one class has no rival.",
        )
        dim = st.number_input("Dimensions D", *curves.DIMS, 128, key="lab.D", bind="query-params")
    return classes, dim


def live_knobs(name: str, kind: type) -> dict[str, Any]:
    """The knobs of one kind that move a line."""
    about = HEADS.about(name)
    undrawn = getattr(about, "undrawn", ())
    return {
        letter: knob
        for letter, knob in about.knobs.items()
        if knob.live and letter not in undrawn and isinstance(knob, kind)
    }


def ask_sample() -> dict[str, int]:
    """Where a sample lies: its angles to its own class and to the nearest other one, in degrees."""
    return {
        angle: st.slider(label, 0, 180, start, 1, "%d°", key=f"lab.{angle}", bind="query-params")
        for angle, (label, start) in SAMPLE.items()
    }


def followed(name: str, classes: int) -> dict[str, tuple[str, ...]]:
    """Which slider says what of all that the pictures are asked."""
    kinds = {"knobs": live_knobs(name, Knob), "drawn": getattr(HEADS.about(name), "drawn", {})}
    ways: dict[str, tuple[str, ...]] = {f"lab.{angle}": (angle,) for angle in SAMPLE}
    for kind, knobs in kinds.items():
        for letter, knob in knobs.items():
            ways[key_of(f"lab.{name}", letter, knob, classes)] = (kind, letter)
    return ways


def link(name: str, knobs: Mapping[str, Value], dim: int) -> dict[str, str]:
    """What the page Explore is asked in its URL, where digits, the usual dataset, have ten classes."""
    declared = HEADS.about(name).knobs
    asked = {key_of(name, letter, declared[letter], 10): value for letter, value in knobs.items()}
    return {"head": name, "dim": str(dim), OWN: "1"} | {key: str(value) for key, value in asked.items()}


st.title("What does the margin do?")
st.markdown(
    "Nothing is trained here: every line is the head's own formula, the one that trains. Move a slider and all "
    "pictures move with it."
)
controls, view = st.columns([1, 2.6], gap="large")
with controls:
    head = ask_head()
    classes, dim = ask_size()
    choices = sliders(live_knobs(head, Choice), classes, f"lab.{head}")
    turned = st.container()
    places = {"room": st.container()}
with view:
    places |= {"formula": st.empty(), "pictures": st.container()}
with turned:
    lab(head, classes, dim, choices, places)
