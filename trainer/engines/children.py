"""Processes in which attempts start at once: forked from one that has torch loaded (Linux), a warm spare, or shared."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any, Protocol

import psutil

from trainer.memory import system_kills
from trainer.worker import OUT_OF_MEMORY

ENVIRONMENT = {  # of a worker
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of pyarrow, which scikit-learn imports by way of pandas
    # Bytes, read by glibc: what a step frees stays with the process, and the next need not fetch it anew (speed.md).
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
}  # fmt: skip
GONE = -9  # the exit code of a worker that ended without leaving one
KILLED = -9  # that of a process that was killed, by the system too


class Child(Protocol):
    """A worker process."""

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative for a signal."""

    def kill(self) -> None:
        """End it at once."""


def child(*arguments: str, modest: bool = True, **pipes: Any) -> Popen:
    """`python -m trainer ...` with one thread, from anywhere; a `modest` one has low priority."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = Popen(
        [sys.executable, "-m", "trainer", *arguments],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path}, text=True, **pipes,
    )  # fmt: skip
    with contextlib.suppress(psutil.Error, OSError):
        if modest:
            psutil.Process(process.pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if os.name == "nt" else 5)
    return process


def tell(process: Popen, words: dict[str, Any]) -> None:
    """Write a JSON line to a child's input; one that has just died will be noticed by its exit code."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()


class Spares:
    """A new process for each attempt, and a warm one kept ready. Works everywhere."""

    def __init__(self, news: threading.Event | None = None) -> None:
        """`news` is for a Nursery: here nobody listens for the end of a worker."""
        self.spare: Popen | None = None
        self.started: list[Popen] = []

    def warm(self) -> None:
        """Have a worker ready, torch loaded."""
        if self.spare is None or self.spare.poll() is not None:
            self.spare = child("work", stdin=PIPE, stdout=DEVNULL)

    def start(self, job: dict[str, Any]) -> Child:
        """Hand a job (`trainer.worker`) to the spare."""
        self.warm()
        assert self.spare is not None
        worker, self.spare = self.spare, None
        tell(worker, job)
        self.started = [process for process in self.started if process.poll() is None] + [worker]
        return worker

    def close(self, patience: float) -> None:
        """Let the workers stop: the end of their input tells them to. End those that have not after `patience` s."""
        if self.spare:
            self.spare.kill()
            self.spare.wait()
        for worker in self.started:
            hush(worker)
        for worker in self.started:
            end(worker, patience)


class ForkedChild:
    """A worker that a nursery forked; its exit code comes from there."""

    def __init__(self, nursery: Popen, lost: Callable[[], int]):
        self.nursery, self.lost, self.pid, self.code = nursery, lost, None, None

    pid: int | None
    code: int | None

    def poll(self) -> int | None:
        """None while it runs, then its exit code; negative for a signal, or when the nursery is gone."""
        if self.code is None and self.nursery.poll() is not None:
            self.code = self.lost()
        return self.code

    def kill(self) -> None:
        """End it at once."""
        if self.pid and self.code is None:
            with contextlib.suppress(psutil.Error):
                psutil.Process(self.pid).kill()


class Nursery:
    """One process that has torch loaded and forks a worker for each attempt, in a tenth of a second.

    With the command "crew" it forks none and carries the attempts out itself, a step of each in turn.
    """

    def __init__(self, news: threading.Event | None = None, command: str = "nurse") -> None:
        """`news` is set when a worker has ended."""
        self.news, self.command = news or threading.Event(), command
        self.process: Popen | None = None
        self.kills = 0  # of the system's for want of memory, before the process
        self.listener: threading.Thread | None = None
        self.children: dict[int, ForkedChild] = {}

    def warm(self) -> None:
        """Have the nursery running."""
        if self.process is None or self.process.poll() is not None:
            self.kills, self.children = system_kills(), {}
            self.process = child(self.command, stdin=PIPE, stdout=PIPE)
            self.listener = threading.Thread(target=self._listen, args=(self.process, self.children), daemon=True)
            self.listener.start()

    def start(self, job: dict[str, Any]) -> Child:
        """Start a job."""
        self.warm()
        assert self.process is not None
        name = len(self.children)
        self.children[name] = ForkedChild(self.process, partial(self._lost, self.process, self.kills))
        tell(self.process, {**job, "name": name})
        return self.children[name]

    def _lost(self, process: Popen, kills: int) -> int:
        """The exit code of attempts that ended with their process: which of a crew took too much, nobody can say."""
        starved = self.command == "crew" and process.returncode == KILLED and system_kills() > kills
        return OUT_OF_MEMORY if starved else GONE

    def close(self, patience: float) -> None:
        """Let the workers stop; the nursery leaves after them."""
        if self.process and self.listener:
            end(self.process, patience)
            self.listener.join(5)  # so that the last exit codes are known

    def _listen(self, process: Popen, children: dict[int, ForkedChild]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            children[said["name"]].pid = said["pid"]
            children[said["name"]].code = said["code"]
            self.news.set()


def end(process: Popen, patience: float) -> None:
    """Close a child's input, which asks it to stop, and end it, with its own children, when it does not in time."""
    hush(process)
    try:
        process.wait(patience)
    except TimeoutExpired:
        with contextlib.suppress(psutil.Error):
            for late in psutil.Process(process.pid).children(recursive=True):
                late.kill()
        process.kill()
        process.wait()


def hush(process: Popen) -> None:
    """Close a child's input."""
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()


def nest(news: threading.Event) -> Spares | Nursery:
    """The faster of the two that this system can be trusted with."""
    return Nursery(news) if sys.platform == "linux" else Spares(news)
