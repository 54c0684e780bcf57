"""Leases: who says nothing new for half an hour, and who does not count as one who does."""

from types import SimpleNamespace

import pytest
from filelock import FileLock

from faces.datasets.base import waited
from faces.files import write_json
from trainer.leases import LEASE, Leases

MINUTE = 60.0


class Runs:
    """Attempts in folders of their own, a clock, and leases on them."""

    def __init__(self, path, clock):
        self.path, self.clock, self.leases, self.steps = path, clock, Leases(), {}

    def begin(self, run, pid=None):
        """Start an attempt, in a process once there is one for it."""
        self.steps[run] = -1
        if pid:
            write_json(self.path / run / "worker.json", {"host": "here", "pid": pid, "born": 1.0})

    def says(self, run, **words):
        write_json(self.path / run / "progress.json", words)

    def lapsed(self, seconds):
        """Who has lapsed after so many seconds."""
        self.clock.now += seconds
        assert self.leases.due()
        return self.leases.lapsed({run: (self.path / run, step) for run, step in self.steps.items()})

    def ever(self, minutes, each=lambda minute: None):
        """Who lapses in so many minutes, in each of which something happens."""
        found = set()
        for minute in range(minutes):
            each(minute)
            found |= self.lapsed(MINUTE)
        return found


@pytest.fixture
def runs(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("trainer.leases.time", SimpleNamespace(monotonic=lambda: clock.now))
    return Runs(tmp_path, clock)


def test_who_says_nothing_new_lapses_and_who_says_anything_does_not(runs):
    for pid, run in enumerate(("still", "repeats", "steps", "moments"), 1):
        runs.begin(run, pid)

    def each(minute):
        runs.says("repeats", step=7)
        runs.says("steps", step=minute)
        runs.steps["moments"] = minute // 20

    assert runs.ever(29, each) == set()
    assert runs.ever(60, each) == {"still", "repeats"}


def test_one_that_waits_for_a_worker_has_time(runs):
    runs.begin("waits")
    assert runs.ever(300) == set()
    runs.begin("waits", pid=1)
    assert runs.ever(29) == set()
    assert runs.ever(10) == {"waits"}


def test_those_who_share_a_process_lapse_together_or_not_at_all(runs):
    for run in ("trains", "decodes"):
        runs.begin(run, pid=1)
    assert runs.ever(100, lambda minute: runs.says("decodes", done=minute)) == set()
    assert runs.ever(40) == {"trains", "decodes"}


def test_a_machine_that_slept_ends_nobody(runs):
    runs.begin("trains", pid=1)
    for _ in range(int(LEASE / MINUTE) - 1):
        assert runs.lapsed(10 * 3600) == set()


def test_the_next_attempt_has_a_lease_of_its_own(runs):
    runs.begin("stuck", pid=1)
    assert runs.ever(40) == {"stuck"}
    runs.begin("stuck", pid=2)
    assert runs.ever(29) == set()


def test_who_waits_for_another_process_says_so(tmp_path):
    other, told = FileLock(tmp_path / "lock"), []

    def tell(progressed):
        told.append(progressed)
        other.release()

    other.acquire()
    with waited(mine := FileLock(tmp_path / "lock"), tell):
        assert mine.is_locked
    assert [(one.doing, one.total) for one in told] == [("Waiting for another process", None)]
    assert not mine.is_locked
