"""Digits: 1,797 handwritten digits that come with scikit-learn, so there is always something to train on."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from faces.datasets.base import Dataset, Images, Progress, silent

VALIDATION = 500  # of 1,797


class Digits(Dataset):
    """Handwritten digits, 8 x 8 pixels, grey. Always ready, no network.

    Easy on purpose: five nearest neighbours on raw pixels already get 98 % right, so heads are
    told apart here by the pictures they make rather than by their scores.
    """

    name, title = "digits", "Digits"
    summary = "Handwritten digits, 8 x 8 pixels. Trains in seconds on any computer."
    source = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
    sizes = (8,)
    moved = False  # a mirrored 5 is no 5
    terms = {"encoder": "ConvNetSlim", "warp": 0.1}  # tests/benchmarks/results/speed.md

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple("0123456789")

    @property
    def counts(self) -> tuple[int, int]:
        return 1797 - VALIDATION, VALIDATION

    def ready(self, size: int) -> bool:
        return size in self.sizes

    def prepare(self, size: int, progress: Progress = silent) -> None:
        self.check(size)

    def load(self, size: int, noise: int = 0) -> Images:
        self.check(size, noise)
        return _digits()


@cache
def _digits() -> Images:
    """Every image once, with a fixed split that takes the same share of every class."""
    table = _table()
    labels = table[:, -1].astype(np.int64)
    ink = table[:, :-1].reshape(-1, 8, 8, 1)  # 0 .. 16
    shuffled = np.random.RandomState(0).permutation(len(labels))  # this generator is frozen, so the split stays
    by_class = np.lexsort((shuffled, labels))
    val = np.zeros(len(labels), dtype=bool)
    val[by_class] = np.diff(np.arange(len(labels) + 1) * VALIDATION // len(labels)) > 0  # evenly spread over classes
    rows = np.argsort(val, kind="stable")  # train first
    pixels, labels, val = np.rint(ink * (255 / 16)).astype(np.uint8)[rows], labels[rows], val[rows]
    for array in (pixels, labels, val):
        array.flags.writeable = False
    return Images(pixels, labels, val, class_names=tuple("0123456789"))


def _table() -> Float[ndarray, "1797 65"]:
    """64 pixels and the label per row, from the file inside scikit-learn.

    Importing sklearn.datasets only for this takes seconds when cold, so the file is read directly
    and scikit-learn is asked only if it ever keeps it elsewhere.
    """
    spec = importlib.util.find_spec("sklearn")
    file = Path(spec.origin).parent / "datasets/data/digits.csv.gz" if spec and spec.origin else Path()
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target]).astype(float)
