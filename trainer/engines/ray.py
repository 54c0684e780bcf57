"""The Ray engine: one task per attempt, on any node of a cluster that has room and the home under the same path.

Ray is an extra: `uv pip install "ray>=2.54"`. The supervisor runs on a node of the cluster. Its tasks die with it, as
local workers stop when their supervisor does; Ray retries nothing, since that is the store's business.
"""

import gc
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faces.home import home
from trainer.engines.children import ENVIRONMENT, GONE
from trainer.worker import INTERRUPTED, OUT_OF_MEMORY, carry_out

OLDEST = (2, 54)  # earlier ones have known holes (CVE-2025-62593, CVE-2026-27482)
BROKEN = 1  # the exit code of a task that could not even begin, such as on a node without Faces


@dataclass
class Attempt:
    """A task, and its exit code once it has ended."""

    task: Any
    code: int | None = None


class RayEngine:
    """Attempts as tasks of a Ray cluster, each with one CPU and a share of a GPU.

    `address` is that of the cluster's head, HOST:PORT, or "auto" for the one that this machine belongs to; without it
    a Ray of its own starts on this machine. `slots` runs go at a time, else as many as the nodes that are there have
    room for. `gpus` is what a run takes of a GPU, 0.5 for two on each; 1 by default where a node has one, else 0.
    ValueError, or ConnectionError, in one sentence, when there is no Ray or no cluster that lets us in.
    """

    def __init__(self, address: str | None = None, slots: int | None = None, gpus: float | None = None):
        self.ray, self.slots, self.closing = imported(), slots, False
        self.news = threading.Event()
        connect(self.ray, address or "local")
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if gpus is None:
            gpus = float(any(node.get("GPU") for node in nodes) and os.environ.get("FACES_DEVICE") != "cpu")
        self.share = {"CPU": 1.0, "GPU": gpus}
        self.running: list[Attempt] = []
        self.run = self.ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work)

    def free(self) -> int:
        """How many more attempts may start now."""
        room = sum(places(node["Resources"], self.share) for node in self.ray.nodes() if node["Alive"])
        return (self.slots or room) - len(self.running)

    def warm(self) -> None:
        """Nothing: the nodes keep their processes, with torch loaded, from one attempt to the next."""

    def start(self, folder: Path, attempt: int) -> Attempt:
        """Start an attempt where there is room; it waits when there is none."""
        environment = {} if self.share["GPU"] else {"FACES_DEVICE": "cpu"}
        job = {"folder": str(folder), "attempt": attempt, "environment": environment}
        self.running.append(handle := Attempt(self.run.remote(job, self.share["GPU"])))
        return handle

    def poll(self, handle: Attempt) -> int | None:
        """None while the attempt runs, then its exit code; negative when its process or its node is gone."""
        if handle.code is None and self.ray.wait([handle.task], timeout=0)[0]:
            handle.code = self._ended(handle)
            self.running.remove(handle)
        return handle.code

    def kill(self, handle: Attempt) -> None:
        """End an attempt at once."""
        self.ray.cancel(handle.task, force=True)

    def close(self, patience: float) -> None:
        """Let all attempts stop and keep their checkpoint; end those that have not after `patience` seconds."""
        self.closing, mine = True, list(self.running)
        for handle in mine:
            self.ray.cancel(handle.task)
        tasks = [handle.task for handle in mine]
        late = self.ray.wait(tasks, num_returns=len(tasks), timeout=patience)[1] if tasks else []
        for task in late:
            self.ray.cancel(task, force=True)
        if late:
            self.ray.wait(late, num_returns=len(late), timeout=2)
        for handle in mine:
            handle.code = GONE if self.poll(handle) is None else handle.code
        self.ray.shutdown()

    def _ended(self, handle: Attempt) -> int:
        known = self.ray.exceptions
        try:
            return self.ray.get(handle.task)
        except known.TaskCancelledError:
            return INTERRUPTED if self.closing else GONE
        except known.RayTaskError as error:
            print(error, file=sys.stderr)
            return BROKEN
        except known.OutOfMemoryError:  # as Ray says that watches its nodes; it has ended the process
            return OUT_OF_MEMORY
        except known.RayError:  # the process died, or the node
            return GONE


def work(job: dict[str, Any], share: float) -> int:
    """Carry out an attempt in a process of Ray's; returns the exit code. Ray's gentle cancel, a SIGINT, stops it.

    A process that shares a GPU keeps to its share of the memory, of which Ray only counts.
    """
    asked: list[int] = []
    before, words = signal.signal(signal.SIGINT, lambda number, _: asked.append(number)), [os.dup(1), os.dup(2)]
    try:
        if 0 < share < 1:
            import torch

            if torch.cuda.is_available():
                torch.cuda.set_per_process_memory_fraction(share)
        if (code := carry_out(job, lambda: bool(asked))) == OUT_OF_MEMORY:
            gc.collect()  # this process stays
        return code
    finally:
        signal.signal(signal.SIGINT, before)
        for number, file in enumerate(words, 1):  # of this process, which may carry out others
            os.dup2(file, number)
            os.close(file)


def places(has: dict[str, float], share: dict[str, float]) -> int:
    """How many attempts that each need this share fit on a node that has so much."""
    return min(int(has.get(name, 0.0) / need + 1e-9) for name, need in share.items() if need)


def imported() -> Any:
    """Ray, with its usage reports off and its token on. ValueError when it is missing or too old."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported
    wanted = f'"ray>={OLDEST[0]}.{OLDEST[1]}"'
    command = f"uv pip install --python {sys.prefix} {wanted}"
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError(f"Ray is not installed; this installs it: {command}") from None
    if tuple(map(int, ray.__version__.split(".")[:2])) < OLDEST:
        raise ValueError(f"Ray {ray.__version__} has known security holes; this installs a later one: {command}")
    return ray


def connect(ray: Any, address: str) -> None:
    """Join a cluster, or start one here for "local". ConnectionError, in one sentence, when that fails."""
    host, _, port = address.rpartition(":")
    if address not in ("local", "auto") and not (host and port.isdigit()):
        raise ValueError(f"{address} is no address of a Ray cluster; say HOST:PORT, such as 192.168.0.1:6379, or auto.")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = {**ENVIRONMENT, "FACES_HOME": str(home().absolute()), "PYTHONPATH": path}
    environment |= {"FACES_FILES": os.environ["FACES_FILES"]} if os.environ.get("FACES_FILES") else {}
    try:
        if host:
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray would try for minutes
        ray.init(
            address, include_dashboard=False if address == "local" else None, log_to_driver=False,
            logging_level="warning", runtime_env={"env_vars": environment},
        )  # fmt: skip
    except (OSError, ray.exceptions.RayError) as error:
        said = str(error.__cause__ or error).split("\n")[0].split(". ")[0].rstrip(".")
        raise ConnectionError(f"The Ray cluster at {address} cannot be joined: {said}.") from error
