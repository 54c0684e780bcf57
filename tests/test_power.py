"""Power cuts while a run trains, on a disk that then forgets what was not synced: the current unit is lost, no more."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from faces.files import heard, make, write
from tests.faults.kills import acknowledged, same, torn
from tests.helpers import ROOT, until
from trainer import RunConfig, train
from trainer.classroom import home_key
from trainer.engines.local import LocalEngine
from trainer.reindex import reindex
from trainer.store import Store
from trainer.supervisor import Supervisor
from trainer.worker import unpack

CUTS, CHANGES = 15, 500  # how many cuts, and how many changes of the disk before one at most
CONFIG = RunConfig(head="CurricularFace", epochs=16, dim=16, probe=100)


@dataclass
class Disk:
    """A disk that is mounted, and what a power cut leaves of it (`tests.faults.power`)."""

    place: Path
    after: Path
    process: subprocess.Popen

    def gone(self) -> bool:
        """Whether the power is cut."""
        return self.process.poll() is not None

    def cut(self) -> list[Path]:
        """Cut the power, unless it is cut already; the worst that may be found then, and others."""
        self.process.terminate()
        assert self.process.wait(30) == 0
        return sorted(self.after.iterdir())


@pytest.fixture
def disk(tmp_path):
    """Mounts such a disk with what is in a folder, at a place of its own."""
    if sys.platform != "linux" or not os.access("/dev/fuse", os.R_OK | os.W_OK) or not shutil.which("fusermount3"):
        pytest.skip("A disk whose power can be cut needs FUSE: Linux, /dev/fuse, and fusermount3 of the package fuse3.")

    @contextmanager
    def mounted(before: Path | None = None, changes: int = 0, seed: int = 0) -> Iterator[Disk]:
        place, after, empty = (tmp_path / f"{word}-{seed}" for word in ("disk", "after", "empty"))
        place.mkdir()
        empty.mkdir()
        command = [sys.executable, "-m", "tests.faults.power", place, before or empty, after]
        command += ["--changes", str(changes), "--seed", str(seed)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            one = Disk(place, after, process)
            until(lambda: place.is_mount() or one.gone())
            if not place.is_mount():
                said = process.stderr.read()
                assert "fusermount3: " in said, said
                pytest.skip(f"No disk whose power can be cut: {said.strip().splitlines()[0]}.")
            yield one
        finally:
            process.terminate()
            process.communicate(timeout=30)
            subprocess.run(["fusermount3", "-u", "-z", place], check=False, capture_output=True)

    return mounted


def test_the_disk_keeps_what_was_synced_and_forgets_the_rest(disk):
    """Names and contents each for themselves: what this file system forgets, the tests below can notice."""
    with disk() as one:
        write(one.place / "synced", "all of it")
        write(one.place / "changed", "before")
        (one.place / "changed").write_text("after")
        write(one.place / "folder" / "synced", "all of it")
        (one.place / "unsynced").write_text("of a folder that is synced with what comes next")
        write(one.place / "removed", "its name was synced")
        (one.place / "removed").unlink()
        (one.place / "new folder").mkdir()
        write(one.place / "new folder" / "synced", "in vain")
        worst, *others = one.cut()
    told = {str(file.relative_to(worst)): file.read_text() for file in worst.rglob("*") if file.is_file()}
    synced = {"synced": "all of it", "folder/synced": "all of it"}
    assert told == synced | {"changed": "before", "removed": "its name was synced", "unsynced": ""}
    for left in others:
        assert {name: (left / name).read_text() for name in synced} == synced
        assert (left / "changed").read_text() in ("before", "after", "after\0", "befor")


def test_a_snapshot_that_is_entered_is_there_after_a_power_cut_also_when_its_worker_had_not_synced_its_name(
    disk, monkeypatch
):
    with disk() as one:
        store = Store(one.place / "home")
        name, attempt = store.submit(CONFIG), store.claim().attempt
        make(store.folder(name).attempt(attempt) / "snapshots")
        with monkeypatch.context() as patch:
            patch.setattr("faces.files.sync", lambda folder: None)
            store.folder(name).keep(attempt, next(iter(train(CONFIG))))
        store.index(name, attempt)
        assert acknowledged(store, name) == [0]
        worst, *_ = one.cut()
    Store(worst / "home").snapshot(name, 0)


def test_runs_that_were_queued_together_wait_after_a_power_cut_and_without_the_database(disk, monkeypatch):
    with disk() as one:
        store = Store(one.place / "home")
        names = store.submit_many([RunConfig(seed=seed) for seed in range(20)])
        store.claim()
        store.turn(names[1], s=9.0)
        store.delete(names[2])
        worst, *_ = one.cut()
    store, left = Store(worst / "home"), [*names[:2], *names[3:]]
    assert [run.id for run in reversed(store.runs())] == left
    assert store.folder(names[0]).config == RunConfig(seed=0)
    assert store.folder(names[1]).wishes == {"s": 9.0}
    shutil.copytree(store.files, worst / "other" / "runs")
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    assert sorted(reindex(Store(worst / "other"))) == left


def test_the_key_of_a_class_is_the_same_after_a_power_cut(disk):
    with disk() as one:
        key = home_key(one.place / "home")
        worst, *_ = one.cut()
    assert home_key(worst / "home") == key


@dataclass
class Told:
    """What a store has said of a run: it must be true after a power cut."""

    run: str = ""
    finished: bool = False
    facts: dict[int, dict] = field(default_factory=dict)  # of each snapshot
    checkpoint: int = 0  # its step, if training has written something since

    def hear(self, store: Store) -> None:
        """Ask the store."""
        run, folder = store.run(self.run), store.folder(self.run)
        self.facts |= {facts["step"]: facts for facts in store.history(self.run)}
        last = max((step for step, _ in folder.snapshots(run.attempt)), default=0)
        steps = [int(file.name[:8]) for file in folder.attempt(run.attempt).glob("checkpoints/[0-9]*")]
        self.checkpoint = max([self.checkpoint, *(step for step in steps if step < last)])
        self.finished = run.state == "finished"

    def check(self, store: Store) -> None:
        """Whether a store that was left by a power cut says the same, and the run can go on from there."""
        run, kept = store.run(self.run), {facts["step"]: facts for facts in store.history(self.run)}
        assert {**kept, **self.facts} == kept
        content = store.folder(self.run).checkpoint()
        start = {"step": 0, "seconds": 0.0} if content is None else unpack(content)["facts"]
        assert start["step"] >= self.checkpoint
        if self.facts:
            last = self.facts[max(self.facts)]
            epochs = (last["step"] - start["step"]) / last["steps"] * CONFIG.epochs
            assert epochs <= 1 or last["seconds"] - start["seconds"] <= 30
        assert not self.finished or (run.state == "finished" and same(store, self.run, CONFIG))


def sound(home: Path, told: Told) -> None:
    """Check that a home that was left by a power cut keeps what was said, and shows nothing torn."""
    home.mkdir(exist_ok=True)
    with closing(sqlite3.connect(home / "meta.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store = Store(home)
    for run in store.runs():
        for step in acknowledged(store, run.id):
            store.snapshot(run.id, step)  # ValueError when its content is another
        damaged = torn(store.folder(run.id))
        assert {file.name for file in damaged} <= {"progress.json"}  # nobody waits for that to be synced
        assert not any(map(heard, damaged))
    if told.run:
        told.check(store)


def live(home: Path, engine: LocalEngine, told: Told) -> None:
    """Have a run trained until it is finished, or until some error comes of a disk that is gone."""
    store = Store(home)
    supervisor = Supervisor(store, engine)
    store.recover()
    told.run = told.run or store.submit(CONFIG)
    late = time.monotonic() + 120
    while not told.finished:
        assert time.monotonic() < late, f"{told.run} got nowhere: {store.run(told.run)}"
        supervisor.tick()
        told.hear(store)
        if store.run(told.run).state == "failed":
            store.resume(told.run)  # given up after three attempts that got nowhere: a person would do this
        time.sleep(0.05)


def test_power_cuts_lose_the_current_unit_at_most_and_runs_come_to_the_same_end(tmp_path, disk):
    """Whoever trains goes with the power; only the process that forks workers, which knows no home, outlives it.

    After each cut all that it may have left is looked at, and training goes on with one of these.
    """
    draw, told, cuts, before, engine = random.Random(0), Told(), 0, None, LocalEngine(slots=1)
    try:
        engine.warm()
        while cuts < CUTS or told.run:
            cuts += 1
            with disk(before, draw.randrange(1, CHANGES) if cuts <= CUTS else 0, cuts) as one:
                with suppress(OSError, SQLAlchemyError):
                    live(one.place / "home", engine, told)
                assert told.finished or until(one.gone)  # it was no other error
                left = one.cut()
                for attempt in list(engine.running):
                    until(lambda attempt=attempt: engine.kill(attempt) or engine.poll(attempt) is not None)
            for found in left:
                looked_at = shutil.copytree(found, tmp_path / "looked at")
                sound(looked_at / "home", told)
                shutil.rmtree(looked_at)
            before = draw.choice(left)
            if told.finished:
                told, before = Told(), None
    finally:
        engine.close(10)
