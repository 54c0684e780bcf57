"""Faults that no other test meets: clocks that jump, storms of stops, slow disks, poison, torn files, old homes."""

import errno
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from alembic import command
from alembic.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from faces import files
from faces.datasets.base import Progressed
from faces.files import there, write_json
from faces.model import EncoderWithHead
from tests.helpers import ROOT
from trainer import RunConfig, store, train
from trainer.engines.local import LocalEngine, gpus
from trainer.memory import FIRST, SECOND
from trainer.rights import Person
from trainer.store import REVISION, TRIES, Store
from trainer.supervisor import Supervisor, outlast
from trainer.telling import mover, teller
from trainer.worker import FINISHED, INTERRUPTED, OUT_OF_MEMORY, STOPPED, run_attempt, unpack

HOURS = st.sampled_from([-3600.0, -60.0, 0.0, 60.0, 3600.0])  # of daylight saving, a suspend, a wrong clock set right


class Scripted:
    """An engine whose attempts end when the test says so; what it was told to kill is in `killed`."""

    def __init__(self, slots=2):
        self.codes, self.killed, self.slots = {}, [], slots
        self.news = threading.Event()

    def free(self):
        return self.slots - sum(code is None for code in self.codes.values())

    def warm(self):
        pass

    def start(self, folder, attempt):
        self.codes[folder.name, attempt] = None
        return folder.name, attempt

    def poll(self, handle):
        return self.codes[handle]

    def kill(self, handle):
        self.killed.append(handle)
        self.codes[handle] = -9


@settings(max_examples=25, deadline=None, derandomize=True)
@given(jumps=st.lists(HOURS, min_size=8, max_size=8), stopped=st.booleans())
def test_a_clock_that_jumps_loses_no_attempt_no_picture_and_kills_nobody(tmp_path_factory, jumps, stopped):
    home, engine = Store(tmp_path_factory.mktemp("home")), Scripted(slots=1)
    supervisor, ahead, true = Supervisor(home, engine), 0.0, time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.time, "time", lambda: true() + ahead)
        patch.setattr(supervisor, "_project", lambda projector, wanted: None)
        name = home.submit(RunConfig())
        ahead += jumps[0]
        supervisor.tick()
        ahead += jumps[1]
        if stopped:
            home.stop(name, "enough")
        for jump in jumps[2:5]:
            ahead += jump
            supervisor.tick()
        assert home.run(name).state == "running"
        engine.codes[name, 1] = STOPPED if stopped else FINISHED
        ahead += jumps[5]
        supervisor.tick()
        assert (home.run(name).state, home.run(name).attempt) == ("stopped" if stopped else "finished", 1)
        assert not engine.killed
        home.want(name, 1, "tsne-2")
        ahead += jumps[6]
        home.want(name, 1, "tsne-2")  # whoever looks goes on asking
        taken = home.next_wanted("tsne")
        assert taken
        ahead += jumps[7]
        home.end_wanted(name, 1, "tsne-2", "")
        assert home.next_wanted("tsne") is None


def test_a_storm_of_stops_leaves_no_run_in_between(tmp_path):
    home, engine = Store(tmp_path / "home"), Scripted()
    names = [home.submit(RunConfig(seed=seed)) for seed in range(1000)]
    supervisor = Supervisor(home, engine)
    supervisor.tick()
    running = [run.id for run in home.runs(("running",))]
    assert len(running) == 2
    for name in reversed(names):
        home.stop(name, "all of them")
        if name == names[500]:
            supervisor.tick()  # which goes on meanwhile
    supervisor.tick()
    for name in running:
        assert (home.folder(name).attempt(1) / "stop").exists()  # asked to stop, at the next look
        engine.codes[name, 1] = STOPPED
    supervisor.tick()
    assert {(run.state, run.reason) for run in home.runs()} == {("stopped", "all of them")}
    assert set(engine.codes) == {(name, 1) for name in running}  # none began after


def test_a_slow_disk_is_waited_for_by_what_must_last_and_by_nothing_else(tmp_path, monkeypatch):
    waited, sync = [], os.fsync

    def slow(handle):
        waited.append(handle)
        time.sleep(0.1)
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", slow)
    began = time.monotonic()
    move, tell = mover(tmp_path / "progress.json", every=0), teller(tmp_path / "told.json", every=0)
    for step in range(50):
        move(step, 50, 1.0)
        tell(Progressed("Decoding", step, 50, "images"))
    assert (waited, time.monotonic() - began < 2) == ([], True)
    assert json.loads((tmp_path / "progress.json").read_text())["step"] == 49
    files.write(tmp_path / "kept", "kept")
    assert len(waited) == 2  # the file and its name


@pytest.mark.parametrize("stops", [False, True], ids=["finished", "stopped"])
def test_training_goes_on_while_the_disk_is_slow_and_has_not_ended_before_all_is_written(stops, tmp_path, monkeypatch):
    """On a disk that writes nothing before training has gone three steps further, and at first two epochs."""
    home, sync, moved = Store(tmp_path / "home"), os.fsync, threading.Condition()
    config = RunConfig(epochs=5, batch=16, dim=8, probe=100)
    steps, over, stuck, further, others = 0, False, False, list[int](), set(threading.enumerate())

    def move(step, total, loss):
        nonlocal steps, over
        with moved:
            steps, over = steps + 1, step == total or (stops and step == 380)
            moved.notify_all()

    def slow(handle):
        nonlocal stuck
        with moved:
            before = steps
            if before and not stuck and not over:
                stuck = not moved.wait_for(lambda: over or steps >= before + (3 if further else 170), 20)
                if not over:
                    further.append(steps - before)
        time.sleep(0.02)
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", slow)
    monkeypatch.setattr("trainer.worker.mover", lambda *given: move)
    name = home.submit(config)
    code = run_attempt(home.folder(name), home.claim().attempt, lambda: stops and over)
    written = dict(home.folder(name).snapshots(1))
    reached = unpack(home.folder(name).checkpoint())["facts"]["step"]
    assert (code, max(written), steps) == (INTERRUPTED if stops else FINISHED, reached, reached)
    assert (stuck, len(further) > 10, min(further) >= 3) == (False, True, True)
    assert set(range(0, reached + 1, 1297 // 16)) <= written.keys()  # the start, and after each epoch
    assert set(threading.enumerate()) <= others
    monkeypatch.setattr(files.os, "fsync", sync)
    assert stops or weights(home.folder(name)) == weights(quietly(home, config))


def quietly(home, config):
    """The folder of the same run on a disk that is quick."""
    folder = home.folder(home.submit(config))
    assert run_attempt(folder, home.claim().attempt) == FINISHED
    return folder


def weights(folder):
    """What the newest checkpoint of a run holds, but for the time it took."""
    return {name: tensor.numpy().tobytes() for name, tensor in unpack(folder.checkpoint())["tensors"].items()}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=["gpu", "python", "torch", "cublas", "system"],
)
def test_a_device_that_is_out_of_memory_ends_its_run_in_words_and_the_next_one_trains(error, tmp_path, monkeypatch):
    home = Store(tmp_path / "home")
    names = [home.submit(RunConfig(epochs=1, batch=256, dim=8, probe=100)) for _ in range(2)]
    step = torch.Tensor.backward

    def full(*arguments, **named):
        raise error

    monkeypatch.setattr(torch.Tensor, "backward", full)
    run = home.claim()
    assert run_attempt(home.folder(run.id), 1) == OUT_OF_MEMORY
    said = (home.folder(names[0]).attempt(1) / "reason.txt").read_text()
    assert said == "The device ran out of memory; try a smaller batch, image size or encoder."
    home.stop(run.id)
    home.end(run.id, 1, "stopped")
    monkeypatch.setattr(torch.Tensor, "backward", step)
    assert run_attempt(home.folder(home.claim().id), 1) == FINISHED


@pytest.mark.parametrize("ends", [FINISHED, OUT_OF_MEMORY, STOPPED])
def test_a_run_that_ran_out_of_memory_waits_for_the_others_trains_alone_and_fails_the_second_time(ends, tmp_path):
    home, engine = Store(tmp_path / "home"), Scripted(slots=2)
    large, beside, later = (home.submit(RunConfig(seed=seed)) for seed in range(3))
    supervisor = Supervisor(home, engine)
    supervisor.tick()
    engine.codes[large, 1] = OUT_OF_MEMORY
    supervisor.tick()
    assert (home.run(large).state, home.run(large).reason) == ("queued", FIRST)
    assert home.run(later).state == "queued"  # behind it, though there is a slot
    engine.codes[beside, 1] = FINISHED
    supervisor.tick()
    assert (home.run(large).state, home.run(large).reason, home.run(later).state) == ("running", FIRST, "queued")
    Supervisor(Store(home.path), Scripted(slots=9)).tick()  # nor does another one start anything beside it
    assert home.run(later).state == "queued"
    if ends == STOPPED:
        home.stop(large, "enough")
        supervisor.tick()
        engine.codes[large, 2] = OUT_OF_MEMORY  # before it could stop
    else:
        engine.codes[large, 2] = ends
    supervisor.tick()
    told = {FINISHED: ("finished", ""), OUT_OF_MEMORY: ("failed", SECOND), STOPPED: ("stopped", "enough")}[ends]
    assert (home.run(large).state, home.run(large).reason) == told
    assert home.run(later).state == "running"


def test_a_loss_that_is_no_number_fails_the_run_in_words_and_its_last_good_moment_stays(tmp_path, monkeypatch):
    home, engine = Store(tmp_path / "home"), Scripted(slots=1)
    name = home.submit(RunConfig(head="ArcFace", epochs=2, batch=256, dim=8, probe=100))
    supervisor = Supervisor(home, engine)
    supervisor.tick()
    whole, losses = EncoderWithHead.loss, []

    def breaks(self, images, labels):
        losses.append(whole(self, images, labels))
        return losses[-1] * (torch.nan if len(losses) == 7 else 1)  # an epoch has five steps

    monkeypatch.setattr(EncoderWithHead, "loss", breaks)
    engine.codes[name, 1] = run_attempt(home.folder(name), 1)
    supervisor.tick()
    run = home.run(name)
    assert (run.state, len(losses)) == ("failed", 7)
    assert re.fullmatch(
        r"The loss is no finite number at step 7 \(.*s = 3\.1.*m = 0\.25.*rate 0\.05\); try smaller ones\.", run.reason
    )
    step = home.latest([name])[name]["step"]
    assert step >= 5
    assert np.isfinite(home.snapshot(name, step).embeddings).all()


def test_a_run_that_crashes_its_worker_every_time_is_given_up_and_the_queue_goes_on(tmp_path):
    home, engine = Store(tmp_path / "home"), Scripted(slots=1)
    poison, other = (home.submit(RunConfig(seed=seed)) for seed in range(2))
    supervisor = Supervisor(home, engine)
    for attempt in range(1, TRIES + 1):
        supervisor.tick()
        assert (home.run(poison).state, home.run(poison).attempt) == ("running", attempt)
        engine.codes[poison, attempt] = -6  # SIGABRT
    supervisor.tick()
    run = home.run(poison)
    assert (run.state, run.attempt) == ("failed", TRIES)
    assert run.reason == f"Given up after {TRIES} attempts without progress: The worker went away (signal 6)."
    assert home.run(other).state == "running"


def test_an_attempt_that_says_nothing_new_for_half_an_hour_gives_way_to_the_next(tmp_path, monkeypatch):
    home, engine, now = Store(tmp_path / "home"), Scripted(slots=2), 0.0
    monkeypatch.setattr("trainer.leases.time", SimpleNamespace(monotonic=lambda: now))
    stuck, slow = (home.submit(RunConfig(seed=seed)) for seed in range(2))
    supervisor = Supervisor(home, engine)
    for _ in range(130):  # three attempts
        supervisor.tick()
        now += 60
        for pid, name in enumerate((stuck, slow)):
            write_json(home.folder(name).attempt(home.run(name).attempt) / "worker.json", {"host": "here", "pid": pid})
        write_json(home.folder(slow).attempt(1) / "progress.json", {"step": now})
    assert engine.killed == [(stuck, attempt) for attempt in range(1, TRIES + 1)]
    assert home.run(stuck).state == "failed"
    assert "after 3 attempts without progress: The worker went away (it said nothing for 30" in home.run(stuck).reason
    assert (home.run(slow).state, home.run(slow).attempt) == ("running", 1)


def test_a_students_run_trains_for_so_long_at_a_stretch_and_goes_on_from_there(tmp_path, monkeypatch):
    home, engine, now, reached = Store(tmp_path / "home"), Scripted(slots=2), 0.0, -1
    monkeypatch.setattr("trainer.supervisor.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(Store, "index", lambda *_: reached)
    long = home.asked_by(Person("Ada", "student", "adaada", minutes=15)).submit(RunConfig())
    others = home.submit(RunConfig(seed=1))
    supervisor = Supervisor(home, engine)
    supervisor.tick()
    now, reached = 2000.0, 0  # until then it was getting its images ready
    supervisor.tick()
    now = 2899.0
    supervisor.tick()
    assert [home.run(name).stop_wanted for name in (long, others)] == [False, False]
    now = 2900.0
    supervisor.tick()
    assert there(home.folder(long).attempt(1) / "stop")
    assert not there(home.folder(others).attempt(1) / "stop")
    now = 4000.0  # one that shares its process with others may take its time
    supervisor.tick()
    assert engine.killed == []
    engine.codes[long, 1] = STOPPED
    supervisor.tick()
    assert home.run(long).state == "stopped"
    assert "trained for 15 minutes, as long as a student's run may" in home.run(long).reason
    home.resume(long)
    supervisor.tick()
    supervisor.tick()
    assert [(home.run(name).state, home.run(name).stop_wanted) for name in (long, others)] == [("running", False)] * 2
    assert home.run(long).reason == ""


@pytest.mark.parametrize(("apart", "where", "ends"), [(0, "", True), (60, "", False), (0, "not-", False)])
def test_a_worker_left_behind_is_ended_and_a_stranger_with_its_number_is_not(apart, where, ends, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.supervisor.GRACE", 0.2)
    wait, waited = psutil.Process.wait, []
    monkeypatch.setattr(psutil.Process, "wait", lambda *given: waited.append(given) or wait(*given))
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        told = {"host": where + platform.node(), "pid": sleeper.pid}
        told["born"] = psutil.Process(sleeper.pid).create_time() - apart
        (tmp_path / "worker.json").write_text(json.dumps(told))
        outlast(tmp_path / "worker.json")
        outlast(tmp_path / "there is none.json")
        assert bool(waited) == ends
        assert (sleeper.poll() is not None or sleeper.wait(5) is not None) if ends else sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.skipif(os.name == "nt", reason="A shell script stands for nvidia-smi.")
@pytest.mark.parametrize(
    ("told", "code", "visible", "found"),
    [
        ("GPU 0: one\nGPU 1: other", 0, None, ["0", "1"]), ("GPU 0: one", 0, "", []),
        ("No devices were found", 6, None, []),
        ("Failed to initialize NVML: Driver/library version mismatch", 18, None, []),
    ],
)  # fmt: skip
def test_without_a_gpu_that_answers_trainings_run_on_the_processor(told, code, visible, found, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{told}\nEND\nexit {code}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("FACES_DEVICE", raising=False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == found
    slots = LocalEngine().slots
    assert {slot.rstrip("+") for slot in slots} == set(found) if found else all(s.startswith("cpu") for s in slots)
    assert len(slots) == 7 * len(found) if found else slots  # in turn, in one process for each GPU


@settings(max_examples=200, deadline=None, derandomize=True)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_wherever_a_snapshot_is_cut_or_a_bit_is_turned_it_is_not_shown(kept, share, bit, cut):
    home, name, step, whole = kept
    file = next(file for at, file in home.folder(name).snapshots(1) if at == step)
    at = int(share * len(whole))
    file.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    with pytest.raises(ValueError, match="is damaged and is not shown"):
        home.snapshot(name, step)
    file.write_bytes(whole)
    home.snapshot(name, step)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store, a run in it, a step, and the content of that snapshot's file."""
    home = Store(tmp_path_factory.mktemp("kept"))
    name = home.submit(RunConfig(epochs=1, batch=256, dim=2, probe=100))
    home.claim()
    first = next(iter(train(home.run(name).config)))
    home.folder(name).keep(1, first)
    home.index(name, 1)
    return home, name, first.step, home.snapshot_file(name, first.step).read_bytes()


REVISIONS = sorted(file.name[1:5] for file in (ROOT / "trainer" / "migrations" / "versions").glob("v*.py"))


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_home_of_every_revision_opens_with_its_runs(revision, tmp_path):
    setup = Config()
    setup.set_main_option("script_location", str(ROOT / "trainer" / "migrations"))
    with create_engine(f"sqlite:///{tmp_path / 'meta.db'}").begin() as db:
        setup.attributes["connection"] = db
        command.upgrade(setup, revision)
        row = {"id": "01J00000000000000000000000", "config": RunConfig(seed=7).to_json(), "state": "stopped"}
        known = {row[1] for row in db.exec_driver_sql("PRAGMA table_info(runs)") if row[3] and row[4] is None}
        numbers = {"created": 1.0, "attempt": 1, "idle_attempts": 0, "stop_wanted": 0}
        row |= {name: numbers.get(name, "") for name in known - set(row)}
        places = ", ".join(f":{name}" for name in row)
        db.exec_driver_sql(f"INSERT INTO runs ({', '.join(row)}) VALUES ({places})", row)
    home = Store(tmp_path)
    (run,) = home.runs()
    assert (run.config.seed, run.state) == (7, "stopped")
    home.resume(run.id)
    assert home.claim().id == run.id


def test_a_home_of_a_newer_faces_is_refused_in_words_and_left_alone(tmp_path):
    Store(tmp_path).submit(RunConfig())
    with create_engine(f"sqlite:///{tmp_path / 'meta.db'}").begin() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = (tmp_path / "meta.db").read_bytes()
    with pytest.raises(ValueError, match=f"newer Faces .tables 9999, here {REVISION}."):
        Store(tmp_path).runs()
    assert (tmp_path / "meta.db").read_bytes() == before
