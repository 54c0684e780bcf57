"""The loss of a cosine head with one table of cosines instead of several: for very many classes.

One product fills the table (B, C). Then a few rows at a time become the gradient of the loss, in
place: they go through the head's own `logits`, so there is one formula, and what that makes on the
way is small and stays in the processor's cache. The weight is never copied, its lengths divide the
table; and its gradient's part along itself, which must go, is a sum over the table too.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from faces.heads.base import SHORTEST, CosineHead, unit, widen
from faces.shapes import Features, Labels, Loss

AT_ONCE = 1 << 18  # cosines worked on at a time on a CPU, 1 MiB
AT_ONCE_ELSEWHERE = 1 << 23  # on a GPU, where every step has a price of its own


def fused_loss(head: CosineHead, features: Features, labels: Labels) -> Loss:
    """cross_entropy(head(features, labels), labels), its gradients, and the same updates of the buffers.

    Can be differentiated once. From forward to backward it keeps the table and the unit features.
    """
    rows = widen(head.weight).flatten(0, -2)  # (C, D), or (C*K, D)
    features = unit(widen(features))
    wide = torch.promote_types(features.dtype, rows.dtype)
    return Fused.apply(head, features.to(wide), rows.to(wide), labels)


class Fused(torch.autograd.Function):
    """The mean loss of unit features. In backward the table holds d(sum of losses) / d(feature . row)."""

    @staticmethod
    def forward(ctx: Any, head: CosineHead, features: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(rows, dim=1)
        has_direction = length > SHORTEST
        inverse = torch.where(has_direction, 1 / length, 1.0)
        with torch.autocast(features.device.type, enabled=False):
            table = (features @ rows.T).mul_(inverse)
        if head.training and type(head).observe is not CosineHead.observe:
            cosine = head.of_classes(table)
            head.observe(cosine, cosine.gather(1, labels[:, None]).squeeze(1), labels)
        losses = torch.zeros((), dtype=table.dtype, device=table.device)
        along = torch.zeros_like(length)  # of each row's gradient, the part in the row's own direction
        few = max(1, (AT_ONCE if table.device.type == "cpu" else AT_ONCE_ELSEWHERE) // table.shape[1])
        for some, some_labels in zip(table.split(few), labels.split(few), strict=True):
            with torch.enable_grad():
                leaf = some.detach().requires_grad_()
                cosine = head.of_classes(leaf)
                own = cosine.gather(1, some_labels[:, None]).squeeze(1)
                loss = cross_entropy(head.logits(cosine, own, some_labels), some_labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, leaf)
            losses += loss.detach()
            along += (slope * some).sum(0)
            torch.mul(slope, inverse, out=some)
        ctx.save_for_backward(table, features, rows, along * inverse.square() * has_direction)
        return losses / len(labels)

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
                of_rows = (table.T @ (features * each)).addcmul_(rows, along[:, None], value=-1)
        return None, of_features, of_rows, None
