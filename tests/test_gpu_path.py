"""A GPU's way through a training, tried out on the CPU: bfloat16, fused optimizers, compiled, heads in turn.

`FACES_AS_GPU` asks for it. A CPU without bfloat16 goes that way in float32. What only a GPU can show (its kernels, CUDA
graphs, its speed) is left to `python -m tests.benchmarks.gpu`.
"""

import math
import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from faces.datasets import find
from faces.model import EncoderWithHead
from tests.test_training import equal, last, weights
from trainer import RunConfig, train
from trainer.presets import PRESETS
from trainer.training import fresh_model, fresh_optimizer, half, in_turn
from trainer.worker import pack, unpack

SHORT = {"epochs": 1, "batch": 128, "dim": 16, "probe": 100}
SEVEN = ("Classification", "ArcMarginProduct", "ArcFace", "CosFace", "AdaCos", "SubCenterArcFace", "CurricularFace")
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="There is no C++ compiler to compile for a CPU with."
)


@pytest.fixture(autouse=True)
def as_gpu(monkeypatch, tmp_path_factory):
    """Ask for a GPU's way; what is compiled goes to a folder for tests, and is forgotten."""
    monkeypatch.setenv("FACES_AS_GPU", "1")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "compiled"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def seen(monkeypatch) -> set[torch.dtype]:
    """What encoders hand to heads in training, and what heads answer."""
    seen = set()

    def loss(self, images, labels):
        features = self.encoder(images)
        lost = self.head.loss(features, labels)
        seen.add((features.dtype, lost.dtype))
        return lost

    monkeypatch.setattr(EncoderWithHead, "loss", loss)
    return seen


def stopped_after(steps: int, config: RunConfig):
    count = iter(range(10**6))
    *_, stop = train(config, stopped=lambda: next(count) >= steps)
    assert 0 < stop.step < stop.steps
    return unpack(pack(stop))


def test_bfloat16_is_for_gpus_that_have_it_and_for_a_cpu_that_has_it_when_asked(monkeypatch):
    has = True
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    assert (half("cpu"), half("cuda"), half("mps")) == (True, True, False)
    has = False
    assert (half("cpu"), half("cuda")) == (False, False)
    has = True
    monkeypatch.delenv("FACES_AS_GPU")
    assert (half("cpu"), half("cuda")) == (False, True)
    has = False
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setenv("FACES_AS_GPU", "1")
    assert not half("cpu")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_optimizers_are_fused_and_directions_found_in_bfloat16_where_that_is_the_way(optimizer, monkeypatch):
    config, images = RunConfig(**SHORT, optimizer=optimizer), find("digits").load(8)
    name, on = ("half", half("cpu")) if optimizer == "muon" else ("fused", True)
    made = fresh_optimizer(fresh_model(config, images), config)
    assert {**made.defaults, **vars(made)}[name] is on
    monkeypatch.delenv("FACES_AS_GPU")
    made = fresh_optimizer(fresh_model(config, images), config)
    assert not {**made.defaults, **vars(made)}[name]


@needs_compiler
def test_seven_heads_in_turn_learn_in_bfloat16_fused_and_by_one_compiled_graph(seen):
    configs = [RunConfig(head=head, mode="compiled", **SHORT) for head in SEVEN]
    ends = {index: moment for index, moment in in_turn(configs, "cpu") if moment.last}
    assert sorted(ends) == list(range(7))
    assert counters["stats"]["unique_graphs"] == 1
    assert seen == {(torch.bfloat16 if half("cpu") else torch.float32, torch.float32)}
    for moment in ends.values():
        assert math.isfinite(moment.metrics["loss"])
        assert moment.metrics["knn_accuracy"] > 0.7
        assert str(moment.embeddings.dtype) == "float32"
        assert {value.dtype for value in moment.state()["tensors"].values()} <= {torch.float32, torch.int64}
    config = configs[2]
    start = stopped_after(4, config)
    _, resumed = last(config, start=start)
    assert equal(resumed, weights(ends[2]))
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_the_fast_mode_learns_and_is_resumed(optimizer, seen):
    config = RunConfig(mode="fast", **SHORT, optimizer=optimizer, lr=0.01 if optimizer == "adamw" else 0.05)
    end, whole = last(config)
    assert end.metrics["knn_accuracy"] > 0.7
    assert seen == {(torch.bfloat16 if half("cpu") else torch.float32, torch.float32)}
    assert equal(whole, last(config, start=stopped_after(4, config))[1])


def test_growing_images_are_compiled_at_each_of_their_sizes(monkeypatch):
    """At fixed sizes, which are quicker and which CUDA graphs need. Not compiled to machine code, to be quick here."""
    compile = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, dynamic, **_: compile(self, backend="eager", dynamic=dynamic)
    )
    last(RunConfig(mode="compiled", **SHORT, grow=0.6))
    assert counters["stats"]["unique_graphs"] == 3


def test_unasked_a_cpu_stays_with_float32(seen, monkeypatch):
    monkeypatch.delenv("FACES_AS_GPU")
    last(RunConfig(**SHORT))
    assert seen == {(torch.float32, torch.float32)}
    assert PRESETS["live"].terms.get("mode", "deterministic") == "deterministic"
