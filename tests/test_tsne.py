"""The t-SNE engine: its affinities, its gradient and its KL beside scikit-learn's, on few points."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faces.datasets.base import Progressed
from faces.projections import PROJECTIONS, pca
from faces.tsne import Affinities, Layout, affinities, conditional, slopes
from tests.test_looking import blobs

pytestmark = pytest.mark.xdist_group("tsne")  # compiled once a process


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(8, 60), st.floats(0.01, 100), st.data())
def test_every_image_has_the_perplexity_that_was_asked_for(seed, k, scale, data):
    perplexity = data.draw(st.floats(1.5, 0.9 * k))
    squared = scale * np.random.default_rng(seed).exponential(size=(7, k))
    shares = conditional(squared, perplexity)
    assert shares.sum(1) == pytest.approx(np.ones(7))
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1)
    assert np.exp(entropy) == pytest.approx(np.full(7, perplexity), rel=1e-4)


def test_affinities_are_symmetric_sum_to_one_and_equal_scikit_learns():
    from scipy.sparse import csr_array
    from sklearn.manifold._t_sne import _joint_probabilities_nn
    from sklearn.neighbors import NearestNeighbors

    rows, _ = blobs(200, spread=0.9)
    pairs = affinities(rows, 12)
    ours = csr_array((pairs.values, pairs.columns, pairs.starts), (200, 200)).toarray()
    assert np.array_equal(ours, ours.T)
    assert ours.sum() == pytest.approx(1, abs=1e-5)
    assert (ours.diagonal() == 0).all()
    graph = NearestNeighbors(n_neighbors=36).fit(rows.astype(np.float64)).kneighbors_graph(mode="distance")
    graph.data **= 2
    assert ours == pytest.approx(_joint_probabilities_nn(graph, 12, 0).toarray(), abs=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_the_slopes_are_those_of_the_divergence(axes):
    """Against central differences of KL in float64, which is written here once more, densely."""
    rows, _ = blobs(9, 5, 3)
    pairs = affinities(rows, 2)
    dense = np.zeros((9, 9))
    for i in range(9):
        part = slice(pairs.starts[i], pairs.starts[i + 1])
        dense[i, pairs.columns[part]] = pairs.values[part]

    def divergence(points: np.ndarray) -> float:
        w = 1 / (1 + ((points[:, None] - points[None]) ** 2).sum(-1))
        np.fill_diagonal(w, 0)
        return float((dense[dense > 0] * np.log(dense[dense > 0] / (w / w.sum())[dense > 0])).sum())

    points = np.random.default_rng(0).normal(size=(9, axes))
    found = np.empty((axes, 9), np.float32)
    slopes(np.ascontiguousarray(points.T, dtype=np.float32), *pairs.arrays, 1.0, found)
    expected = np.empty((9, axes))
    for at in np.ndindex(9, axes):
        step = np.zeros((9, axes))
        step[at] = 1e-5
        expected[at] = (divergence(points + step) - divergence(points - step)) / 2e-5
    assert pytest.approx(expected, abs=1e-5) == found.T
    assert np.abs(expected).max() > 0.01
    layout = Layout(pairs, points)
    assert layout.divergence == pytest.approx(divergence(layout.points.astype(np.float64)), abs=1e-5)


@pytest.mark.parametrize(("axes", "count"), [(2, 100), (2, 300), (3, 300)])  # scikit-learn fails on 100 points in 3-D
def test_its_divergence_is_as_small_as_scikit_learns(axes, count):
    from sklearn.manifold import TSNE

    rows, _ = blobs(count, spread=0.9)
    pairs = affinities(rows, 15)
    model = TSNE(axes, perplexity=15, method="exact" if axes == 3 else "barnes_hut", random_state=0, init="pca")
    theirs = at_rest(pairs, model.fit_transform(rows))
    layout = Layout(pairs, pca(rows, axes))
    layout.go_on(layout.total)
    assert layout.divergence <= 1.05 * theirs
    assert theirs < 0.6 * Layout(pairs, pca(rows, axes)).divergence  # else the comparison would say little


def at_rest(pairs: Affinities, points: np.ndarray) -> float:
    """The divergence of points as they are, not shrunk."""
    layout = Layout(pairs, points)
    layout._laid[:] = (points - points.mean(0)).T
    return layout.divergence


def test_slices_are_the_same_iterations():
    rows, _ = blobs(50)
    pairs = affinities(rows, 10)
    whole, sliced = Layout(pairs, pca(rows, 2)), Layout(pairs, pca(rows, 2))
    whole.go_on(100)
    for _ in range(10):
        sliced.go_on(10)
    assert np.array_equal(whole.points, sliced.points)
    sliced.go_on(10**6)
    assert sliced.done == sliced.total
    assert sliced.divergence < whole.divergence


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("count", [4, 5, 10])
def test_a_handful_of_images_is_laid_out(axes, count):
    points = PROJECTIONS["tsne"].points(blobs(count)[0], axes)
    assert points.shape == (count, axes)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("copies", [2, 40, 200])
def test_copies_of_an_image_are_laid_out(copies):
    """200 of 200: nothing tells the images apart; 40: more copies than an image has neighbours."""
    rows = np.repeat(blobs(200 // copies)[0], copies, axis=0)
    points = PROJECTIONS["tsne"].points(rows, 2, perplexity=5)
    assert np.isfinite(points).all()


def test_another_seed_begins_elsewhere_and_the_same_one_does_not():
    rows, _ = blobs()
    for name in ("tsne", "umap"):
        first, same, other = (PROJECTIONS[name].points(rows, 2, seed=seed) for seed in (3, 3, 4))
        assert np.array_equal(first, same)
        assert not np.allclose(first, other, atol=1)


def test_it_is_shown_on_its_way_and_ends_where_it_ends_unwatched():
    rows, _ = blobs()
    *before, last = PROJECTIONS["tsne"].stages(rows, 2)
    assert [stage.last for stage in before] == [False] * len(before)
    assert last.last
    assert before[0].done == 60
    assert {later.done - one.done for one, later in pairwise(before)} == {25}
    assert last.divergence < before[0].divergence
    assert np.array_equal(last.points, PROJECTIONS["tsne"].points(rows, 2))


def test_a_listener_that_raises_ends_it_at_once():
    heard = []

    def leave(progressed: Progressed) -> None:
        heard.append(progressed)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PROJECTIONS["tsne"].points(blobs()[0], 2, progress=leave)
    assert len(heard) == 1


def test_what_is_compiled_is_kept_on_the_disk():
    code = "import numpy as np; from faces.tsne import conditional; conditional(np.ones((3, 4)), 2.0); "
    code += "print(sum(conditional.stats.cache_hits.values()))"
    run = lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: E731
    run()
    assert run().stdout.split() == ["1"]
