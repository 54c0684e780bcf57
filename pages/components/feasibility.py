"""What the chosen classes and dimensions leave room for, under the sliders: a line, a warning, and the reasons."""

import math
from collections.abc import Mapping

import streamlit as st

from faces.feasibility import Room, room, scale_needed, warning
from faces.heads import HEADS
from faces.knobs import Values

WISHED = (0.5, 0.9, 0.99, 0.999)  # probabilities


def feasibility(heads: Mapping[str, Values], classes: int, dim: int) -> None:
    """Say what these heads can reach at these knobs; nothing for heads that have no cosines."""
    formulas = {head: getattr(HEADS.about(head), "at_center", "") for head in heads}
    try:
        rooms = {head: room(formulas[head], heads[head], classes, dim) for head in heads if formulas[head]}
    except ValueError as error:
        st.warning(str(error), icon=":material/warning:")
        return
    if not rooms:
        return
    for head, found in rooms.items():
        if word := warning(found, heads[head], classes, dim):
            st.warning(f"{head}: {word}" if len(rooms) > 1 else word, icon=":material/warning:")
    if len(rooms) == 1:
        (found,) = rooms.values()
        st.caption(reach(found))
    else:
        st.caption(
            "Lowest losses possible: "
            + ", ".join(f"{head} {found.floor:.3f}" for head, found in rooms.items())
            + ". So losses of different heads are not comparable."
        )
    with st.popover("What fits here", icon=":material/straighten:"):
        reasons(rooms, classes, dim)


def reach(found: Room) -> str:
    """The line under the sliders."""
    margins = ", ".join(f"{name} up to {value:.2f}" for name, value in found.largest.items())
    line = f"Loss ≥ {found.floor:.3f}, probability ≤ {found.probability:.3f} at s = {found.s:.3f}"
    return f"{line} · fits {margins}" if margins else line


def reasons(rooms: Mapping[str, Room], classes: int, dim: int) -> None:
    """Formulas and numbers."""
    apart = next(iter(rooms.values())).spacing
    most = "are" if apart.exact else "are, at best,"
    st.markdown(
        f"**C = {classes} centers in D = {dim} dimensions** {most} {apart.angle:.3f} rad "
        f"({math.degrees(apart.angle):.1f}°) apart: {apart.why}. A sample on its center wins by the margin if "
        rf"$f(0)\ge\cos {apart.angle:.3f}={math.cos(apart.angle):.3f}$, where $f(0)$ stands for its own cosine."
    )
    st.markdown(
        r"**Loss** $\ge\ln\left(1+(C-1)\,e^{-s\,(f(0)+1/(C-1))}\right)$, **probability** $\le e^{-\text{loss}}$ in the "
        "training logits, as a mean over equally frequent classes"
        + (
            "."
            if classes <= dim + 1
            else f"; {classes} classes in {dim} dimensions stay above it, a simplex needs more."
        )
    )
    st.markdown(
        "| head | f(0) | s | loss ≥ | p ≤ | margin up to |\n|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {head} | {found.at_center:.3f} | {found.s:.3f} | {found.floor:.3f} | {found.probability:.3f} | "
            + (", ".join(f"{name} {value:.2f}" for name, value in found.largest.items()) or "–")
            + " |"
            for head, found in rooms.items()
        )
    )
    heads = "".join(f" {head} |" for head in rooms)
    st.markdown(
        r"**s for a wished probability**: $s\ge\frac{C-1}{C}\ln\frac{(C-1)\,p}{1-p}$ without a margin "
        "([CosFace](https://arxiv.org/abs/1801.09414)); with one, more:\n\n"
        f"| p | no margin |{heads}\n|---|---|{'---|' * len(rooms)}\n"
        + "\n".join(
            f"| {p} |"
            + "".join(
                f" {scale_needed(p, at, classes):.2f} |" for at in (1.0, *(one.at_center for one in rooms.values()))
            )
            for p in WISHED
        )
    )
    if classes == 2:
        st.markdown(
            r"With two classes $\sqrt2\,\ln(C-1)=0$ would train nothing; the default s is this bound for 0.999."
        )
