"""The loss of a cosine head with one table of cosines instead of several: for very many classes.

One product fills the table (B, C). Then a few rows at a time become the gradient of the loss, in
place, while they are in the processor's cache. The weight is never copied: its lengths divide the
table, and the part of its gradient along itself, which must go, is a sum over the table too.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from faces.heads.base import CosineHead, direction, unit, widen
from faces.shapes import Features, Labels, Loss, Table

AT_ONCE = 1 << 19  # cosines worked on at a time on a CPU, 2 MiB: with what they become still in its cache
AT_ONCE_ELSEWHERE = 1 << 23  # on a GPU, where every step has a price of its own
WAYS = ("of_classes", "others", "others_and_slope", "logits")  # from cosines to logits, beside `margin`


def fused_loss(head: CosineHead, features: Features, labels: Labels) -> Loss:
    """cross_entropy(head(features, labels), labels), its gradients, and the same updates of the buffers.

    Can be differentiated once. From forward to backward it keeps the table and the unit features.
    Speed and memory beside other implementations: tests/benchmarks/results/heads.md.
    """
    rows = widen(head.weight).flatten(0, -2)  # (C, D), or (C*K, D)
    features = unit(widen(features))
    wide = torch.promote_types(features.dtype, rows.dtype)
    return Fused.apply(head, features.to(wide), rows.to(wide), labels)


class Fused(torch.autograd.Function):
    """The mean loss of unit features. For backward the table holds d(sum of losses) / d(feature · row)."""

    @staticmethod
    def forward(ctx: Any, head: CosineHead, features: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        known, inverse = (each.squeeze(1) for each in direction(rows))
        with torch.autocast(features.device.type, enabled=False):
            table = features @ rows.T
        watched = head.training and type(head).observe is not CosineHead.observe
        whole = watched and not head.watches_own
        if whole:
            table.mul_(inverse)
        if watched:
            cosine = head.of_classes(table)  # of a head that watches its own, not yet divided
            head.observe(cosine, own_of(cosine, labels) * (1 if whole else inverse[labels]), labels, features)
        own_ways = {name for name in WAYS if getattr(type(head), name) is not getattr(CosineHead, name)}
        picks = type(head).winners is not CosineHead.winners
        known_ways = {"others", "others_and_slope", *(["of_classes"] if picks else [])}
        slopes = "others_and_slope" in own_ways
        of_some = by_hand if own_ways <= known_ways and slopes == ("others" in own_ways) else by_autograd
        loss = torch.zeros((), dtype=table.dtype, device=table.device)
        along = torch.zeros_like(inverse)  # of each row's gradient, the part in the row's own direction
        few = at_once(table)
        rooms = [table.new_empty(few, head.classes) for _ in range(3 if slopes else 1)]
        rooms += [torch.empty_like(table[:few])] * picks
        for some, some_labels in zip(table.split(few), labels.split(few), strict=True):
            if not whole:
                some.mul_(inverse)
            summed, slope = of_some(head, some, some_labels, [room[: len(some)] for room in rooms])
            loss += summed
            along += some.mul_(slope).sum(0)
            torch.mul(slope, inverse, out=some)
        ctx.save_for_backward(table, features, rows, along * inverse.square() * known)
        return loss / len(labels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        table, features, rows, along = ctx.saved_tensors
        each = upstream / len(features)
        of_features = of_rows = None
        with torch.autocast(features.device.type, enabled=False):
            if ctx.needs_input_grad[1]:
                of_features = (table @ rows).mul_(each)
            if ctx.needs_input_grad[2]:
                of_rows = (table.T @ (features * each)).addcmul_(rows, (along * -each)[:, None])
        return None, of_features, of_rows, None


def at_once(table: Table) -> int:
    """How many rows of a table are worked on at a time."""
    return max(1, (AT_ONCE if table.device.type == "cpu" else AT_ONCE_ELSEWHERE) // table.shape[1])


def by_hand(head: CosineHead, cosine: Table, labels: Labels, rooms: Sequence[Tensor]) -> tuple[Loss, Table]:
    """The summed loss of some rows and its derivative by their cosines, for heads that say how `others` slope.

    `rooms` of the shape (rows, C) are overwritten, the last of the table's shape where classes pick their columns.
    """
    places = labels[:, None]
    cosine, ranks = head.winners(cosine)
    rooms, wide = (rooms, rooms[0]) if ranks is None else (rooms[:-1], rooms[-1])
    with torch.enable_grad():
        own = own_of(cosine, labels).requires_grad_()
        value = head.s * head.margin(own)
        (slope,) = torch.autograd.grad(value.sum(), own)
    value, own = value.detach()[:, None], own.detach()  # (rows, 1), (rows,)
    others, of_others = head.others_and_slope(cosine, own, rooms)
    share = torch.mul(others, head.s, out=rooms[0]).scatter_(1, places, value)
    largest = share.amax(1, keepdim=True)
    total = share.sub_(largest).exp_().sum(1, keepdim=True)
    loss = (total.log() + largest - value).sum()
    of_own = (share.gather(1, places) / total - 1) * slope[:, None]
    share.mul_(head.s / total)
    if of_others is not None:
        share.mul_(of_others)
    share.scatter_(1, places, of_own)
    if ranks is None:
        return loss, share
    return loss, wide.zero_().scatter_(1, columns(head.classes, wide.shape[1], wide.device) + ranks, share)


@lru_cache(2)
def columns(classes: int, rows: int, device: torch.device) -> Tensor:
    """The first column of each class in a table of so many rows of the weight."""
    return torch.arange(0, rows, rows // classes, device=device)


def by_autograd(head: CosineHead, cosine: Table, labels: Labels, rooms: Sequence[Tensor]) -> tuple[Loss, Table]:
    """The same for any head whose logits of a sample depend on no other sample: through its own `logits`."""
    places = labels[:, None]
    with torch.enable_grad():
        leaf = cosine.detach().requires_grad_()
        of_classes = head.of_classes(leaf)
        own = own_of(of_classes, labels)
        logits = head.logits(of_classes, own, labels, head.margin(own))
    share = torch.log_softmax(logits.detach(), 1)
    loss = -share.gather(1, places).sum()
    share.exp_().scatter_add_(1, places, -torch.ones_like(places, dtype=share.dtype))  # d loss / d logits
    (slope,) = torch.autograd.grad(logits, leaf, share)
    return loss, slope


def own_of(cosine: Tensor, labels: Labels) -> Tensor:
    """The cosine of each sample to its own class."""
    return cosine.gather(1, labels[:, None]).squeeze(1)
