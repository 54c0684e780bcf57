"""Batches: which images a step sees, and how they are moved and mirrored, cropped, or warped.

Randomness is counted, not carried: order and augmentation are pure functions of (seed, epoch) and
(seed, step), so a resumed run sees exactly what an uninterrupted one sees, with nothing more to save.
"""

import warnings
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, per channel of values in 0..1
TOGETHER = 4  # images of a class side by side in a balanced order


def tensor(array: ndarray) -> Tensor:
    """A tensor over the same memory. The array may be read-only, a memory map say: nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def brought(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device; on its way to a GPU nothing waits for it."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def draw(*counters: int) -> torch.Generator:
    """A random generator that depends on these numbers only."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> 1))


def order(count: int, seed: int, epoch: int) -> Int[Tensor, " count"]:
    """The order in which an epoch sees its training images."""
    return torch.randperm(count, generator=draw(seed, 1, epoch))


def balanced_order(labels: Int[Tensor, " count"], seed: int, epoch: int) -> Int[Tensor, " count"]:
    """An order in which images of a class come `TOGETHER` at a time, and classes alternate in their true proportions.

    Like `order` it holds every image once, so an epoch has as many steps and uses each image as often. A class'
    last few, too few for a group, come at the end of the order, most of which no step sees.
    """
    random = draw(seed, 3, epoch)
    rows, places = [], []
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        own = own[torch.randperm(len(own), generator=random)]
        together = min(TOGETHER, len(own))  # a class of fewer images is one group
        groups = len(own) // together
        place = (torch.arange(groups) + torch.rand(groups, generator=random)) / groups  # one in each stretch
        late = 1 + torch.rand(len(own) - groups * together, generator=random)
        rows.append(own)
        places.append(torch.cat([place.repeat_interleave(together), late]))
    return torch.cat(rows)[torch.cat(places).argsort(stable=True)]


def moves(
    batch: int, size: int, seed: int, step: int, crop: int = 0
) -> tuple[Int[Tensor, "batch 2"], Bool[Tensor, " batch"]]:
    """How far each image of a step is moved, up to an eighth of its size either way, and whether it is mirrored.

    With a crop, where its upper left corner lies: anywhere that leaves the crop inside the image.
    """
    random, far = draw(seed, 2, step), size // 8
    low, high = (0, size - crop) if crop else (-far, far)
    return torch.randint(low, high + 1, (batch, 2), generator=random), torch.rand(batch, generator=random) < 0.5


def moved(
    pixels: UInt8[Tensor, "B size size channels"], by: Int[Tensor, "B 2"], mirrored: Bool[Tensor, " B"], crop: int = 0
) -> UInt8[Tensor, "B side side channels"]:
    """Images moved by whole pixels, mirrored at the edges that come into view, cut to the crop, in one gather."""
    count, size, _, channels = pixels.shape
    device = pixels.device
    line = torch.arange(crop or size, device=device)
    by, mirrored = brought(by, device), brought(mirrored, device)
    down, right = line + by[:, :1], line + by[:, 1:]  # (B, size) each
    right = torch.where(mirrored[:, None], right.flip(1), right)
    down, right = (torch.where(at < 0, -at, torch.where(at >= size, 2 * size - 2 - at, at)) for at in (down, right))
    row = torch.arange(count, device=device)[:, None] * size + down
    places = row[:, :, None] * size + right[:, None, :]  # among all pixels: quicker than by three indices (decoding.md)
    return pixels.reshape(-1, channels).index_select(0, places.flatten()).view(*places.shape, channels)


def areas(batch: int, seed: int, step: int, smallest: float) -> Float[Tensor, "batch 2 3"]:
    """Which part of each image of a step is shown, and whether mirrored: an affine map for each, for `warped`.

    A part has from `smallest` of the area to all of it, and sides in a ratio of 3:4 to 4:3 (Szegedy et al.,
    https://arxiv.org/abs/1409.4842).
    """
    random = draw(seed, 5, step)
    share, shape, x, y, mirrored = torch.rand(5, batch, generator=random)
    share, shape = smallest + (1 - smallest) * share, (4 / 3) ** (2 * shape - 1)
    wide, high = (share * shape).sqrt().clamp_max(1), (share / shape).sqrt().clamp_max(1)
    maps = torch.zeros(batch, 2, 3)
    maps[:, 0, 0], maps[:, 0, 2] = torch.where(mirrored < 0.5, -wide, wide), (2 * x - 1) * (1 - wide)
    maps[:, 1, 1], maps[:, 1, 2] = high, (2 * y - 1) * (1 - high)
    return maps


def warps(batch: int, seed: int, step: int, warp: float) -> Float[Tensor, "batch 2 3"]:
    """How each image of a step is turned, stretched, slanted and moved: an affine map for each.

    Each of its six numbers is up to `warp` off those of the map that changes nothing. Lengths count in half image
    sides: 0.1 moves images of 8 px by up to 0.4 px, and stretches them by up to a tenth.
    """
    off = 2 * torch.rand(batch, 2, 3, generator=draw(seed, 4, step)) - 1
    return torch.eye(2, 3) + warp * off


def warped(images: Float[Tensor, "B channels H H"], maps: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B channels H H"]:
    """Images seen through affine maps, bilinear between pixels; what lies beyond an edge looks like the edge.

    Channels last in memory, as `ready` has them.
    """
    where = affine_grid(brought(maps, images.device), list(images.shape), align_corners=False)
    seen = grid_sample(images, where, padding_mode="border", align_corners=False)
    return seen.contiguous(memory_format=torch.channels_last)


@cache
def levels(size: int, channels: int, device: torch.device) -> tuple[Float[Tensor, " W"], Float[Tensor, " W"]]:
    """Mean and standard deviation, in bytes, of each number in a line of pixels: W = size * channels."""
    mean, std = (torch.tensor(c[:channels] * size, device=device) * 255 for c in (MEAN, STD))
    return mean, std


def ready(pixels: UInt8[Tensor, "B size size channels"], side: int = 0) -> Float[Tensor, "B channels side side"]:
    """Pixels as the encoder wants them: float32, standardized, channels last in memory, scaled to `side` if given.

    What a frozen encoder made of images (`trainer.frozen`) stays as it is.
    """
    if pixels.is_floating_point():
        return pixels
    mean, std = levels(*pixels.shape[2:], pixels.device)
    lines = pixels.flatten(2).float().sub_(mean).div_(std)  # quicker than channel by channel (decoding.md)
    return resized(lines.view(pixels.shape).permute(0, 3, 1, 2), side)


def resized(images: Float[Tensor, "B channels H H"], side: int) -> Float[Tensor, "B channels side side"]:
    """Images scaled to a side in pixels, without aliasing; 0 leaves them as they are."""
    if side in (0, images.shape[-1]):
        return images
    return interpolate(images, (side, side), mode="bilinear", antialias=True)
