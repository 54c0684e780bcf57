"""Leases on what workers say: one that is alive but stuck loses its attempts.

A worker keeps its lease by a new step, progress or moment. Attempts that share a process take turns there, so that what
one of them says speaks for all; an attempt that waits for a worker has none yet, and all the time. Silence is counted
by the monotonic clock, from look to look: neither a clock that is set nor a machine that slept ends healthy work.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from faces.files import heard

LEASE = 1800.0  # seconds that a worker may say nothing new
EVERY = 10.0  # seconds between two looks
MOST = 60.0  # seconds of silence that one look counts at most


class Leases:
    """How long each worker has said nothing new."""

    def __init__(self) -> None:
        self.looked = time.monotonic()
        self.silent: dict[str, tuple[dict[str, Any], float]] = {}  # worker: what it says of its runs; for how long

    def due(self) -> bool:
        """Whether it is time for the next look."""
        return time.monotonic() - self.looked >= EVERY

    def lapsed(self, attempts: Mapping[str, tuple[Any, int]]) -> set[str]:
        """Which of these runs have a worker that said nothing new for `LEASE`, after one more look.

        `attempts` are the folder of each run's attempt, and the last step of its that is known.
        """
        passed = time.monotonic() - self.looked
        self.looked += passed
        says = defaultdict[str, dict[str, Any]](dict)
        for run, (folder, step) in attempts.items():
            if told := heard(folder / "worker.json"):
                says[str(told)][run] = step, heard(folder / "progress.json")
        before = self.silent
        self.silent = {worker: (words, 0.0) for worker, words in says.items()}
        for worker, (words, seconds) in before.items():
            if says.get(worker) == words:
                self.silent[worker] = words, seconds + min(passed, MOST)
        return {run for words, seconds in self.silent.values() if seconds > LEASE for run in words}
