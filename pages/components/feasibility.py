"""What the chosen classes and dimensions leave room for, under the sliders: a line, a warning, and the reasons."""

import math
from collections.abc import Mapping

import streamlit as st

from faces.feasibility import Limits, Room, limits, note, scale_needed, warning
from faces.heads import HEADS
from faces.knobs import Values

WISHED = (0.5, 0.9, 0.99, 0.999)  # probabilities


def feasibility(heads: Mapping[str, Values], classes: int, dim: int) -> None:
    """Say what these heads can reach at these knobs, and what their margins ask for."""
    try:
        found = {head: limits(HEADS.about(head), knobs, classes, dim) for head, knobs in heads.items()}
        notes = {head: note(HEADS.about(head), knobs, classes, dim) for head, knobs in heads.items()}
    except ValueError as error:
        st.warning(str(error), icon=":material/warning:")
        return
    cases = {
        f"{head}, {case}" if case else head: limit for head, those in found.items() for case, limit in those.items()
    }
    for case, limit in cases.items():
        if word := warning(limit, classes, dim):
            st.warning(f"{case}: {word}" if len(cases) > 1 else word, icon=":material/warning:")
    rooms = {case: limit for case, limit in cases.items() if isinstance(limit, Room)}
    if len(heads) == 1:
        if rooms:
            st.caption(reach(rooms))
        for said in filter(None, notes.values()):
            st.caption(said)
    elif rooms:
        lowest = {
            head: [limit.floor for limit in those.values() if isinstance(limit, Room)] for head, those in found.items()
        }
        st.caption(
            "Lowest losses possible: "
            + ", ".join(f"{head} {min(floors):.3f}" for head, floors in lowest.items() if floors)
            + ". So losses of different heads are not comparable."
        )
    if rooms or (len(heads) > 1 and any(notes.values())):
        with st.popover("What fits here", icon=":material/straighten:"):
            if rooms:
                reasons(rooms, classes, dim)
            if len(heads) > 1:
                st.markdown("\n\n".join(f"**{head}**: {said}" for head, said in notes.items() if said))


def reach(rooms: Mapping[str, Room]) -> str:
    """The line under the sliders, for one head: of its cases the one with the lowest loss."""
    case, found = min(rooms.items(), key=lambda item: item[1].floor)
    line = f"Loss ≥ {found.floor:.3f}, probability ≤ {found.probability:.3f} at s = {found.s:.3f}"
    if found.simplex_loss > found.floor + 5e-4:
        line += f" (on a simplex {found.simplex_loss:.3f})"
    margins = ", ".join(
        dict.fromkeys(f"{name} up to {most:.2f}" for room in rooms.values() for name, most in room.largest.items())
    )
    if len(rooms) > 1:
        return f"{line}, for {case.partition(', ')[2]}"
    return f"{line} · fits {margins}" if margins else line


def largest(found: Limits) -> str:
    """The largest margins that fit, as a cell of the table."""
    return ", ".join(f"{name} {most:.2f}" for name, most in found.largest.items()) or "–"


def reasons(rooms: Mapping[str, Room], classes: int, dim: int) -> None:
    """Formulas and numbers."""
    apart = next(iter(rooms.values())).spacing
    most = "are" if apart.exact else "are, at best,"
    parts = [
        f"**C = {classes} centers in D = {dim} dimensions** {most} {apart.angle:.3f} rad "
        f"({math.degrees(apart.angle):.1f}°) apart: {apart.why}. A sample on its center wins by the margin if its own "
        rf"value there, $f(0)$, is at least what the nearest other center gives it, $\cos {apart.angle:.3f}"
        rf"={math.cos(apart.angle):.3f}$ (LiArcFace: its straight line in place of the cosine).",
        r"**Loss** $\ge\ln\left(1+(C-1)\,e^{-s\,\Delta}\right)$, **probability** $\le e^{-\text{loss}}$ in the "
        "training logits, as a mean over equally frequent classes. Δ is the largest mean lead of the own class that "
        r"any arrangement has: $\max_\theta\;f(\theta)+\frac{C-(C-2)\cos\theta}{2(C-1)}$, mostly at θ = 0, where it is "
        r"$f(0)+\frac1{C-1}$ and a simplex with every sample on its center reaches it"
        + ("." if classes <= dim + 1 else f"; {classes} classes in {dim} dimensions stay above it."),
        "| head | f(0) | s | loss ≥ | p ≤ | loss on a simplex | margin up to |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {case} | {found.at_center:.3f} | {found.s:.3f} | {found.floor:.3f} | {found.probability:.3f} | "
            f"{found.simplex_loss:.3f} | {largest(found)} |"
            for case, found in rooms.items()
        ),
    ]
    if any(found.adds for found in rooms.values()):
        parts.append("MagFace's losses have the least that its wish for length adds, 2 lam / u_a, in them.")
    parts.append(
        r"**s for a wished probability**: $s\ge\frac{C-1}{C}\ln\frac{(C-1)\,p}{1-p}$ without a margin "
        "([CosFace](https://arxiv.org/abs/1801.09414)); with one, on a simplex, more:\n\n"
        f"| p | no margin |{''.join(f' {case} |' for case in rooms)}\n|---|---|{'---|' * len(rooms)}\n"
        + "\n".join(
            f"| {p} |"
            + "".join(
                f" {scale_needed(p, lead, classes):.2f} |"
                for lead in (classes / (classes - 1), *(found.on_simplex for found in rooms.values()))
            )
            for p in WISHED
        )
    )
    if classes == 2:
        parts.append(
            r"With two classes $\sqrt2\,\ln(C-1)=0$ would train nothing; the default s is this bound for 0.999."
        )
    st.markdown("\n\n".join(parts))
