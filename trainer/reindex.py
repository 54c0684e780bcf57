"""The database rebuilt from the files: enters runs whose folders are here and that the store does not know.

For a lost or damaged meta.db, and for a run's folder that was copied from another home. What only the database knew is
lost: the audit, and whether a run that had not ended was waiting, to train alone or not, or training. Such a run comes
back as stopped, one whose newest attempt ran out of memory as failed. Runs of before 0.4.0 come without their note.
"""

import contextlib
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

from ulid import ULID

from faces.datasets.base import Progress, Progressed, silent
from faces.files import names, read, read_json, there, written
from faces.seals import DamagedError
from trainer.config import RunConfig
from trainer.queued import FOLDER, Together, lists
from trainer.snapshot import read_facts
from trainer.store import Store

FOUND = "Found again from its files; resume it to go on."
YOUNG = 60.0  # seconds; a younger folder may be of a run that is being submitted right now


def mend(store: Store) -> None:
    """Rebuild a damaged meta.db, which is set aside, or one that has lost all its runs. For the home's one trainer."""
    try:
        store.check()
        if store.count() or not isinstance(store.files, Path):
            return
    except DamagedError as why:
        print(why, file=sys.stderr)
        store.set_aside()
    reindex(store, young=min(YOUNG, 5.0))


def reindex(store: Store, progress: Progress = silent, young: float | None = None) -> list[str]:
    """Enter what is missing, oldest first, and return the ids; a folder that cannot be read is named and left out.

    Folders of fewer seconds than `young` (`YOUNG`) are left for those who are making them.
    """
    young = YOUNG if young is None else young
    entered = []
    for many in lists(store.files):
        try:
            entered += enter_queued(store, many, young)
        except (OSError, ValueError, KeyError) as why:
            print(f"{many.path} is left out: {why}", file=sys.stderr)
    known = {run.id for run in store.runs()} | {FOLDER}
    folders = [store.files / name for name in names(store.files) if name not in known]
    folders = [path for path in folders if not isinstance(path, Path) or path.is_dir()]
    for done, path in enumerate(folders):
        progress(Progressed("Reading runs from their files", done, len(folders), "runs"))
        if time.time() - begun(path) < young:
            continue
        try:
            enter(store, path)
            entered.append(path.name)
        except (OSError, ValueError, KeyError) as why:
            print(f"{path} is left out: {why}", file=sys.stderr)
    return sorted(entered)


def enter_queued(store: Store, many: Together, young: float) -> list[str]:
    """Enter those of runs queued together that are not known and have no folder, and return the ids."""
    if time.time() - many.since < young:
        return []
    told, known = many.told, {run.id for run in store.runs()}
    found = [name for name in many.left if name not in known and not there(store.folder(name).path / "config.json")]
    for name in found:
        store.enter(
            name, RunConfig.from_json(told["settings"][name]), told["note"], told["created"], None, None,
            state="stopped", reason=FOUND, attempts=(), owner=told["owner"], minutes=told.get("minutes", 0),
        )  # fmt: skip
    return found


def enter(store: Store, path: Path) -> None:
    """Enter one run. ValueError or OSError when its id or its settings cannot be read."""
    folder = store.folder(path.name)
    config, told = folder.config, read_json(path / "run.json")
    attempts = sorted(int(one[1:]) for one in names(path) if fnmatch(one, "a[0-9]*"))
    newest = folder.attempt(attempts[-1] if attempts else 0)
    state, reason = "stopped", "" if attempts else FOUND
    moments = list(folder.moments().values())
    if moments and ends(moments[-1]):
        state = "finished"
    elif there(newest / "reason.txt"):
        state, reason = "failed", read(newest / "reason.txt").decode(errors="replace")
    told_by = (newest / "worker.json", newest / "reason.txt", *dict.fromkeys([*moments[:1], *moments[-1:]]))
    times = [written(file) for file in told_by if there(file)]
    store.enter(
        path.name, config, told.get("note", ""), told.get("created", ULID.from_str(path.name).timestamp),
        told.get("started", min(times, default=None)), told.get("ended", max(times, default=None)),
        state=state, reason=reason, attempts=attempts, owner=str(told.get("owner", "")),
        minutes=int(told.get("minutes", 0)),
    )  # fmt: skip


def begun(path: Path) -> float:
    """When a run's folder was made or last added to, in seconds since 1970; elsewhere, when its settings came."""
    if isinstance(path, Path):
        return path.stat().st_mtime
    with contextlib.suppress(FileNotFoundError):
        return written(path / "config.json")
    return 0.0


def ends(file: Path) -> bool:
    """Whether a snapshot is the last one of a whole training."""
    with contextlib.suppress(OSError, DamagedError):
        facts = read_facts(file)
        return facts["step"] == facts["steps"]
    return False
