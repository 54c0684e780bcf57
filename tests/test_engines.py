"""What every engine promises, on this machine and on a cluster: one suite for both.

The cluster half needs Ray: uv pip install -r tests/requirements-cluster.txt. Its nodes are all on this machine.
"""

import hashlib
import importlib.util
import json
import os
import signal
import sys
from functools import cache
from types import SimpleNamespace

import psutil
import pytest

from faces.files import read_json
from tests.helpers import end, trainer, until
from trainer import RunConfig, train, worker
from trainer.__main__ import main
from trainer.engines.local import SPARE, LocalEngine
from trainer.engines.ray import RayEngine, places
from trainer.feed import Feed
from trainer.memory import SECOND
from trainer.store import Store
from trainer.supervisor import Supervisor
from trainer.worker import FAILED, FINISHED, INTERRUPTED, STOPPED, unpack

SHORT = RunConfig(epochs=1, batch=256, dim=8, probe=100)
LONG = RunConfig(epochs=12, dim=8, probe=100)  # some seconds: it can be interrupted
ENDLESS = RunConfig(epochs=200, dim=8, probe=100)  # it never comes to its end here
TOKEN = "5eaf00d5" * 8
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform == "win32",
    reason="Ray is not installed; `uv pip install -r tests/requirements-cluster.txt` installs it.",
)
pytestmark = pytest.mark.xdist_group("engines")


@pytest.fixture(scope="module")
def token():
    """A token for Ray that is kept in no file, and for its workers the priority of these tests."""
    said = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    said["RAY_worker_niceness"] = "0"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in said.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def cluster(token):
    """A head that trains nothing and two nodes with one CPU each, all of which ask for a token."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


class Engines:
    """One engine of a kind, opened when asked for, and again after it was closed."""

    def __init__(self, make):
        self.make, self.open = make, None

    def __call__(self, **more):
        self.open = self.open or self.make(**more)
        return self.open

    def close(self, patience: float):
        engine, self.open = self.open, None
        if engine:
            engine.close(patience)


@pytest.fixture(scope="module")
def on_cluster(cluster):
    """Engines on the cluster, one at a time."""
    kept = Engines(lambda **more: RayEngine(cluster.address, **more))
    yield kept
    kept.close(10)


@pytest.fixture(params=["local", "together", pytest.param("ray", marks=needs_ray)], scope="module")
def engines(request):
    """Engines with two slots, on this machine, in processes of their own or in one in turn, or on the cluster."""
    if request.param == "ray":
        yield request.getfixturevalue("on_cluster")
        return
    kept = Engines(lambda: LocalEngine(slots=2, together=request.param == "together"))
    yield kept
    kept.close(10)


@pytest.fixture
def engine(engines):
    return engines()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def begin(engine, store):
    """Start an attempt at a run with these settings; what still runs in the end is stopped."""
    started = []

    def begin(config: RunConfig):
        run = store.run(store.submit(config))
        started.append((engine.start(store.folder(run.id).path, 1), store.folder(run.id)))
        return started[-1]

    yield begin
    for handle, folder in started:
        if engine.poll(handle) is None:
            folder.ask_to_stop(1)
            until(lambda handle=handle: engine.poll(handle) is not None)


def ended(engine, handle) -> int:
    """The exit code, once there is one; it stays."""
    until(lambda: engine.poll(handle) is not None)
    code = engine.poll(handle)
    assert engine.poll(handle) == code
    return code


def trains(folder) -> bool:
    """Whether there is a snapshot of a training under way."""
    return len(list(folder.snapshots(1))) > 1


def reached(folder) -> int:
    """The step from which the next attempt would go on."""
    content = folder.checkpoint()
    return unpack(content)["facts"]["step"] if content else 0


def digest(tensors) -> str:
    """SHA-256 over all weights and momenta."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


@cache
def quiet() -> str:
    """The digest of LONG, trained here without a break."""
    *_, last = train(LONG, device="cpu")
    return digest(last.state()["tensors"])


@pytest.mark.skipif(sys.platform != "linux", reason="only there workers are forked")
@pytest.mark.parametrize("together", [False, True])
def test_an_engine_of_this_machine_tells_at_once_that_an_attempt_has_ended(store, together):
    engine, folder = LocalEngine(slots=1, together=together), store.folder(store.submit(SHORT))
    try:
        handle = engine.start(folder.path, 1)
        while engine.poll(handle) is None:
            assert engine.news.wait(60)
            engine.news.clear()
        assert ended(engine, handle) == FINISHED
    finally:
        engine.close(10)


def test_an_attempt_runs_to_its_end_and_gives_its_slot_back(engine, begin):
    assert engine.free() == 2
    handle, folder = begin(SHORT)
    assert engine.free() == 1
    assert engine.poll(handle) is None
    assert ended(engine, handle) == FINISHED
    assert engine.free() == 2
    assert (folder.attempt(1) / "log.txt").exists()
    *_, last = train(SHORT, device="cpu")
    assert digest(unpack(folder.checkpoint())["tensors"]) == digest(last.state()["tensors"])


def test_attempts_run_side_by_side_up_to_the_slots(engine, begin):
    handles, folders = zip(*(begin(ENDLESS) for _ in range(2)), strict=True)
    assert engine.free() == 0
    until(lambda: all(trains(folder) for folder in folders))
    assert [engine.poll(handle) for handle in handles] == [None, None]
    processes = {read_json(folder.attempt(1) / "worker.json")["pid"] for folder in folders}
    assert len(processes) == (1 if getattr(engine, "together", False) else 2)


def test_a_wish_to_stop_is_heard_and_what_was_trained_is_kept(engine, begin):
    handle, folder = begin(ENDLESS)
    until(lambda: trains(folder))
    (folder.attempt(1) / "stop").touch()
    assert ended(engine, handle) == STOPPED
    assert folder.checkpoint()


def test_an_attempt_that_fails_says_so_and_why(engine, begin):
    handle, folder = begin(RunConfig.from_json(SHORT.to_json().replace('"digits"', '"gone"')))
    assert ended(engine, handle) == FAILED
    assert "gone" in (folder.attempt(1) / "reason.txt").read_text()
    assert "Traceback" in (folder.attempt(1) / "log.txt").read_text()


def test_an_attempt_that_is_ended_leaves_like_one_hit_by_a_signal(engine, begin):
    handle, folder = begin(ENDLESS)
    until(lambda: trains(folder))
    engine.kill(handle)
    assert ended(engine, handle) < 0
    assert engine.free() == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL.")
def test_a_worker_that_dies_is_lost_and_its_slot_is_free(engine, begin):
    handle, folder = begin(ENDLESS)
    until(lambda: trains(folder))
    os.kill(read_json(folder.attempt(1) / "worker.json")["pid"], signal.SIGKILL)
    assert ended(engine, handle) < 0
    assert engine.free() == 2
    again, _ = begin(SHORT)
    assert ended(engine, again) == FINISHED


def test_an_engine_that_closes_keeps_checkpoints_and_the_run_ends_like_one_left_in_peace(engines, store):
    engine, folder = engines(), store.folder(store.submit(LONG))
    assert ended(engine, engine.start(store.folder(store.submit(SHORT)).path, 1)) == FINISHED  # all is loaded
    handle = engine.start(folder.path, 1)
    until(lambda: trains(folder))
    engines.close(20)
    assert ended(engine, handle) == INTERRUPTED
    before = reached(folder)
    engine = engines()
    assert ended(engine, engine.start(folder.path, 2)) == FINISHED
    assert min(step for step, _ in folder.snapshots(2)) > before > 0
    assert digest(unpack(folder.checkpoint())["tensors"]) == quiet()


def test_one_that_does_not_stop_does_not_take_others_of_its_process_with_it_at_once(begin, engine):
    if not getattr(engine, "together", False):
        pytest.skip("Here every attempt has a process of its own.")
    (stuck, _), (other, folder) = begin(ENDLESS), begin(ENDLESS)
    until(lambda: trains(folder))
    engine.kill(stuck)
    reached_then = len(list(folder.snapshots(1)))
    until(lambda: len(list(folder.snapshots(1))) > reached_then + 1)
    assert engine.poll(stuck) is engine.poll(other) is None
    stuck.spared -= SPARE + 1
    engine.kill(stuck)
    until(lambda: engine.poll(stuck) is not None and engine.poll(other) is not None)


def test_an_attempt_that_cannot_begin_fails_alone(begin, engine, store):
    if not getattr(engine, "together", False):
        pytest.skip("Here every attempt has a process of its own.")
    other, folder = begin(ENDLESS)
    until(lambda: trains(folder))
    blocked = store.folder(store.submit(SHORT))
    blocked.attempt(1).parent.mkdir(parents=True, exist_ok=True)
    blocked.attempt(1).write_text("in the way")
    assert ended(engine, engine.start(blocked.path, 1)) == FAILED
    assert engine.poll(other) is None


def test_heads_that_take_turns_are_shown_batches_made_once(monkeypatch, store):
    jobs, replies, made = [], [], []
    for head in ("ArcFace", "CosFace", "AdaCos"):
        folder = store.folder(store.submit(RunConfig(head=head, epochs=1, batch=256, dim=8, probe=100))).path
        jobs.append(json.dumps({"name": head, "folder": str(folder), "attempt": 1, "environment": {}}) + "\n")

    class Input:
        def __iter__(self):
            yield from jobs
            until(lambda: sum(code is not None for _, _, code in replies) == len(jobs))

    make = Feed._batch
    monkeypatch.setattr(Feed, "_batch", lambda feed, step: made.append(step) or make(feed, step))
    monkeypatch.setattr(worker, "replier", lambda: lambda name, pid, code=None: replies.append((name, pid, code)))
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker, "go_first", lambda: None)
    monkeypatch.setattr(sys, "stdin", Input())
    assert worker.crew() == FINISHED
    assert sorted(replies[-3:]) == sorted((head, os.getpid(), FINISHED) for head in ("ArcFace", "CosFace", "AdaCos"))
    assert sorted(made) == sorted(set(made)) == list(range(5))


@needs_ray
def test_a_run_whose_node_is_lost_goes_on_elsewhere_to_the_same_weights(cluster, on_cluster, store):
    engine = on_cluster()
    supervisor = Supervisor(store, engine)
    name = store.submit(LONG)
    folder = store.folder(name)

    def served(what) -> None:
        until(lambda: (supervisor.tick(), what())[1])

    served(lambda: reached(folder))
    raylet = psutil.Process(read_json(folder.attempt(1) / "worker.json")["pid"]).ppid()
    (lost,) = (node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == raylet)
    cluster.remove_node(lost, allow_graceful=False)
    try:
        served(lambda: store.run(name).attempt == 2)
        until(lambda: engine.free() == 0)  # one place is left, and it is taken
        served(lambda: store.run(name).state == "finished")
    finally:
        cluster.add_node(num_cpus=1)
    assert min(step for step, _ in folder.snapshots(2)) > 0
    assert digest(unpack(folder.checkpoint())["tensors"]) == quiet()
    until(lambda: engine.free() == 2)


@needs_ray
def test_a_supervisor_that_dies_takes_its_tasks_along_and_the_next_one_goes_on(cluster, store):
    words = ["serve", "--engine", "ray", "--address", cluster.address]
    name = store.submit(ENDLESS)
    first = trainer(*words, home=store.path)
    folder = store.folder(name)
    until(lambda: reached(folder))
    worker = psutil.Process(read_json(folder.attempt(1) / "worker.json")["pid"])
    first.kill()
    first.wait()
    until(lambda: not worker.is_running(), 20)
    second = trainer(*words, home=store.path)
    until(lambda: store.run(name).attempt == 2 and len(list(folder.snapshots(2))) > 1)
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")
    end(second)
    assert second.returncode == 0
    assert min(step for step, _ in folder.snapshots(2)) > 0


@needs_ray
def test_two_attempts_share_a_gpu_when_each_takes_half_of_it(cluster, on_cluster, store, monkeypatch):
    on_cluster.close(10)
    node = cluster.add_node(num_cpus=4, num_gpus=1)  # Ray believes what a node says it has
    try:
        engine = on_cluster(gpus=0.5)
        assert engine.free() == 2
        folders = [store.folder(store.submit(SHORT)) for _ in range(3)]
        handles = [engine.start(folder.path, 1) for folder in folders]
        assert engine.free() == -1  # the third waits
        assert [ended(engine, handle) for handle in handles] == [FINISHED] * 3
        pids = {read_json(folder.attempt(1) / "worker.json")["pid"] for folder in folders}
        assert len(pids) == 3  # a process that has used a GPU leaves, with the memory it took there
        on_cluster.close(10)
        monkeypatch.delenv("FACES_DEVICE")
        assert on_cluster().free() == 1  # a whole one each, unless said otherwise
    finally:
        on_cluster.close(10)
        cluster.remove_node(node)


@needs_ray
def test_a_cluster_lets_nobody_in_without_its_token(cluster, store, monkeypatch):
    strangers = []
    for name, value in (("RAY_AUTH_TOKEN", "0" * 64), ("RAY_AUTH_MODE", "disabled")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            home = store.path / name  # a home has one supervisor
            strangers.append(trainer("serve", "--engine", "ray", "--address", cluster.address, home=home))
    for stranger in strangers:
        said = stranger.communicate(timeout=90)[1]
        assert stranger.returncode == 2
        assert f"The Ray cluster at {cluster.address} cannot be joined" in said.splitlines()[-1]


@needs_ray
def test_without_an_address_a_ray_of_its_own_trains_and_leaves_with_the_supervisor(token, store):
    name = store.submit(SHORT)
    alone = trainer("serve", "--engine", "ray", "--idle", "1", home=store.path)
    family = set()

    def gone() -> bool:
        family.update(psutil.Process(alone.pid).children(recursive=True) if alone.poll() is None else ())
        return alone.poll() is not None

    until(gone)
    assert alone.returncode == 0
    assert store.run(name).state == "finished"
    assert family
    until(lambda: not any(process.is_running() for process in family))


@needs_ray
def test_a_task_that_ray_ends_for_want_of_memory_is_tried_once_more_and_then_fails(token, store, monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # of the machine's: less than is in use already
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    name = store.submit(ENDLESS)
    alone = trainer("serve", "--engine", "ray", home=store.path)
    try:
        until(lambda: not store.run(name).open)
    finally:
        end(alone)
    run = store.run(name)
    assert (run.state, run.attempt, run.reason) == ("failed", 2, SECOND)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--engine slurm", "no engine slurm; say local or ray"),
        ("--gpus 0.5", "--gpus is for --engine ray"),
        ("--engine ray", "Ray is not installed; this installs it: uv pip install"),
    ],
)
def test_what_serve_cannot_do_is_one_sentence(faces_home, monkeypatch, capsys, words, said):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    assert main(["serve", *words.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"address": "127.0.0.1:9"}, "cannot be joined"),
        ({"address": "lab"}, "lab is no address.*HOST:PORT"),
    ],
)
@needs_ray
def test_an_address_without_a_cluster_is_told_at_once(given, said):
    with pytest.raises((ValueError, ConnectionError), match=said):
        RayEngine(**given)


def test_a_ray_with_known_holes_is_not_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="2.53.0"))
    with pytest.raises(ValueError, match="known security holes"):
        RayEngine()


@pytest.mark.parametrize(
    ("has", "share", "count"),
    [
        ({"CPU": 4.0}, {"CPU": 1.0, "GPU": 0.0}, 4),
        ({"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.25}, 4),
        ({"CPU": 2.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.25}, 2),
        ({"CPU": 8.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.1}, 8),
        ({"CPU": 16.0, "GPU": 0.3}, {"CPU": 1.0, "GPU": 0.1}, 3),
        ({"CPU": 4.0}, {"CPU": 1.0, "GPU": 1.0}, 0),
        ({}, {"CPU": 1.0, "GPU": 0.0}, 0),
    ],
)
def test_a_node_has_as_many_places_as_its_scarcest_part_allows(has, share, count):
    assert places(has, share) == count
