"""A disk that fills up, refuses one write, or is read-only: said in words, nothing torn, and training goes on after."""

import errno
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from safetensors.numpy import load
from streamlit.testing.v1 import AppTest

from faces import files
from faces.datasets.base import silent
from tests.helpers import ROOT, until
from trainer import RunConfig, pictures, tidying, train
from trainer.engines.local import LocalEngine
from trainer.store import Store
from trainer.supervisor import Supervisor
from trainer.telling import sentence
from trainer.worker import FAILED, FINISHED, run_attempt

LONG = {"epochs": 200, "dim": 16, "probe": 100}  # a minute
SHORT = {"epochs": 1, "batch": 256, "dim": 8, "probe": 100}


def mounted(place: Path, options: str) -> bool:
    """Whether a disk in memory could be mounted at this place."""
    place.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid():
        return False
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path, request):
    """A disk of 64 MB, or of as many as asked for, with a home on it."""
    place = tmp_path / "disk"
    if not mounted(place, f"size={getattr(request, 'param', 64)}m"):
        pytest.skip("Only root on Linux may mount a small disk in memory; this is not root, or not allowed to.")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def read_only(disk, tmp_path):
    """The same disk at another place, where nothing can be written."""
    place = tmp_path / "read only"
    place.mkdir()
    subprocess.run(["mount", "--bind", disk, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def store(disk, monkeypatch):
    """A store on the small disk, where a training may begin however small it is."""
    monkeypatch.setattr(tidying, "FLOOR", 0)
    monkeypatch.setenv("FACES_HOME", str(disk / "home"))
    return Store(disk / "home")


@contextmanager
def supervised(store):
    """A supervisor at work."""
    supervisor = Supervisor(store, LocalEngine(1))
    working = threading.Thread(target=supervisor.run)
    working.start()
    try:
        yield
    finally:
        supervisor.leaving.set()
        working.join(60)


def fill(disk: Path) -> Path:
    """Take all room that is left."""
    filling = disk / "filling"
    with filling.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filling


def sound(store) -> None:
    """No row without its whole file, no torn file, nothing left of a write that was cut off, and a whole database."""
    for run in store.runs():
        for facts in store.history(run.id):
            store.snapshot(run.id, facts["step"])
    for file in store.path.rglob("*"):
        assert not file.name.endswith(".tmp")
        if file.suffix == ".safetensors":
            load(file.read_bytes())
        if file.suffix == ".json":
            json.loads(file.read_text())
    with sqlite3.connect(store.path / "meta.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("disk", [2], indirect=True)
def test_a_training_that_fills_the_disk_fails_with_a_sentence_and_goes_on_when_there_is_room(disk, store, monkeypatch):
    monkeypatch.setattr(tidying, "LEAST", 0)
    name = store.submit(RunConfig(**LONG))
    with supervised(store):
        until(lambda: not store.run(name).open)
        run = store.run(name)
        assert (run.state, "The disk is full" in run.reason) == ("failed", True)
        before = store.history(name)
        sound(store)
        assert subprocess.run(["mount", "-o", "remount,size=64m", disk], check=False).returncode == 0
        store.resume(name)
        until(lambda: store.history(name)[-1]["step"] > before[-1]["step"])
        assert (store.path / "ballast").stat().st_size == 1 << 20  # for the next time
        store.stop(name)
        until(lambda: not store.run(name).open)
    kept = {facts["step"]: facts for facts in store.history(name)}
    assert all(kept[facts["step"]] == facts for facts in before)
    sound(store)


def test_a_disk_that_gets_full_stops_trainings_while_they_still_can_be_kept(disk, store, monkeypatch):
    monkeypatch.setattr(tidying, "LEAST", 30_000_000)
    name, waiting = store.submit(RunConfig(**LONG)), store.submit(RunConfig(**LONG))
    store.stop(waiting)
    with supervised(store):
        until(lambda: len(store.history(name)) > 3)
        (disk / "filling").write_bytes(bytes(45 << 20))
        until(lambda: not store.run(name).open)
        run = store.run(name)
        assert run.state == "stopped"
        assert run.reason.startswith("Stopped with ")
        assert store.folder(name).checkpoint()
        last = store.history(name)[-1]["step"]
        (disk / "filling").unlink()
        store.resume(name)
        until(lambda: store.history(name)[-1]["step"] > last)
        store.stop(name)
        until(lambda: not store.run(name).open)
    sound(store)


@pytest.mark.parametrize("first", ["stop", "delete", "resume"])
def test_states_still_change_on_a_disk_that_is_full_to_the_last_byte(disk, store, first):
    names = [store.submit(RunConfig()) for _ in range(3)]
    run = store.claim()
    store.lay_ballast()
    filling = fill(disk)
    assert os.statvfs(disk).f_bavail == 0
    with pytest.raises(OSError, match="No space left") as full:
        files.write(store.folder(run.id).path / "more", bytes(9_000))
    assert sentence(full.value).startswith("The disk is full")
    acts = {"stop": lambda: store.stop(names[1]), "delete": lambda: store.delete(names[2]),
            "resume": lambda: store.end(run.id, 1, "failed", sentence(full.value))}  # fmt: skip
    for act in (acts.pop(first), *acts.values()):
        act()
    assert [run.state for run in store.runs()] == ["stopped", "failed"]
    sound(store)
    filling.unlink()
    assert not (store.path / "ballast").exists()
    store.resume(run.id)
    assert store.claim().attempt == 2


def test_a_database_that_has_no_room_says_so_and_loses_nothing(disk, store):
    names = [store.submit(RunConfig()) for _ in range(2)]
    fill(disk)  # no supervisor has been here, so there is no ballast

    def many():
        for _ in range(2000):
            store.submit(RunConfig(), "a long note " * 5)

    with pytest.raises(OSError, match="No space left") as full:
        many()
    assert sentence(full.value).startswith("The disk is full")
    assert {run.id for run in store.runs()} >= set(names)
    assert len(store.runs()) < 2000
    assert {folder.name for folder in (store.path / "runs").iterdir()} == {run.id for run in store.runs()}
    (disk / "filling").unlink()
    assert store.claim().id == names[0]
    sound(store)


def test_a_read_only_home_shows_its_runs_and_refuses_in_words(read_only, store, monkeypatch):
    name = store.submit(RunConfig(**SHORT))
    attempt = store.claim().attempt
    for snapshot in train(store.run(name).config):
        store.folder(name).keep(attempt, snapshot)
    store.index(name, attempt)
    store.end(name, attempt, "finished")
    waiting = store.submit(RunConfig())
    before = store.history(name)
    store = Store(read_only / "home")
    monkeypatch.setenv("FACES_HOME", str(store.path))
    assert store.history(name) == before
    store.snapshot(name, before[-1]["step"])
    for act in (lambda: store.submit(RunConfig()), lambda: store.stop(waiting), lambda: store.delete(name),
                lambda: store.turn(waiting, s=3.0), store.claim, lambda: store.want(name, 1, "tsne-2")):  # fmt: skip
        with pytest.raises(OSError, match="Read-only") as refused:
            act()
        assert sentence(refused.value) == "Nothing can be kept: the folder of runs cannot be written to."
    assert store.run(waiting).state == "queued"
    assert store.history(name) == before
    for page in ("explore/explore.py", "explore/compare.py", "manage/runs.py", "manage/data.py"):
        app = AppTest.from_file(str(ROOT / "pages" / page), default_timeout=60)
        app.query_params["run"] = name
        app.run()
        assert not app.exception, page


def test_an_empty_home_that_is_read_only_is_said_on_every_page(read_only, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(read_only / "home"))
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60).run()
    assert not app.exception
    assert [error.value for error in app.error] == ["Nothing can be kept: the folder of runs cannot be written to."]


def digest(store, name):
    """What a finished run came to."""
    step = store.history(name)[-1]["step"]
    return step, hashlib.sha256(store.snapshot(name, step).embeddings.tobytes()).hexdigest()


def test_whichever_write_of_a_run_the_disk_refuses_it_fails_in_words_and_then_comes_to_the_same_end(
    tmp_path, monkeypatch
):
    store, count, refused = Store(tmp_path / "home"), 0, -1
    commit = files.commit

    def counted(part: Path, final: Path) -> None:
        nonlocal count
        count += 1
        if count == refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(final))
        commit(part, final)

    def attempt(name):
        run = store.claim()
        code = run_attempt(store.folder(name), run.attempt)
        store.index(name, run.attempt)
        store.end(name, run.attempt, "finished" if code == FINISHED else "failed")
        return code, store.folder(name).attempt(run.attempt) / "reason.txt"

    quiet = store.submit(RunConfig(**SHORT))
    monkeypatch.setattr(files, "commit", counted)
    monkeypatch.setattr(
        "trainer.worker.mover", lambda *given: lambda *moved: None
    )  # the clock tells how often these write
    monkeypatch.setattr("trainer.worker.teller", lambda file: silent)
    monkeypatch.setattr(pictures, "AT_ONCE", pictures.AT_ONCE[:1])
    assert attempt(quiet)[0] == FINISHED
    writes = count
    for last in range(1, writes + 1):
        refused = -1
        name = store.submit(RunConfig(**SHORT))
        count, refused = 0, last
        code, reason = attempt(name)
        if count >= last:  # on a slow day a run writes more moments than on a quick one
            assert (code, "disk is full" in reason.read_text()) == (FAILED, True)
            sound(store)
            store.resume(name)
            assert attempt(name)[0] == FINISHED
        assert digest(store, name) == digest(store, quiet)
    assert writes > 5
