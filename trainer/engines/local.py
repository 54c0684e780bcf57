"""The local engine: one child process per attempt, as many at a time as CPU cores less one; or one process per GPU.

Two cores take two, so that two heads can be watched side by side: workers have low priority, the pages go first. A GPU
is kept busy by one run, and shared best in one process, in which attempts take turns step by step: heads on equal terms
are shown the same batch, made once, and get on together.
"""

import math
import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainer.engines.children import Child, Nursery, nest

ABREAST = 7  # runs that take turns on a GPU: the heads of the article
SPARE = 60.0  # seconds that one of them has to stop by itself before all are ended with it


@dataclass
class Attempt:
    """A worker process and the slot it takes."""

    child: Child
    slot: str
    spared: float = 0.0  # since when it should be ended but shares its process
    asked: float = -math.inf  # when that was last asked for


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


def workers() -> int:
    """How many training processes suit this machine's CPU."""
    return min(cores(), max(2, cores() - 1))


class LocalEngine:
    """Attempts in child processes. A worker whose supervisor dies stops with a checkpoint.

    `together` puts all attempts of a GPU, or of the CPU, into one process, in which they take turns; by default that
    is what GPUs do. `slots` is how many attempts run at a time.
    """

    def __init__(self, slots: int | None = None, together: bool | None = None):
        devices = gpus()
        self.together = bool(devices) if together is None else together
        abreast = ABREAST if self.together else 1
        places = devices or (["cpu"] if self.together else [f"cpu{core}" for core in range(workers())])
        count = slots or len(places) * abreast
        self.slots = [places[index % len(places)] + "+" * (index // len(places)) for index in range(count)]
        self.running: list[Attempt] = []
        shared = dict.fromkeys(places) if self.together else [""]
        self.news = threading.Event()
        self.nests = {  # by device, or one
            place: Nursery(self.news, "crew") if self.together else nest(self.news) for place in shared
        }

    def free(self) -> int:
        """How many more attempts may start now."""
        return len(self.slots) - len(self.running)

    def warm(self) -> None:
        """Have torch loaded somewhere, so that the next attempt starts at once."""
        for one in self.nests.values():
            one.warm()

    def start(self, folder: Path, attempt: int) -> Attempt:
        """Start an attempt on the first free slot."""
        slot = next(slot for slot in self.slots if slot not in {busy.slot for busy in self.running})
        place = slot.rstrip("+")
        environment = {} if place.startswith("cpu") else {"CUDA_VISIBLE_DEVICES": place}
        job = {"folder": str(folder), "attempt": attempt, "environment": environment}
        handle = Attempt(self.nests[place if self.together else ""].start(job), slot)
        self.running.append(handle)
        return handle

    def poll(self, handle: Attempt) -> int | None:
        """None while the attempt runs, then its exit code; negative for a signal."""
        code = handle.child.poll()
        if code is not None and handle in self.running:
            self.running.remove(handle)
        return code

    def kill(self, handle: Attempt) -> None:
        """End an attempt at once; one that shares its process, with all others there, when this is asked for long."""
        beside = [other for other in self.running if other.slot.rstrip("+") == handle.slot.rstrip("+")]
        now = time.monotonic()
        if now - handle.asked > SPARE:
            handle.spared = now
        handle.asked = now
        if not self.together or len(beside) < 2 or now - handle.spared > SPARE:
            handle.child.kill()

    def close(self, patience: float) -> None:
        """Let all attempts stop and keep their checkpoint; end those that have not after `patience` seconds."""
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(lambda one: one.close(patience), self.nests.values()))
