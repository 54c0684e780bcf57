"""Starting and stopping the supervisor of a home, for the app and the command line."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from trainer.store import Store

_started: dict[Path, subprocess.Popen] = {}  # by this process

IDLE = 600.0  # seconds without work after which a supervisor leaves


def ensure(path: Path, stay: bool = False) -> subprocess.Popen | None:
    """Start a supervisor for this home, free of this process's terminal, unless there is one.

    It leaves after a while without work; with `stay`, not before this process has ended. Its words go
    to `supervisor.log` in the home.
    """
    from trainer.supervisor import served  # the store with it, which the app does without until it answers

    newest = _started.get(path)
    if (newest and newest.poll() is None) or served(path):
        return None
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "FACES_HOME": str(path), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    stays = ["--app", str(os.getpid())] if stay else []
    apart: dict[str, Any] = {"creationflags": 0x00000200} if os.name == "nt" else {"start_new_session": True}
    with open(path / "supervisor.log", "ab") as log:
        _started[path] = subprocess.Popen(
            [sys.executable, "-m", "trainer", "serve", "--idle", str(IDLE), *stays],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **apart,
        )  # fmt: skip
    return _started[path]


def needed(store: "Store") -> bool:
    """Whether something in a home waits for its supervisor, or was left by one; where that cannot be read, it may."""
    try:
        waiting = store.waiting()
        return bool(waiting["queued"] or waiting["wanted"] or waiting["jobs"] or store.runs(("running",)))
    except Exception:  # whatever it is, the supervisor says it
        return True


def end(process: subprocess.Popen, patience: float = 15.0) -> None:
    """Ask a supervisor to leave, which stops its workers with a checkpoint; end it when it does not."""
    with contextlib.suppress(psutil.Error, OSError):
        process.terminate()
        until = time.monotonic() + patience
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        if process.poll() is None:
            process.kill()
