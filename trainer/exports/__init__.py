"""Taking runs away: one file here per kind of export.

    from trainer.exports import EXPORTS, take
    name, content = take(store, "csv", [run])        "faces-ArcFace-digits-seed0-step400-csv.zip", b"..."

Only exports that say they are slow may load torch, and pages leave those to a process of its own (`making`).
"""

import importlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from faces.datasets.base import Progress, silent
from trainer.exports.base import Export, taken
from trainer.naming import plain_name
from trainer.store import Run, Store

ORDER = ("zip", "csv", "parquet", "tsv", "html", "code", "safetensors", "onnx")  # in menus; others come after


def _in_this_folder() -> dict[str, Export]:
    """An instance of every Export with a name of its own, from every file beside this one."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    modules = [importlib.import_module(f"{__name__}.{file.stem}") for file in files]
    kinds = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    named = sorted((kind for kind in kinds if issubclass(kind, Export) and "name" in vars(kind)), key=lambda k: k.name)
    place = {name: at for at, name in enumerate(ORDER)}
    return {kind.name: kind() for kind in sorted(named, key=lambda kind: place.get(kind.name, len(place)))}


EXPORTS = _in_this_folder()


def kind_of(name: str) -> Export:
    """The export of this name; ValueError for a name that is none."""
    if name not in EXPORTS:
        raise ValueError(f"Unknown export {name!r}. There are: {', '.join(EXPORTS)}.")
    return EXPORTS[name]


def refusal(store: Store, kind: str, runs: Sequence[Run]) -> str:
    """Why these runs cannot be taken away as this kind, in one sentence; empty when they can."""
    return next((why for run in runs if (why := kind_of(kind).refusal(run, store.folder(run.id)))), "")


def files(store: Store, kind: str, names: Sequence[str], progress: Progress = silent) -> dict[str, bytes]:
    """The files of an export by name. ValueError when one of the runs cannot be taken away like this."""
    runs = taken(store, names)
    if why := refusal(store, kind, [one.run for one in runs]):
        raise ValueError(why)
    return kind_of(kind).files(runs, progress)


def take(store: Store, kind: str, names: Sequence[str], progress: Progress = silent) -> tuple[str, bytes]:
    """Name and content of the one file that an export comes in: a zip where it has several. ValueError as `files`."""
    name, found = file_name(store, kind, names), files(store, kind, names, progress)
    return name, zipped(found) if name.endswith(".zip") else next(iter(found.values()))


def file_name(store: Store, kind: str, names: Sequence[str]) -> str:
    """The name of the one file that an export comes in."""
    runs, export = taken(store, names), kind_of(kind)
    stem, steps = runs[0].stem, {one.facts["step"] for one in runs}
    if len(runs) > 1:
        datasets = {plain_name(one.run.config.dataset) for one in runs}
        same = [*(datasets if len(datasets) == 1 else ()), *(f"step{step}" for step in steps if len(steps) == 1)]
        stem = "-".join([f"faces-{len(runs)}-runs", *same])
    suffix = export.suffix if len(runs) == 1 or export.joint else ".zip"
    return stem + (f"-{kind}" if suffix == ".zip" and kind != "zip" else "") + suffix


def zipped(members: dict[str, bytes]) -> bytes:
    """Files as the content of a zip; what is compressed already is only stored."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            packed = name.endswith((".safetensors", ".parquet", ".onnx", ".zip", ".png"))
            archive.writestr(name, member, zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED)
    return content.getvalue()
