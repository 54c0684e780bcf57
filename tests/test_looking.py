"""Evaluation and projections: by hand, against scikit-learn, and the promises every picture keeps."""

import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faces.evaluation import (
    class_means,
    explained_variance,
    knn_accuracies,
    knn_accuracy,
    knn_inside,
    nearest,
    nearest_mean_accuracy,
    nearest_means,
    neighbours,
)  # fmt: skip
from faces.projections import PROJECTIONS, carried, centroids, class_residual, class_turn, turn
from trainer import pictures
from trainer.config import RunConfig
from trainer.folder import RunFolder
from trainer.pictures import draw, kept_neighbours, picture, picture_name, refine, serve, with_shuffled_labels
from trainer.snapshot import Snapshot
from trainer.training import train


def blobs(n: int = 120, dim: int = 16, classes: int = 4, spread: float = 0.25, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    rows = random.normal(size=(classes, dim))[labels] + spread * random.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_knn_accuracy_by_hand():
    known = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    asked = np.array([[0.96, 0.28], [0.28, 0.96]], np.float32)
    assert knn_accuracy(known, np.array([0, 1, 1]), asked, np.array([0, 1]), k=1) == 1.0
    assert knn_accuracy(known, np.array([0, 1, 1]), asked, np.array([1, 1]), k=1) == 0.5
    # two neighbours of different classes tie: the smaller class wins
    assert knn_accuracy(known, np.array([0, 1, 1]), asked[:1], np.array([0]), k=2) == 1.0


@pytest.mark.parametrize("k", [1, 5, 15])
def test_knn_accuracy_equals_scikit_learns(k):
    from sklearn.neighbors import KNeighborsClassifier

    rows, labels = blobs(700, spread=0.9)
    known, asked = slice(0, 500), slice(500, 700)
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(rows[known], labels[known])
    expected = model.score(rows[asked], labels[asked])
    assert knn_accuracy(rows[known], labels[known], rows[asked], labels[asked], k) == pytest.approx(expected, abs=0.005)
    assert 0.3 < expected < 0.999  # else the comparison would say little


def test_several_k_at_once_equal_one_at_a_time():
    rows, labels = blobs(300, spread=0.9)
    at_once = knn_accuracies(rows[:200], labels[:200], rows[200:], labels[200:], (1, 3, 10, 999))
    assert at_once == {k: knn_accuracy(rows[:200], labels[:200], rows[200:], labels[200:], k) for k in (1, 3, 10)}


def test_more_neighbours_than_known_images_are_refused():
    rows, labels = blobs(20)
    with pytest.raises(ValueError, match=r"k = 50.*20"):
        knn_accuracy(rows, labels, rows, labels, 50)


def test_the_nearest_of_a_row_among_its_own_kind_is_itself():
    rows, _ = blobs(600)
    assert (nearest(rows, rows, 3)[0][:, 0] == np.arange(600)).all()


def test_the_nearest_class_mean_by_hand():
    """Class 0 at 0 and 60 degrees has its mean at 30; class 4 at 90 and 100 at 95. The border is at 62.5 degrees."""
    at = lambda *degrees: np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], axis=1)  # noqa: E731
    known, labels = at(0, 60, 90, 100), np.array([0, 0, 4, 4])
    classes, means = class_means(known, labels)
    assert classes.tolist() == [0, 4]
    assert np.allclose(means, at(30, 95))
    assert nearest_means(known, labels, at(62, 63, 300)).tolist() == [0, 4, 0]
    assert nearest_mean_accuracy(known, labels, at(62, 63, 300), np.array([0, 0, 4])) == pytest.approx(1 / 3)
    opposite = np.concatenate([at(20, 200), at(90)])  # class 0 has no direction
    assert nearest_means(opposite, np.array([0, 0, 1]), at(80)).tolist() == [1]


def test_explained_variance_equals_scikit_learns():
    from sklearn.decomposition import PCA

    rows, _ = blobs()
    expected = PCA().fit(rows.astype(np.float64)).explained_variance_ratio_
    assert explained_variance(rows) == pytest.approx(expected, abs=1e-6)
    assert explained_variance(rows, 3) == pytest.approx(expected[:3], abs=1e-6)


def test_embeddings_that_do_not_vary_explain_nothing():
    assert (explained_variance(np.ones((9, 4), np.float32)) == 0).all()


EACH = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in PROJECTIONS]  # UMAP compiles once a process


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", EACH)
def test_every_projection_lays_out_every_image_the_same_way_each_time(name, axes):
    rows, labels = blobs()
    points = PROJECTIONS[name].points(rows, axes)
    assert points.shape == (len(rows), axes)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()
    assert np.array_equal(points, PROJECTIONS[name].points(rows, axes))
    near = ((points[:, None] - points[None]) ** 2).sum(-1) + 1e9 * np.eye(len(rows))
    assert (labels[near.argmin(1)] == labels).mean() > 0.9  # classes that are apart stay apart


@pytest.mark.parametrize("name", EACH)
def test_a_picture_that_starts_from_another_lies_near_it(name):
    rows, _ = blobs()
    before = PROJECTIONS[name].points(rows, 2)
    turned = before @ np.array([[0, 1], [-1, 0]], np.float32)
    after = PROJECTIONS[name].points(rows, 2, turned)
    correlation = np.corrcoef(after.ravel(), turned.ravel())[0, 1]
    assert correlation > (0.9999 if name == "pca" else 0.5)


@pytest.mark.parametrize("before", [60, 200])
def test_a_picture_may_start_from_one_of_fewer_or_more_images(before):
    embeddings, _ = blobs(200)
    earlier = PROJECTIONS["pca"].points(embeddings[:before], 2) @ np.array([[0, 1], [-1, 0]], np.float32)
    points = PROJECTIONS["pca"].points(embeddings[:120], 2, start=earlier)
    both = min(before, 120)
    apart = np.linalg.norm(points[:both] - earlier[:both], axis=1).mean()
    assert apart < 0.35 * np.linalg.norm(points, axis=1).mean()


@pytest.mark.parametrize("name", ["tsne", "umap"])
def test_a_long_layout_says_how_far_it_is(name):
    told = []
    PROJECTIONS[name].points(blobs(60)[0], 2, progress=told.append)
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[-1].done == told[-1].total > 0


@pytest.mark.parametrize("name", ["tsne", "umap"])
def test_too_few_images_are_refused_in_words(name):
    with pytest.raises(ValueError, match="4 images or more; here are 3"):
        PROJECTIONS[name].points(blobs(3)[0], 2)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_four_axes_and_unknown_knobs_are_refused(name):
    rows, _ = blobs()
    with pytest.raises(ValueError, match="axes = 4"):
        PROJECTIONS[name].points(rows, 4)
    with pytest.raises(ValueError, match="colour"):
        PROJECTIONS[name].points(rows, 2, colour=3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 3))
def test_turning_undoes_a_rotation(seed, axes):
    random = np.random.default_rng(seed)
    points = random.normal(size=(12, axes))
    rotation, _ = np.linalg.qr(random.normal(size=(axes, axes)))
    assert points @ rotation @ turn(points @ rotation, points) == pytest.approx(points, abs=1e-8)


def test_centroids_by_hand():
    points = np.array([[0, 0], [2, 4], [5, 5]], np.float32)
    found = centroids(points, np.array([7, 7, 3]), np.array([3, 7]))
    assert found.tolist() == [[5, 5], [1, 2]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 3))
def test_a_picture_of_other_images_and_some_other_classes_is_turned_by_the_classes_that_both_have(seed, axes):
    random = np.random.default_rng(seed)
    middles = random.normal(size=(6, axes))
    rotation, _ = np.linalg.qr(random.normal(size=(axes, axes)))
    theirs, ours = np.repeat(np.arange(5), 2), np.repeat(np.arange(1, 6), 4)
    found = class_turn((middles @ rotation)[ours], ours, middles[theirs], theirs)
    assert found == pytest.approx(rotation.T, abs=1e-8)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 3), st.floats(0.01, 100))
def test_the_same_arrangement_of_classes_has_no_residual_however_it_is_shifted_turned_and_sized(seed, axes, size):
    random = np.random.default_rng(seed)
    labels = np.arange(12) % 6
    points = random.normal(size=(12, axes))
    rotation, _ = np.linalg.qr(random.normal(size=(axes, axes)))
    assert class_residual(size * points @ rotation + 3, labels, points, labels) == pytest.approx(0, abs=1e-8)
    other = random.normal(size=(12, axes))
    found = class_residual(other, labels, points, labels)
    assert 0 <= found <= 1
    assert found == pytest.approx(class_residual(points, labels, other, labels))


def test_a_residual_by_hand():
    """A line of three classes against a triangle, each centered and of length 1.

    Line (-1, 0), (0, 0), (1, 0) over sqrt 2; triangle (-1, -1), (0, 2), (1, -1) over sqrt 8: A'B = [[1/2, 0], [0, 0]],
    so the residual is 1 - 1/4.
    """
    line = np.array([[-1, 0], [0, 0], [1, 0]], np.float32)
    triangle = np.array([[-1, -1], [0, 2], [1, -1]], np.float32)
    assert class_residual(line, np.arange(3), triangle, np.arange(3)) == pytest.approx(0.75)


def test_two_classes_or_classes_in_one_place_have_no_residual():
    points = np.random.default_rng(0).normal(size=(4, 2))
    assert np.isnan(class_residual(points, np.array([0, 0, 1, 1]), points, np.array([0, 0, 1, 1])))
    assert np.isnan(class_residual(points * 0, np.arange(4), points, np.arange(4)))


def test_pictures_without_a_common_class_are_not_turned():
    points, labels = np.ones((3, 2), np.float32), np.arange(3)
    assert class_turn(points, labels, points, labels + 3).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(("count", "rank"), [(300, 16), (300, 3), (12, 16)])
def test_centers_land_where_pca_puts_them(count, rank):
    """Also where embeddings fill few of their dimensions, or are fewer than those."""
    random = np.random.default_rng(0)
    rows = (random.normal(size=(count, rank)) @ random.normal(size=(rank, 16))).astype(np.float32)
    points = PROJECTIONS["pca"].points(rows, 3)
    assert carried(rows[:7], rows, points) == pytest.approx(points[:7], abs=1e-3)


def test_two_numbers_can_be_drawn_in_three_dimensions():
    rows, _ = blobs(dim=2)
    assert (PROJECTIONS["pca"].points(rows, 3)[:, 2] == 0).all()


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", EACH)
def test_pictures_neither_flip_nor_jump_in_replay(name, axes):
    """From frame to frame: no movement where embeddings stay, and little where they change little.

    Movement is the mean way of a point over the root mean square radius. Two layouts that have nothing to do with
    each other are more than 1 apart, and so is a mirrored one.
    """
    start, _ = blobs(150)
    drift = np.random.default_rng(1).normal(size=start.shape).astype(np.float32)
    frames = [start + 0.01 * step * drift for step in range(4)]
    frames = [frame / np.linalg.norm(frame, axis=1, keepdims=True) for frame in frames]
    points = [PROJECTIONS[name].points(frames[0], axes)]
    points += [PROJECTIONS[name].points(frames[0], axes, points[0])]  # settled
    for frame in frames:
        points.append(PROJECTIONS[name].points(frame, axes, points[-1]))

    def moved(before: np.ndarray, after: np.ndarray) -> float:
        return float(np.linalg.norm(after - before, axis=1).mean() / np.sqrt((before**2).sum(1).mean()))

    still, *changing = (moved(one, other) for one, other in pairwise(points[1:]))
    most_still, most_moving = MOVED[name]
    assert still <= most_still
    assert max(changing) <= most_moving
    assert moved(points[1], points[1] * [-1, *[1] * (axes - 1)]) > 2 * most_moving or name != "pca"


# Frames that are the same, and that differ by 1 %. UMAP draws at random whom it repels, so it never rests.
MOVED = {"pca": (1e-5, 0.05), "tsne": (0.1, 0.2), "umap": (0.3, 0.3)}


@pytest.mark.parametrize(
    "name",
    ["pca-2", "tsne-3", "tsne-2-perplexity=50", "umap-2-min_dist=0.5-n_neighbors=30-seed=7", "pca-3-basis=1234567"],
)
def test_a_pictures_name_says_all_that_decides_it(name):
    projection, axes, knobs = picture(name)
    assert picture_name(projection, axes, **knobs) == name


@pytest.mark.parametrize("name", ["pca", "pca-4", "lda-2", "../../etc/passwd", "tsne-2-perplexity=9999"])
def test_a_name_that_is_no_picture_is_refused(name):
    with pytest.raises(ValueError, match=r"no picture|out of range"):
        picture(name)


def test_a_picture_keeps_how_trustworthy_it_is(tmp_path):
    config = RunConfig(epochs=1, batch=256, dim=16, probe=100)
    (tmp_path / "config.json").write_text(config.to_json())
    folder = RunFolder(tmp_path)
    *_, last = train(config)
    for name in ("pca-2", "pca-3"):
        draw(folder, last, name)
    flat, deep = (folder.points(name, last.step).quality for name in ("pca-2", "pca-3"))
    (trust, inside, full, share, chance), (trust3, inside3, full3, share3, chance3) = flat, deep
    assert 0.5 < trust < trust3 < 1
    assert 0.2 < inside < inside3 <= full == full3 <= 1
    assert (share, share3) == pytest.approx(np.cumsum(explained_variance(last.embeddings[:100]))[1:3], abs=1e-5)
    assert 0 <= chance < 0.3  # ten classes
    assert 0 <= chance3 < 0.3


def tiny(tmp_path, probe: int = 100) -> tuple[RunFolder, list[Snapshot]]:
    """A run's folder and the snapshots in it."""
    config = RunConfig(epochs=1, batch=256, dim=16, probe=probe)
    (tmp_path / "config.json").write_text(config.to_json())
    folder = RunFolder(tmp_path)
    found = list(train(config))
    for snapshot in found:
        folder.keep(1, snapshot)
    return folder, found


@pytest.mark.parametrize("name", ["pca-2", "tsne-2", "umap-3"])
def test_embeddings_that_stay_are_drawn_where_they_were(name, tmp_path):
    folder, (first, *_) = tiny(tmp_path)
    still = replace(first, step=first.step + 1)
    moved = replace(first, step=first.step + 2, embeddings=np.roll(first.embeddings, 1, 0))
    for snapshot in (first, still, moved):
        folder.keep(1, snapshot)
        draw(folder, snapshot, name)
    at = [folder.points(name, snapshot.step).points for snapshot in (first, still, moved)]
    assert np.abs(at[0] - at[1]).max() <= 1e-6 * np.abs(at[0]).max()
    assert np.abs(at[0] - at[2]).max() > 0.01 * np.abs(at[0]).max()


def test_who_is_nearest_is_found_once_for_tsne_and_umap(tmp_path, monkeypatch):
    folder, (first, *_, last) = tiny(tmp_path)
    asked = []
    monkeypatch.setattr(pictures, "nearest", lambda *given: asked.append(given[2]) or nearest(*given))
    names = ["umap-2", "tsne-2", "tsne-3", picture_name("umap", 2, n_neighbors=5)]
    for name in names:
        draw(folder, last, name)
    assert asked == [91]
    alone = PROJECTIONS["umap"].points(last.embeddings[:100], 2)
    assert np.array_equal(folder.points("umap-2", last.step).points, alone)
    near = kept_neighbours(folder, last.embeddings[:100])
    assert near(97)[0].shape == (100, 97)
    assert asked == [91, 97]
    (file,) = folder.path.glob("neighbours/*.safetensors")
    file.write_bytes(file.read_bytes()[:99])
    assert np.array_equal(near(7)[0], nearest(last.embeddings[:100], last.embeddings[:100], 7)[0])
    draw(folder, first, "umap-2")
    assert len(list(folder.path.glob("neighbours/*.safetensors"))) == 1


def test_all_moments_can_be_shown_on_the_axes_of_the_last(tmp_path):
    folder, (first, *_, last) = tiny(tmp_path)
    draw(folder, last, "pca-2")
    draw(folder, last, name := picture_name("pca", 2, basis=last.step))
    assert folder.drawn(name) == list(folder.moments())
    assert folder.points(name, last.step).points == pytest.approx(folder.points("pca-2", last.step).points, abs=1e-4)
    linear, *_ = np.linalg.lstsq(
        last.embeddings[:100] - last.embeddings[:100].mean(0), folder.points("pca-2", last.step).points
    )
    expected = (first.embeddings[:100] - last.embeddings[:100].mean(0)) @ linear
    shown = folder.points(name, first.step)
    assert shown.points == pytest.approx(expected, abs=1e-3)
    assert 0 < shown.quality[3] < folder.points(name, last.step).quality[3]  # early moments vary elsewhere


def test_labels_by_chance_are_the_same_labels_and_knn_is_counted_for_them(tmp_path):
    folder, (*_, last) = tiny(tmp_path)
    draw(folder, last, "pca-2")
    real = folder.points("pca-2", last.step)
    chance = with_shuffled_labels(real)
    assert sorted(chance.labels) == sorted(real.labels)
    assert (chance.labels != real.labels).mean() > 0.5
    assert chance.quality[1] == pytest.approx(knn_inside(neighbours(real.points, 5), chance.labels))
    assert np.array_equal(chance.points, real.points)
    assert len(chance.centers) == 0
    old = real._replace(quality=real.quality[:2])
    assert len(with_shuffled_labels(old).quality) == 0  # of pictures from before, nobody measured it


@pytest.fixture
def slowly(monkeypatch):
    """Every slice of a refining is kept."""
    monkeypatch.setattr(pictures, "OFTEN", 0.0)


def job(folder: RunFolder, snapshot: Snapshot, name: str = "tsne-2") -> dict:
    file = folder.moments()[snapshot.step]
    return {"run": "x", "step": snapshot.step, "name": name, "file": str(file), "folder": str(folder.path)}


@pytest.mark.xdist_group("tsne")
def test_a_picture_is_seen_to_move_until_it_is_finished(tmp_path, slowly):
    folder, (*_, last) = tiny(tmp_path)
    hand = {}
    assert serve("tsne", job(folder, last), hand) == ""
    (one,) = hand.values()
    done, total, divergence = folder.points("tsne-2", last.step).refining
    assert (done, total) == (60, 500)
    while refine(one):
        now = folder.points("tsne-2", last.step).refining
        assert now[0] == done + 25
        done = now[0]
    assert now[2] < divergence
    finished = folder.points("tsne-2", last.step)
    assert len(finished.refining) == 0
    assert len(finished.quality) == 5


@pytest.mark.xdist_group("tsne")
def test_a_newer_moment_ends_the_refining_and_starts_from_there(tmp_path, slowly):
    folder, (first, *_, last) = tiny(tmp_path)
    hand = {}
    serve("tsne", job(folder, first), hand)
    assert len(folder.points("tsne-2", first.step).refining)
    serve("tsne", job(folder, last), hand)
    assert len(folder.points("tsne-2", first.step).refining) == 0  # it never changes again
    assert [one.snapshot.step for one in hand.values()] == [last.step]
    serve("tsne", job(folder, last), hand)  # asked for once more: it is in hand already
    assert [one.slices for one in hand.values()] == [1]


@pytest.mark.xdist_group("tsne")
def test_a_pause_holds_for_a_picture_and_a_deleted_run_is_not_refined(tmp_path, slowly):
    folder, (*_, last) = tiny(tmp_path)
    hand = {}
    serve("tsne", job(folder, last), hand)
    (one,) = hand.values()
    assert not one.paused
    folder.pause("tsne-2", True)
    assert one.paused
    folder.pause("tsne-2", False)
    assert not one.paused
    shutil.rmtree(folder.path)
    assert not refine(one)
    assert not folder.path.exists()


def test_a_picture_that_cannot_be_drawn_says_why(tmp_path):
    folder, (*_, last) = tiny(tmp_path)
    few = replace(last, embeddings=last.embeddings[:3], labels=last.labels[:3])
    folder.keep(2, few)
    hand = {}
    assert "4 images or more" in serve("tsne", job(folder, few), hand)
    assert not hand
