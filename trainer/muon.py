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
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient = weight.grad
                if weight.ndim != 4:
                    gradient = gradient.add(weight, alpha=group["weight_decay"])
                kept = self.state[weight]
                if "momentum_buffer" not in kept:
                    kept["momentum_buffer"] = torch.zeros_like(weight)
                kept["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
                way = gradient.add(kept["momentum_buffer"], alpha=group["momentum"])
                if weight.ndim == 4:
                    alike[weight.shape].append((weight, way))
                else:
                    weight.add_(way, alpha=-group["lr"])
            for shape, members in alike.items():
                ways = orthogonal(torch.stack([way.flatten(1) for _, way in members]), self.half)
                far = group["lr"] * max(1.0, ways.shape[1] / ways.shape[2]) ** 0.5
                for (weight, _), way in zip(members, ways, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(way.view(shape), alpha=-far)


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
