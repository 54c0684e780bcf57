"""Out of memory: known when it happens, freed, and the run is tried once more, alone, from its checkpoint."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from streamlit.testing.v1 import AppTest

from faces.files import read_json
from tests.helpers import ROOT, until
from trainer import RunConfig
from trainer.engines import children
from trainer.engines.local import LocalEngine
from trainer.memory import FIRST, SECOND
from trainer.store import Store
from trainer.supervisor import Supervisor
from trainer.worker import unpack

LARGE = RunConfig(epochs=12, batch=1024, dim=8, probe=100)  # 150 MB more than the nursery has
HUGE = RunConfig(encoder="ResNet18", epochs=1, batch=1024, dim=8, probe=100)  # 320 MB more
SMALL = RunConfig(epochs=200, batch=16, dim=8, probe=100)  # it never comes to its end here
ROOM = 60_000_000  # bytes beyond what the nursery has: for the small one
GROUPS = Path("/sys/fs/cgroup/memory")
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="Only Linux limits the memory of a process that runs.")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def engine():
    """An engine of two slots."""
    made = LocalEngine(2)
    yield made
    made.close(10)


@pytest.fixture
def group(engine):
    """A memory group of version 1 with so little room that the system ends who takes more."""
    place = GROUPS / f"faces-{os.getpid()}"
    try:
        place.mkdir()
        (place / "memory.limit_in_bytes").write_text("250M")
    except OSError as why:
        pytest.skip(f"No memory group can be made here: {why}")
    yield place
    engine.close(10)
    until(lambda: not (place / "cgroup.procs").read_text())
    place.rmdir()


def states(store: Store, *names: str) -> list[str]:
    return [store.run(name).state for name in names]


def served(supervisor: Supervisor, what) -> None:
    """Serve until something is so; whoever is alone must be alone all the time."""

    def so():
        supervisor.tick()
        running = supervisor.store.runs(("running",))
        assert len(running) == 1 or not any(run.alone for run in running)
        return what()

    until(so)


@only_linux
def test_a_training_that_finds_no_memory_is_tried_once_more_alone_and_then_fails_in_words(engine, store):
    supervisor = Supervisor(store, engine)
    large = store.submit(LARGE)
    folder = store.folder(large)
    served(supervisor, lambda: folder.weighed)
    store.stop(large)
    served(supervisor, lambda: store.run(large).state == "stopped")
    begun = unpack(folder.checkpoint())["facts"]["step"]
    beside = store.submit(SMALL)
    served(supervisor, lambda: store.history(beside))
    nursery = psutil.Process(engine.nests[""].process.pid)  # what it forks from now on has little room
    has = int(Path(f"/proc/{nursery.pid}/status").read_text().split("VmData:")[1].split()[0]) * 1024
    nursery.rlimit(psutil.RLIMIT_DATA, (has + ROOM, psutil.RLIM_INFINITY))

    store.resume(large)
    later = store.submit(SMALL)
    served(supervisor, lambda: store.run(large).alone)
    run = store.run(large)
    assert (run.state, run.attempt, run.reason) == ("queued", 2, FIRST)
    for _ in range(5):
        supervisor.tick()
    assert states(store, beside, large, later) == ["running", "queued", "queued"]
    store.stop(beside)
    served(supervisor, lambda: store.run(large).attempt == 3)
    assert states(store, beside, large, later) == ["stopped", "running", "queued"]
    served(supervisor, lambda: not store.run(large).open)
    assert (store.run(large).state, store.run(large).reason) == ("failed", SECOND)

    store.stop(later)
    nursery.rlimit(psutil.RLIMIT_DATA, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    store.resume(large)
    assert not store.run(large).alone
    served(supervisor, lambda: store.run(large).state == "finished")
    assert min(step for step, _ in folder.snapshots(4)) > begun > 0
    assert not [*folder.snapshots(2), *folder.snapshots(3)]


@only_linux
def test_a_worker_that_the_system_ends_for_want_of_memory_is_one_that_ran_out_of_it(engine, store, group):
    supervisor, first = Supervisor(store, engine), store.submit(replace(SMALL, epochs=1))
    served(supervisor, lambda: store.run(first).state == "finished")  # the nursery has loaded all that it needs
    (group / "cgroup.procs").write_text(str(engine.nests[""].process.pid))
    name = store.submit(HUGE)
    served(supervisor, lambda: store.run(name).alone)
    assert (store.run(name).attempt, store.run(name).reason) == (1, FIRST)
    served(supervisor, lambda: not store.run(name).open)
    assert (store.run(name).attempt, store.run(name).reason) == (2, SECOND)
    assert "oom_kill 2" in (group / "memory.oom_control").read_text()
    (group / "memory.limit_in_bytes").write_text("-1")
    store.resume(name)
    served(supervisor, lambda: store.run(name).state == "finished")


@only_linux
@pytest.mark.parametrize(
    ("counted", "how", "short"), [(1, signal.SIGKILL, True), (0, signal.SIGKILL, False), (1, signal.SIGSEGV, False)]
)
def test_attempts_that_share_a_process_go_on_one_by_one_when_the_system_ended_it(
    store, monkeypatch, counted, how, short
):
    engine, kills = LocalEngine(2, together=True), [3]
    monkeypatch.setattr(children, "system_kills", lambda: kills[0])
    try:
        supervisor, names = Supervisor(store, engine), [store.submit(replace(SMALL, seed=seed)) for seed in range(2)]
        served(supervisor, lambda: all(store.history(name) for name in names))
        kills[0] += counted
        psutil.Process(read_json(store.folder(names[0]).attempt(1) / "worker.json")["pid"]).send_signal(how)
        until(
            lambda: supervisor.tick() and all(store.run(name).attempt == 2 or store.run(name).alone for name in names)
        )
        assert [store.run(name).alone for name in names] == [short, short]
        if short:
            assert sorted(states(store, *names)) == ["queued", "running"]
    finally:
        engine.close(10)


@only_linux
def test_a_worker_that_somebody_else_kills_is_none_that_ran_out_of_memory(engine, store):
    supervisor, name = Supervisor(store, engine), store.submit(SMALL)
    served(supervisor, lambda: store.history(name))
    psutil.Process(read_json(store.folder(name).attempt(1) / "worker.json")["pid"]).kill()
    served(supervisor, lambda: store.run(name).attempt == 2)
    assert not store.run(name).alone


def test_pages_tell_who_trains_alone_and_who_waits_for_it(store, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(store.path))
    large, beside, later = (store.submit(replace(SMALL, seed=seed)) for seed in range(3))

    def told(name: str) -> tuple[list[str], list[str]]:
        app = AppTest.from_file(str(ROOT / "pages" / "explore" / "explore.py"), default_timeout=60)
        app.query_params["run"] = name
        app.run()
        assert not app.exception
        return [info.value for info in app.info], [bar.proto.text for bar in app.get("progress")]

    for _ in (large, beside):
        store.claim()
    store.try_alone(large, 1)
    assert told(large) == ([FIRST], ["Next in line, when no other run trains."])
    store.end(beside, 1, "finished")
    store.claim()
    assert told(large)[0] == [FIRST]
    assert told(later) == ([], ["Next in line, when the run that trains alone has ended."])
