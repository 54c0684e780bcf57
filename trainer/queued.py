"""Runs that were queued together: one file tells of all, until each has a folder of its own, at its first attempt.

runs/queued/<first id>-<last id>/runs.json     when they were submitted, note, owner, and the settings by id
runs/queued/<first id>-<last id>/<id>          empty: this one was deleted
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faces.files import clear, names, read_json, write, write_json, written

FOLDER = "queued"  # among those of runs


@dataclass(frozen=True)
class Together:
    """What is written down of runs that were queued together."""

    path: Any

    def tell(self, settings: Mapping[str, str], told: Mapping[str, Any]) -> None:
        """Write down the settings of each run, by its id and as they are kept, and what is told of all of them."""
        write_json(self.path / "runs.json", {**told, "settings": settings})

    @property
    def ends(self) -> tuple[str, str]:
        """The first and the last id."""
        first, _, last = self.path.name.partition("-")
        return first, last

    def forget(self, name: str) -> None:
        """Write down that a run was deleted, if it may be one of these."""
        if self.ends[0] <= name <= self.ends[1]:
            write(self.path / name, "")

    @property
    def left(self) -> dict[str, str]:
        """The settings of each run that was not deleted, by its id."""
        gone = {*names(self.path)}
        return {name: config for name, config in self.told["settings"].items() if name not in gone}

    @property
    def told(self) -> dict[str, Any]:
        """What was written down. DamagedError for what is not as written."""
        return read_json(self.path / "runs.json")

    @property
    def since(self) -> float:
        """When it was written down, in seconds since 1970."""
        return written(self.path / "runs.json")

    def delete(self) -> None:
        """Remove all of it."""
        clear(self.path)


def together(files: Any, ids: Sequence[str]) -> Together:
    """Where it is written down of runs of these ids, which are in order."""
    return Together(files / FOLDER / f"{ids[0]}-{ids[-1]}")


def lists(files: Any) -> Iterator[Together]:
    """All that is written down among the folders of runs."""
    for name in names(files / FOLDER):
        yield Together(files / FOLDER / name)
