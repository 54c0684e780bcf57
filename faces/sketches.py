"""The pictures of the margin lab: what a head's knobs do, each line drawn by the head's own `forward` and `loss`.

    drawn({"name": "ArcFace", "classes": 10, "dim": 128, "knobs": {"m": 0.5}, "theta": 60, "other": 90})

They are described for assets/curves.js (faces/figures.py) and carry the words that stand around them. torch draws the
lines, so the app has this done in a process of its own (trainer/sketching.py).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from faces import figures
from faces.curves import Angles, Sketch, alike, angles, in_numbers, together
from faces.feasibility import spacing
from faces.figures import GREY, Dot, Line
from faces.heads import HEADS, angled, in_families
from faces.knobs import Value
from faces.palette import head_ink

NAMES = in_families(filter(angled, HEADS))
SEAMS = {  # what is said of each rule past theta + m = pi
    "cos_minus_m_sin_m": "falls on, after a step down",
    "keep_theta": "drops the margin: a step up",
    "raw_cos": "rises again: the worst samples look better",
    "clamp_pi": "stays flat: no pull on the worst samples",
    "psi_monotone": "falls on without a step",
}

TALL, FLAT = 290, 64  # pixels, with an upright axis and without
FEW = angles()[::3]  # enough for lines in the background
Drawn = tuple[dict[str, Any], str, str]  # a picture, what it shows for those who cannot see it, and words below it


@dataclass(frozen=True)
class Shown:
    """What all pictures show: a head, the angles of its lines, and a sample's angles to two classes, in radians."""

    name: str
    sketch: Sketch
    angles: np.ndarray
    seam: float | None
    theta: float
    other: float
    dark: bool = False

    @property
    def degrees(self) -> np.ndarray:
        return np.degrees(self.angles)

    @property
    def color(self) -> str:
        return self.ink(self.name)

    def ink(self, name: str) -> str:
        """The colour of a head on the background that it is drawn on."""
        return head_ink(name).dark if self.dark else head_ink(name).light

    def dot(self, y: float) -> Dot:
        """The sample in a picture over theta."""
        return Dot(math.degrees(self.theta), y, self.color)


def drawn(asked: Mapping[str, Any]) -> dict[str, Any]:
    """All pictures of a head (`name`, `classes`, `dim`, `knobs`, `drawn`) for a sample (`theta`, `other`, in degrees).

    Returns the `pictures`, the `formula` in Markdown, and the head's `knobs` as it took them. On a `dark` ground heads
    have other colours. ValueError as Sketch, and for angles beyond 0 and 180 degrees.
    """
    sketch = Sketch(asked["name"], asked["classes"], asked["dim"], asked.get("knobs", {}), asked.get("drawn", {}))
    theta, other = asked["theta"], asked["other"]
    if not (0 <= theta <= 180 and 0 <= other <= 180):
        raise ValueError(f"Angles go from 0 to 180 degrees; {theta} and {other} given.")
    seam = sketch.seam()
    theta, other = math.radians(theta), math.radians(other)
    shown = Shown(asked["name"], sketch, angles(seam), seam, theta, other, bool(asked.get("dark")))
    return {
        "pictures": [described(shown, question) for question in PICTURES],
        "formula": in_letters_and_numbers(shown),
        "knobs": sketch.head.knob_values(),
    }


def in_letters_and_numbers(shown: Shown) -> str:
    """The formula of the own logit, and what it is for the sample."""
    formula = HEADS.about(shown.name).formula
    values = {**shown.sketch.head.knob_values(), **shown.sketch.drawn, "theta": shown.theta}
    values["mi"] = values.get("m", 0.0)  # ElasticFace's, at its mean
    numbers = in_numbers(formula, values)
    here = shown.sketch.own(np.array([shown.theta]))[0]
    return (
        rf"Own logit $= {formula}$"
        "\n\n"
        rf"At {math.degrees(shown.theta):.0f}° $= {numbers} = \mathbf{{{here:.3f}}}$"
    )


@lru_cache(1024)
def background(name: str, classes: int, knobs: tuple[tuple[str, Value], ...]) -> Angles:
    """The own logit of a head beside the one that is asked about."""
    return Sketch(name, classes, 2, dict(knobs)).own(FEW)


def target(shown: Shown) -> Drawn:
    """The own logit against the angle, of this head and of all others."""
    name, sketch = shown.name, shown.sketch
    found = {name: sketch.own(FEW), "no margin": sketch.own(FEW, margin=False)}
    for each in NAMES:
        if each not in (name, "ETF"):  # which is NormFace, in C - 1 dimensions or more
            knobs = together(each, sketch.head.knob_values(), sketch.classes)
            found[each] = background(each, sketch.classes, tuple(knobs.items()))
    kinds = alike(found)
    rest = [kind for kind in kinds if kind not in (name, "no margin")]
    lines = [
        Line(said(kinds[kind]), np.degrees(FEW), found[kind], shown.ink(kind), 1.5, dash, faint=True)
        for kind, dash in zip(rest, figures.dashes(rest), strict=True)
    ]
    if shown.seam is not None:
        past = shown.angles[shown.angles > shown.seam]
        lines += [
            Line(rule, np.degrees(past), sketch.past(past, rule), GREY, 1.5, "dot", faint=True)
            for rule in SEAMS
            if rule != sketch.head.seam
        ]
    lines += [Line("no margin", np.degrees(FEW), found["no margin"], GREY, dash="dash")]
    lines += [Line(name, shown.degrees, sketch.own(shown.angles), shown.color, 3.5)]
    here, plain = (sketch.own(np.array([shown.theta]), margin)[0] for margin in (True, False))
    top = nice(found["no margin"][0])
    option = figures.over_angles(lines, [shown.dot(here)], -1.5 * top, top, top / 2, seam_mark(shown))
    taken = "nothing is taken" if abs(plain - here) < 0.005 else f"{abs(plain - here):.2f} less"
    if here > plain + 0.005:
        taken = taken.replace("less", "more")
    at = math.degrees(shown.theta)
    words = f"At {at:.0f}° the own logit is {here:.2f} instead of {plain:.2f}: {taken}.".replace("-", "−")
    if shown.seam is not None:
        words += f" Past {math.degrees(shown.seam):.0f}° it {SEAMS[sketch.head.seam]}; dotted, the other seam rules."
    if len(kinds[name]) > 1:
        words += f" The same line: {', '.join(kinds[name][1:])}."
    return option, f"Own logit of {name} against the angle, beside all other heads", words


def plane(shown: Shown) -> Drawn:
    """Who wins between two classes."""
    *boundary, at_own, at_other = shown.sketch.boundary(np.append(shown.angles, [shown.theta, shown.other]))
    band = math.degrees(at_own - shown.theta)
    option = figures.angle_plane(shown.degrees, np.degrees(boundary), shown.color, shown.dot(math.degrees(shown.other)))
    if at_own >= math.pi:
        words = "no angle to the other class is enough for the own one to win in training."
    elif abs(band) < 0.05:
        words = "the nearer class wins: there is no band."
    elif band > 0:
        words = f"the other class must be {band:.1f}° farther off for the own one to win in training."
    else:
        words = f"the own class wins even if the other is {-band:.1f}° nearer: as a hard one it hardly counts."
    wins = [
        word
        for word, won in (
            ("its own class wins", shown.other > at_own),
            ("the other class wins", shown.theta > at_other),
        )
        if won
    ]
    return (
        option,
        f"{shown.name}: the own class wins if the other is {math.degrees(at_own):.0f}° away or more",
        f"At θ₁ = {math.degrees(shown.theta):.0f}° {words} The dot: {' and '.join(wins) or 'undecided'}.",
    )


def probability(shown: Shown) -> Drawn:
    """How sure the head can be."""
    sketch = shown.sketch
    p, plain = (sketch.probability(shown.angles, shown.other, margin) for margin in (True, False))
    here, best = sketch.probability(np.array([shown.theta]), shown.other)[0], sketch.best()
    lines = [
        Line("no margin", shown.degrees, plain, GREY, dash="dash"),
        Line(shown.name, shown.degrees, p, shown.color, 3.5),
    ]
    dots = [shown.dot(here)]
    ring = "With two classes √2·ln(C − 1) is 0 and would train nothing."
    if sketch.classes > 2:
        s = math.sqrt(2) * math.log(sketch.classes - 1)
        dots.append(Dot(45.0, 0.5, GREY, "s = √2·ln(C − 1)", filled=False))
        ring = f"Ring: for s = √2·ln {sketch.classes - 1} = {s:.3f}, no margin and all others at 90°, p = ½ at 45°."
    if shown.name == "SphereFace2":
        ring = "SphereFace2 asks yes or no for each class; this softmax of its logits is not what it trains."
    half = figures.crossing(shown.degrees, p, 0.5)
    words = f"p = ½ at {half:.1f}°." if half is not None else f"p stays {'below' if p[0] < 0.5 else 'above'} ½."
    return (
        figures.over_angles(lines, dots, level={best: f"best {best:.3f}"}),
        f"Probability of the own class against the angle; {here:.2f} at {math.degrees(shown.theta):.0f}°",
        f"{words} On its center, all classes as far apart as they can be, p = {best:.3f}. {ring}",
    )


def pull(shown: Shown) -> Drawn:
    """How hard training turns a sample."""
    pull, push = shown.sketch.pull(shown.angles, shown.other)
    plain, _ = shown.sketch.pull(shown.angles, shown.other, margin=False)
    (here,), (off,) = shown.sketch.pull(np.array([shown.theta]), shown.other)
    lines = [
        Line("no margin", shown.degrees, plain, GREY, dash="dash"),
        Line("push off θ₂", shown.degrees, push, shown.color, dash="dot"),
        Line("pull to θ", shown.degrees, pull, shown.color, 3.5),
    ]
    top = nice(max(pull.max(), plain.max(), push.max()))
    bottom = -top / 2 * max(0, math.ceil(-2 * min(pull.min(), push.min()) / top - 0.04))  # nothing to see is cut
    most = shown.degrees[pull.argmax()]
    return (
        figures.over_angles(lines, [shown.dot(here)], bottom, top, top / 2, seam_mark(shown)),
        f"Pull to the own class against the angle; strongest at {most:.0f}°",
        f"A sample at {most:.0f}° is. The dot is pulled to its class with {here:.2f} and pushed off the nearest other, "
        f"at {math.degrees(shown.other):.0f}°, with {off:.2f}: slopes of the loss, per radian.".replace("-", "−"),
    )


def room(shown: Shown) -> Drawn:
    """Whether the margin fits that many classes in that many dimensions."""
    classes, dim = shown.sketch.classes, shown.sketch.dim
    apart = spacing(classes, dim)
    asked, there = math.degrees(shown.sketch.asks()), math.degrees(apart.angle)
    fits = "does not fit" if asked > there + 0.01 else "fits" if apart.exact else "may fit"
    return (
        figures.angle_gauge(asked, there, shown.color),
        f"{asked:.1f}° between centers are asked for, and there are {there:.1f}°",
        f"It {fits}: it asks for centers {asked:.1f}° apart, so that a sample on its own wins by the margin. {classes} "
        f"classes in {dim} dimensions can{'' if apart.exact else ' at best'} be {there:.1f}° apart.",
    )


def seam_mark(shown: Shown) -> dict[float, str]:
    """Where the seam is, for a picture."""
    return {} if shown.seam is None else {math.degrees(shown.seam): "θ + m = π"}


def said(names: list[str]) -> str:
    """Heads that draw one line, in few words."""
    return names[0] if len(names) == 1 else f"{names[0]} +{len(names) - 1}"


def nice(number: float) -> float:
    """The end of an axis for numbers up to this one, so that small steps of a slider leave it where it is."""
    ends = (step * 10.0**power for power in range(-2, 4) for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8))
    return next((end for end in ends if end >= number), number)


PICTURES: dict[str, Callable[[Shown], Drawn]] = {
    "What does the margin take?": target,
    "Who wins between two classes?": plane,
    "How sure can the head be?": probability,
    "Who is pulled hardest?": pull,
    "Does the margin fit?": room,
}


def described(shown: Shown, question: str) -> dict[str, Any]:
    """A picture, with all that stands around it."""
    option, alt, words = PICTURES[question](shown)
    file = f"{shown.name} {question.lower().rstrip('?')}"
    return {
        **option,
        "question": question,
        "words": words,
        "alt": alt,
        "tall": TALL if option["y"]["step"] else FLAT,
        "file": file,
    }
