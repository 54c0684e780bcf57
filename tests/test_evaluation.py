"""Measures of embeddings and of pictures: by hand, against the libraries, and what holds for all of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faces.evaluation import (
    angles,
    center_shares,
    effective_rank,
    knn_inside,
    neighbours,
    silhouette,
    trustworthiness,
    vote,
)
from trainer.measuring import ranks, verified


def circle(*degrees: float) -> np.ndarray:
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def blobs(n: int = 120, dim: int = 16, classes: int = 4, spread: float = 0.9, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    rows = random.normal(size=(classes, dim))[labels] + spread * random.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_map_at_r_and_r_precision_by_hand():
    """At 0, 10 and 40 degrees class 0, at 15 class 1 twice over: R is 2 for class 0 and 1 for class 1."""
    rows, labels = circle(0, 10, 40, 14, 16), np.array([0, 0, 0, 1, 1])
    # asked 0:  10 (yes), 14 (no)    R-precision 1/2, MAP@R (1/1) / 2
    # asked 10: 14 (no), 16 (no)     0, 0
    # asked 40: 16 (no), 14 (no)     0, 0
    # asked 14: 16 (yes)             1, 1
    # asked 16: 14 (yes)             1, 1
    assert ranks(rows, labels) == pytest.approx({"map_at_r": 2.5 / 5, "r_precision": 2.5 / 5})
    rows, labels = circle(0, 10, 5, 60), np.array([0, 0, 1, 0])
    # asked 0: 5 (no), 10 (yes): 1/2 and (1/2) / 2; asked 10: 5 (no), 0 (yes): the same; asked 60: 10, 5 : 1/2 and 1/2
    assert ranks(rows, labels) == pytest.approx({"map_at_r": (0.25 + 0.25 + 0.5) / 3, "r_precision": 0.5})


def test_images_alone_in_their_class_have_no_rank_and_too_few_no_score():
    assert ranks(circle(0, 10, 20), np.array([0, 1, 2])) == {}
    assert verified(circle(0, 10, 20), np.array([0, 1, 2])) == {}
    assert verified(circle(0, 10), np.array([0, 0])) == {}
    assert math.isnan(silhouette(circle(0, 10, 20), np.array([0, 1, 2])))
    assert math.isnan(silhouette(circle(0, 10, 20), np.array([0, 0, 0])))


def test_effective_rank_counts_directions_that_are_used_alike():
    axes = np.concatenate([np.eye(4, 9), -np.eye(4, 9)]).astype(np.float32)
    assert effective_rank(axes) == pytest.approx(4)
    assert effective_rank(axes + 3) == pytest.approx(4, rel=1e-4)  # where the middle is does not count
    line = np.linspace(-1, 1, 9)[:, None].astype(np.float32) * np.eye(1, 5, dtype=np.float32)
    assert effective_rank(line) == pytest.approx(1)
    assert effective_rank(np.ones((5, 3), np.float32)) == 0


def test_effective_rank_by_hand():
    """Singular values 2 : 1, shares 2/3 and 1/3."""
    rows = np.array([[2, 0], [-2, 0], [0, 1], [0, -1]], np.float32)
    shares = np.array([2 / 3, 1 / 3])
    assert effective_rank(rows) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12))
def test_effective_rank_lies_between_one_and_the_number_of_directions(seed, dim):
    rows, _ = blobs(40, dim, seed=seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    found = effective_rank(rows)
    assert 1 <= found <= dim + 1e-6
    assert effective_rank((rows @ rotation).astype(np.float32)) == pytest.approx(found, rel=1e-3)


def test_silhouette_by_hand():
    """One pair at 0 and 60 degrees, one at 180 twice over."""
    rows, labels = circle(0, 60, 180, 180), np.array([0, 0, 1, 1])
    own, other = 1 - 0.5, np.array([2.0, 1.5])
    assert silhouette(rows, labels) == pytest.approx(((1 - own / other).sum() + 2) / 4, abs=1e-6)


def test_angles_by_hand():
    """Two centers of class 0 at 0 and 90 degrees, one of class 1 at 180."""
    centers, owners = circle(0, 90, 180), np.array([0, 0, 1])
    own, other = angles(circle(30, 80, 170), np.array([0, 0, 1]), centers, owners)
    assert np.degrees(own) == pytest.approx([30, 10, 10], abs=1e-3)
    assert np.degrees(other) == pytest.approx([150, 100, 80], abs=1e-3)


@pytest.mark.parametrize("angle", [1e-5, 1e-3, math.pi - 1e-5])
def test_angles_are_right_at_both_ends(angle):
    one = np.array([[1, 0], [0, 1]], np.float32)
    turned = np.array([[math.cos(angle), math.sin(angle)]], np.float32)
    own, _ = angles(turned, np.array([0]), one, np.array([0, 1]))
    assert own[0] == pytest.approx(angle, abs=2e-7)


def test_center_shares_by_hand():
    """Class 0 splits 3 : 1 over its centers, class 1 goes to one: (3/4 + 1) / 2 and (1/4 + 0) / 2."""
    centers, owners = circle(0, 90, 180, 270), np.array([0, 0, 1, 1])
    rows, labels = circle(80, 95, 100, 10, 190, 200), np.array([0, 0, 0, 0, 1, 1])
    assert center_shares(rows, labels, centers, owners) == pytest.approx([7 / 8, 1 / 8])


def test_a_tied_vote_goes_to_the_smaller_class():
    assert vote(np.array([[2, 1, 1], [3, 0, 2], [4, 4, 1]])).tolist() == [1, 0, 4]


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_trustworthiness_equals_scikit_learns(noise):
    from sklearn.manifold import trustworthiness as expected

    rows, _ = blobs(200)
    points = (rows[:, :2] + noise * np.random.default_rng(1).normal(size=(200, 2))).astype(np.float32)
    found = trustworthiness(rows, neighbours(points, 5))
    assert found == pytest.approx(expected(rows, points, n_neighbors=5, metric="cosine"), abs=1e-6)
    assert 0.4 < found < 0.95


def test_a_picture_that_keeps_all_neighbours_is_trusted_wholly_and_one_of_noise_by_half():
    turned = np.random.default_rng(0).uniform(0, 90, 300)
    rows = circle(*turned)
    assert trustworthiness(rows, neighbours(rows, 5)) == pytest.approx(1, abs=1e-4)
    noise = np.random.default_rng(1).normal(size=(300, 2))
    assert trustworthiness(rows, neighbours(noise, 5)) == pytest.approx(0.5, abs=0.03)


def test_knn_inside_a_picture_equals_scikit_learns_leaving_one_out():
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    rows, labels = blobs(80)
    points = rows[:, :2]
    expected = cross_val_score(KNeighborsClassifier(5), points, labels, cv=LeaveOneOut()).mean()
    assert knn_inside(neighbours(points, 5), labels) == pytest.approx(expected)
    assert 0.3 < expected < 0.95


def test_too_few_points_are_refused():
    few = circle(*range(10))
    with pytest.raises(ValueError, match=r"10 points.*5"):
        trustworthiness(few, neighbours(few, 5))
    with pytest.raises(ValueError, match=r"5 points.*5"):
        neighbours(few[:5], 5)
