"""What C classes in D dimensions leave room for: the largest margin, the lowest loss, the best probability.

All of it follows from how far apart C directions can be, and from what a head declares: `at_angle`, what stands
for the own-class cosine at the angle theta. A test holds that this is the head's own `margin`. No torch here.

The floor under a loss, for C classes that are equally frequent (derived here; numbers tried against it in
tests/test_feasibility.py). A sample's cross-entropy is ln(1 + the sum over j of exp(-s lead_j)), its lead over a
wrong class being own value minus that class's. This is convex, so the mean loss is no lower than at the mean lead.
A mean cosine of u to the own centers leaves a mean of at least -(C - (C - 2) u) / (2 (C - 1)) to the others: with
x, w the means of the features and of the centers, u <= x.w + sqrt((1 - |x|^2) (1 - |w|^2)) <= 1 + 2 x.w where x.w
is negative, and the others' mean is (C x.w - u) / (C - 1). So no mean lead exceeds the maximum over theta of
at_angle + (C - (C - 2) cos(theta)) / (2 (C - 1)). Where that is at theta = 0, as with most margins, the simplex
reaches it, in D >= C - 1; elsewhere D >= C does, centers and features leaning to opposite sides. Several centers
per class change nothing: a class counts by its nearest, which is no farther than any one chosen from those in use.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from types import CodeType, SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from faces.knobs import Values, fixed_scale, scale_bound

Numbers = Float[ndarray, "..."]
SPREADS = ("sigma",)  # a knob that moves the value at the center and is no margin
ANGLES = np.linspace(0, math.pi, 4001)  # where a head's value is looked at
NORMAL = tuple(NormalDist().inv_cdf((place + 0.5) / 100) for place in range(100))  # in for the normal distribution


@dataclass(frozen=True)
class Spacing:
    """The largest angle that C directions can all keep from each other, in radians.

    Not `exact`: an upper bound; no arrangement does better, and perhaps none does as well.
    """

    angle: float
    exact: bool
    why: str


def spacing(classes: int, dim: int) -> Spacing:
    """How far apart C directions in D dimensions can be. Fewer than two classes or one dimension: ValueError.

    C <= D + 1: a simplex, arccos(-1 / (C - 1)). D = 2: evenly on the circle. C <= 2D: 90 degrees (Rankin,
    The closest packing of spherical caps in n dimensions, 1955). These are exact. Beyond them the least of
    three bounds: Rankin's 90 degrees; in 3 dimensions Fejes Toth's arccos((cot² w - 1) / 2) with
    w = C / (C - 2) * 30 degrees; and that caps of half the angle around C directions do not overlap, so
    that each covers at most 1 / C of the sphere.
    """
    fixed_scale(classes)  # one class or none is refused here, in one sentence
    if dim < 2:
        raise ValueError(f"Directions need at least 2 dimensions; {dim} given.")
    if classes <= dim + 1:
        return Spacing(math.acos(-1 / (classes - 1)), True, "a simplex: every two centers equally far apart")
    if dim == 2:
        return Spacing(2 * math.pi / classes, True, "evenly on the circle")
    if classes <= 2 * dim:
        return Spacing(math.pi / 2, True, "more than D + 1 and up to 2D directions: a right angle")
    bounds = [math.pi / 2, 2 * cap(1 / classes, dim)]
    if dim == 3:
        w = classes / (classes - 2) * math.pi / 6
        bounds.append(math.acos((1 / math.tan(w) ** 2 - 1) / 2))
    return Spacing(min(bounds), False, "an upper bound: the best arrangement is not known in general")


def cap(share: float, dim: int) -> float:
    """The angle, from its middle to its edge, of a cap that covers this share of the unit sphere; not rounded down."""
    theta = np.linspace(0, math.pi, 20_001)
    area = np.cumsum(np.sin(theta) ** (dim - 2))
    return float(theta[min(np.searchsorted(area, share * area[-1]) + 1, len(theta) - 1)])


def turned(theta: Numbers, m: float, seam: str) -> Numbers:
    """cos(theta + m), past its ends as in faces.heads.angle.cos_of_sum."""
    value = np.cos(theta + m)
    past = {
        "cos_minus_m_sin_m": np.cos(theta) - m * math.sin(m), "keep_theta": np.cos(theta), "raw_cos": value,
        "clamp_pi": -1.0, "psi_monotone": -value - 2,
    }[seam]  # fmt: skip
    return np.where(theta + m > math.pi, past, np.where(theta + m < 0, 1.0, value))


def drawn(theta: Numbers, m: float, sigma: float, seam: str) -> Numbers:
    """The mean of `turned` over margins from the normal distribution around m."""
    return np.mean([turned(theta, m + sigma * place, seam) for place in NORMAL], axis=0)


def psi(a: Numbers) -> Numbers:
    """cos(a), unrolled past pi, as in faces.heads.angle.psi."""
    k = np.floor(a / math.pi)
    return (1 - 2 * (k % 2)) * np.cos(a) - 2 * k


WORDS = {"cos": np.cos, "sin": np.sin, "maximum": np.maximum, "pi": math.pi, "turned": turned, "drawn": drawn}
WORDS |= {"psi": psi}


def value(formula: str, **named: Any) -> Any:
    """A declared formula in numbers; theta and phi may be arrays."""
    return eval(compiled(formula), {"__builtins__": {}}, WORDS | named)  # our own source


@lru_cache
def compiled(formula: str) -> CodeType:
    """A formula as Python reads it."""
    return compile(formula, formula, "eval")


def scale(knobs: Values, classes: int) -> float:
    """s: the knob of that name; without one, 1. AdaCos: where its s comes to rest, all samples on their centers.

    There s = ln(B_avg) with B_avg = (C - 1) exp(-s / (C - 1)), so s = (C - 1) / C * ln(C - 1): `scale_bound` of 1/2.
    """
    if "dynamic" in knobs:
        return scale_bound(classes, 0.5) if knobs["dynamic"] == "on" and classes > 2 else fixed_scale(classes)
    return float(knobs.get("s", 1.0))


def loss_of(s: float, lead: float, classes: int) -> float:
    """ln(1 + (C - 1) exp(-s lead)): the cross-entropy of a sample whose value leads every other class's by this."""
    return float(np.logaddexp(0.0, math.log(classes - 1) - s * lead))


def scale_needed(probability: float, lead: float, classes: int) -> float:
    """The smallest s at which such a sample has this probability of its true class. Infinite when no s is enough.

    Without a margin, on a simplex, the lead is C / (C - 1) and this is CosFace's bound, `scale_bound`.
    """
    return math.log((classes - 1) * probability / (1 - probability)) / lead if lead > 0 else math.inf


@dataclass(frozen=True)
class Limits:
    """What each margin knob asks for, and the largest value of it that fits, the others staying as they are."""

    spacing: Spacing
    asked: Mapping[str, float]
    largest: Mapping[str, float]

    @property
    def fits(self) -> bool:
        """Whether all classes can meet the margins at once, as far as is known."""
        return all(self.asked[name] <= most + 1e-9 for name, most in self.largest.items())


@dataclass(frozen=True)
class Room(Limits):
    """The same for a head with a softmax, and what its training logits can reach.

    `at_center` stands for the own cosine of a sample on its center, `lead` is the largest mean lead over the other
    classes that any arrangement has, `on_simplex` the lead of samples on the centers of a simplex. `adds` is the
    least that the loss has besides the cross-entropy.
    """

    classes: int
    s: float
    at_center: float
    lead: float
    on_simplex: float
    adds: float

    @property
    def floor(self) -> float:
        """No mean loss over equally frequent classes is lower."""
        return loss_of(self.s, self.lead, self.classes) + self.adds

    @property
    def simplex_loss(self) -> float:
        """The loss with every sample on its center and the centers on a simplex."""
        return loss_of(self.s, self.on_simplex, self.classes) + self.adds

    @property
    def probability(self) -> float:
        """The best reachable probability of the true class in the training logits, as a geometric mean."""
        return math.exp(self.adds - self.floor)


def limits(about: SimpleNamespace, knobs: Values, classes: int, dim: int) -> dict[str, Limits]:
    """The limits of a head, one for each of the cases that it tells apart, by their names; of one that does not, "".

    `about` is what the head declares. Empty for one that declares no limits. ValueError as for `spacing`.
    """
    if hasattr(about, "at_angle"):
        cases = about.at_angle if isinstance(about.at_angle, dict) else {"": about.at_angle}
        return {case: room(about, own, knobs, classes, dim) for case, own in cases.items()}
    if hasattr(about, "fits"):
        apart, asked = spacing(classes, dim), {name: float(knobs[name]) for name in about.fits}
        known = {**knobs, "phi": apart.angle, "C": classes}
        return {"": Limits(apart, asked, {name: float(value(most, **known)) for name, most in about.fits.items()})}
    return {}


def room(about: SimpleNamespace, own: str, knobs: Values, classes: int, dim: int) -> Room:
    """The room for a head whose own-class value is `own`, in theta and its knobs. ValueError as for `spacing`."""
    apart, likeness = spacing(classes, dim), getattr(about, "likeness", "cos(theta)")

    def at_center(**other: float) -> float:
        return float(value(own, **{**knobs, "theta": np.zeros(1), **other})[0])

    def largest(name: str) -> float:
        """Up to pi, past which no margin on an angle goes, by halving; the other knobs stay."""
        low, high = 0.0, math.pi
        for _ in range(60):
            middle = (low + high) / 2
            enough = at_center(**{name: middle}) >= value(likeness, theta=apart.angle)
            low, high = (middle, high) if enough else (low, middle)
        return low

    numbers = [name for name, given in knobs.items() if not isinstance(given, str) and name not in SPREADS]
    margins = {name: largest(name) for name in numbers if at_center(**{name: 0.0}) != at_center(**{name: 1.0})}
    here = {**knobs, "theta": ANGLES}
    values = value(own, **here) + value(getattr(about, "spares", "0"), **here)
    lead = (values + (classes - (classes - 2) * value(likeness, theta=ANGLES)) / (2 * (classes - 1))).max()
    simplex = value(likeness, theta=math.acos(-1 / (classes - 1)))
    return Room(
        apart, {name: float(knobs[name]) for name in margins}, margins, classes, scale(knobs, classes), at_center(),
        float(lead), float(at_center() - simplex), float(value(getattr(about, "adds", "0"), **knobs)),
    )  # fmt: skip


def angle_asked(about: SimpleNamespace, knobs: Values, classes: int, dim: int) -> float | None:
    """How far apart centers must be, in radians, for a sample on its own to win by the margin; pi: no angle is enough.

    Of several cases the most demanding one. None for a head that says nothing of angles.
    """
    alike = value(getattr(about, "likeness", "cos(theta)"), theta=ANGLES)
    rooms = [found for found in limits(about, knobs, classes, dim).values() if isinstance(found, Room)]
    return max((float(np.interp(-found.at_center, -alike, ANGLES)) for found in rooms), default=None)


def note(about: SimpleNamespace, knobs: Values, classes: int, dim: int) -> str:
    """What a head says about its limits in a sentence, with their numbers; empty for one that says nothing."""
    found = {name: most for case in limits(about, knobs, classes, dim).values() for name, most in case.largest.items()}
    angle = spacing(classes, dim).angle
    return getattr(about, "note", "").format(**found, cosine=math.cos(angle), chord=2 * math.sin(angle / 2))


def warning(found: Limits, classes: int, dim: int) -> str:
    """One sentence on margins that cannot be met; empty when they can be."""
    if found.fits:
        return ""
    asked = ", ".join(f"{name} = {given:.2f}" for name, given in found.asked.items())
    most = " or ".join(f"{name} at most {math.floor(100 * most) / 100:.2f}" for name, most in found.largest.items())
    return f"{asked} cannot be met by {classes} classes in {dim} dimensions: {most}."
