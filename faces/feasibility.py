"""What C classes in D dimensions leave room for: the largest margin, the lowest loss, the best probability.

All of it follows from how far apart C directions can be, and from what a head asks of a sample that
lies exactly on its own center: `at_center`, a formula that each head declares. No torch here.

Where no source is named the derivation is this: with every sample on its center, the own class wins by
the margin as long as the value at the center is no less than the cosine to the nearest other center.
"""

import ast
import math
from dataclasses import dataclass

import numpy as np

from faces.knobs import Values, fixed_scale, scale_bound


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


def value_at_center(formula: str, knobs: Values) -> float:
    """A head's `at_center` in numbers: what stands for the own-class cosine of a sample on its center."""
    tree = ast.parse(formula, mode="eval")
    return float(eval(compile(tree, formula, "eval"), {"__builtins__": {}}, {"cos": math.cos, **knobs}))


def scale(knobs: Values, classes: int) -> float:
    """s: the knob of that name; without one, 1. AdaCos: where its s comes to rest, all samples on their centers.

    There s = ln(B_avg) with B_avg = (C - 1) exp(-s / (C - 1)), so s = (C - 1) / C * ln(C - 1): `scale_bound` of 1/2.
    """
    if "dynamic" in knobs:
        return scale_bound(classes, 0.5) if knobs["dynamic"] == "on" and classes > 2 else fixed_scale(classes)
    return float(knobs.get("s", 1.0))


def loss_floor(s: float, at_center: float, classes: int) -> float:
    """ln(1 + (C - 1) exp(-s (f(0) + 1 / (C - 1)))): no mean loss over equally frequent classes is lower.

    The mean of the logits' differences cannot be better than on a simplex with every sample on its center, and
    ln(1 + (C - 1) exp(.)) is convex. Holds where the own value is at most cos(theta) - (1 - f(0)), as
    CosFace's is and ArcFace's with the default seam; reached only if the simplex fits, C <= D + 1.
    """
    others = classes - 1
    return float(np.logaddexp(0.0, math.log(others) - s * (at_center + 1 / others)))


def scale_needed(probability: float, at_center: float, classes: int) -> float:
    """The smallest s at which a sample on its center can reach this probability, its margin included.

    Without a margin this is CosFace's bound, `scale_bound`. Infinite when no s is enough.
    """
    room = at_center + 1 / (classes - 1)
    return math.log((classes - 1) * probability / (1 - probability)) / room if room > 0 else math.inf


@dataclass(frozen=True)
class Room:
    """What a head asks for and what there is. `largest` has, for each margin knob, its largest value that fits."""

    s: float
    at_center: float
    spacing: Spacing
    floor: float
    largest: dict[str, float]

    @property
    def fits(self) -> bool:
        """Whether the margin can be met by all classes at once, as far as is known."""
        return self.at_center >= math.cos(self.spacing.angle) - 1e-9

    @property
    def probability(self) -> float:
        """The best reachable probability of the true class in the training logits: exp(-floor)."""
        return math.exp(-self.floor)


def room(formula: str, knobs: Values, classes: int, dim: int) -> Room:
    """The room for a head whose value at the center is `formula` in its knobs. ValueError as for `spacing`."""
    apart, at_center, s = spacing(classes, dim), value_at_center(formula, knobs), scale(knobs, classes)
    nearest = math.cos(apart.angle)
    names = [node.id for node in ast.walk(ast.parse(formula)) if isinstance(node, ast.Name) and node.id in knobs]

    def largest(name: str) -> float:
        """Up to pi, past which no margin on an angle goes, by halving; the other knobs stay."""
        low, high = 0.0, math.pi
        for _ in range(60):
            middle = (low + high) / 2
            enough = value_at_center(formula, {**knobs, name: middle}) >= nearest
            low, high = (middle, high) if enough else (low, middle)
        return low

    return Room(s, at_center, apart, loss_floor(s, at_center, classes), {name: largest(name) for name in names})


def warning(room: Room, values: Values, classes: int, dim: int) -> str:
    """One sentence on a margin that cannot be met; empty when it can be."""
    if room.fits:
        return ""
    asked = ", ".join(f"{name} = {values[name]:.2f}" for name in room.largest)
    most = " or ".join(f"{name} at most {math.floor(100 * value) / 100:.2f}" for name, value in room.largest.items())
    return f"{asked} cannot be met by {classes} classes in {dim} dimensions: {most}."
