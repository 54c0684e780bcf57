"""Projections: embeddings (N, D) laid out as points on 2 or 3 axes. A new one is one function with its line below.

    PROJECTIONS["pca"].points(embeddings, axes=2, start=None, progress=silent, **knobs) -> points (N, axes) float32

`start` is the layout of the same images a moment earlier: the new points begin there, or are turned to
lie near it, so that a picture moves only when the embeddings do. The same input gives the same points. `stages`
gives, before the last, the points on their way there, where a layout yields them. `near` knows the nearest neighbours
of each image, with which t-SNE and UMAP begin, where somebody has found them already.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from faces.datasets.base import Listener, Progress, silent
from faces.evaluation import Near, nearest, principal
from faces.knobs import Choice, Knob, Number, Value, settle


class Stage(NamedTuple):
    """Points on their way: after `done` of `total` iterations, with the KL divergence that these make smaller."""

    points: Float[ndarray, "N axes"]
    done: int = 1
    total: int = 1
    divergence: float = float("nan")  # in nats

    @property
    def last(self) -> bool:
        """Whether these are the points to keep."""
        return self.done == self.total


@dataclass(frozen=True)
class Projection:
    """A way to lay embeddings out, its name for people, its knobs, and what its picture does not tell.

    `layout` returns points (N, axes), or yields stages up to the last.
    """

    title: str
    layout: Callable[..., Float[ndarray, "N axes"] | Iterator[Stage]]
    notice: str
    knobs: Mapping[str, Knob | Choice] = field(default_factory=dict)
    fewest: int = 1  # images that it can lay out

    def points(
        self,
        embeddings: Float[ndarray, "N D"],
        axes: int = 2,
        start: Float[ndarray, "before axes"] | None = None,
        progress: Progress = silent,
        **knobs: Value,
    ) -> Float[ndarray, "N axes"]:
        """Points on 2 or 3 axes, centered and turned towards `start`, which may be of more or of fewer of the images.

        ValueError for other axes or knobs, for too few images, and when the layout came out without numbers.
        """
        *_, last = self.stages(embeddings, axes, start, progress, None, **knobs)
        return last.points

    def stages(
        self,
        embeddings: Float[ndarray, "N D"],
        axes: int = 2,
        start: Float[ndarray, "before axes"] | None = None,
        progress: Progress = silent,
        near: Near | None = None,
        **knobs: Value,
    ) -> Iterator[Stage]:
        """The points as they come to be; those of the last stage are what `points` gives. ValueError as there."""
        if axes not in (2, 3):
            raise ValueError(f"axes = {axes} cannot be drawn; 2 or 3 can.")
        if len(embeddings) < self.fewest:
            raise ValueError(f"{self.title} lays out {self.fewest} images or more; here are {len(embeddings)}.")
        heard = Listener(f"Computing {self.title}", "rounds", progress)
        first = start[: len(embeddings)] if start is not None and len(start) >= len(embeddings) else None
        near = near or (lambda k: nearest(embeddings, embeddings, k))
        laid = self.layout(embeddings, axes, first, heard, near, **settle(self.knobs, knobs, 2))
        for stage in [Stage(laid)] if isinstance(laid, np.ndarray) else laid:
            points = stage.points
            if not np.isfinite(points).all():
                raise ValueError(f"{self.title} found no places for these {len(points)} images; PCA does.")
            points = points - points.mean(0)
            if start is not None:
                both = min(len(points), len(start))
                points = points @ turn(points[:both], start[:both])
            yield stage._replace(points=np.ascontiguousarray(points, dtype=np.float32))


def turn(points: Float[ndarray, "N axes"], reference: Float[ndarray, "N axes"]) -> Float[ndarray, "axes axes"]:
    """The rotation or reflection that lays points nearest to a reference (orthogonal Procrustes).

    `points @ turn(points, reference)` are the turned points; distances do not change.
    """
    left, _, right = np.linalg.svd(points.T.astype(np.float64) @ reference)
    return left @ right


def class_turn(
    points: Float[ndarray, "N axes"],
    labels: Int[ndarray, " N"],
    reference: Float[ndarray, "M axes"],
    reference_labels: Int[ndarray, " M"],
) -> Float[ndarray, "axes axes"]:
    """The rotation or reflection that lays a picture's class centroids nearest to those of another picture.

    Only classes that both have count; without any it is the identity.
    """
    both = np.intersect1d(labels, reference_labels)
    if not len(both):
        return np.eye(points.shape[1])
    return turn(centroids(points, labels, both), centroids(reference, reference_labels, both))


def class_residual(
    points: Float[ndarray, "N axes"],
    labels: Int[ndarray, " N"],
    reference: Float[ndarray, "M axes"],
    reference_labels: Int[ndarray, " M"],
) -> float:
    """How differently two pictures arrange the classes that both have, 0 to 1.

    0: the class centroids of one lie on those of the other after the best shift, turn, mirroring and size; 1: no
    fit explains anything. It is 1 - (sum of the singular values of A'B)^2 for the centroids A and B, each centered
    and of length 1 (the R^2 statistic of Procrustes analysis: Gower, "Generalized Procrustes Analysis",
    Psychometrika 40, 1975). nan with fewer than three common classes, and where all centroids of a picture coincide.
    """
    both = np.intersect1d(labels, reference_labels)
    if len(both) < 3:  # two always fit
        return float("nan")
    shapes = []
    for places, of in ((points, labels), (reference, reference_labels)):
        middles = centroids(places.astype(np.float64), of, both)
        middles -= middles.mean(0)
        length = np.linalg.norm(middles)
        if length < 1e-9:
            return float("nan")
        shapes.append(middles / length)
    common = np.linalg.svd(shapes[0].T @ shapes[1], compute_uv=False).sum()
    return float(np.clip(1 - common**2, 0, 1))


def centroids(
    points: Float[ndarray, "N axes"], labels: Int[ndarray, " N"], classes: Int[ndarray, " C"]
) -> Float[ndarray, "C axes"]:
    """The middle of each class's points."""
    return np.stack([points[labels == label].mean(0) for label in classes])


def pca(
    embeddings: Float[ndarray, "N D"],
    axes: int,
    start: ndarray | None = None,
    heard: Listener | None = None,
    near: Near | None = None,
) -> Float[ndarray, "N axes"]:
    """The axes of largest variance; each points to where its largest deviation lies."""
    directions = principal(embeddings)[1][:, :axes].astype(embeddings.dtype, order="C")
    points = (embeddings - embeddings.mean(0)) @ directions
    if points.shape[1] < axes:  # embeddings of 2 numbers drawn in 3-D
        points = np.pad(points, ((0, 0), (0, axes - points.shape[1])))
    deepest = points[np.abs(points).argmax(0), np.arange(axes)]
    return points * np.where(deepest < 0, -1, 1)


def tsne(
    embeddings: Float[ndarray, "N D"],
    axes: int,
    start: ndarray | None,
    heard: Listener,
    near: Near,
    perplexity: int,
    seed: int,
) -> Iterator[Stage]:
    """t-SNE of the cosines, from the earlier layout, else from PCA, shrunk so that the standard deviation is 1.

    Starting from the earlier layout as it stands freezes tangles; shrunk and pulled together first, it keeps the
    arrangement and reaches the quality of a fresh run. Perplexity as given, at most a third of the images.
    """
    from faces.tsne import EARLY, Layout, affinities

    pairs = affinities(embeddings, perplexity, near)
    layout = Layout(pairs, beginning(embeddings, axes, seed) if start is None else start)
    heard.total = layout.total
    layout.go_on(EARLY + FIRST_SIGHT - SLICE)
    while layout.done < layout.total:
        layout.go_on(SLICE)
        heard.reached(layout.done)
        yield Stage(layout.points, layout.done, layout.total, layout.divergence)


def umap(
    embeddings: Float[ndarray, "N D"],
    axes: int,
    start: ndarray | None,
    heard: Listener,
    near: Near,
    n_neighbors: int,
    min_dist: Number,
    seed: int,
) -> Float[ndarray, "N axes"]:
    """UMAP from an exact graph of nearest cosines and from PCA, 100 epochs, or from the earlier layout, 50.

    With the graph and the start given, these do nearly as well as the default's 500 and are many times
    faster than umap-learn left to itself: tests/benchmarks/results/projections.md. A quarter of the learning rate
    halves the way of points whose embeddings stay, from 0.17 to 0.08 of the radius (500 images, one run), and keeps
    the trustworthiness.
    """
    import warnings

    from umap import UMAP

    warnings.filterwarnings("ignore", message="precomputed_knn", module="umap")  # its index is for new images only
    n_neighbors = min(n_neighbors, len(embeddings) - 1)
    rows, cosines = near(n_neighbors)
    first = beginning(embeddings, axes, seed) if start is None else start
    first = first / max(float(np.abs(first).max()), 1e-12) * 10
    heard.total = 100 if start is None else 50
    model = UMAP(
        n_neighbors, axes, min_dist=min_dist, metric="cosine", n_epochs=heard.total, init=first.astype(np.float32),
        learning_rate=1.0 if start is None else 0.25, random_state=seed, n_jobs=1,
        precomputed_knn=(rows, np.maximum(1 - cosines, 0).astype(np.float32)),
        tqdm_kwds={"disable": False, "file": heard, "bar_format": "{n_fmt}"},
    )  # fmt: skip
    return model.fit_transform(embeddings)


def beginning(embeddings: Float[ndarray, "N D"], axes: int, seed: int) -> Float[ndarray, "N axes"]:
    """Where a layout begins that has no earlier one: at PCA for seed 0, at random places for any other."""
    if seed == 0:
        return pca(embeddings, axes)
    return np.random.default_rng(seed).normal(size=(len(embeddings), axes))


FIRST_SIGHT, SLICE = 40, 25  # iterations of t-SNE after the exaggeration until it is shown, and until it is again
SEED = Knob(0, 0, 99, "random draws; any but 0 also begins at random places instead of PCA, no unit")

PROJECTIONS = {
    "pca": Projection(
        "PCA", pca, "Distances shrink, none is invented: classes that overlap here may be apart in other axes."
    ),
    "tsne": Projection(
        "t-SNE", tsne, "Who is near whom is meant; the size of a cluster and the gap between two are not.",
        {"perplexity": Knob(30, 5, 100, "how many neighbours each image tries to keep, no unit"), "seed": SEED},
        fewest=4,
    ),
    "umap": Projection(
        "UMAP", umap, "Neighbourhoods are meant; distances between far clusters mean little.",
        {
            "n_neighbors": Knob(15, 2, 100, "size of the neighbourhood that is kept, images"),
            "min_dist": Knob(0.1, 0.0, 0.99, "how tightly points may pack, no unit"),
            "seed": SEED,
        },
        fewest=4,
    ),
}  # fmt: skip


def carried(
    others: Float[ndarray, "M D"], embeddings: Float[ndarray, "N D"], points: Float[ndarray, "N axes"]
) -> Float[ndarray, "M axes"]:
    """Where other vectors land under the linear map that took embeddings to points; for PCA, where it is exact."""
    middle = embeddings.mean(0)
    rows = (embeddings - middle).astype(np.float64)
    linear = np.linalg.pinv(rows.T @ rows, rcond=1e-8, hermitian=True) @ (rows.T @ points)
    return ((others - middle) @ linear).astype(np.float32)
