"""Frozen encoders: trained on fixed features, the same again, resumed as if uninterrupted, refused in a sentence."""

import numpy as np
import pytest
import torch

from tests.test_training import equal, last, weights
from trainer import RunConfig, frozen, train
from trainer.store import Store
from trainer.worker import FINISHED, pack, run_attempt, unpack

SMALL = {"epochs": 2, "probe": 100, "dim": 16}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home with one finished run, to be copied by nobody: frozen runs only add one file to it."""
    home = tmp_path_factory.mktemp("frozen") / "home"
    store = Store(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_HOME", str(home))
        name = store.submit(RunConfig(**SMALL, held_out=2))
        run = store.claim()
        assert run_attempt(store.folder(name), run.attempt) == FINISHED
        store.index(name, run.attempt)
        store.end(name, run.attempt, "finished")
    return home, name


@pytest.fixture
def source(trained, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(trained[0]))
    return trained[1]


def test_the_head_and_one_layer_are_trained_and_the_encoder_is_not_there(source):
    config = RunConfig(frozen_from=source, dim=8)
    snapshot, kept = last(config)
    assert snapshot.metrics["knn_accuracy"] > 0.9
    assert snapshot.embeddings.shape[1] == 8
    layers = {name: value.shape for name, value in kept.items() if name.startswith("model.")}
    assert layers == {"model.encoder.1.weight": (8, 16), "model.encoder.1.bias": (8,), "model.head.weight": (10, 8)}


def test_features_are_those_of_the_finished_encoder_and_are_computed_once(source, monkeypatch):
    folder = Store().folder(source)
    *_, _ = train(RunConfig(frozen_from=source, epochs=1))
    end = Store().snapshot(source, folder.moments().popitem()[0])
    kept = torch.nn.functional.normalize(frozen.load((folder.path / "features.safetensors").read_bytes())["features"])
    assert np.allclose(kept.numpy()[end.rows], end.embeddings, atol=1e-5)
    monkeypatch.setattr(frozen, "embedded", None)  # asking again would break
    assert last(RunConfig(frozen_from=source, epochs=1))[0].last


@pytest.mark.parametrize("head", ["ArcFace", "AdaCos", "CurricularFace", "SupCon"])
def test_a_resumed_frozen_run_equals_an_uninterrupted_one_bit_for_bit(source, head):
    config = RunConfig(head=head, frozen_from=source, epochs=2, dim=16)
    _, whole = last(config)
    steps = 0

    def stopped() -> bool:
        nonlocal steps
        steps += 1
        return steps >= 7

    *_, stop = train(config, stopped=stopped)
    assert 0 < stop.step < stop.steps
    assert equal(whole, last(config, start=unpack(pack(stop)))[1])


def test_the_head_matters(source):
    ones, others = (last(RunConfig(head=head, frozen_from=source, epochs=1))[0] for head in ("ArcFace", "NormFace"))
    assert not np.allclose(ones.embeddings, others.embeddings, atol=1e-3)


def test_all_heads_start_from_the_same_layer(source):
    starts = [next(train(RunConfig(head=head, frozen_from=source))) for head in ("ArcFace", "SupCon", "Circle")]
    layers = [weights(start)["model.encoder.1.weight"] for start in starts]
    assert all(np.array_equal(layer, layers[0]) for layer in layers)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"frozen_from": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, "is not here"),
        ({"held_out": 3, "seed": 1}, "has seen classes that this run holds out"),
        ({"encoder": "ResNet9", "size": 8}, "16 px or more"),
    ],
)
def test_an_encoder_that_cannot_serve_is_refused_in_one_sentence(source, wrong, said):
    with pytest.raises(ValueError, match=said) as caught:
        next(train(RunConfig(**{"frozen_from": source, **wrong})))
    assert str(caught.value).count(". ") == 0


def test_classes_that_the_encoder_has_not_seen_can_be_held_out(source):
    snapshot, _ = last(RunConfig(frozen_from=source, held_out=2, epochs=1))
    assert "tar_at_far_0.1" in snapshot.metrics


def test_an_unfinished_run_or_a_frozen_one_has_no_encoder_to_keep(source):
    store = Store()
    waiting = store.submit(RunConfig())
    store.folder(waiting).begin("", find_names())
    with pytest.raises(ValueError, match="no finished encoder"):
        frozen.source(RunConfig(frozen_from=waiting))
    again = store.submit(RunConfig(frozen_from=source))
    with pytest.raises(ValueError, match="frozen encoder itself"):
        frozen.source(RunConfig(frozen_from=again))


def find_names():
    from faces.datasets import find

    return find("digits").class_names


@pytest.mark.parametrize(("wrong", "said"), [({"frozen_from": "../x"}, "26 letters"), ({"crop": 4}, "crop = 4|drawn")])
def test_settings_that_freeze_and_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        RunConfig(**{"frozen_from": "01ARZ3NDEKTSV4RRFFQ69G5FAV", **wrong})


def test_a_frozen_run_shows_its_images_whole():
    assert RunConfig(frozen_from="01ARZ3NDEKTSV4RRFFQ69G5FAV").augment is False
