"""A head drawn against angles, by the very `forward` and `loss` that train it.

    head = Sketch("ArcFace", classes=10, dim=128, knobs={"m": 0.5})
    head.own(theta)                 what stands for the own class in the training logits
    head.probability(theta, other)  of the own class
    head.pull(theta, other)         how hard training turns a sample to its own center, and off another one

`theta` (N,) is the angle to the own class, `other` that to the nearest other class, in radians; the C - 2 classes that
are left stand at right angles, as most do that nobody has placed. No formula of a head is repeated here: a sketch is
the head itself, in eval mode, told its cosines instead of working them out from images.
"""

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import cross_entropy

from faces.heads import HEADS, angled
from faces.knobs import Knob, Value, Values, settle

PARTS, PASSES = 64, 3  # an angle is found by cutting pi into 64 parts, the right one of these again, and again: 1.2e-5
NOTHING: Values = MappingProxyType({})

Angles = Float[ndarray, " N"]


class Sketch:
    """A head with these knobs, and what it declares as `drawn`: its buffers, the length of its features.

    ValueError for a head without angles, and as the head's own for knobs, classes and dimensions. ElasticFace is
    drawn at its mean margin.
    """

    def __init__(self, name: str, classes: int, dim: int, knobs: Values = NOTHING, drawn: Values = NOTHING):
        if not angled(name):
            heads = ", ".join(each for each in HEADS if angled(each))
            raise ValueError(f"{name} has no angles to class centers to draw. There are: {heads}.")
        self.classes, self.dim = classes, dim
        self.drawn = settle(getattr(HEADS.about(name), "drawn", {}), drawn, classes)
        self.head = HEADS[name](dim, classes, **knobs).eval()
        for buffer in set(self.drawn) - {"length"}:
            getattr(self.head, buffer).fill_(self.drawn[buffer])
        if "length" not in self.drawn:
            self.instead("margins", lambda own, features: self.head.margin(own))

    def instead(self, method: str, what: Callable) -> None:
        """Let the head answer otherwise."""
        vars(self.head)[method] = what

    def told(self, cosine: Tensor) -> tuple[Tensor, Tensor]:
        """Tell the head the cosines (N, C) of samples, the own class first; returns features and labels to ask with."""
        self.instead("cosine", lambda features: cosine)
        features = torch.zeros(len(cosine), 2, dtype=torch.float64)
        features[:, 0] = float(self.drawn.get("length", 1.0))
        return features, torch.zeros(len(cosine), dtype=torch.int64)

    def logits(self, cosine: Tensor, margin: bool = True) -> Tensor:
        """Training logits (N, C), or, without the margin, inference logits."""
        features, labels = self.told(cosine)
        return self.head(features, labels) if margin else self.head(features)

    @torch.no_grad()
    def own(self, theta: Angles, margin: bool = True) -> Angles:
        """The logit of the own class."""
        return self.logits(table(theta, math.pi / 2, 2), margin)[:, 0].numpy()

    @torch.no_grad()
    def probability(self, theta: Angles, other: float = math.pi / 2, margin: bool = True) -> Angles:
        """The softmax of the logits at the own class."""
        return self.logits(table(theta, other, self.classes), margin).softmax(1)[:, 0].numpy()

    @torch.no_grad()
    def best(self) -> float:
        """The probability of a sample on its center, where every two of the C centers are as far apart as C can be."""
        cosine = torch.full((1, self.classes), -1 / (self.classes - 1), dtype=torch.float64)
        cosine[0, 0] = 1.0
        return float(self.logits(cosine).softmax(1)[0, 0])

    def pull(self, theta: Angles, other: float = math.pi / 2, margin: bool = True) -> tuple[Angles, Angles]:
        """d loss / d theta, and -d loss / d other, of each sample: no unit, by the loss' own derivative.

        Without the margin, of the cross-entropy of the inference logits. The first is (1 - p) times the slope of the
        own logit, for a softmax.
        """
        both = theta, np.full_like(theta, other)
        own, another = (torch.tensor(angles, dtype=torch.float64, requires_grad=True) for angles in both)
        features, labels = self.told(table(own, another, self.classes))
        loss = self.head.loss(features, labels) if margin else cross_entropy(self.head(features), labels)
        of_own, of_other = torch.autograd.grad(loss * len(own), (own, another))  # a mean over the samples
        return of_own.numpy(), -of_other.numpy()

    @torch.no_grad()
    def boundary(self, theta: Angles) -> Angles:
        """How far off the other of two centers must be, at least, for the own class to win in training; pi: nowhere."""

        def wins(other: Tensor) -> Tensor:
            logits = self.logits(table(np.repeat(theta, PARTS), other.flatten(), 2))
            return (logits[:, 0] > logits[:, 1]).view_as(other)

        return onset(wins, len(theta))

    @torch.no_grad()
    def asks(self) -> float:
        """The angle between centers that a sample on its own one needs to win by the margin; pi: none is enough."""
        own = self.own(np.zeros(1))[0]

        def beaten(other: Tensor) -> Tensor:
            return self.logits(table(np.zeros(PARTS), other[0], 2), margin=False)[None, :, 1] <= own

        return float(onset(beaten, 1)[0])

    def seam(self) -> float | None:
        """The angle from which the five seam rules differ; None for a head without seam, and where there is none."""
        if "seam" not in self.head.knobs:
            return None

        def differ(theta: Tensor) -> Tensor:
            rising, falling = (self.past(theta[0].numpy(), rule) for rule in ("raw_cos", "psi_monotone"))
            return torch.from_numpy(rising - falling > 1e-12)[None]

        found = float(onset(differ, 1)[0])
        return found if found < math.pi - 1e-4 else None

    def past(self, theta: Angles, rule: str) -> Angles:
        """The own logit under this seam rule."""
        before, self.head.seam = self.head.seam, rule
        try:
            return self.own(theta)
        finally:
            self.head.seam = before


def angles(seam: float | None = None) -> Angles:
    """Angles for a line, a degree apart, with both sides of the seam.

    They stop short of 0 and pi by a twentieth of a degree: there no direction is right, and slopes are taken as 0.
    """
    line = np.radians(np.arange(0.0, 181.0).clip(0.05, 179.95))
    return line if seam is None else np.sort(np.append(line, [seam - 1e-4, seam + 1e-4]))


def table(theta: Angles | Tensor, other: float | Tensor, classes: int) -> Tensor:
    """Cosines (N, C): to the own class, to the nearest other, and 0 to those that are left."""
    own = torch.as_tensor(theta, dtype=torch.float64)
    near = torch.as_tensor(other, dtype=torch.float64).expand_as(own)
    rest = torch.zeros(len(own), classes - 2, dtype=torch.float64)
    return torch.cat([own.cos()[:, None], near.cos()[:, None], rest], 1)


def onset(true: Callable[[Tensor], Tensor], size: int) -> Angles:
    """The angles (size,), 0 to pi, from which on something is true; pi where it is false just before pi.

    `true` is asked of many angles at once, (size, PARTS), since each question to a head costs more than its numbers.
    """
    step = PARTS**PASSES
    unit = math.pi / step
    last = torch.full((size, 1), -1)  # where it is false last, in units; -1: nowhere
    for _ in range(PASSES):
        step //= PARTS
        asked = last.clamp_min(0) + step * torch.arange(PARTS)
        last = torch.where(true(asked.double() * unit), -1, asked).amax(1, keepdim=True)
    return ((last[:, 0] + 1).double() * unit).numpy()


def alike(names: Mapping[str, Angles]) -> dict[str, list[str]]:
    """The names of lines gathered by what they look like: the first of each kind, and all of that kind."""
    kinds: dict[str, list[str]] = {}
    for name, line in names.items():
        first = next((kind for kind in kinds if np.abs(names[kind] - line).max() < 1e-5), name)
        kinds.setdefault(first, []).append(name)
    return kinds


def together(name: str, values: Values, classes: int) -> dict[str, Value]:
    """The knobs of a head where those of the same name have these values, if they fit; the rest at their defaults."""
    knobs = HEADS.about(name).knobs
    fit = {}
    for letter, value in values.items():
        knob = knobs.get(letter)
        if isinstance(knob, Knob) and not isinstance(value, str) and knob.low <= value <= knob.high:
            fit[letter] = value
    return settle(knobs, fit, classes)


SYMBOLS = {r"\theta_y": "theta", r"\tilde{s}": "s", r"\lambda": "lam", r"\|x\|": "length"}
TOKEN = re.compile(r"\\tilde\{s\}|\\\|x\\\||\\[a-zA-Z]+(?:_y)?|[a-zA-Z](?:_\w)?")


def in_numbers(formula: str, values: Mapping[str, Value]) -> str:
    """A head's formula of its own logit with numbers for the letters that are known, in LaTeX."""

    def number(token: re.Match[str]) -> str:
        value = values.get(SYMBOLS.get(token[0], token[0].replace("_", "")))
        return token[0] if value is None or isinstance(value, str) else f"{value:.4g}"

    said = TOKEN.sub(number, formula.split(r", \quad")[0])
    return re.sub(r"(?<=\d) (?=\d)", r" \\cdot ", said)
