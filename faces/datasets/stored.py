"""Datasets kept as original files in one zip and decoded once per image size.

In a set's folder:

    source.json              facts; written last, so what it names is whole
    originals-<print>.zip    the image files, stored as they are; any size can be decoded from them again
    rows-<print>.json        file, label and split of every row, and noisy labels
    64px-<print>.npy         decoded pixels, memory-mapped when used
    64px-<print>.json        says that the array is whole, and what each block of it adds up to; written last
    duplicates-<print>.json  pairs of rows that are nearly the same across the split

<print> is the start of a hash over all names and contents, so arrays of an earlier import can
never be taken for those of this one.
"""

import csv
import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import Int64, UInt8
from numpy import ndarray

from faces.datasets import duplicates
from faces.datasets.base import Dataset, Images, Progress, Progressed, silent, waited
from faces.datasets.pictures import pixels
from faces.files import commit, heard, make, read_json, write_json
from faces.seals import DamagedError

SIZES = (64, 32, 96, 128, 160, 256)  # pixels, the default first
THREADS = min(2, os.cpu_count() or 1)  # PIL works outside the interpreter lock: 2 take 0.55 of the time (320 px files)
BLOCK = 64  # images per task
AGAIN = "Import the set again; one of your own images must be removed first."
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)  # of a zip with a turned bit
RECIPE = "centre square, bilinear, draft JPEG at twice the size"  # another recipe makes old arrays stale


@dataclass(frozen=True)
class Rows:
    """What is known of the kept files, one entry per file in any order."""

    class_names: tuple[str, ...]
    labels: dict[str, int]
    val: dict[str, bool]
    noisy: dict[int, dict[str, int]] = field(default_factory=dict)  # percent -> label of every file
    skipped: tuple[tuple[str, str], ...] = ()  # file and reason


class Stored(Dataset):
    """A dataset that lives in a folder as described above."""

    sizes = SIZES
    compared = True
    known_duplicates: Path | None = None  # pairs known by name: a csv with the columns train and val

    @property
    def folder(self) -> Path:
        raise NotImplementedError

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._facts()["class_names"])

    @property
    def print(self) -> str:
        return str(self._facts()["print"])

    @property
    def counts(self) -> tuple[int, int] | None:
        facts = heard(self.folder / "source.json")
        return (facts["train"], facts["val"]) if facts else None

    @property
    def state(self) -> str:
        try:
            self._facts()
        except DamagedError as why:
            return str(why)
        except ValueError:
            pass
        return super().state

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Files that were left out when the set was imported, each with the reason."""
        return tuple((file, why) for file, why in self._facts()["skipped"])

    def ready(self, size: int) -> bool:
        facts = heard(self.folder / "source.json")
        return bool(facts) and size in self.sizes and _whole(_array(self.folder, size, facts["print"]))

    def prepare(self, size: int, progress: Progress = silent) -> None:
        """Decode the originals at this size into a memory-mapped array, and look for near duplicates, once.

        An array that is not what was decoded is decoded again. Every training begins here, so none sees a turned bit;
        pages look at its length only.

        These are looked for at the default size, whatever size is asked for, so that every size drops the same;
        pairs known by name are noted with them.

        A second process waits for the first. An interrupted decode leaves a .part file that the
        next one overwrites. Imagewoof's 12,954 files of 160 px at 64 px took 10 CPU seconds, 17 to
        21 s of wall time (2 runs, Pillow 13.0, 2 cores of a virtual machine busy with other work).
        """
        self.check(size)
        self._facts()
        with waited(FileLock(self.folder / "lock"), progress):
            facts = self._facts()
            searched = self._pairs(facts) is not None
            for needed in {size} if searched else {size, self.sizes[0]}:
                if not (self.ready(needed) and self._sound(facts, needed)):
                    self._decode(facts, needed, progress)
            if not searched:
                images = self.load(self.sizes[0])
                pairs = duplicates.straddling(images.pixels, images.labels, images.val, progress)
                found = {"pixels": pairs.tolist()}
                if self.known_duplicates:
                    found = {"names": named(self.known_duplicates, images.files.tolist()), **found}
                says = {"method": self._method, "pairs": found}
                write_json(self.folder / f"duplicates-{facts['print']}.json", says)

    def found(self) -> dict[str, Int64[ndarray, "_ 2"]]:
        pairs = self._pairs(self._facts())
        if pairs is None:
            raise ValueError(f"{self.title} was not searched for near duplicates yet. Prepare any size of it first.")
        return {how: np.array(some, dtype=np.int64).reshape(-1, 2) for how, some in pairs.items()}

    @property
    def _method(self) -> str:
        """How near duplicates are found, with a fingerprint of the names."""
        mark = hashlib.sha256(self.known_duplicates.read_bytes()).hexdigest()[:16] if self.known_duplicates else "none"
        return f"{duplicates.METHOD}; names: {mark}"

    def _pairs(self, facts: dict[str, Any]) -> dict[str, list[list[int]]] | None:
        """The pairs on file by how they are known, or None when nobody looked for them with the present method."""
        says = heard(self.folder / f"duplicates-{facts['print']}.json")
        return says["pairs"] if says.get("method") == self._method else None

    def _decode(self, facts: dict[str, Any], size: int, progress: Progress) -> None:
        files = self._rows(facts)["files"]
        array = _array(self.folder, size, facts["print"])
        shape = (len(files), size, size, 3)

        def block(start: int) -> bytes:
            return b"".join(picture(file).tobytes() for file in files[start : start + BLOCK])

        def picture(file: str) -> np.ndarray:
            try:
                return pixels(originals.read(file), size)
            except (OSError, ValueError, KeyError, *BROKEN) as why:
                raise ValueError(f"{file} of {self.title} cannot be decoded ({why}). {AGAIN}") from why

        part, sums = array.with_name(array.name + ".part"), []
        with (
            self._originals(facts) as originals,
            ThreadPoolExecutor(THREADS) as pool,
            part.open("wb") as out,
        ):
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            done = 0
            for decoded in pool.map(block, range(0, len(files), BLOCK)):
                out.write(decoded)
                sums.append(zlib.crc32(decoded))
                done += len(decoded) // (size * size * 3)
                progress(Progressed(f"Decoding {self.title} at {size} px", done, len(files), "images"))
            length = out.tell()
        commit(part, array)
        write_json(array.with_suffix(".json"), {"recipe": RECIPE, "bytes": length, "sums": sums})

    def _sound(self, facts: dict[str, Any], size: int) -> bool:
        """Whether every block of an array adds up to what was decoded; one without sums is taken as it is."""
        array = _array(self.folder, size, facts["print"])
        sums = heard(array.with_suffix(".json")).get("sums")
        if sums is None:
            return True
        pixels = _mapped(array, len(self._rows(facts)["files"]), size)
        return sums == [zlib.crc32(pixels[start : start + BLOCK].data) for start in range(0, len(pixels), BLOCK)]

    def load(self, size: int, noise: int = 0) -> Images:
        self.check(size, noise)
        facts = self._facts()
        array = _array(self.folder, size, facts["print"])
        if not _whole(array):
            raise ValueError(f"{self.title} is not decoded at {size} px yet. Prepare that size first.")
        rows = self._rows(facts)
        if noise and str(noise) not in rows["noisy"]:
            raise ValueError(
                f"{self.title} came without the noisy labels of all its train images. "
                "Import it again together with noisy_imagewoof.csv, or choose noise 0."
            )
        labels = rows["noisy"][str(noise)] if noise else rows["labels"]
        return Images(
            pixels=_mapped(array, len(labels), size),
            labels=np.array(labels, dtype=np.int64),
            val=np.array(rows["val"], dtype=bool),
            class_names=tuple(facts["class_names"]),
            files=np.array(rows["files"], dtype=str),
        )

    def _facts(self) -> dict[str, Any]:
        """What source.json says. ValueError when the set is not here."""
        facts = self._told("source.json")
        if not facts:
            raise ValueError(f"{self.title} is not on this machine yet. Open the page Data to get it.")
        return facts

    def _rows(self, facts: dict[str, Any]) -> dict[str, Any]:
        if rows := self._told(f"rows-{facts['print']}.json"):
            return rows
        raise DamagedError(f"{self.title} has lost the list of its images. {AGAIN}")

    def _told(self, name: str) -> dict[str, Any]:
        try:
            return read_json(self.folder / name)
        except DamagedError as why:
            raise DamagedError(f"The list {name} of {self.title} is damaged. {AGAIN}") from why

    def _originals(self, facts: dict[str, Any]) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.folder / f"originals-{facts['print']}.zip")
        except (OSError, *BROKEN) as why:
            raise DamagedError(f"The originals of {self.title} are damaged ({why}). {AGAIN}") from why


def keep(folder: Path, files: Iterable[tuple[str, bytes]], known: Callable[[list[str]], Rows]) -> None:
    """Make `folder` hold exactly these files (name, bytes; the first of a name counts), described by `known`.

    Whatever `files` or `known` raises leaves the folder as it was. Sets of an earlier import are
    removed only once the new one is whole.
    """
    make(folder)
    with FileLock(folder / "lock"):
        part, digests = folder / "originals.part", {}
        with zipfile.ZipFile(part, "w") as originals:  # stored: images are compressed already
            for file, data in files:
                if file not in digests:
                    digests[file] = hashlib.sha256(data).hexdigest()
                    originals.writestr(zipfile.ZipInfo(file), data)
        rows = known(list(digests))
        lines = "".join(f"{digests[file]} {file}\n" for file in sorted(digests))
        mark = hashlib.sha256(lines.encode()).hexdigest()[:16]
        order = sorted(digests, key=lambda file: (rows.val[file], rows.labels[file], file))

        commit(part, folder / f"originals-{mark}.zip")
        columns: dict[str, Any] = {
            "files": order,
            "labels": [rows.labels[file] for file in order],
            "val": [rows.val[file] for file in order],
            "noisy": {str(rate): [labels[file] for file in order] for rate, labels in rows.noisy.items()},
        }
        write_json(folder / f"rows-{mark}.json", columns)
        facts = {"version": 1, "print": mark, "class_names": rows.class_names, "skipped": rows.skipped}
        val = sum(rows.val[file] for file in order)
        write_json(folder / "source.json", facts | {"train": len(order) - val, "val": val})
        for old in folder.glob("*-*"):
            if old.suffix in (".zip", ".npy", ".json", ".part", ".tmp") and mark not in old.name:
                with suppress(OSError):  # still open somewhere, on Windows; the next import tries again
                    old.unlink()


def named(pairs: Path, files: list[str]) -> list[list[int]]:
    """The rows (training, validation) of those pairs in a csv of which both files are here."""
    rows = {file: row for row, file in enumerate(files)}
    with pairs.open(encoding="utf-8", newline="") as lines:
        both = [(rows.get(line["train"]), rows.get(line["val"])) for line in csv.DictReader(lines)]
    return [[train, val] for train, val in both if train is not None and val is not None]


def _array(folder: Path, size: int, mark: str) -> Path:
    return folder / f"{size}px-{mark}.npy"


def _whole(array: Path) -> bool:
    says = heard(array.with_suffix(".json"))
    return says.get("recipe") == RECIPE and array.is_file() and array.stat().st_size == says["bytes"]


def _mapped(array: Path, count: int, size: int) -> UInt8[ndarray, "N size size 3"]:
    """The pixels of an array, which stand at the end of its file, whatever its header says."""
    shape = (count, size, size, 3)
    return np.memmap(array, np.uint8, "r", array.stat().st_size - math.prod(shape), shape)
