"""Verification and identification: by hand, against scikit-learn, and what holds for any scores."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from faces.verification import curve, eer, rank1, roc, tar_at_far

counts = arrays(np.int64, st.integers(2, 30), elements=st.integers(0, 20)).filter(lambda found: found.sum() > 0)


def circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def blobs(n: int, classes: int, spread: float, seed: int = 0, dim: int = 32) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    rows = random.normal(size=(classes, dim))[labels] + spread * random.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_a_roc_by_hand():
    """Genuine pairs 10 and 10 degrees apart, impostors 5, 15, 15 and 25."""
    found = roc(circle(0, 10, 15, 25), np.array([0, 0, 1, 1]))
    assert (found.genuine, found.impostors) == (2, 4)
    assert found.far == pytest.approx([0, 0.25, 0.25, 0.75, 1])
    assert found.tar == pytest.approx([0, 0, 1, 1, 1])
    assert eer(found) == pytest.approx(0.25)
    assert tar_at_far(found, 0.25) == 1.0
    assert math.isnan(tar_at_far(found, 0.1))


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_a_roc_equals_scikit_learns(spread):
    from sklearn.metrics import roc_curve

    rows, labels = blobs(700, 5, spread)  # more than one chunk
    one, other = np.triu_indices(len(rows), 1)
    same, scores = labels[one] == labels[other], (rows @ rows.T)[one, other]
    far, tar, _ = roc_curve(same, scores)
    found = roc(rows, labels)
    assert (found.genuine, found.impostors) == (same.sum(), (~same).sum())
    assert np.trapezoid(found.tar, found.far) == pytest.approx(np.trapezoid(tar, far), abs=1e-4)
    for rate in np.geomspace(2e-5, 1, 30):
        assert tar_at_far(found, rate) == pytest.approx(tar[far <= rate].max(), abs=2e-3)
    place = np.argmin(np.abs(far - (1 - tar)))
    assert eer(found) == pytest.approx(far[place], abs=2e-3)


def test_classes_that_are_apart_make_no_errors():
    found = roc(*blobs(90, 3, 0.01))
    assert eer(found) == 0
    assert tar_at_far(found, 0.001) == 1
    assert rank1(*blobs(90, 3, 0.01)) == 1


def test_embeddings_that_know_nothing_of_the_classes_score_as_chance_does():
    rows, _ = blobs(900, 900, 1.0)
    labels = np.arange(900) % 4
    found = roc(rows, labels)
    assert eer(found) == pytest.approx(0.5, abs=0.02)
    assert tar_at_far(found, 0.01) == pytest.approx(0.01, abs=0.005)
    assert rank1(rows, labels) == pytest.approx(0.25, abs=0.02)


def test_embeddings_that_have_all_become_one_are_never_right():
    rows = np.repeat(circle(20), 8, axis=0)
    labels = np.arange(8) % 2
    assert eer(roc(rows, labels)) == 0.5
    assert rank1(rows, labels) == 0.0


def test_a_rate_too_rare_for_its_pairs_is_not_guessed():
    genuine, impostors = np.array([5, 5]), np.array([0, 100])
    found = curve(genuine, impostors)
    assert tar_at_far(found, 0.01) == 0.5
    assert math.isnan(tar_at_far(found, 0.0099))


@settings(max_examples=100, deadline=None)
@given(counts, counts)
def test_a_roc_climbs_from_none_to_all(genuine, impostors):
    bins = max(len(genuine), len(impostors))
    found = curve(np.pad(genuine, (0, bins - len(genuine))), np.pad(impostors, (0, bins - len(impostors))))
    for rates in (found.far, found.tar):
        assert rates[0] == 0
        assert rates[-1] == pytest.approx(1)
        assert (np.diff(rates) >= 0).all()
    assert 0 <= eer(found) <= 1
    rates = [rate for rate in (0.5, 0.1, 0.01) if found.impostors * rate >= 1]
    tars = [tar_at_far(found, rate) for rate in rates]
    assert tars == sorted(tars, reverse=True)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, 40, elements=st.floats(-3, 3)), st.integers(1, 39))
def test_only_the_order_of_scores_counts(scores, genuine):
    """Every rising transform of the scores gives the same curve."""

    def told(scores: np.ndarray) -> tuple:
        _, place = np.unique(-scores, return_inverse=True)
        kinds = [np.bincount(place[kind], minlength=40) for kind in (slice(genuine), slice(genuine, None))]
        found = curve(*kinds)
        return eer(found), tar_at_far(found, 0.1)

    scores = np.round(scores, 3)
    assert told(scores) == pytest.approx(told(np.exp(scores) * 5 - 2), nan_ok=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_neither_the_order_of_images_nor_the_names_of_classes_count(seed):
    rows, labels = blobs(60, 3, 1.0, seed)
    shuffled = np.random.default_rng(seed).permutation(60)
    assert eer(roc(rows, labels)) == pytest.approx(eer(roc(rows[shuffled], 40 - 2 * labels[shuffled])), abs=1e-3)
    assert rank1(rows, labels) == pytest.approx(rank1(rows[shuffled], 40 - 2 * labels[shuffled]), abs=1e-3)


def test_rank_1_by_hand():
    """Image 0 is beaten by the impostor at 5 degrees, not by that at 90; the others of its class by none."""
    rows, labels = circle(0, 10, 5, 90), np.array([0, 0, 1, 1])
    # image at 0: own at 10; enrolled impostor at 5 (miss) or 90 (hit): 1/2. Image at 10: own at 0, 10 away; 5 away
    # (miss) or 80 (hit): 1/2. Image at 5: own at 90, 85 away; 5 away twice: 0. Image at 90: own 85 away; 90 or 80: 1/2.
    assert rank1(rows, labels) == pytest.approx((0.5 + 0.5 + 0 + 0.5) / 4)


def test_rank_1_is_the_mean_over_all_galleries():
    rows, labels = blobs(12, 3, 1.5, dim=4)
    hits = []
    for asked in range(12):
        others = [[i for i in range(12) if labels[i] == label and i != asked] for label in range(3)]
        for gallery in np.stack(np.meshgrid(*others), -1).reshape(-1, 3):
            hits.append((labels[asked], labels[gallery[np.argmax(rows[gallery] @ rows[asked])]]))
    per = [own == named for own, named in hits]
    assert rank1(rows, labels) == pytest.approx(np.mean(per))
    assert 0.4 < np.mean(per) < 0.95


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_no_pair_of_one_kind_is_said_in_one_sentence(labels):
    for measure in (roc, rank1):
        with pytest.raises(ValueError, match=r"\d.* two|two"):
            measure(circle(0, 10, 20), np.array(labels))
