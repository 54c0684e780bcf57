"""Muon: momentum whose direction is made orthogonal for filters, and Nesterov's for all else.

After Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). torch.optim.Muon takes matrices
only, one at a time and in bfloat16, which a CPU may lack; here filters count as matrices, and those of one shape are
made orthogonal together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 4  # of the Newton-Schulz iteration; singular values end between 0.5 and 1.5, which is near enough to 1
QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: steep at 0

Tensors = tuple[Tensor, ...] | list[Tensor]


class Muon(torch.optim.Optimizer):
    """Parameters of four dimensions move by orthogonal steps, all others by SGD with Nesterov's momentum.

    Of a filter's gradient, seen as a matrix (channels out, all else), only the directions count, each as much as any
    other; the step is longer by sqrt(rows / columns) where there are more rows. The same learning rate suits both.
    Weight decay shrinks filters themselves (times `lr`), and is part of the others' gradient. With `half` the
    directions are found in bfloat16.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0, half: bool = False
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.half = half

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        for group in self.param_groups:
            lr, decay = group["lr"], group["weight_decay"]
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if others := [weight for weight in weights if weight.ndim != 4]:
                gradients = torch._foreach_add([weight.grad for weight in others], others, alpha=decay)
                torch._foreach_add_(others, self.ways(others, gradients, group["momentum"]), alpha=-lr)
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in weights:
                if weight.ndim == 4:
                    alike[weight.shape].append(weight)
            for shape, filters in alike.items():
                ways = self.ways(filters, [weight.grad for weight in filters], group["momentum"])
                found = orthogonal(torch.stack([way.flatten(1) for way in ways]), self.half)
                far = lr * max(1.0, found.shape[1] / found.shape[2]) ** 0.5
                torch._foreach_mul_(filters, 1 - lr * decay)
                torch._foreach_add_(filters, [way.view(shape) for way in found], alpha=-far)

    def ways(self, weights: list[Tensor], gradients: Tensors, momentum: float) -> tuple[Tensor, ...]:
        """Where Nesterov's momentum leads, after these gradients."""
        kept = []
        for weight in weights:
            state = self.state[weight]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            kept.append(state["momentum_buffer"])
        torch._foreach_mul_(kept, momentum)
        torch._foreach_add_(kept, gradients)
        return torch._foreach_add(gradients, kept, alpha=momentum)


def orthogonal(matrices: Float[Tensor, "N rows columns"], half: bool = False) -> Float[Tensor, "N rows columns"]:
    """Matrices with the same singular directions, whose singular values are all about 1, by Newton and Schulz.

    With `half` in bfloat16, which is enough.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found.bfloat16() if half else found
    found = found / torch.linalg.matrix_norm(found, keepdim=True).clamp_min(1e-7)
    a, b, c = QUINTIC
    for _ in range(STEPS):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return (found.mT if tall else found).to(matrices.dtype)
