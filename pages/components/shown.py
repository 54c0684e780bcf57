"""What the routes of the picture serve of a run: its points, what is known of each image, and the images themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faces.datasets.pictures import sheet
from faces.seals import DamagedError
from pages.components import blocks
from pages.components.blocks import ACROSS, LARGE, SIDE
from pages.components.session import opened
from trainer.folder import Points
from trainer.inspection import Inspected, inspected
from trainer.pictures import TOUR, ShownFacts, shown_facts
from trainer.scene import shown_images
from trainer.snapshot import Snapshot
from trainer.telling import sentence

if TYPE_CHECKING:
    from trainer.store import Run, Store


def load_points(run: str, step: int, name: str) -> Points | str | None:
    """The points of a picture, or None when nobody has laid it out.

    Those of a tour are asked for by the picture itself: then "" while a projector is at it, or why it failed.
    """
    store = opened()
    found = store.folder(run).points(name, step)
    if found is not None or name != TOUR:
        return found
    try:
        store.snapshot_file(run, step)
    except ValueError:
        return None
    try:
        return store.want(run, step, name)
    except (OSError, DamagedError) as error:  # a disk that is full or read-only, a damaged list of runs
        return sentence(error)


def load_facts(run: str, step: int) -> ShownFacts | None:
    """What is known of the images that a picture of this step shows, or None without a snapshot."""
    store = opened()
    try:
        return shown_facts(store.snapshot(run, step), store.folder(run).config.probe)
    except ValueError:
        return None


def load_sheet(run: str, step: int, print: str, number: int) -> bytes | None:
    """One sheet of the shown images, or None when they are not, or no longer, on this machine."""
    return _drawn(run, step, print, slice(number * ACROSS**2, (number + 1) * ACROSS**2), ACROSS, SIDE)


def load_image(run: str, step: int, print: str, at: int) -> bytes | None:
    """One of the shown images, up to `LARGE` pixels wide, or None as `load_sheet`."""
    return _drawn(run, step, print, slice(at, at + 1), 1, LARGE)


def _drawn(run: str, step: int, print: str, which: slice, across: int, side: int) -> bytes | None:
    """Some of the shown images on one sheet; None without them, and when the dataset has another fingerprint."""
    store = opened()
    try:
        dataset, size = shown_images(store.folder(run), side)
        if (dataset.print or "-") != print:
            return None
        rows = store.snapshot(run, step).rows[: store.folder(run).config.probe][which]
        return sheet(dataset.load(size).pixels[rows], across, side) if len(rows) else None
    except ValueError:
        return None


def load_inspected(run: str, step: int, row: int) -> Inspected | None:
    """What a run makes of the image at this row of its dataset, or None without a snapshot or when it is not shown."""
    store = opened()
    try:
        return inspected(_shown(store.path, run, step), store.folder(run).config.probe, row)
    except ValueError:
        return None


@lru_cache(32)  # a walk from neighbour to neighbour asks the same few moments again; at most 2 MB each on Imagewoof
def _shown(home: Path, run: str, step: int) -> Snapshot:
    snapshot = opened(home).snapshot(run, step)
    return replace(snapshot, known=snapshot.known[:0].copy(), unseen=snapshot.unseen[:0].copy())


@lru_cache(500)  # everybody who looks at a run asks for those of its newest moment
def arrays(run: str, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of the variance that each component explains (V), and rows of k and KNN accuracy (K, 2), of a moment.

    Shared, so not to be changed. Errors as `Store.snapshot`.
    """
    snapshot = opened().snapshot(run, step)
    return snapshot.variance.copy(), snapshot.knn.copy()


def sheets(store: "Store", runs: Sequence["Run"], latest: Mapping[str, Mapping[str, Any]]) -> list[str | None]:
    """Where each run's images are, given its newest facts; runs that show the same images share one address.

    A snapshot within an epoch may look at fewer images; the start of a run and its end show all that a picture can.
    """
    known: dict[tuple, str | None] = {}
    for run in runs:
        if (facts := latest.get(run.id)) and not known.get(_same(run)):
            step = facts["step"] if facts["step"] == facts["steps"] else 0
            known[_same(run)] = _address(store, run.id, step)
    return [known.get(_same(run)) for run in runs]


def _same(run: "Run") -> tuple:
    """What decides which images a run shows."""
    config = run.config
    return config.dataset, config.size, config.probe, config.held_out, config.held_out and config.seed


def _address(store: "Store", run: str, step: int) -> str | None:
    try:
        return blocks.sheets_address(run, step, shown_images(store.folder(run), SIDE)[0].print)
    except ValueError:
        return None
