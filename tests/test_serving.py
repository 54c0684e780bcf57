"""The real processes: a queue that trains, workers that die, and a command line that follows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from trainer import RunConfig, train
from trainer.store import Store

ROOT = Path(__file__).parents[1]
LONG = {"epochs": 200, "dim": 16, "probe": 100}  # a minute: it is always interrupted
pytestmark = pytest.mark.xdist_group("serving")


def trainer(*words: str, home: Path, **more) -> subprocess.Popen:
    command = [sys.executable, "-m", "trainer", "--home", str(home), *words]
    environment = {**os.environ, "FACES_DEVICE": "cpu"}
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **more
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


@pytest.fixture
def serve(store):
    """serve() starts a supervisor; those still there at the end are ended."""
    started = []

    def start() -> subprocess.Popen:
        started.append(trainer("serve", home=store.path))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def until(what, patience: float = 90.0):
    """Wait for something to be true, and return it."""
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def workers(supervisor: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(supervisor.pid).children()
    return [child for child in children if "work" in child.cmdline()]


def snapshots(store: Store, name: str) -> int:
    return len(store.history(name))


def test_runs_are_trained_one_after_the_other_and_equal_training_by_hand(store, serve):
    config = RunConfig(head="CosFace", epochs=2, dim=16, probe=100)
    names = [store.submit(config), store.submit(RunConfig(head="ArcFace", epochs=1, dim=16, probe=100))]
    serve()
    until(lambda: all(store.run(name).state == "finished" for name in names))
    *_, by_hand = train(config)
    kept = store.snapshot(names[0], by_hand.step)
    assert np.array_equal(kept.embeddings, by_hand.embeddings)
    folder = store.folder(names[0])
    assert [facts["step"] for facts in store.history(names[0])] == folder.drawn("pca-2") == folder.drawn("pca-3")

    store.want(names[0], by_hand.step, "tsne-2")  # drawn when somebody looks
    until(lambda: folder.points("tsne-2", by_hand.step))
    assert folder.points("tsne-2", by_hand.step).points.shape == (100, 2)


def test_a_knob_turns_and_a_stop_stops_and_the_run_goes_on_from_there(store, serve):
    name = store.submit(RunConfig(head="ArcFace", **LONG))
    serve()
    until(lambda: snapshots(store, name) > 2)
    store.turn(name, m=0.4)
    until(lambda: store.history(name)[-1]["turned"])
    assert store.history(name)[-1]["knobs"]["m"] == 0.4
    asked = time.monotonic()
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")
    assert time.monotonic() - asked < 10
    step = store.history(name)[-1]["step"]
    store.resume(name)
    until(lambda: store.run(name).attempt == 2 and store.history(name)[-1]["step"] > step)
    assert store.history(name)[-1]["turned"]  # what was turned stays known
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")
    store.delete(name)


def test_killing_the_worker_loses_no_snapshot_and_the_run_goes_on_by_itself(store, serve):
    name = store.submit(RunConfig(**LONG))
    supervisor = serve()
    until(lambda: snapshots(store, name) > 10)
    before = store.history(name)
    victim = max(workers(supervisor), key=lambda process: process.cpu_times().user)
    victim.kill()
    until(lambda: store.run(name).attempt == 2 and store.history(name)[-1]["step"] > before[-1]["step"])
    after = {facts["step"]: facts for facts in store.history(name)}
    assert all(after[facts["step"]] == facts for facts in before)
    for facts in before:
        store.snapshot(name, facts["step"])  # whole


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL.")
def test_killing_the_supervisor_stops_its_workers_and_the_next_one_goes_on(store, serve):
    name = store.submit(RunConfig(**LONG))
    supervisor = serve()
    until(lambda: snapshots(store, name) > 5)
    before, family = store.history(name), workers(supervisor)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    until(lambda: not any(process.is_running() and process.status() != "zombie" for process in family), 20)
    serve()
    until(lambda: store.run(name).attempt == 2 and store.history(name)[-1]["step"] > before[-1]["step"])
    kept = {facts["step"] for facts in store.history(name)}
    assert {facts["step"] for facts in before} <= kept


def test_a_supervisor_that_is_asked_to_leave_keeps_what_was_trained(store, serve):
    name = store.submit(RunConfig(**LONG))
    supervisor = serve()
    until(lambda: snapshots(store, name) > 2)
    supervisor.terminate()
    assert supervisor.wait(30) == 0
    assert store.run(name).state == "interrupted"
    assert store.folder(name).checkpoint()


def test_a_home_has_one_supervisor(store, serve):
    store.submit(RunConfig(epochs=1))
    first = serve()
    until(lambda: store.runs(("running", "finished")))
    second = trainer("serve", home=store.path)
    _, said = second.communicate(timeout=60)
    assert "already serves" in said
    assert first.poll() is None


def test_a_run_that_fails_says_why_in_one_sentence_with_the_traceback_in_its_log(store, serve):
    name = store.submit(RunConfig(head="ArcFace", lr=2.0, optimizer="adamw", epochs=1))
    config = store.folder(name).path / "config.json"
    config.write_text(config.read_text().replace('"digits"', '"gone"'))  # removed after it was queued
    serve()
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
def test_a_wrong_word_on_the_command_line_is_one_sentence_and_exit_code_2(tmp_path, words, said):
    import re

    process = trainer(*words.split(), home=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert re.search(said, err)
    assert "Traceback" not in err


def test_a_run_submitted_listed_and_exported_from_the_command_line(store, serve):
    serve()
    out, err = trainer(
        *["runs", "submit", "--epochs", "1", "--batch", "256", "--dim", "8"], home=store.path
    ).communicate(timeout=120)
    name = out.split()[0]
    out, err = trainer("runs", "follow", name, home=store.path).communicate(timeout=120)
    assert "KNN" in out, err
    out, _ = trainer("runs", "list", home=store.path).communicate(timeout=60)
    assert name in out
    assert "finished" in out
    file = store.path / "run.zip"
    trainer("export", name, str(file), home=store.path).communicate(timeout=60)
    import zipfile

    with zipfile.ZipFile(file) as archive:
        assert set(archive.namelist()) == {
            "README.txt",
            "settings.json",
            "metrics.csv",
            "snapshot.safetensors",
            "model.safetensors",
        }
