"""The local engine: one child process per attempt, one at a time per GPU, or per CPU core less one.

Two cores take two, so that two heads can be watched side by side: workers have low priority, the pages go first.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainer.engines.children import Child, nest


@dataclass
class Attempt:
    """A worker process and the slot it takes."""

    child: Child
    slot: str


def gpus() -> list[str]:
    """The indices of NVIDIA GPUs that training may use; none when `FACES_DEVICE` is set to cpu."""
    if os.environ.get("FACES_DEVICE") == "cpu" or not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    found = [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else [name for name in visible.split(",") if name]


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 2


class LocalEngine:
    """Attempts as child processes. A worker whose supervisor dies stops with a checkpoint."""

    def __init__(self, slots: int | None = None):
        self.slots = gpus() or [f"cpu{core}" for core in range(min(cores(), max(2, cores() - 1)))]
        if slots:
            places = len(self.slots)
            self.slots = [self.slots[index % places] + "+" * (index // places) for index in range(slots)]
        self.running: list[Attempt] = []
        self.nest = nest()

    def free(self) -> int:
        """How many more attempts may start now."""
        return len(self.slots) - len(self.running)

    def warm(self) -> None:
        """Have torch loaded somewhere, so that the next attempt starts at once."""
        self.nest.warm()

    def start(self, folder: Path, attempt: int) -> Attempt:
        """Start an attempt on the first free slot."""
        slot = next(slot for slot in self.slots if slot not in {busy.slot for busy in self.running})
        environment = {} if slot.startswith("cpu") else {"CUDA_VISIBLE_DEVICES": slot.rstrip("+")}
        job = {"folder": str(folder), "attempt": attempt, "environment": environment}
        handle = Attempt(self.nest.start(job), slot)
        self.running.append(handle)
        return handle

    def poll(self, handle: Attempt) -> int | None:
        """None while the attempt runs, then its exit code; negative for a signal."""
        code = handle.child.poll()
        if code is not None and handle in self.running:
            self.running.remove(handle)
        return code

    def kill(self, handle: Attempt) -> None:
        """End an attempt at once."""
        handle.child.kill()

    def close(self, patience: float) -> None:
        """Let all attempts stop and keep their checkpoint; end those that have not after `patience` seconds."""
        self.nest.close(patience)
