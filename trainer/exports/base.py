"""What every export promises: from runs to files, by name and content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from faces.datasets.base import Progress
from trainer.folder import RunFolder
from trainer.naming import file_stem
from trainer.snapshot import Snapshot
from trainer.store import Run, Store


@dataclass(frozen=True)
class Taken:
    """One run that is taken away, as it is at its newest snapshot. `stem` is how its files' names begin."""

    store: Store
    run: Run
    history: Sequence[Mapping[str, Any]]
    stem: str

    @property
    def folder(self) -> RunFolder:
        return self.store.folder(self.run.id)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the newest snapshot says."""
        return self.history[-1]

    @cached_property
    def snapshot(self) -> Snapshot:
        """The newest snapshot. ValueError when its file is damaged."""
        return self.store.snapshot(self.run.id, self.facts["step"])


class Export:
    """One way to take runs away. A file in this folder with a subclass that sets `name` is all it takes to add one."""

    name: str  # after --as on the command line
    title: str  # in a menu
    meaning: str  # one or two sentences under it
    suffix = ".zip"  # of the one file that the export of one run is; .zip where it has several
    joint = False  # whether several runs come in one such file too
    slow = False  # takes seconds or torch, so a process of its own makes it

    def refusal(self, run: Run, folder: RunFolder) -> str:
        """Why this run cannot be taken away like this, in one sentence; empty when it can."""
        return ""

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        """The files by their names, which begin with the stem of the run that they are of."""
        raise NotImplementedError


def taken(store: Store, names: Sequence[str]) -> list[Taken]:
    """These runs, ready to be taken away. ValueError for none, for an id that is none, and for a run without snapshot.

    Of runs whose files would have the same names, each has the end of its id in them.
    """
    if not names:
        raise ValueError("No run was named; name one or more.")
    found = []
    for name in dict.fromkeys(names):
        run, history = store.run(name), store.history(name)
        if not history:
            raise ValueError("This run has no snapshot yet; there is nothing to take away.")
        found.append(Taken(store, run, history, file_stem(run.config, history[-1])))
    stems = [one.stem for one in found]
    return [
        one if stems.count(one.stem) == 1 else Taken(store, one.run, one.history, f"{one.stem}-{one.run.id[-6:]}")
        for one in found
    ]
