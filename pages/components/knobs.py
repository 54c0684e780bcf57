"""Sliders for knobs. The thing that reads a number declares it; a page only loops."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from faces.knobs import Choice, Knob, Value, fixed_scale


def sliders(
    knobs: Mapping[str, Knob | Choice],
    classes: int,
    prefix: str,
    on_turn: Callable[[str, str], None] | None = None,
) -> dict[str, Value]:
    """A slider or menu per knob, its value kept in the URL under `key_of`; returns the values.

    `on_turn(knob, key)` is called when a person has moved one.
    """
    values: dict[str, Value] = {}
    for name, knob in knobs.items():
        key = key_of(prefix, name, knob, classes)
        turned: dict[str, Any] = {"on_change": on_turn, "args": (name, key)} if on_turn and knob.live else {}
        if isinstance(knob, Choice):
            values[name] = st.selectbox(
                f"{name} · {knob.meaning}", knob.options, key=key, bind="query-params", **turned
            )
            continue
        kind = int if knob.whole else float
        values[name] = st.slider(
            f"{name} · {knob.meaning}", kind(knob.low), kind(knob.high), kind(knob.start(classes)),
            step=1 if knob.whole else 0.01, key=key, bind="query-params", **turned,
        )  # fmt: skip
        if knob.default is fixed_scale:
            st.caption(scale_note(classes))
    return values


def key_of(prefix: str, name: str, knob: Knob | Choice, classes: int) -> str:
    """The name of a knob in the URL. One whose default depends on the classes has a name for each number of them."""
    return f"{prefix}.{name}{classes}" if isinstance(knob, Knob) and callable(knob.default) else f"{prefix}.{name}"


def scale_note(classes: int) -> str:
    """Where the default s comes from, as formula and number."""
    if classes == 2:
        return f"Default for C = 2: CosFace's bound for p = 0.999, {fixed_scale(2):.3f}"
    number = math.sqrt(2) * math.log(classes - 1)
    return rf"Default: $\sqrt2\,\ln(C-1)=\sqrt2\,\ln {classes - 1}={number:.3f}$"
