"""A GPU that is not there, or goes away: training goes on on the processor, and says so. None is needed here."""

import json
import os

import pytest
import torch

from pages.components.runs import pace
from tests.test_faults import Scripted
from trainer import RunConfig
from trainer.store import TRIES, Store
from trainer.supervisor import Supervisor
from trainer.training import best_device
from trainer.worker import FAILED, FINISHED, GPU_LOST, INTERRUPTED, missed, run_attempt

SHORT = RunConfig(epochs=1, batch=256, dim=8, probe=100)


def broken(*arguments, **named):
    raise torch.AcceleratorError("CUDA error: unspecified launch failure")


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine with NVIDIA's driver, where nothing tells training which device to take."""
    name = "nvidia-smi.bat" if os.name == "nt" else "nvidia-smi"
    (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for word in ("FACES_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(word, raising=False)


def test_a_gpu_that_is_listed_and_does_not_answer_is_not_trained_on(driver, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", broken)
    assert best_device() == "cpu"


@pytest.mark.parametrize(("name", "value"), [("FACES_DEVICE", "cpu"), ("CUDA_VISIBLE_DEVICES", ""), ("PATH", "")])
def test_nobody_misses_a_gpu_that_is_not_wanted_or_was_never_there(name, value, driver, monkeypatch):
    assert missed()
    monkeypatch.setenv(name, value)
    assert not missed()


def test_a_training_that_finds_no_gpu_ends_on_the_processor_and_the_page_says_where_it_is(driver, tmp_path):
    home = Store(tmp_path / "home")
    folder = home.folder(home.submit(SHORT))
    home.claim()
    assert run_attempt(folder, 1, lambda: True) == INTERRUPTED
    now = json.loads((folder.attempt(1) / "progress.json").read_text())
    facts = {"step": 1, "steps": 4, "seconds": 1.0}
    assert "on the processor, since the GPU does not answer" in pace(home.runs()[0], facts, 1, now)
    assert "processor" not in pace(home.runs()[0], facts, 1, {**now, "where": ""})
    assert run_attempt(folder, 1) == FINISHED


@pytest.mark.parametrize(("answers", "code"), [(broken, GPU_LOST), (bool, FAILED)], ids=["lost", "there"])
def test_what_breaks_when_the_gpu_goes_away_is_no_fault_of_the_run(answers, code, tmp_path, monkeypatch):
    home = Store(tmp_path / "home")
    folder = home.folder(home.submit(SHORT))
    home.claim()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", answers)
    monkeypatch.setattr(torch.Tensor, "backward", broken)
    assert run_attempt(folder, 1) == code


def test_a_run_whose_gpu_went_away_is_tried_again_and_given_up_in_the_end(tmp_path):
    home, engine = Store(tmp_path / "home"), Scripted(slots=1)
    name = home.submit(SHORT)
    supervisor = Supervisor(home, engine)
    for attempt in range(1, TRIES + 1):
        supervisor.tick()  # begins what waits
        assert (home.run(name).state, home.run(name).attempt) == ("running", attempt)
        engine.codes[name, attempt] = GPU_LOST
        supervisor.tick()  # hears of its end
    assert (home.run(name).state, home.run(name).reason.rpartition(": ")[2]) == (
        "failed",
        "The worker went away (the GPU does not answer any more).",
    )
