"""The local engine: one child process per attempt, one per CPU core or GPU, and a warm spare."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any

import psutil

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
}  # fmt: skip


@dataclass
class Attempt:
    """A worker process and the slot it takes."""

    process: Popen
    slot: str


def child(*arguments: str, **pipes: Any) -> Popen:
    """`python -m trainer ...` with one thread, at low priority, from anywhere."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = Popen(
        [sys.executable, "-m", "trainer", *arguments],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": path}, text=True, **pipes,
    )  # fmt: skip
    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process(process.pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if os.name == "nt" else 5)
    return process


def gpus() -> list[str]:
    """The indices of NVIDIA GPUs that training may use; none when `FACES_DEVICE` is set to cpu."""
    if os.environ.get("FACES_DEVICE") == "cpu" or not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    found = [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else [name for name in visible.split(",") if name]


class LocalEngine:
    """Attempts as child processes. A worker whose supervisor dies reads the end of its input and stops."""

    def __init__(self, slots: int | None = None):
        devices = gpus()
        cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 2
        self.slots = devices or [f"cpu{core}" for core in range(max(1, cores - 1))]
        if slots:
            self.slots = [
                self.slots[index % len(self.slots)] + "+" * (index // len(self.slots)) for index in range(slots)
            ]
        self.running: list[Attempt] = []
        self.spare: Popen | None = None

    def free(self) -> int:
        """How many more attempts may start now."""
        return len(self.slots) - len(self.running)

    def start(self, folder: Path, attempt: int) -> Attempt:
        """Hand the attempt to the warm spare, or to a new process, and get the next spare ready."""
        slot = next(slot for slot in self.slots if slot not in {busy.slot for busy in self.running})
        process = self.spare if self.spare and self.spare.poll() is None else self._worker()
        self.spare = None
        environment = {} if slot.startswith("cpu") else {"CUDA_VISIBLE_DEVICES": slot.rstrip("+")}
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it died just now: poll will say so
            process.stdin.write(
                json.dumps({"folder": str(folder), "attempt": attempt, "environment": environment}) + "\n"
            )
            process.stdin.flush()
        handle = Attempt(process, slot)
        self.running.append(handle)
        return handle

    def warm(self) -> None:
        """Have a worker ready, torch loaded, so that the next attempt starts at once."""
        if self.spare is None or self.spare.poll() is not None:
            self.spare = self._worker()

    def poll(self, handle: Attempt) -> int | None:
        """None while the attempt runs, then its exit code; negative for a signal."""
        code = handle.process.poll()
        if code is not None and handle in self.running:
            self.running.remove(handle)
        return code

    def kill(self, handle: Attempt) -> None:
        """End an attempt and all that it started."""
        with contextlib.suppress(psutil.Error):
            family = [psutil.Process(handle.process.pid), *psutil.Process(handle.process.pid).children(recursive=True)]
            for member in family:
                member.kill()

    def close(self, patience: float) -> None:
        """Let all attempts stop and keep their checkpoint; end those that have not after `patience` seconds."""
        if self.spare:
            self.spare.kill()
            self.spare.wait()
        everyone = [attempt.process for attempt in self.running]
        for process in everyone:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
        until = time.monotonic() + patience
        for process in everyone:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except TimeoutExpired:
                process.kill()
                process.wait()

    def _worker(self) -> Popen:
        return child("work", stdin=PIPE, stdout=DEVNULL)
