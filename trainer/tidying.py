"""Room on the disk: what a home takes, what could go, and letting it go. Nothing goes unless somebody asks.

    plan(store, keep)        what would have to go, mildest first, until runs and exports take at most `keep` bytes
    remove(store, items)     let it go
    cramped(home)            why no training begins here, "" while there is room
    brimming(home)           why those that run stop while they still can, "" while there is room

Mildest first: what was left by writes that were cut off, and finished exports; pictures that can be drawn again; the
weights of runs that have ended; whole runs. Of each kind the oldest go first. Runs that train or wait, and runs that
somebody has pinned, stay whole.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.folder import RunFolder
from trainer.store import ENDED, OPEN, Run, Store

FLOOR = 500_000_000  # bytes that must be free for a training to begin
LEAST = 50_000_000  # bytes that must stay free for one to go on
KEEP = 10_000_000_000  # bytes that a home may usually take
OLD = 86_400.0  # seconds after which a write that is not finished never will be
KINDS = {  # what can go, mildest first, and what is lost with it
    "leftovers": "nothing that anybody needs",
    "pictures": "they are drawn again when somebody looks",
    "weights": "these runs can no longer be exported as weights or ONNX, frozen, or resumed",
    "run": "the run with all that it measured",
}


@dataclass(frozen=True)
class Item:
    """Something that can go: its kind, of which run ("" for none), its files and folders, and their bytes."""

    kind: str
    run: str
    paths: tuple[Path, ...]
    size: int


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 when it is gone."""
    try:
        return sum(size(each) for each in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:  # trainings go on meanwhile
        return 0


def written(file: Path) -> float:
    """When a file was last written, in seconds since 1970; 0 when it is gone."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def taken(store: Store) -> int:
    """Bytes that runs and exports take. Datasets are not counted: they are got again only by a download."""
    return size(store.path / "runs") + size(store.path / "exports")


def cramped(home: Path) -> str:
    """Why no training begins: too little room on the disk, in a sentence; "" while there is enough."""
    free = shutil.disk_usage(home).free
    if free >= FLOOR:
        return ""
    return (
        f"{amount(free)} are free on the disk of {home}, and {amount(FLOOR)} must be before a training begins; make "
        "room, or let old runs go on the page Runs."
    )


def brimming(home: Path) -> str:
    """Why no training goes on: hardly any room on the disk, in a sentence; "" while there is enough."""
    free = shutil.disk_usage(home).free
    if free >= LEAST:
        return ""
    return f"Stopped with {amount(free)} free on the disk of {home}; make room, and resume."


def plan(store: Store, keep: int = KEEP) -> list[Item]:
    """What would have to go until at most `keep` bytes are taken; empty when that is so already."""
    over = taken(store) - keep
    items: list[Item] = []
    gone: dict[str, int] = {}  # bytes that a run has lost already
    for item in candidates(store):
        if over <= 0:
            break
        freed = item.size - (gone.get(item.run, 0) if item.kind == "run" else 0)
        if freed > 0:
            gone[item.run] = gone.get(item.run, 0) + freed
            over -= freed
            items.append(item)
    whole = {item.run for item in items if item.kind == "run"}
    return [item for item in items if item.kind == "run" or item.run not in whole]


def candidates(store: Store) -> Iterator[Item]:
    """All that could go, mildest first."""
    awaited = {word for job in store.jobs() if job["state"] in OPEN for word in job["arguments"]}
    uploads = (file for file in store.uploads.glob("*") if str(file) not in awaited)
    left = tuple(store.path.glob("exports/*")) + tuple(
        file for file in (*store.path.rglob(".*.tmp"), *uploads) if 0 < written(file) < time.time() - OLD
    )
    yield Item("leftovers", "", left, sum(map(size, left)))
    runs = [run for run in reversed(store.runs(ENDED)) if not store.folder(run.id).pinned]
    for kind, find in (("pictures", drawn_again), ("weights", weights), ("run", everything)):
        for run in runs:
            paths = tuple(find(store.folder(run.id)))
            yield Item(kind, run.id, paths, sum(map(size, paths)))


def drawn_again(folder: RunFolder) -> Iterator[Path]:
    """Pictures of a run that a projector draws again, but those of its last moment."""
    yield from folder.path.glob("neighbours")
    last = max(folder.moments(), default=None)
    for file in folder.path.glob("points/*/[0-9]*.safetensors"):
        if int(file.stem) != last:
            yield file


def weights(folder: RunFolder) -> Iterator[Path]:
    """The checkpoints of a run."""
    yield from folder.path.glob("a[0-9]*/checkpoints")


def everything(folder: RunFolder) -> Iterator[Path]:
    """The folder of a run."""
    yield folder.path


def remove(store: Store, items: Iterable[Item]) -> int:
    """Let these go; returns the bytes that became free. A run that trains again by now stays, whole."""
    store.allow("tidy")
    freed = 0
    for item in items:
        run = _ended(store, item.run) if item.run else None
        if item.run and (run is None or store.folder(run.id).pinned):
            continue
        room = sum(map(size, item.paths))
        if item.kind == "run":
            with suppress(ValueError):  # resumed or deleted just now
                store.delete(item.run)
                freed += room
            continue
        freed += room
        for path in item.paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return freed


def _ended(store: Store, name: str) -> Run | None:
    try:
        run = store.run(name)
    except ValueError:  # gone already
        return None
    return None if run.open else run


def summary(items: Sequence[Item]) -> list[tuple[str, int, int, str]]:
    """By kind: how many, how many bytes, and what is lost."""
    found = []
    for kind, lost in KINDS.items():
        alike = [item for item in items if item.kind == kind]
        if alike:
            found.append((kind, len(alike), sum(item.size for item in alike), lost))
    return found


def amount(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
