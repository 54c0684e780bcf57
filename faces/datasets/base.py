"""What every dataset offers: its facts, and its images as arrays. No torch, and nothing slow to import."""

import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from filelock import BaseFileLock, Timeout
from jaxtyping import Bool, Int64, UInt8
from numpy import ndarray


@dataclass(frozen=True)
class Progressed:
    """How far a long piece of work is: enough for a bar, a rate and the time left."""

    doing: str
    done: int
    total: int | None  # None while nobody knows
    unit: str  # "bytes" or "images"; "s" of a wait


Progress = Callable[[Progressed], None]  # raising in it stops the work; nothing half done is ever used


def silent(progressed: Progressed) -> None:
    """The progress that nobody watches."""


@contextmanager
def waited(lock: BaseFileLock, progress: Progress) -> Iterator[None]:
    """Hold a lock that another process may hold for long; who waits for it says so."""
    began = time.monotonic()
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1.0)
        except Timeout:
            progress(Progressed("Waiting for another process", round(time.monotonic() - began), None, "s"))
    try:
        yield
    finally:
        lock.release()


class Listener(io.TextIOBase):
    """A stream for what a library says while it works, from which it reads "17/100" or " 17%|"."""

    def __init__(self, doing: str, unit: str, progress: Progress, total: int | None = None):
        self.doing, self.unit, self.progress, self.total = doing, unit, progress, total

    def write(self, text: str) -> int:
        for done in re.findall(r"^\d+", text.strip()):
            self.reached(int(done))
        return len(text)

    def reached(self, done: int) -> None:
        """What `write` reads out of a text, told directly."""
        self.progress(Progressed(self.doing, done, self.total, self.unit))


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images with their labels, train rows first. Large ones are memory-mapped and read-only."""

    pixels: UInt8[ndarray, "N H H channels"]  # 0 to 255; channels 1 or 3 (red, green, blue)
    labels: Int64[ndarray, " N"]  # 0 .. C - 1, with label noise already in the train rows
    val: Bool[ndarray, " N"]  # True for validation
    class_names: tuple[str, ...]
    files: ndarray = field(default_factory=lambda: np.array([], dtype=str))  # names of the originals (N,), or empty
    left_out: Int64[ndarray, " left"] = field(default_factory=lambda: np.array([], dtype=np.int64))  # rows not used

    @property
    def train_rows(self) -> Int64[ndarray, " train"]:
        return np.setdiff1d(np.flatnonzero(~self.val), self.left_out)

    @property
    def val_rows(self) -> Int64[ndarray, " val"]:
        return np.flatnonzero(self.val)

    def without(self, rows: Int64[ndarray, " left"]) -> "Images":
        """The same images, of which training leaves out these rows. Validation stays as it is."""
        return replace(self, left_out=np.union1d(self.left_out, rows))


class Dataset:
    """A set of labelled images. A file in this folder with a subclass that sets `name` is all it takes to add one."""

    name: str  # what a run's settings call it
    title: str
    summary: str
    source: str  # an address or a citation
    sizes: tuple[int, ...]  # image sides in pixels, the default first
    noise: tuple[int, ...] = (0,)  # label noise on offer, in percent of the train images
    moved = True  # whether training may show the images moved, mirrored or cropped
    terms: Mapping[str, Any] = {}  # settings of a run that suit it better than the usual ones, by their names
    compared = False  # whether the split is searched for near duplicates

    @property
    def class_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def print(self) -> str:
        """A fingerprint of the images and their names; another one means other images. "" for what never changes."""
        return ""

    @property
    def counts(self) -> tuple[int, int] | None:
        """Train and validation images, or None while the set is not on this machine."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """One sentence for a person: what of this set is on this machine."""
        if self.counts is None:
            return f"{self.title} is not on this machine yet."
        return f"{self.counts[0]:,} + {self.counts[1]:,} images (train + validation)."

    def ready(self, size: int) -> bool:
        """Whether `load(size)` works right now."""
        raise NotImplementedError

    def prepare(self, size: int, progress: Progress = silent) -> None:
        """Decode the originals at this size, once. ValueError when the originals are not here."""
        raise NotImplementedError

    def load(self, size: int, noise: int = 0) -> Images:
        """The images. ValueError when they are not ready or this size or noise is not on offer."""
        raise NotImplementedError

    def duplicates(self) -> Int64[ndarray, "pairs 2"]:
        """Rows of a training and a validation image that are nearly the same, each pair once; errors as in `found`."""
        pairs = np.concatenate([*self.found().values()])
        _, first = np.unique(pairs, axis=0, return_index=True)
        return pairs[np.sort(first)]

    def found(self) -> dict[str, Int64[ndarray, "_ 2"]]:
        """Near duplicates as rows (training, validation), the surest pair first, by how they are known.

        "names": from a list that came with Faces; "pixels": found when the set was prepared.
        ValueError when this set is not searched for them, or has not been prepared since it could be.
        """
        raise ValueError(
            f"{self.title} has no list of near duplicates: only sets of photographs are searched for them."
        )

    def check(self, size: int, noise: int = 0) -> None:
        """ValueError unless this size and noise are on offer."""
        if size not in self.sizes:
            raise ValueError(f"{self.title} has no size {size}. Sizes here, in pixels: {sorted(self.sizes)}.")
        if noise not in self.noise:
            raise ValueError(f"{self.title} has no label noise of {noise} %. On offer, in %: {list(self.noise)}.")


def samples(images: Images, each: int = 8, val: bool = False) -> dict[str, UInt8[ndarray, "_ H H channels"]]:
    """Up to `each` images of every class, evenly spread over its rows, so the same ones every time."""
    chosen = {}
    for label, name in enumerate(images.class_names):
        rows = np.flatnonzero((images.labels == label) & (images.val == val))
        spread = np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(int)
        chosen[name] = np.asarray(images.pixels[rows[spread]])
    return chosen
