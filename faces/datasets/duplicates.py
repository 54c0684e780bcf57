"""Near duplicates across a split: the same photograph, its mirror image, a crop or a burst, found from pixels alone.

Two looks at the images of a class, the second only at pairs that pass the first; each for whole pictures and for
centre crops of either, as they are and mirrored:

1. Colours in 8 x 8 cells, whitened over the set so that what most photographs share (a bright sky, a dog in the
   middle) counts little; the cosine of two such rows must reach ALIKE.
2. Grey detail in 32 x 32 cells, its contrast made even; its agreement at the best shift must reach SAME.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from numpy import ndarray

from faces.datasets.base import Progress, Progressed, silent

CELLS, COLOURS = 32, 8  # cells on a side of the two looks
ALIKE, SAME = 0.45, 0.3  # cosine of colours, correlation of detail
SHARES = (
    (1.0, 1.0),
    (1.0, 0.85),
    (0.85, 1.0),
    (1.0, 0.7),
    (0.7, 1.0),
)  # the centre of a training image and of a validation one
AXES = 96  # of the 192 numbers of the first look
METHOD = "colours then detail, 1"  # another method makes old lists stale
BLOCK = 512  # images or pairs at a time


def straddling(
    pixels: UInt8[ndarray, "N H H 3"],
    labels: Int64[ndarray, " N"],
    val: Bool[ndarray, " N"],
    progress: Progress = silent,
) -> Int64[ndarray, "pairs 2"]:
    """Rows (training, validation) of images of one class that are nearly the same, the surest pair first.

    H must be a multiple of 32. A copy under another label is not looked for: as a neighbour it could only mislead.
    Imagewoof's 12,954 images of 64 px took 4.9 CPU seconds (one run, NumPy 2.4.6, one thread of a busy Intel Xeon).
    """
    detail, colours = looks(pixels, progress)
    mean, whitener = whitening(colours[1].reshape(len(pixels), -1))

    def directions(rows: ndarray) -> ndarray:
        return unit((rows.reshape(len(rows), mean.size) - mean) @ whitener)

    found: dict[tuple[int, int], float] = {}
    for label, (ours, theirs), mirrored in product(np.unique(labels), SHARES, (False, True)):
        train, asked = np.flatnonzero((labels == label) & ~val), np.flatnonzero((labels == label) & val)
        turned = slice(None, None, -1 if mirrored else 1)
        known, looked = directions(colours[ours][train]), directions(colours[theirs][asked][:, :, turned])
        for pairs in alike(known, looked):
            left = centre(detail[train[pairs[:, 0]]], ours)
            right = centre(detail[asked[pairs[:, 1]]][:, :, turned], theirs)
            for pair, score in zip(pairs.tolist(), correlation(left, right).tolist(), strict=True):
                key = int(train[pair[0]]), int(asked[pair[1]])
                found[key] = max(score, found.get(key, -1.0))
    sure = sorted((-score, pair) for pair, score in found.items() if score >= SAME)
    return np.array([pair for _, pair in sure], np.int64).reshape(-1, 2)


def looks(
    pixels: UInt8[ndarray, "N H H 3"], progress: Progress
) -> tuple[Float32[ndarray, "N 32 32"], dict[float, Float32[ndarray, "N 8 8 3"]]]:
    """Even grey detail of every image, and the colours of its centre for every share that is compared."""
    side = pixels.shape[1] // CELLS
    lenses = {share: window(share, COLOURS) for share in {share for pair in SHARES for share in pair}}
    detail: list[ndarray] = []
    colours: dict[float, list[ndarray]] = {share: [] for share in lenses}
    for at in range(0, len(pixels), BLOCK):
        progress(Progressed("Looking for near duplicates", at, len(pixels), "images"))
        block = np.asarray(pixels[at : at + BLOCK])
        parts = [block[:, down::side, right::side] for down in range(side) for right in range(side)]
        small = sum(parts, np.float32(0)) / np.float32(len(parts))  # (block, 32, 32, 3)
        detail.append(even(small @ np.array([0.299, 0.587, 0.114], np.float32)))
        for share, lens in lenses.items():
            colours[share].append(np.einsum("ap,npqc,bq->nabc", lens, small, lens, optimize=True))
    return np.concatenate(detail), {share: np.concatenate(blocks) for share, blocks in colours.items()}


def centre(grey: Float32[ndarray, "N 32 32"], share: float) -> Float32[ndarray, "N 32 32"]:
    """The centre of each image, enlarged."""
    lens = window(share, CELLS)
    return grey if share == 1 else lens @ grey @ lens.T


def window(share: float, cells: int) -> Float32[ndarray, "cells 32"]:
    """Weights that turn 32 numbers into `cells` ones over their centre: means of areas, or a line between two."""
    width = share * CELLS / cells
    middle = (1 - share) / 2 * CELLS + (np.arange(cells) + 0.5) * width
    if width > 1:
        low, high = (middle - width / 2)[:, None], (middle + width / 2)[:, None]
        at = np.arange(CELLS)
        weights = np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, None)
    else:
        weights = np.clip(1 - abs(np.arange(CELLS) + 0.5 - middle[:, None]), 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def whitening(rows: Float32[ndarray, "N D"]) -> tuple[Float32[ndarray, " D"], Float32[ndarray, "D axes"]]:
    """The mean, and the AXES directions of largest variance, made to vary almost alike."""
    mean = rows.mean(0)
    variance, axes = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
    scale = 1 / np.sqrt(variance.clip(0) + 0.1 * variance.mean() + 1e-6)
    return mean, (axes * scale)[:, -AXES:].astype(np.float32)


def unit(rows: Float32[ndarray, "N D"]) -> Float32[ndarray, "N D"]:
    """Rows of length 1; one of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def alike(
    known: Float32[ndarray, "known D"], asked: Float32[ndarray, "asked D"]
) -> Iterator[Int64[ndarray, "pairs 2"]]:
    """Pairs (known, asked) whose cosine reaches ALIKE, in blocks."""
    for at in range(0, len(asked), BLOCK):
        right, left = np.nonzero(asked[at : at + BLOCK] @ known.T >= ALIKE)
        pairs = np.stack([left, right + at], 1)
        yield from (pairs[some : some + BLOCK] for some in range(0, len(pairs), BLOCK))


def even(grey: Float32[ndarray, "N 32 32"]) -> Float32[ndarray, "N 32 32"]:
    """Each cell's difference from its surroundings, over how much those vary; 4 grey levels are taken for nothing."""
    near, far = blur(1.0), blur(2.0)
    rough = grey - near @ grey @ near.T
    return rough / (np.sqrt(far @ rough**2 @ far.T) + 4)


def blur(reach: float) -> Float32[ndarray, "32 32"]:
    """A Gaussian mean along a line of cells."""
    at = np.arange(CELLS)
    weights = np.exp(-0.5 * ((at[:, None] - at) / reach) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def correlation(left: Float32[ndarray, "N 32 32"], right: Float32[ndarray, "N 32 32"]) -> Float[ndarray, " N"]:
    """How well two pictures agree at the best shift, 1 for equal ones: the geometric mean of two correlations.

    One is of the cells themselves, which smooth shapes pass too easily; the other of phases alone in a middle
    band of frequencies (Kuglin and Hines, 1975), which frames and horizons do.
    """
    size = 2 * CELLS, 2 * CELLS  # empty margins, so that nothing comes round
    one, other = np.fft.rfft2(left, s=size), np.fft.rfft2(right, s=size)
    common = one * np.conj(other)
    length = np.sqrt((left**2).sum((1, 2)) * (right**2).sum((1, 2)))
    plain = np.fft.irfft2(common).max((1, 2)) / np.maximum(length, 1.0)
    wave = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))  # cycles per cell
    band = np.exp(-((wave / 0.36) ** 2)) - np.exp(-((wave / 0.36) ** 2 + (wave / 0.08) ** 2))
    phases = np.fft.irfft2(common / np.maximum(abs(common), 1e-6) * band).max((1, 2)) / np.fft.irfft2(band).max()
    return np.sqrt(plain.clip(0) * phases.clip(0))
