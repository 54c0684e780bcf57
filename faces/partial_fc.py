"""Many classes: the class centers of a head spread over processes, and each step only some of the wrong classes.

With millions of classes the centers and their table of cosines outgrow one GPU. Here every process holds the centers of
its share of the classes and works on the images of all: features and labels are gathered, each process computes the
cosines to its own centers, and the softmax is put together from one maximum and two sums per image. The margin is the
head's own `margin`, computed where the image's class is at home. At a `rate` under 1 a step keeps the classes that its
images have and draws the others by chance; the softmax is over these alone.

An et al., "Killing two birds with one stone: efficient and robust training of face recognition CNNs by Partial FC"
(CVPR 2022, arXiv:2203.15565). In that paper each process draws an equal number of classes; here each class is drawn by
itself from (seed, step, class), and centers start from (seed, class). So neither the start nor a draw depends on the
number of processes, and training on one process and on many goes the same way but for rounding.

In every process, started by `torchrun` and after `torch.distributed.init_process_group`:

    head = PartialFC("CosFace", dim=512, classes=1_000_000, rate=0.1, s=64, m=0.4)
    optimizer = SampledSGD(head.parameters(), lr=0.1, momentum=0.9)
    loss = head(features, labels)                                  # of this process's part of the batch
    loss.backward()

The loss is the mean over the images of all processes, the same number in each, and every gradient is that of this loss.
An encoder's gradients must therefore be added up over the processes, where DistributedDataParallel takes their mean:
`features.register_hook(lambda slope: world * slope)` makes up for it.

What it costs in memory and on the wire, for a million classes and for ten, is in assets/guide/cluster.md; `costs` says
it of other numbers.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from faces.heads import HEADS
from faces.heads.base import CosineHead, inner, unit, widen
from faces.heads.elasticface import scrambled
from faces.knobs import Value, settle
from faces.shapes import Features, Labels, Loss

BLOCK = 4096  # classes whose centers start together, from one place in the random numbers
OWN_WAYS = ("loss", "forward", "cosine", "logits")  # a head with its own has no margin on a softmax that can be spread

Places = Int[Tensor, " some"]  # where something is, counted from 0


class PartialFC(nn.Module):
    """The loss of a head whose C centers are spread over the processes of a group, or all here where none was started.

    `head`, `dim`, `classes` and the knobs are those of `HEADS[head](dim, classes, **knobs)`. Process r of N holds the
    classes from C r // N up to C (r + 1) // N in `weight`, and its state is its own part of what is to be saved; the
    buffers of the head are the same in all. In eval() no class is left out and no buffer changes.

    At a rate under 1 the gradient of `weight` is sparse: `SampledSGD` takes it, as do torch's SGD without momentum,
    SparseAdam and Adagrad. A head that cannot be spread, fewer classes than processes, a rate outside 0 to 1, and, in
    every process at once, batches that differ in size or a label that is no class: ValueError.
    """

    step: Tensor

    def __init__(
        self, head: str, dim: int, classes: int, rate: float = 1.0, seed: int = 0,
        group: "dist.ProcessGroup | None" = None, **knobs: Value,
    ):  # fmt: skip
        super().__init__()
        kind = HEADS.get(head)
        if kind is None or not spreads(kind):
            raise ValueError(f"{head!r} cannot be spread over processes. Heads that can: {served()}.")
        self.group = group
        rank, world = (dist.get_rank(group), dist.get_world_size(group)) if dist.is_initialized() else (0, 1)
        if classes < world:
            raise ValueError(f"{classes} classes cannot be spread over {world} processes: each needs one or more.")
        if not 0 < rate <= 1:
            raise ValueError(f"rate = {rate} is out of range. rate: share of the wrong classes in a step, 0 to 1.")
        settled = settle(kind.knobs, knobs, classes)
        self.dim, self.rate, self.seed = dim, rate, seed
        self.first, self.last = classes * rank // world, classes * (rank + 1) // world
        self.head = started(kind, dim, 2, seed, settled)  # of two classes, and then of these
        self.head.classes = classes
        weight = torch.empty(self.last - self.first, *self.head.weight.shape[1:])
        for block in range(self.first // BLOCK, -(-self.last // BLOCK)):
            rows = started(kind, dim, BLOCK, scrambled(torch.tensor(seed)) + block, settled).weight.detach()
            start = block * BLOCK - self.first  # where this block's first row would go
            weight[max(start, 0) : start + BLOCK] = rows[max(-start, 0) : self.last - block * BLOCK]
        self.head.weight = nn.Parameter(weight)
        self.register_buffer("step", torch.tensor(0))

    @property
    def weight(self) -> nn.Parameter:
        """The centers of this process's classes, (its classes, D) or (its classes, K, D)."""
        return self.head.weight

    def forward(self, features: Features, labels: Labels) -> Loss:
        """The mean loss over the images of all processes, from this process's images and their classes among all C."""
        self.check(features, labels)
        everyone, labels = Gathered.apply(widen(features), self.group), gathered(labels, self.group)
        kept = self.kept(labels)
        rows = self.weight if kept is None else Rows.apply(self.weight, kept)
        cosine = self.head.of_classes(inner(unit(everyone), unit(widen(rows)).flatten(0, -2)))  # (B, kept)
        mine = self.at_home(labels).nonzero().squeeze(1)
        places = labels[mine] - self.first
        places = places if kept is None else torch.searchsorted(kept, places)
        own_here = cosine[mine, places]
        own = together(cosine.new_zeros(len(labels)).index_put_((mine,), own_here.detach()), self.group)
        if self.training:
            with torch.no_grad():
                self.head.observe(cosine, own, labels, everyone)
            self.step += 1
        margined = self.head.margins(own.index_put((mine,), own_here), everyone)[mine]
        logits = self.head.s * self.head.others(cosine, own)
        del cosine  # so that there is room for what comes
        return SharedCrossEntropy.apply(
            logits.index_put_((mine, places), self.head.s * margined), mine, places, self.group
        )

    def at_home(self, labels: Labels) -> Bool[Tensor, " B"]:
        """For which images this process holds the center of their class."""
        return (labels >= self.first) & (labels < self.last)

    def kept(self, labels: Labels) -> Places | None:
        """This process's classes of this step, rising: those of the batch and others by chance. None for all."""
        if self.rate == 1 or not self.training:
            return None
        classes = torch.arange(self.first, self.last, device=labels.device)
        place = scrambled(scrambled(torch.tensor(self.seed, device=labels.device)) + self.step)
        drawn = scrambled(place + classes) < self.rate * 2**32
        drawn[labels[self.at_home(labels)] - self.first] = True
        return drawn.nonzero().squeeze(1)

    def check(self, features: Features, labels: Labels) -> None:
        """ValueError in every process, so that none waits for one that left, if a batch does not fit."""
        low, high = labels.aminmax() if len(labels) else (labels.new_tensor(0), labels.new_tensor(0))
        told = gathered(torch.stack([low, high, *map(low.new_tensor, features.shape)])[None], self.group).tolist()
        lows, highs, sizes, dims = zip(*told, strict=True)
        if set(dims) != {self.dim}:
            raise ValueError(f"Features have {sorted(set(dims))} numbers each; the centers have {self.dim}.")
        if len(set(sizes)) > 1 or not sizes[0]:
            raise ValueError(f"Processes gave {list(sizes)} images; each must give as many as the others, one or more.")
        if min(lows) < 0 or max(highs) >= self.head.classes:
            raise ValueError(
                f"Labels from {min(lows)} to {max(highs)} given; classes go from 0 to {self.head.classes - 1}."
            )

    def extra_repr(self) -> str:
        return f"classes {self.first} to {self.last - 1} of {self.head.classes}, rate={self.rate}"


def spreads(kind: type) -> bool:
    """Whether a head's loss is a softmax over cosines with a margin on each image's own, so that it can be spread.

    Not so: AdaCos, whose scale follows from the whole table of cosines; ETF, whose centers are one figure that does not
    train; MagFace, SphereFace and SphereFace2, whose losses have more to them; heads without cosines or a softmax.
    """
    if not issubclass(kind, CosineHead) or any(getattr(kind, way) is not getattr(CosineHead, way) for way in OWN_WAYS):
        return False
    return (kind.watches_own or kind.observe is CosineHead.observe) and not getattr(kind, "simplex", False)


def served() -> list[str]:
    """The names of the heads that can be spread."""
    return [name for name in HEADS if spreads(HEADS[name])]


def started(kind: Callable[..., CosineHead], dim: int, classes: int, seed: int | Tensor, knobs: dict) -> CosineHead:
    """A head on the CPU as a seed has it start, whatever was drawn before; the generator stays where it was."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        return kind(dim, classes, **knobs)


def together(values: Tensor, group: "dist.ProcessGroup | None", largest: bool = False) -> Tensor:
    """The sum over all processes, or the largest of theirs, in place."""
    if dist.is_initialized():
        dist.all_reduce(values, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group)
    return values


def gathered(values: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
    """The rows of all processes, one below the other; every process has as many."""
    if not dist.is_initialized():
        return values
    whole = values.new_empty(dist.get_world_size(group) * len(values), *values.shape[1:])
    dist.all_gather_into_tensor(whole, values.contiguous(), group)
    return whole


class Gathered(torch.autograd.Function):
    """`gathered` with its derivative: what all processes say about this one's rows, added up."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
        ctx.group = group
        return gathered(values, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        if not dist.is_initialized():
            return slope, None
        mine = slope.new_empty(len(slope) // dist.get_world_size(ctx.group), *slope.shape[1:])
        dist.reduce_scatter_tensor(mine, slope.contiguous(), group=ctx.group)
        return mine, None


class Rows(torch.autograd.Function):
    """Some rows of a weight, whose gradient is sparse: as large as the rows, not as the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.shape = weight.shape
        return weight[kept]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(kept[None], slope, ctx.shape, is_coalesced=True, check_invariants=False), None


class SharedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of logits (B, C) whose columns are spread over processes; it writes over its logits.

    `mine` are the images whose class is among this process's columns, `places` those columns.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, mine: Tensor, places: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
        own = logits.new_zeros(len(logits)).index_put_((mine,), logits[mine, places])
        none = logits.new_full((len(logits),), -torch.inf)  # what a process says that kept no class in this step
        largest = together(logits.amax(1) if logits.shape[1] else none, group, largest=True)
        share = logits.sub_(largest[:, None]).exp_()
        total, own = together(torch.stack([share.sum(1), own]), group)
        ctx.save_for_backward(share.div_(total[:, None]), mine, places)
        return (total.log() + largest - own).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        share, mine, places = ctx.saved_tensors
        slope = share * (upstream / len(share))
        return slope.index_put_((mine, places), -upstream / len(share), accumulate=True), None, None, None


def costs(classes: int, dim: int = 512, images: int = 1024, processes: int = 8, rate: float = 1.0) -> dict[str, float]:
    """Bytes that each process needs for float32 centers, and how many it sends, for a batch of images, those of all.

    "centers" and "momentum" stay; "step" comes and goes: at its peak three copies of the step's centers (one of them
    the gradient) or two tables of cosines and one copy, whichever is more, and one copy more where classes are drawn. A
    head that looks at hard wrong classes needs up to four tables more. "sent" is for rings, in which each process sends
    (N - 1) / N of what is gathered or scattered, and twice that of what is added up; the encoder's gradients are not in
    it. "sent by copies" is what it would be for a whole copy of the head in each process.
    """
    centers = 4.0 * dim * classes / processes
    rows, table = rate * centers, 4.0 * images * rate * classes / processes
    ring = (processes - 1) / processes
    features, numbers = 4 * images * dim, 4 * images
    return {
        "centers": centers,
        "momentum": centers,
        "step": max(3 * rows, 2 * table + rows) + (rows if rate < 1 else 0),
        "sent": ring * (2 * features + 2 * numbers + 2 * 4 * numbers),  # labels of 8 bytes; a maximum and three sums
        "sent by copies": ring * 2 * 4.0 * dim * classes,
    }


class SampledSGD(torch.optim.Optimizer):
    """SGD with momentum in which a row that a sparse gradient leaves out stays where it is, and so does its momentum.

    With a gradient for every row it is torch.optim.SGD. Momentum takes as much memory as the parameters.
    """

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                speed = self.state[weight]["momentum"]
                if not weight.grad.is_sparse:
                    weight.sub_(speed.mul_(group["momentum"]).add_(weight.grad), alpha=group["lr"])
                    continue
                grad = weight.grad.coalesce()
                (rows,) = grad.indices()
                moved = speed[rows].mul_(group["momentum"]).add_(grad.values())
                speed[rows] = moved
                weight.index_add_(0, rows, moved, alpha=-group["lr"])
