"""Photographs that Imagewoof's train and validation share: python -m tests.benchmarks.near_duplicate_names KEPT > LIST

Makes faces/datasets/imagewoof_duplicates.csv. Imagewoof must be prepared at 64 px. What is found in a class is kept in
the folder KEPT, so the command can be cut off and given again. Needs two packages that Faces does not:
opencv-python-headless 5.0.0.93 and faiss-cpu 1.15.1.

Each validation photograph, as it is and mirrored, is looked for among the training photographs of its class:

1. Features: up to FEATURES SIFT points of the grey original, all upright, as photographs are; the square roots of
   their descriptors (RootSIFT: Arandjelovic and Zisserman, 2012).
2. Candidates: each feature votes for the photographs that hold its nearest ones, if these are nearer than RATIO times
   its NEAREST-th. The CANDIDATES training photographs with most votes go on.
3. Matches: features of the two that choose each other, before any second choice by RATIO, and agree on one similarity
   (move, scale, turn) to REACH pixels. Those in the margins of both pictures, where frames and watermarks are, do not
   count.
4. Likeness: laid over each other by that similarity, the correlation of the two pictures' even detail.

A pair is listed with MANY matches, or with FEW and a likeness of ALIKE.
"""

import argparse
import csv
import json
import math
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import faiss
import numpy as np
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray

from faces.datasets.imagewoof import Imagewoof
from faces.files import read_json, write

FEATURES, CONTRAST = 500, 0.02
NEAREST, RATIO, CANDIDATES = 10, 0.85, 20
REACH = 4.0  # pixels of the original, of which the shorter side has 160
TURN, SCALE = math.radians(30), 4.0  # more than this is an accident
MARGIN = 1 / 8  # of a side
KEPT = 8  # matches of a pair that is kept
MANY, FEW, ALIKE = 20, 10, 0.6


@dataclass(frozen=True)
class Features:
    """What is known of one picture."""

    places: Float32[ndarray, "points 2"]  # from its left and top, as shares of its width and height
    rows: Float32[ndarray, "points 128"]  # of length 1
    size: tuple[int, int]  # width and height in pixels


@dataclass(frozen=True)
class Pair:
    """Two photographs that show something in common."""

    train: str
    val: str
    mirrored: bool
    matches: int
    cells: int  # of 4 x 4 with matches in them, in the picture where they are more
    likeness: float

    @property
    def listed(self) -> bool:
        return self.matches >= MANY or (self.matches >= FEW and self.likeness >= ALIKE)


def features(grey: UInt8[ndarray, "height width"]) -> Features:
    """The strongest points of a picture, each once."""
    finder = cv2.SIFT_create(nfeatures=FEATURES, contrastThreshold=CONTRAST)
    points = {}
    for point in finder.detect(grey):
        point.angle = 0  # degrees
        points.setdefault((point.pt, point.size), point)
    kept, rows = finder.compute(grey, list(points.values()))
    if rows is None:
        kept, rows = (), np.zeros((0, 128), np.float32)
    size = grey.shape[1], grey.shape[0]
    places = np.array([point.pt for point in kept], np.float32).reshape(-1, 2) / np.array(size, np.float32)
    return Features(places, np.sqrt(rows / np.maximum(rows.sum(1, keepdims=True), 1e-6)), size)


def candidates(known: list[Features], asked: list[Features]) -> Iterator[tuple[int, int]]:
    """For every asked picture the known ones with most votes: rows (known, asked)."""
    owner = np.repeat(np.arange(len(known)), [len(one.rows) for one in known])
    every = np.concatenate([one.rows for one in known])
    lists = max(1, math.isqrt(len(every)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(128), 128, lists)
    index.train(every[:: max(1, len(every) // (50 * lists))])
    index.add(every)
    index.nprobe = 6
    for at, one in enumerate(asked):
        far, near = index.search(one.rows, NEAREST)  # squared distances and rows (points, NEAREST)
        good = (far < RATIO**2 * far[:, -1:]) & (near >= 0)
        votes = {(point, owner[near[point, rank]]) for point, rank in zip(*np.nonzero(good), strict=True)}
        counts = np.bincount([int(row) for _, row in votes], minlength=len(known))  # one vote per feature and picture
        yield from ((int(row), at) for row in np.argsort(-counts, kind="stable")[:CANDIDATES] if counts[row] > 1)


def agreement(left: Features, right: Features) -> tuple[Float[ndarray, "2 3"], ndarray, ndarray] | None:
    """The similarity from right to left in pixels, and the places in either that it joins; None when there is none."""
    if min(len(left.rows), len(right.rows)) < KEPT:
        return None
    alike = right.rows @ left.rows.T  # cosines (right, left)
    best, every = alike.argmax(1), np.arange(len(alike))
    mutual, first = alike.argmax(0)[best] == every, alike[every, best]
    alike[every, best] = -1
    chosen = np.flatnonzero(mutual & (1 - first < RATIO**2 * (1 - alike.max(1))))  # squares of distances, halved
    if len(chosen) < KEPT:
        return None
    ours, theirs = left.places[best[chosen]], right.places[chosen]
    model, inside = cv2.estimateAffinePartial2D(
        theirs * np.float32(right.size), ours * np.float32(left.size),
        method=cv2.RANSAC, ransacReprojThreshold=REACH, maxIters=1000, confidence=0.995,
    )  # fmt: skip
    if model is None:
        return None
    scale, turn = math.hypot(model[0, 0], model[1, 0]), math.atan2(model[1, 0], model[0, 0])
    if abs(turn) > TURN or not 1 / SCALE < scale < SCALE:
        return None
    ours, theirs = ours[inside.ravel() > 0], theirs[inside.ravel() > 0]
    one_each = np.intersect1d(*(distinct(*given) for given in ((ours, left.size), (theirs, right.size))))
    return model, ours[one_each], theirs[one_each]


def distinct(places: Float32[ndarray, "points 2"], size: tuple[int, int]) -> ndarray:
    """Rows of places that are about two pixels apart: one thing can make several points."""
    return np.unique(np.round(places * np.float32(size) / 2), axis=0, return_index=True)[1]


def inner(places: Float32[ndarray, "points 2"]) -> ndarray:
    """Which places are off the margins."""
    return ((places > MARGIN) & (places < 1 - MARGIN)).all(1)


def cells(places: Float32[ndarray, "points 2"]) -> int:
    """How many cells of 4 x 4 hold a place."""
    return len(np.unique(np.floor(places * 4).clip(0, 3), axis=0))


def likeness(
    left: UInt8[ndarray, "height width"], right: UInt8[ndarray, "rows columns"], model: Float[ndarray, "2 3"]
) -> float:
    """Correlation of even detail where the two pictures lie over each other; 0 when that is less than 400 pixels."""
    size = left.shape[1], left.shape[0]
    over = cv2.warpAffine(right, model, size)
    both = cv2.erode(cv2.warpAffine(np.ones_like(right), model, size), np.ones((9, 9), np.uint8)) > 0
    if both.sum() < 400:
        return 0.0
    one, other = even(left)[both], even(over)[both]
    return float((one * other).sum() / math.sqrt((one**2).sum() * (other**2).sum() + 1e-9))


def even(grey: UInt8[ndarray, "height width"]) -> Float32[ndarray, "height width"]:
    """Each pixel's difference from its surroundings, over how much those vary; 6 grey levels are taken for nothing."""
    level = grey.astype(np.float32)
    far = cv2.GaussianBlur(level, (0, 0), 8)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(level**2, (0, 0), 8) - far**2, 0))
    return (level - cv2.GaussianBlur(level, (0, 0), 4)) / (spread + 6)


def pairs(train: dict[str, ndarray], val: dict[str, ndarray]) -> Iterator[Pair]:
    """Pairs of one class with KEPT matches, from the grey pictures by name; mirrored or not, whichever matches more."""
    train_names, val_names = list(train), list(val)
    shown = [*val.values(), *(np.ascontiguousarray(grey[:, ::-1]) for grey in val.values())]
    known, asked = [features(grey) for grey in train.values()], [features(grey) for grey in shown]
    found: dict[tuple[str, str], Pair] = {}
    for one, other in candidates(known, asked):
        agreed = agreement(known[one], asked[other])
        if agreed is None:
            continue
        model, ours, theirs = agreed
        counted = inner(ours) | inner(theirs)
        mirrored, row = divmod(other, len(val))
        key, matches = (train_names[one], val_names[row]), int(counted.sum())
        if matches >= KEPT and (key not in found or matches > found[key].matches):
            spread = max(cells(ours[counted]), cells(theirs[counted]))
            same = likeness(train[key[0]], shown[other], model)
            found[key] = Pair(*key, bool(mirrored), matches, spread, round(same, 3))
    yield from found.values()


def groups(listed: list[Pair]) -> int:
    """Sets of photographs that pairs connect."""
    head: dict[str, str] = {}

    def root(name: str) -> str:
        while (up := head.setdefault(name, name)) != name:
            name = up
        return name

    for pair in listed:
        head[root(pair.train)] = root(pair.val)
    return len({root(name) for name in list(head)})


def main() -> None:
    """Print the list."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("kept", type=Path)
    words.add_argument("--classes", type=int, nargs="*", default=range(len(Imagewoof().class_names)))
    asked = words.parse_args()
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    images = Imagewoof().load(64)
    asked.kept.mkdir(parents=True, exist_ok=True)
    found: list[Pair] = []
    with zipfile.ZipFile(Imagewoof().folder / f"originals-{Imagewoof().print}.zip") as originals:
        for label in asked.classes:
            file = asked.kept / f"{label}.json"
            if not file.is_file():
                began = time.process_time()
                train, val = (
                    {str(name): grey(originals.read(str(name))) for name in images.files[rows]}
                    for rows in (np.flatnonzero((images.labels == label) & (images.val == side)) for side in (0, 1))
                )
                write(file, json.dumps({"pairs": [asdict(pair) for pair in pairs(train, val)]}))
                print(f"{images.class_names[label]}: {time.process_time() - began:.0f} CPU s", file=sys.stderr)
            found += [Pair(**pair) for pair in read_json(file)["pairs"]]
    listed = sorted((pair for pair in found if pair.listed), key=lambda pair: (-pair.matches, pair.train, pair.val))
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("train", "val", "matches"))
    out.writerows((pair.train, pair.val, pair.matches) for pair in listed)
    print(f"{len(listed)} pairs in {groups(listed)} groups", file=sys.stderr)


def grey(data: bytes) -> UInt8[ndarray, "height width"]:
    """A file's picture without its colours."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


if __name__ == "__main__":
    main()
