"""The database rebuilt from the files: enters runs whose folders are here and that the store does not know.

For a lost or damaged meta.db, and for a run's folder that was copied from another home. What only the database knew is
lost: the audit, and whether a run that had not ended was waiting, to train alone or not, or training. Such a run comes
back as stopped, one whose newest attempt ran out of memory as failed.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

from safetensors import SafetensorError
from ulid import ULID

from faces.datasets.base import Progress, Progressed, silent
from faces.files import read_json
from trainer.snapshot import read_facts
from trainer.store import Store

YOUNG = 60.0  # seconds; a younger folder may be of a run that is being submitted right now


def reindex(store: Store, progress: Progress = silent) -> list[str]:
    """Enter what is missing, oldest first, and return the ids; a folder that cannot be read is named and left out."""
    known = {run.id for run in store.runs()}
    folders = sorted(path for path in (store.path / "runs").glob("*") if path.is_dir() and path.name not in known)
    entered = []
    for done, path in enumerate(folders):
        progress(Progressed("Reading runs from their files", done, len(folders), "runs"))
        if time.time() - path.stat().st_mtime < YOUNG:
            continue
        try:
            enter(store, path)
            entered.append(path.name)
        except (OSError, ValueError, KeyError) as why:
            print(f"{path} is left out: {why}", file=sys.stderr)
    return entered


def enter(store: Store, path: Path) -> None:
    """Enter one run. ValueError or OSError when its id or its settings cannot be read."""
    folder = store.folder(path.name)
    config, told = folder.config, read_json(path / "run.json")
    attempts = sorted(int(one.name[1:]) for one in path.glob("a[0-9]*"))
    newest = folder.attempt(attempts[-1] if attempts else 0)
    state, reason = "stopped", "Found again from its files; resume it to go on." if not attempts else ""
    moments = list(folder.moments().values())
    if moments and ends(moments[-1]):
        state = "finished"
    elif (newest / "reason.txt").exists():
        state, reason = "failed", (newest / "reason.txt").read_text(encoding="utf-8")
    times = [
        file.stat().st_mtime for file in (newest / "worker.json", newest / "reason.txt", *moments) if file.exists()
    ]
    store.enter(
        path.name, config, told.get("note", ""), told.get("created", ULID.from_str(path.name).timestamp),
        told.get("started", min(times, default=None)), told.get("ended", max(times, default=None)),
        state=state, reason=reason, attempts=attempts, owner=str(told.get("owner", "")),
    )  # fmt: skip


def ends(file: Path) -> bool:
    """Whether a snapshot is the last one of a whole training."""
    with contextlib.suppress(OSError, SafetensorError, json.JSONDecodeError):
        facts = read_facts(file)
        return facts["step"] == facts["steps"]
    return False
