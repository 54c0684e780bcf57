"""Recorded runs: finished runs in one small zip, to be opened where nobody can train them.

    <id>/run.json                           how the run is told: note, times, why it is slim
    <id>/config.json, <id>/data.json        as in a run's folder
    <id>/snapshots/00000123.safetensors     embeddings in half precision, no weights, no images
    <id>/points/tsne-2/00000123.safetensors

Of the last snapshot all validation images are kept (or `last` of them) and `known` training images; of the
others the first `shown` images, so that time can be travelled. Metrics are those measured on all of them.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from ulid import ULID

from faces import seals
from faces.datasets.base import Progress, Progressed, silent
from faces.files import matching, read, write, write_json
from faces.seals import UNSEALED, DamagedError, from_json, sealed, to_json
from trainer.config import RunConfig
from trainer.folder import Points
from trainer.pictures import KNOWN, draw_past, keep, picture
from trainer.snapshot import Snapshot
from trainer.store import Run, Store

FOLDER = Path(__file__).parents[1] / "assets" / "runs"
ASKED = ("embeddings", "labels", "predictions", "rows", "losses", "lengths")  # arrays with a row per validation image
HALF = (
    "embeddings",
    "centers",
    "known",
    "unseen",
    "lengths",
)  # arrays kept in half precision: a thousandth at most is lost
MOST_MEMBERS, MOST_BYTES = 20_000, 512 << 20


def files() -> list[Path]:
    """The recorded runs that come with Faces."""
    return sorted(FOLDER.glob("*.zip"))


def names(file: Path) -> list[str]:
    """The ids of the runs in a file of recorded runs."""
    with zipfile.ZipFile(file) as archive:
        return sorted({member.split("/")[0] for member in archive.namelist()})


@lru_cache
def told(file: Path) -> dict[str, tuple[Run, list[dict[str, Any]]]]:
    """The runs in a file by their ids, each with what its snapshots say in plain values, without opening any."""
    found: dict[str, tuple[Run, list[dict[str, Any]]]] = {}
    with zipfile.ZipFile(file) as archive:
        for name in names(file):
            facts = from_json(archive.read(f"{name}/run.json"), "A recorded run")
            settings = RunConfig.from_json(archive.read(f"{name}/config.json")).sealed
            times = facts["created"], facts["started"], facts["ended"]
            run = Run(name, settings, "finished", "", 1, 0, False, *times, facts["note"])
            members = sorted(each for each in archive.namelist() if each.startswith(f"{name}/snapshots/"))
            found[name] = run, [plain(archive, member) for member in members]
    return found


def plain(archive: zipfile.ZipFile, member: str) -> dict[str, Any]:
    """The plain values of a snapshot in a zip, from the beginning of its file."""
    with archive.open(member) as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["snapshot"])


@lru_cache(64)
def last_arrays(file: Path, name: str, kind: str = "snapshots") -> dict[str, np.ndarray]:
    """The arrays of a run's last snapshot, or, where `kind` is points/tsne-2, of that picture. ValueError for none."""
    with zipfile.ZipFile(file) as archive:
        found = [member for member in archive.namelist() if member.startswith(f"{name}/{kind}/")]
        if not found:
            raise ValueError(f"Run {name} of {file.name} was recorded without {kind}.")
        return load(archive.read(max(found)))


def record(
    store: Store,
    names: Sequence[str],
    note: str,
    last: int | None = None,
    known: int = 1000,
    shown: int = 200,
    unseen: int | None = None,
) -> bytes:
    """Finished runs as the content of a zip. ValueError for one that has not finished.

    `note` is what they are called together where they are opened.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names:
            run, folder = store.run(name), store.folder(name)
            if run.state != "finished":
                raise ValueError(f"Run {name} is {run.state}; only finished runs can be recorded.")
            facts = {"note": note, "created": run.created, "started": run.started, "ended": run.ended}
            archive.writestr(f"{name}/run.json", to_json(facts))
            for told in ("config.json", "data.json"):
                archive.writestr(f"{name}/{told}", read(folder.path / told))
            kept = [one for one in store.history(name) if one["step"] == one["steps"] or (shown and whole(one))]
            steps = [one["step"] for one in kept]
            for step in steps:
                snapshot = store.snapshot(name, step)
                slim = slimmed(snapshot, last if snapshot.last else shown, known if snapshot.last else 0, unseen)
                archive.writestr(f"{name}/snapshots/{step:08d}.safetensors", halved(slim.to_bytes()))
            drawn = matching(folder.path / "points", f"*/{steps[-1]:08d}.safetensors")
            for file in drawn if last is None or last >= run.config.probe else ():  # else they show more images
                archive.writestr(f"{name}/points/{file.parent.name}/{file.name}", read(file))
    return content.getvalue()


def bring(store: Store, content: bytes, progress: Progress = silent) -> list[str]:
    """Open recorded runs in this home and return their ids; those that are there already stay as they are.

    ValueError when this is no such zip.
    """
    store.allow("open")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = {info.filename: info.file_size for info in archive.infolist()}
        names = sorted({str(ULID.from_str(member.split("/")[0])) for member in members})
        if len(members) > MOST_MEMBERS or sum(members.values()) > MOST_BYTES:
            raise ValueError("it is far larger than recorded runs are")
        for done, name in enumerate(names):
            progress(Progressed("Opening recorded runs", done, len(names), "runs"))
            bring_one(store, name, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, SafetensorError) as why:
        raise DamagedError("This is no file of recorded runs, or a damaged one. `runs record` makes one.") from why
    except (KeyError, TypeError, ValueError) as why:
        raise ValueError(f"This is no file of recorded runs ({why}). `runs record` makes one.") from why
    return names


def bring_one(store: Store, name: str, archive: zipfile.ZipFile) -> None:
    """Write one recorded run as a finished run of this home."""
    facts = from_json(archive.read(f"{name}/run.json"), "A recorded run")
    config = RunConfig.from_json(archive.read(f"{name}/config.json"))
    folder = store.folder(name)
    if store.known(name):
        return
    for told in ("run.json", "config.json", "data.json"):
        write_json(folder.path / told, from_json(archive.read(f"{name}/{told}"), "A recorded run"))
    for member in archive.namelist():
        if member.startswith(f"{name}/snapshots/"):
            step = int(Path(member).stem)
            write(folder.attempt(1) / "snapshots" / f"{step:08d}.safetensors", widened(archive.read(member)))
        elif member.startswith(f"{name}/points/"):
            _, _, drawn, file = member.split("/")
            picture(drawn.removesuffix(KNOWN))  # ValueError for a name that is none
            points, step = Points(**load(archive.read(member))), int(Path(file).stem)
            if drawn.endswith(KNOWN):
                folder.keep_points(drawn, step, points)
            else:  # measured here: what is measured grows from one Faces to the next
                keep(folder, Snapshot.read(folder.moments()[step]), drawn, points)
    files = reversed([file for _, file in folder.snapshots(1)])
    draw_past(folder, (Snapshot.read(file) for file in files))
    store.enter(name, config, facts["note"], facts["created"], facts["started"], facts["ended"])


def whole(facts: dict) -> bool:
    """Whether a snapshot stands at the start or the end of an epoch."""
    return abs(facts["epoch"] - round(facts["epoch"])) < 1e-9


def slimmed(snapshot: Snapshot, asked: int | None, known: int, unseen: int | None) -> Snapshot:
    """The same moment with fewer images."""
    few = {name: getattr(snapshot, name)[:asked] for name in ASKED}
    few |= {name: getattr(snapshot, name)[:known] for name in ("known", "known_labels")}
    few |= {name: getattr(snapshot, name)[:unseen] for name in ("unseen", "unseen_labels")}
    return replace(snapshot, **few)


def halved(content: bytes) -> bytes:
    """A snapshot's bytes with its large arrays in half precision and small numbers in small types."""
    return recast(content, lambda name, array: array.astype(np.float16) if name in HALF else smallest(array))


def widened(content: bytes) -> bytes:
    """The inverse of `halved`, to the types that snapshots have."""
    return recast(content, lambda _, array: array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def smallest(array: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that holds them; others as they are."""
    if array.dtype.kind != "i":
        return array
    ends = (int(array.min(initial=0)), int(array.max(initial=0)))
    return array.astype(np.result_type(*map(np.min_scalar_type, ends)))


def recast(content: bytes, cast: Callable[[str, np.ndarray], np.ndarray]) -> bytes:
    """A snapshot's bytes with its arrays cast and its seal renewed, its plain values unchanged."""
    length = int.from_bytes(content[:8], "little")  # safetensors: header length, header, data
    facts = json.loads(content[8 : 8 + length])["__metadata__"]
    arrays = load(seals.whole(content, "A recorded snapshot"))
    cast_arrays = {name: np.ascontiguousarray(cast(name, array)) for name, array in arrays.items()}
    return sealed(save(cast_arrays, {**facts, **UNSEALED}))
