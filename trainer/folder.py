"""The files of one run: what a worker writes and everybody reads. No database here.

    runs/<id>/config.json                       the settings
    runs/<id>/run.json                          when it was submitted, the note it was given, and whose it is in a class
                                                (both at its first attempt where it was queued with others: `queued.py`)
    runs/<id>/data.json                         on which images it began: their fingerprint and class names
    runs/<id>/pinned                            there while somebody wants it kept when old runs are let go
    runs/<id>/wishes.json                       knobs as a person wants them now; elsewhere wishes/<knob>.json, one each
    runs/<id>/a0001/snapshots/00000123.safetensors
    runs/<id>/a0001/checkpoints/00000123-<sha256, 12 digits>.safetensors     the run's two newest
    runs/<id>/a0001/{log.txt, reason.txt, stop, progress.json}
    runs/<id>/points/tsne-2/00000123.safetensors
    runs/<id>/neighbours/<hash of the embeddings>.safetensors     who is nearest to whom, of one moment

Every file is written beside its place, synced, and renamed into it, or put there as one object where `FACES_FILES`
names object storage (`faces.files`), so it is there whole or not at all. A finished folder can be copied and opened
elsewhere.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from jaxtyping import Float, Int
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from faces.files import aside, clear, heard, make, matching, read, read_json, remove, there, write, write_json
from faces.knobs import Value
from faces.seals import UNSEALED, DamagedError, sealed, whole
from trainer.config import RunConfig
from trainer.snapshot import Snapshot


class Points(NamedTuple):
    """A picture: images laid out on 2 or 3 axes, and the head's centers where the projection can place them.

    `quality` is what `trainer.pictures.measured` gives; empty when nobody has measured it. `spread` is the variance of
    the embeddings, summed over their axes, where the points' own is a share of it (PCA). `cones` are the centers'
    margin cones and `arcs` the forbidden arcs (as in `Snapshot`) where the axes are those of the embeddings.
    `refining` is the iterations done, of how many, and the KL divergence of a picture that is still being refined;
    empty once it is finished, and then it never changes.
    """

    points: Float[ndarray, "N axes"]
    labels: Int[ndarray, " N"]
    centers: Float[ndarray, "M axes"]
    center_labels: Int[ndarray, " M"]
    quality: Float[ndarray, " measures"] = np.empty(0, np.float32)
    spread: Float[ndarray, " one"] = np.empty(0, np.float32)
    cones: Float[ndarray, " M"] = np.empty(0, np.float32)
    refining: Float[ndarray, " three"] = np.empty(0, np.float32)
    arcs: Float[ndarray, "A 2"] = np.empty((0, 2), np.float32)


@dataclass(frozen=True)
class RunFolder:
    """One run's folder and what lies in it. Its path is a Path, or a UPath where `FACES_FILES` is elsewhere."""

    path: Path

    @property
    def there(self) -> bool:
        """Whether there is anything of this run."""
        return there(self.path)

    def delete(self) -> None:
        """Remove all of it."""
        clear(self.path)

    def tell(self, config: RunConfig, told: Mapping[str, Any]) -> None:
        """Write down the settings, and what is told of the run beside them."""
        write_json(self.path / "run.json", told)
        write(self.path / "config.json", config.sealed)  # last: where it is, all is told

    @property
    def config(self) -> RunConfig:
        """The settings that the run was submitted with."""
        file = self.path / "config.json"
        return RunConfig.from_json(read(file), file)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the labels stand for; empty before the first attempt."""
        return tuple(read_json(self.path / "data.json").get("class_names", ()))

    @property
    def print(self) -> str:
        """The fingerprint of the images that the run began on; empty before, and for those that never change."""
        return read_json(self.path / "data.json").get("print", "")

    def begin(self, print: str, class_names: Iterable[str]) -> None:
        """Record on which images the run trains. ValueError when an earlier attempt began on others."""
        now, before = {"print": print, "class_names": list(class_names)}, read_json(self.path / "data.json")
        if before and before != now:
            raise ValueError("The images have changed since this run began, so it cannot go on; start a new one.")
        write_json(self.path / "data.json", now)

    def attempt(self, number: int) -> Path:
        """The folder of one attempt."""
        return self.path / f"a{number:04d}"

    def ask_to_stop(self, attempt: int) -> None:
        """Tell the worker of an attempt that somebody wants it to stop."""
        write(self.attempt(attempt) / "stop", "", durable=False)

    def log(self, attempt: int) -> str:
        """All that an attempt's worker has printed."""
        with suppress(FileNotFoundError):
            return read(self.attempt(attempt) / "log.txt").decode(errors="replace")
        return ""

    @property
    def wishes(self) -> dict[str, Value]:
        """The head's knobs as a person wants them now; empty when nobody turned any, or when that is damaged."""
        if isinstance(self.path, Path):
            return heard(self.path / "wishes.json")
        told = {file.stem: heard(file) for file in matching(self.path / "wishes", "*.json")}
        return {knob: wish["value"] for knob, wish in told.items() if wish}

    def wish(self, knobs: Mapping[str, Value]) -> None:
        """Add to the wishes. Elsewhere nothing can be locked: there each knob is an object, and the last wish stays."""
        if not isinstance(self.path, Path):
            for knob, value in knobs.items():
                write_json(self.path / "wishes" / f"{knob}.json", {"value": value})
            return
        make(self.path)
        with FileLock(self.path / "wishes.lock"):
            write_json(self.path / "wishes.json", {**self.wishes, **knobs})

    def keep(self, attempt: int, snapshot: Snapshot) -> None:
        """Write a snapshot."""
        write(self.attempt(attempt) / "snapshots" / f"{snapshot.step:08d}.safetensors", snapshot.to_bytes())

    @property
    def pinned(self) -> bool:
        """Whether somebody wants this run kept whatever room it takes."""
        return there(self.path / "pinned")

    def pin(self, pinned: bool) -> None:
        """Keep this run when old ones are let go, or no longer."""
        if pinned:
            write(self.path / "pinned", "")
        else:
            remove(self.path / "pinned")

    def snapshots(self, attempt: int) -> Iterator[tuple[int, Path]]:
        """Steps and files of an attempt's snapshots, in order."""
        for file in matching(self.attempt(attempt) / "snapshots", "[0-9]*.safetensors"):
            yield int(file.stem), file

    def keep_checkpoint(self, attempt: int, step: int, content: bytes) -> None:
        """Write what a resumed run starts from, named after its content, and drop all but the run's two newest."""
        folder = self.attempt(attempt) / "checkpoints"
        write(folder / f"{step:08d}-{hashlib.sha256(content).hexdigest()[:12]}.safetensors", content)
        remove(*self._checkpoints()[:-2])

    def moments(self) -> dict[int, Path]:
        """Every step's snapshot file, of its newest attempt, in order of the steps."""
        files = matching(self.path, "a[0-9]*/snapshots/[0-9]*.safetensors")
        return dict(sorted((int(file.stem), file) for file in files))

    def checkpoint(self) -> bytes | None:
        """The newest whole checkpoint of any attempt; a damaged one is passed over. None when there is none."""
        for file in reversed(self._checkpoints()):
            content = read(file)
            if hashlib.sha256(content).hexdigest()[:12] == file.stem.split("-")[1]:
                return content
        return None

    @property
    def weighed(self) -> bool:
        """Whether there are weights; recorded runs come without."""
        return bool(self._checkpoints())

    def _checkpoints(self) -> list[Path]:
        files = matching(self.path, "a[0-9]*/checkpoints/[0-9]*.safetensors")
        return sorted(files, key=lambda file: file.name)

    def points_file(self, name: str, step: int) -> Path:
        """Where the points of a picture are kept; `name` is like "tsne-2"."""
        return self.path / "points" / name / f"{step:08d}.safetensors"

    def progress_file(self, name: str, step: int) -> Path:
        """Where a projector tells how far a picture is; there is no such file before and after."""
        return self.points_file(name, step).with_suffix(".json")

    def pause_file(self, name: str) -> Path:
        """While it is there, nobody refines this picture."""
        return self.points_file(name, 0).with_name("paused")

    def paused(self, name: str) -> bool:
        """Whether somebody has stopped the refining of a picture."""
        return there(self.pause_file(name))

    def pause(self, name: str, paused: bool) -> None:
        """Stop refining a picture, for all viewers, or go on."""
        if paused:
            write(self.pause_file(name), "")
        else:
            remove(self.pause_file(name))

    def keep_points(self, name: str, step: int, points: Points) -> None:
        """Write a picture."""
        arrays = {field: np.ascontiguousarray(array) for field, array in points._asdict().items()}
        write(self.points_file(name, step), sealed(save(arrays, UNSEALED)))

    def points(self, name: str, step: int) -> Points | None:
        """A picture, or None when nobody has computed it. A damaged one is set aside, to be computed again."""
        file = self.points_file(name, step)
        try:
            return Points(**load(whole(read(file), file)))
        except FileNotFoundError:
            return None
        except (DamagedError, SafetensorError, TypeError):
            aside(file)
            return None

    def drawn(self, name: str) -> list[int]:
        """The steps of which this picture exists, in order."""
        files = matching(self.points_file(name, 0).parent, "[0-9]*.safetensors")
        return sorted(int(file.stem) for file in files)
