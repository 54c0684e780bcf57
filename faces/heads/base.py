"""What every head promises, and what the heads on cosines share.

    head(features)                inference logits (B, C)
    head(features, labels)        training logits (B, C): the own-class logit carries the margin
    head.loss(features, labels)   what training makes smaller: cross-entropy of the training logits, mostly
    head.turn(m=0.4)              sets live knobs while training runs

Buffers (AdaCos.s, CurricularFace.t, ...) change only in train() with labels, before they are used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from faces.knobs import Choice, Knob, Value, fixed_scale, settle
from faces.shapes import Cosines, CosineTable, Features, Labels, Lengths, Logits, Loss, Ranks, Rows, Table

SHORTEST = 1e-6  # length under which a vector has no direction
LONGEST = 1e18  # its square is still a float32
FEW = 10_000  # classes up to which a head computes its loss step by step


class Head(nn.Module):
    """Class vectors in `weight` and the knobs as plain attributes; a head declares the rest in its class body.

    `title` is a subtitle for menus, `born` the paper's year and month, `formula` the own-class logit
    in LaTeX, `notice` what to look for. `simplex`: whether its C class vectors need C - 1 dimensions.
    What it leaves room for (faces/feasibility.py) follows from formulas in its knobs: `at_angle`, what stands for
    the own-class cosine at theta, or one for each case by its name; `likeness`, what stands for the other classes'
    where that is not cos(theta); `spares`, how far these may be under it; `adds`, what the loss has besides. A head
    without a softmax has `fits`, the largest value of each margin knob, with phi the angle that C classes can keep,
    and any head a `note` in words. `drawn` is what a drawing must be told besides the knobs: buffers by
    their names, and `length` of the features where that counts; `undrawn` names knobs that only training feels.
    Fewer than two classes, an unknown knob or a value that does not fit: ValueError. All arithmetic is
    float32 or wider, also under autocast.
    """

    family: str  # one of faces.heads.FAMILIES
    scored = True  # whether there are inference logits, and so a DNN accuracy
    balanced = False  # whether a batch must hold several images of each of its classes
    title: str
    born: str
    source: str
    formula: str
    notice: str
    simplex: bool
    knobs: Mapping[str, Knob | Choice] = {}
    drawn: Mapping[str, Knob]
    undrawn: tuple[str, ...]

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__()
        fixed_scale(classes)  # one class or none is refused here, in one sentence
        self.classes = classes
        vars(self).update(settle(self.knobs, knobs, classes))
        if shape := self.weight_shape(dim):
            self.weight = nn.Parameter(unit(torch.randn(shape)))  # equal lengths: equal terms

    def weight_shape(self, dim: int) -> tuple[int, ...]:
        """The shape of the class vectors; empty for a head that has none."""
        return self.classes, dim

    def loss(self, features: Features, labels: Labels) -> Loss:
        """What training makes smaller, a mean over the batch."""
        return cross_entropy(self(features, labels), labels)

    def knob_values(self) -> dict[str, Value]:
        """The knobs in force."""
        return {name: getattr(self, name) for name in self.knobs}

    def turn(self, **knobs: Value) -> None:
        """Set live knobs. ValueError, and nothing changes, for any other name or a value that does not fit."""
        values = settle(self.knobs, self.knob_values() | knobs, self.classes)
        if fixed := sorted(name for name in knobs if not self.knobs[name].live):
            live = [name for name, knob in self.knobs.items() if knob.live]
            raise ValueError(f"{fixed} can only be set in a new run. Knobs that turn while training: {live}.")
        vars(self).update(values)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.knob_values().items())


class CosineHead(Head):
    """s * cos(theta) for every class, with `margin` applied to each sample's own class in training.

    A margin that depends on more than the cosine takes it as a second argument of `margin`, with a default
    that is right for a drawing, and gives it in `margins`. Up to FEW classes the loss is what `forward` says,
    step by step; with more, `fused_loss` computes the same numbers in less time and memory, where a sample's
    logits depend on its cosines alone.
    """

    s: float | Tensor

    def loss(self, features: Features, labels: Labels) -> Loss:
        plain = type(self).forward is CosineHead.forward and type(self).margins is CosineHead.margins
        if self.classes <= FEW or not plain:
            return super().loss(features, labels)
        from faces.heads.fused import fused_loss  # which is built on this file

        return fused_loss(self, features, labels)

    def forward(self, features: Features, labels: Labels | None = None) -> Logits:
        cosine = self.cosine(features)
        if labels is None:
            return self.s * cosine
        own = cosine.gather(1, labels[:, None]).squeeze(1)  # (B,)
        if self.training:
            with torch.no_grad():
                self.observe(cosine, own, labels, features)
        return self.logits(cosine, own, labels, self.margins(own, features))

    def cosine(self, features: Features) -> CosineTable:
        """Cosine of the angle between each feature and each class."""
        return self.of_classes(inner(unit(widen(features)), unit(widen(self.weight)).flatten(0, -2)))

    def of_classes(self, cosine: Table) -> CosineTable:
        """Cosine to each class, from those to each vector in `weight`."""
        return cosine

    def winners(self, cosine: Table) -> tuple[CosineTable, Ranks | None]:
        """`of_classes`, and which of its class's K columns each comes from, None where K is 1: for the fused loss.

        A head with `of_classes` of its own that picks a column says here which; without, its loss is slower.
        """
        return cosine, None

    def logits(self, cosine: CosineTable, own: Cosines, labels: Labels, margined: Cosines) -> Logits:
        """Training logits from cosines, those to the own class and what stands for them apart."""
        logits = self.s * self.others(cosine, own)
        return logits.scatter_(1, labels[:, None], self.s * margined[:, None])

    def margin(self, own: Cosines) -> Cosines:
        """What stands for the own-class cosine in training. Draw it by giving it a line of cosines."""
        return own

    def margins(self, own: Cosines, features: Features) -> Cosines:
        """`margin` for a batch, by a head whose margin differs from sample to sample."""
        return self.margin(own)

    def others(self, cosine: CosineTable, own: Cosines) -> CosineTable:
        """What stands for the other classes' cosines in training; the own-class column is not used."""
        return cosine

    def others_and_slope(
        self, cosine: CosineTable, own: Cosines, rooms: Sequence[CosineTable]
    ) -> tuple[CosineTable, CosineTable | None]:
        """`others` and its derivative by the cosine, None for 1 everywhere: for the fused loss.

        For a head with `others` of its own this is a matter of speed. `own` may choose a rule there, not shift it.
        `rooms` are three tables of the cosines' shape to write in, since new ones cost more than what fills them; the
        derivative may not be in the first.
        """
        return self.others(cosine, own), None

    watches_own = False  # whether `observe` looks at no cosine but the own ones

    def observe(self, cosine: CosineTable, own: Cosines, labels: Labels, features: Features) -> None:
        """Update the buffers from a training batch, outside the graph."""


def length(features: Features) -> Lengths:
    """The length of each feature, at most 1e18."""
    return torch.linalg.vector_norm(widen(features), dim=1).clamp_max(LONGEST)


def unit(rows: Rows) -> Rows:
    """Each vector divided by its length. One shorter than 1e-6 stays as it is.

    So a zero feature has cosine 0 to every class and a gradient of the size of its neighbours',
    where dividing by a tiny number would make it enormous.
    """
    return Unit.apply(rows)


class Unit(torch.autograd.Function):
    """`unit` with its derivative (g - (g . u) u) / length in few passes: with ten classes, a third of a head's time."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        known, inverse = direction(rows)
        directions = rows * inverse
        ctx.save_for_backward(rows, directions, known, inverse)
        return directions

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        rows, directions, known, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated once more
            known, inverse = direction(rows)
        along = (slope * directions).sum(-1, keepdim=True) * known
        across = torch.addcmul(slope, directions, along, value=-1)
        return across * inverse if torch.is_grad_enabled() else across.mul_(inverse)


def direction(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each vector has a direction, and one over its length, or 1 where it has none; both (..., 1)."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    known = length > SHORTEST
    return known, 1 / torch.where(known, length, 1.0)


def widen(values: Tensor) -> Tensor:
    """Half precision as float32: in bfloat16 an angle of 0.05 has the cosine of 0. Wider types stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def inner(features: Features, rows: Tensor) -> Logits:
    """Inner products of features and rows (C, D), kept out of autocast: the one step here that it would round."""
    wide = torch.promote_types(features.dtype, rows.dtype)
    with torch.autocast(features.device.type, enabled=False):
        return features.to(wide) @ rows.to(wide).T
