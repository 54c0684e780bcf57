"""What a picture shows beside its points: margin cones, shares of variance, training images, axes for a tour."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from faces.evaluation import explained_variance
from faces.heads import HEADS
from faces.heads.base import CosineHead
from pages.components.shown import load_points
from trainer.config import RunConfig
from trainer.folder import RunFolder
from trainer.measuring import margin_cones
from trainer.pictures import KNOWN, TOUR, draw
from trainer.store import Store
from trainer.training import train

THREE = np.array([[1, 0], [0.5, np.sqrt(0.75)], [-1, 0]], np.float32)  # centers at 0, 60 and 180 degrees
EDGE = 2e-3  # radians that the edge of a cone is known to


def cones(head, centers=THREE):
    return margin_cones(head.eval(), centers, np.arange(len(centers)))


def test_the_cone_of_a_margin_on_the_angle_by_hand():
    quarter = cones(HEADS["ArcFace"](2, 3, m=0.25))
    assert quarter == pytest.approx([(np.pi / 3 - 0.25) / 2] * 2 + [(2 * np.pi / 3 - 0.25) / 2], abs=EDGE)


def test_the_cone_of_a_margin_on_the_cosine_by_hand():
    edge = cones(HEADS["CosFace"](2, 3, m=0.35))[0]
    assert np.cos(edge) - 0.35 == pytest.approx(np.cos(np.pi / 3 - edge), abs=2 * EDGE)


def test_without_a_margin_a_cone_ends_halfway_and_one_that_cannot_be_met_has_none():
    assert cones(HEADS["NormFace"](2, 3)) == pytest.approx([np.pi / 6] * 2 + [np.pi / 3], abs=EDGE)
    assert cones(HEADS["ArcFace"](2, 3, m=1.1))[0] == 0


@pytest.mark.parametrize("name", [name for name in HEADS if issubclass(HEADS[name], CosineHead)])
def test_inside_its_cone_an_embedding_satisfies_the_training_logits_of_its_head_and_outside_it_does_not(name):
    torch.manual_seed(1)
    head = HEADS[name](2, 3).eval()
    if type(head).margins is not CosineHead.margins:
        pytest.skip("Its margin differs from sample to sample.")
    weight = head.weight.detach().flatten(0, -2)
    centers, owners = torch.nn.functional.normalize(weight).numpy(), np.arange(3).repeat(len(weight) // 3)
    for center, own, angle in zip(centers, owners, margin_cones(head, centers, owners), strict=True):
        others = centers[owners != own]
        towards = others[(others @ center).argmax()]
        way = np.sign(center[0] * towards[1] - center[1] * towards[0])
        for turn, inside in ((angle - 2 * EDGE, True), (angle + 2 * EDGE, False)):
            if turn < 0 or (not inside and len(weight) > 3):  # another sub-center of the class may be nearer there
                continue
            c, s = np.cos(way * turn), np.sin(way * turn)
            place = torch.tensor([[c * center[0] - s * center[1], s * center[0] + c * center[1]]], dtype=torch.float32)
            logits = head(place, torch.tensor([int(own)]))[0]
            assert bool(logits[own] >= logits.max()) == inside


def test_heads_that_do_not_decide_by_angles_and_long_embeddings_have_no_cones():
    assert cones(HEADS["Classification"](2, 3)).size == 0
    assert cones(HEADS["ArcFace"](8, 3), np.eye(3, 8, dtype=np.float32)).size == 0


@pytest.fixture(scope="module")
def last():
    *_, last = train(RunConfig(epochs=1, batch=256, dim=16, probe=100))
    return last


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(RunConfig(epochs=1, dim=16, probe=100).to_json())
    return RunFolder(tmp_path)


def test_the_shares_of_the_axes_are_those_of_the_leading_components(folder, last):
    explained = explained_variance(last.embeddings[:100], 8)
    for name, axes in (("pca-2", 2), (TOUR, 8)):
        draw(folder, last, name)
        found = folder.points(name, last.step)
        assert found.points.shape == (100, axes)
        assert found.points.var(0) / found.spread == pytest.approx(explained[:axes], abs=1e-3)


def test_the_axes_of_a_tour_keep_their_sides_from_moment_to_moment(folder, last):
    draw(folder, last, TOUR)
    first = folder.points(TOUR, last.step).points
    draw(folder, replace(last, step=last.step + 1, embeddings=-last.embeddings), TOUR)
    second = folder.points(TOUR, last.step + 1).points
    assert ((first * second).sum(0) > 0).all()


def test_training_images_lie_on_the_axes_of_the_picture(folder, last):
    draw(folder, replace(last, known=last.embeddings[:40], known_labels=last.labels[:40]), "pca-3")
    picture, trained = (folder.points(name, last.step) for name in ("pca-3", "pca-3" + KNOWN))
    assert trained.points == pytest.approx(picture.points[:40], abs=1e-3)
    assert (trained.labels == last.labels[:40]).all()


def test_a_moment_without_training_images_has_no_picture_of_them(folder, last):
    draw(folder, replace(last, known=last.known[:0], known_labels=last.known_labels[:0]), "pca-2")
    assert folder.drawn("pca-2") == [last.step]
    assert folder.drawn("pca-2" + KNOWN) == []


def test_embeddings_of_two_numbers_keep_the_cones_of_their_head_through_their_files(tmp_path):
    config = RunConfig(epochs=1, batch=256, dim=2, probe=100, knobs={"m": 0.1})
    (tmp_path / "config.json").write_text(config.to_json())
    *_, last = train(config)
    draw(RunFolder(tmp_path), last, "pca-2")
    found = RunFolder(tmp_path).points("pca-2", last.step)
    assert found.cones.tolist() == last.cones.tolist()
    assert (found.cones >= 0).all()
    assert len(found.cones) == len(found.centers) == 10


def test_the_axes_of_a_tour_are_wanted_when_somebody_asks_for_them_and_only_of_moments_that_are_there(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("FACES_HOME", str(tmp_path))
    store = Store()
    name = store.submit(RunConfig(epochs=1, batch=256, dim=16, probe=100))
    run = store.claim()
    *_, last = train(run.config)
    store.folder(name).keep(run.attempt, last)
    store.index(name, run.attempt)
    assert load_points(name, last.step, TOUR) == ""
    assert store.next_wanted("pca")["step"] == last.step
    assert load_points(name, last.step + 1, TOUR) is None
    draw(store.folder(name), last, TOUR)
    assert load_points(name, last.step, TOUR).points.shape == (100, 8)
