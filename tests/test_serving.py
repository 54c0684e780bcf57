"""The real processes: a queue that trains, workers that die, and a command line that follows."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import psutil
import pytest

from tests.helpers import end, trainer, until, workers
from trainer import RunConfig, sweep, train
from trainer.__main__ import main
from trainer.engines.children import Nursery, Spares
from trainer.engines.local import LocalEngine
from trainer.engines.local import workers as at_once
from trainer.store import Store
from trainer.sweep import Axis, Sweep
from trainer.worker import FINISHED, INTERRUPTED

LONG = {"epochs": 200, "dim": 16, "probe": 100}  # a minute: it is always interrupted
pytestmark = pytest.mark.xdist_group("serving")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One home with one supervisor, for the tests that leave it alive."""
    store = Store(tmp_path_factory.mktemp("shared") / "home")
    supervisor = trainer("serve", home=store.path)
    yield store, supervisor
    end(supervisor)


@pytest.fixture
def store(shared):
    return shared[0]


@pytest.fixture
def supervisor(shared):
    return shared[1]


@pytest.fixture
def own(tmp_path):
    """A store of its own, and serve() to start supervisors on it; those still there at the end are ended."""
    started = []
    store = Store(tmp_path / "home")

    def serve() -> subprocess.Popen:
        started.append(trainer("serve", home=store.path))
        return started[-1]

    yield store, serve
    for process in started:
        end(process)


def snapshots(store: Store, name: str) -> int:
    return len(store.history(name))


def test_runs_are_trained_one_after_the_other_and_equal_training_by_hand(store, supervisor):
    config = RunConfig(head="CosFace", epochs=2, dim=16, probe=100)
    names = [store.submit(config), store.submit(RunConfig(head="ArcFace", epochs=1, dim=16, probe=100))]
    until(lambda: all(store.run(name).state == "finished" for name in names))
    *_, by_hand = train(config)
    kept = store.snapshot(names[0], by_hand.step)
    assert np.array_equal(kept.embeddings, by_hand.embeddings)
    folder = store.folder(names[0])
    assert [facts["step"] for facts in store.history(names[0])] == folder.drawn("pca-2") == folder.drawn("pca-3")

    store.want(names[0], by_hand.step, "tsne-2")  # drawn when somebody looks
    until(lambda: folder.points("tsne-2", by_hand.step))
    assert folder.points("tsne-2", by_hand.step).points.shape == (100, 2)


def test_a_knob_turns_and_a_stop_stops_and_the_run_goes_on_from_there(store, supervisor):
    name = store.submit(RunConfig(head="ArcFace", **LONG))
    until(lambda: snapshots(store, name) > 2)
    store.turn(name, m=0.4)
    until(lambda: store.history(name)[-1]["turned"])
    assert store.history(name)[-1]["knobs"]["m"] == 0.4
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")
    step = store.history(name)[-1]["step"]
    store.resume(name)
    until(lambda: store.run(name).attempt == 2 and store.history(name)[-1]["step"] > step)
    assert store.history(name)[-1]["turned"]  # what was turned stays known
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")
    store.delete(name)


def test_trainings_side_by_side_compute_on_no_more_threads_than_there_are_cores(own):
    store, serve = own
    names = [store.submit(RunConfig(**LONG, seed=seed)) for seed in range(at_once())]
    supervisor = serve()
    until(lambda: all(snapshots(store, name) for name in names))
    assert computing(workers(supervisor)) == at_once()


def test_a_storm_of_stops_ends_a_thousand_runs_and_those_that_train_keep_what_they_have(own):
    store, serve = own
    names = store.submit_many([RunConfig(**LONG, seed=seed) for seed in range(1000)])
    serve()
    until(lambda: all(snapshots(store, name) > 1 for name in names[: at_once()]))
    for name in reversed(names):
        store.stop(name, "all of them")
    until(lambda: {run.state for run in store.runs()} == {"stopped"})
    begun = [run for run in store.runs() if run.attempt]
    assert {run.reason for run in store.runs()} == {"all of them"}
    assert [run.id for run in begun] == names[: at_once()][::-1]
    for run in begun:
        assert store.folder(run.id).checkpoint()
        store.snapshot(run.id, store.history(run.id)[-1]["step"])  # whole


def computing(processes: list[psutil.Process]) -> int:
    """How many threads share the work of these processes, while each computes for a second."""
    before = [(process.cpu_times().user, threads(process)) for process in processes]
    pairs = list(zip(processes, before, strict=True))
    until(lambda: all(process.cpu_times().user > began + 1 for process, (began, _) in pairs))
    used = [[spent - past.get(name, 0) for name, spent in threads(one).items()] for one, (_, past) in pairs]
    return sum(spent > max(own) / 5 for own in used for spent in own)


def threads(process: psutil.Process) -> dict[int, float]:
    """The seconds that each thread has computed."""
    return {thread.id: thread.user_time for thread in process.threads()}


def test_killing_the_worker_loses_no_snapshot_and_the_run_goes_on_by_itself(store, supervisor):
    name = store.submit(RunConfig(**LONG))
    until(lambda: snapshots(store, name) > 10)
    before = store.history(name)
    victim = max(workers(supervisor), key=lambda process: process.cpu_times().user)
    victim.kill()
    until(lambda: store.run(name).attempt == 2 and store.history(name)[-1]["step"] > before[-1]["step"])
    after = {facts["step"]: facts for facts in store.history(name)}
    assert all(after[facts["step"]] == facts for facts in before)
    for facts in before:
        store.snapshot(name, facts["step"])  # whole
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL.")
def test_killing_or_ending_the_supervisor_stops_its_workers_and_the_next_one_goes_on(own):
    store, serve = own
    name = store.submit(RunConfig(**LONG))
    first = serve()
    until(lambda: snapshots(store, name) > 5)
    second = trainer("serve", home=store.path)  # a home has one
    assert "already serves" in second.communicate(timeout=60)[1]
    before, family = store.history(name), workers(first)
    assert family
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    until(lambda: not any(process.is_running() and process.status() != "zombie" for process in family), 20)
    next_one = serve()
    until(lambda: store.run(name).attempt == 2 and store.history(name)[-1]["step"] > before[-1]["step"])
    assert {facts["step"] for facts in before} <= {facts["step"] for facts in store.history(name)}

    next_one.terminate()  # asked to leave, it keeps what was trained
    assert next_one.wait(30) == 0
    assert store.run(name).state == "interrupted"
    assert store.folder(name).checkpoint()


@pytest.mark.parametrize("nest", [Spares, Nursery] if sys.platform == "linux" else [Spares])
def test_both_ways_of_starting_workers_keep_the_engine_contract(store, nest, tmp_path, monkeypatch):
    store = Store(tmp_path / "home")
    monkeypatch.setattr("trainer.engines.local.nest", nest)
    engine = LocalEngine(slots=2)
    names = [store.submit(RunConfig(epochs=1, batch=256, dim=8)), store.submit(RunConfig(**LONG))]
    short, long = (engine.start(store.folder(name).path, 1) for name in names)
    assert engine.free() == 0
    until(lambda: engine.poll(short) is not None)
    assert (engine.poll(short), engine.poll(long), engine.free()) == (FINISHED, None, 1)
    until(lambda: list(store.folder(names[1]).snapshots(1)))
    engine.close(20)
    until(lambda: engine.poll(long) is not None)
    assert engine.poll(long) == INTERRUPTED
    assert store.folder(names[1]).checkpoint()


def test_a_run_that_fails_says_why_in_one_sentence_with_the_traceback_in_its_log(store, supervisor):
    name = store.submit(RunConfig.from_json(RunConfig().to_json().replace('"digits"', '"gone"')))  # removed since
    until(lambda: store.run(name).state == "failed")
    run = store.run(name)
    assert "gone" in run.reason
    assert "\n" not in run.reason
    assert "Traceback" in (store.folder(name).attempt(1) / "log.txt").read_text()


def test_the_command_line_trains_and_prints_a_json_line_per_snapshot(tmp_path):
    words = ["train", "--head", "ArcFace", "--epochs", "1", "--batch", "256", "--dim", "8", "--set", "m=0.3", "--json"]
    process = trainer(*words, home=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    facts = [json.loads(line) for line in out.splitlines()]
    assert facts[-1]["step"] == facts[-1]["steps"] == 5
    assert facts[-1]["knobs"]["m"] == 0.3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --head NoFace", "NoFace.*ArcFace"),
        ("train --set q=1", r"Unknown knob \['q'\]"),
        ("runs stop 01ARZ3NDEKTSV4RRFFQ69G5FAV", "no run"),
        ("data import woofs /nowhere", "nowhere"),
        ("data fetch digits", "not downloaded"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_one_sentence_and_exit_code_2(faces_home, capsys, words, said):
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert re.search(said, err)
    assert "Traceback" not in err


def test_the_exit_code_is_that_of_the_process(tmp_path):
    process = trainer("runs", "stop", "01ARZ3NDEKTSV4RRFFQ69G5FAV", home=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count("\n") == 1


def test_a_run_submitted_listed_and_exported_from_the_command_line(store, supervisor, monkeypatch, capsys):
    monkeypatch.setenv("FACES_HOME", str(store.path))
    submit = ["runs", "submit", "--epochs", "1", "--batch", "256", "--dim", "8"]
    out, _ = trainer(*submit, home=store.path).communicate(timeout=120)
    name, file = out.split()[0], store.path / "run.zip"
    for words in (["runs", "follow", name], ["runs", "list"], ["export", name, str(file)]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert words[1] != "follow" or "KNN" in out
        assert words[1] != "list" or (name in out and "finished" in out)
    with zipfile.ZipFile(file) as archive:
        assert set(archive.namelist()) == {
            "README.txt",
            "settings.json",
            "metrics.csv",
            "snapshot.safetensors",
            "model.safetensors",
        }


def test_a_search_goes_on_in_a_process_of_its_own_and_comes_to_its_end(store, supervisor, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(store.path))
    axes = (Axis("s", (2.0, 8.0), True), Axis("m", (0.0, 0.4)))
    name = sweep.start(store, Sweep("ArcFace", axes, {**LONG, "epochs": 1}, trials=3))
    until(lambda: not sweep.searching(store, name))
    made = sweep.read(store, name)
    assert sweep.why_ended(store, name) == ""
    cells = sweep.look(store, made)
    assert [cell.state for cell in cells] == ["done"] * 3
    assert len({cell.point for cell in cells}) == 3


def test_a_sweep_from_the_command_line(store, supervisor, capsys):
    words = ["--home", str(store.path), "sweep"]
    axes = ["--axis", "s=2:8:2:factors", "--axis", "m=0,0.4"]
    assert main([*words, "start", *axes, "--epochs", "1", "--dim", "16", "--probe", "100", "--batch", "256"]) == 0
    name = capsys.readouterr().out.split()[-1]
    assert main([*words, "show", name, "--follow"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| m ↓ s → | 2 | 8 |"
    assert [line.split(" | ")[0] for line in table[2:4]] == ["| 0.4", "| 0"]
    assert "Best mean so far" in table[-1]
    assert main([*words, "list"]) == 0
    assert f"{name} ArcFace, s × m on digits  4/4 runs done" in capsys.readouterr().out
    assert main([*words, "start", "--axis", "m=0:1"]) == 2
    assert "say m=FROM:TO:STEPS" in capsys.readouterr().err
