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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from faces import files
from faces.home import runs
from trainer.folder import RunFolder
from trainer.store import ENDED, OPEN, Run, Store

FLOOR = 500_000_000  # bytes that must be free for a training to begin
LEAST = 50_000_000  # bytes that must stay free for one to go on
KEEP = 10_000_000_000  # bytes that a home may usually take
NEIGHBOURS, DRAWN = "neighbours/*", "points/*/[0-9]*.safetensors"
MOMENTS, WEIGHTS = "a[0-9]*/snapshots/*", "a[0-9]*/checkpoints/*"
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
    if not isinstance(path, Path):
        return sum(files.sizes(path).values())
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
    return size(store.files) + size(store.path / "exports")


def cramped(home: Path) -> str:
    """Why no training begins: too little room on the disk, in a sentence; "" while there is enough."""
    free, where = tightest(home)
    if free >= FLOOR:
        return ""
    return (
        f"{amount(free)} are free on the disk of {where}, and {amount(FLOOR)} must be before a training begins; make "
        "room, or let old runs go on the page Runs."
    )


def brimming(home: Path) -> str:
    """Why no training goes on: hardly any room on the disk, in a sentence; "" while there is enough."""
    free, where = tightest(home)
    if free >= LEAST:
        return ""
    return f"Stopped with {amount(free)} free on the disk of {where}; make room, and resume."


def tightest(home: Path) -> tuple[int, Path]:
    """Free bytes on the disk of a home, or on that of its runs' folders where it is another and has less; which."""
    places, kept = [home], runs(home)
    if isinstance(kept, Path) and kept.parent != home and kept.exists():
        places.append(kept)
    return min((shutil.disk_usage(place).free, place) for place in places)


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
    cut_off = {file for top in (store.path, store.files) if isinstance(top, Path) for file in top.rglob(".*.tmp")}
    left = tuple(store.path.glob("exports/*")) + tuple(
        file for file in (*cut_off, *uploads) if 0 < written(file) < time.time() - OLD
    )
    yield Item("leftovers", "", left, sum(map(size, left)))
    if not isinstance(store.files, Path):
        yield from elsewhere(store)
        return
    ended = [run for run in reversed(store.runs(ENDED)) if not store.folder(run.id).pinned]
    for kind, find in (("pictures", drawn_again), ("weights", weights), ("run", everything)):
        for run in ended:
            paths = tuple(find(store.folder(run.id)))
            yield Item(kind, run.id, paths, sum(map(size, paths)))


def elsewhere(store: Store) -> Iterator[Item]:
    """The same of runs whose folders are elsewhere: one listing tells of all files how large they are."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, size in files.sizes(store.files).items():
        run, _, file = name.partition("/")
        found[run][file] = size
    ended = [one for one in reversed(store.runs(ENDED)) if "pinned" not in found[one.id]]
    for kind in ("pictures", "weights", "run"):
        for one in ended:
            folder, here = store.folder(one.id).path, found[one.id]
            names = going(kind, here)
            paths = (folder,) if kind == "run" else tuple(folder / name for name in names)
            yield Item(kind, one.id, paths, sum(here[name] for name in names))


def going(kind: str, names: Iterable[str]) -> list[str]:
    """Which of a run's files go with its pictures, its weights, or the run."""
    if kind == "run":
        return list(names)
    if kind == "weights":
        return [name for name in names if files.matches(name, WEIGHTS)]
    last = max((PurePosixPath(name).stem for name in names if files.matches(name, MOMENTS)), default="")
    drawn = [name for name in names if files.matches(name, DRAWN) and PurePosixPath(name).stem != last]
    return drawn + [name for name in names if files.matches(name, NEIGHBOURS)]


def drawn_again(folder: RunFolder) -> Iterator[Path]:
    """Pictures of a run that a projector draws again, but those of its last moment."""
    yield from folder.path.glob("neighbours")
    last = max(folder.moments(), default=None)
    for file in folder.path.glob(DRAWN):
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
        here = all(isinstance(path, Path) for path in item.paths)
        room = sum(map(size, item.paths)) if here else item.size
        if item.kind == "run":
            with suppress(ValueError):  # resumed or deleted just now
                store.delete(item.run)
                freed += room
            continue
        freed += room
        if not here:
            files.remove(*item.paths)
            continue
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
