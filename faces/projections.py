"""Projections: embeddings (N, D) laid out as points on 2 or 3 axes. A new one is one function with its line below.

    PROJECTIONS["pca"].points(embeddings, axes=2, start=None, **knobs) -> points (N, axes) float32

`start` is the layout of the same images a moment earlier: the new points begin there, or are turned to
lie near it, so that a picture moves only when the embeddings do. The same input gives the same points.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from faces.evaluation import nearest
from faces.knobs import Choice, Knob, Number, Value, settle


@dataclass(frozen=True)
class Projection:
    """A way to lay embeddings out, its name for people, its knobs, and what its picture does not tell."""

    title: str
    layout: Callable[..., Float[ndarray, "N axes"]]
    notice: str
    knobs: Mapping[str, Knob | Choice] = field(default_factory=dict)

    def points(
        self,
        embeddings: Float[ndarray, "N D"],
        axes: int = 2,
        start: Float[ndarray, "N axes"] | None = None,
        **knobs: Value,
    ) -> Float[ndarray, "N axes"]:
        """Points on 2 or 3 axes, centered and turned towards `start`. ValueError for other axes or knobs."""
        if axes not in (2, 3):
            raise ValueError(f"axes = {axes} cannot be drawn; 2 or 3 can.")
        laid = self.layout(embeddings, axes, start, **settle(self.knobs, knobs, 2))
        laid = laid - laid.mean(0)
        return np.ascontiguousarray(laid if start is None else laid @ turn(laid, start), dtype=np.float32)


def turn(points: Float[ndarray, "N axes"], reference: Float[ndarray, "N axes"]) -> Float[ndarray, "axes axes"]:
    """The rotation or reflection that lays points nearest to a reference (orthogonal Procrustes).

    `points @ turn(points, reference)` are the turned points; distances do not change.
    """
    left, _, right = np.linalg.svd(points.T.astype(np.float64) @ reference)
    return left @ right


def pca(embeddings: Float[ndarray, "N D"], axes: int, start: ndarray | None) -> Float[ndarray, "N axes"]:
    """The axes of largest variance; each points to where its largest deviation lies."""
    spread = (embeddings - embeddings.mean(0)).astype(np.float64)
    _, vectors = np.linalg.eigh(spread.T @ spread)  # (D, D), smallest first
    points = spread @ vectors[:, ::-1][:, :axes]
    if points.shape[1] < axes:  # embeddings of 2 numbers drawn in 3-D
        points = np.pad(points, ((0, 0), (0, axes - points.shape[1])))
    deepest = points[np.abs(points).argmax(0), np.arange(axes)]
    return points * np.where(deepest < 0, -1, 1)


def tsne(
    embeddings: Float[ndarray, "N D"], axes: int, start: ndarray | None, perplexity: Number
) -> Float[ndarray, "N axes"]:
    """t-SNE of the cosines, by scikit-learn, from PCA or from the earlier layout shrunk to a speck.

    Starting from the earlier layout as it stands freezes tangles; shrunk first, it keeps the arrangement
    and reaches the quality of a fresh run (perplexity as given, at most a third of the images).
    """
    from sklearn.manifold import TSNE

    first = pca(embeddings, axes, None) if start is None else start
    first = first / max(float(first.std(0).max()), 1e-12) * 1e-4
    model = TSNE(
        axes, perplexity=min(perplexity, (len(embeddings) - 1) / 3), init=first.astype(np.float32), random_state=0,
        max_iter=500, n_jobs=1,
    )  # fmt: skip
    return model.fit_transform(embeddings)


def umap(
    embeddings: Float[ndarray, "N D"], axes: int, start: ndarray | None, n_neighbors: int, min_dist: Number
) -> Float[ndarray, "N axes"]:
    """UMAP from an exact graph of nearest cosines and from PCA, or from the earlier layout.

    With the graph and the start given, 100 epochs do nearly as well as the default's 500 and are many times
    faster than umap-learn left to itself.
    """
    import warnings

    from umap import UMAP

    warnings.filterwarnings("ignore", message="precomputed_knn", module="umap")  # its index is for new images only
    n_neighbors = min(n_neighbors, len(embeddings) - 1)
    rows, cosines = nearest(embeddings, embeddings, n_neighbors)
    first = pca(embeddings, axes, None) if start is None else start
    first = first / max(float(np.abs(first).max()), 1e-12) * 10
    model = UMAP(
        n_neighbors, axes, min_dist=min_dist, metric="cosine", n_epochs=100, init=first.astype(np.float32),
        random_state=0, n_jobs=1, precomputed_knn=(rows, np.maximum(1 - cosines, 0).astype(np.float32)),
    )  # fmt: skip
    return model.fit_transform(embeddings)


PROJECTIONS = {
    "pca": Projection(
        "PCA", pca, "Distances shrink, none is invented: classes that overlap here may be apart in other axes."
    ),
    "tsne": Projection(
        "t-SNE", tsne, "Who is near whom is meant; the size of a cluster and the gap between two are not.",
        {"perplexity": Knob(30, 5, 100, "how many neighbours each image tries to keep, no unit")},
    ),
    "umap": Projection(
        "UMAP", umap, "Neighbourhoods are meant; distances between far clusters mean little.",
        {
            "n_neighbors": Knob(15, 2, 100, "size of the neighbourhood that is kept, images"),
            "min_dist": Knob(0.1, 0.0, 0.99, "how tightly points may pack, no unit"),
        },
    ),
}  # fmt: skip


def carried(
    others: Float[ndarray, "M D"], embeddings: Float[ndarray, "N D"], points: Float[ndarray, "N axes"]
) -> Float[ndarray, "M axes"]:
    """Where other vectors land under the linear map that took embeddings to points; for PCA, where it is exact."""
    middle = embeddings.mean(0)
    linear, *_ = np.linalg.lstsq((embeddings - middle).astype(np.float64), points.astype(np.float64), rcond=1e-4)
    return ((others - middle) @ linear).astype(np.float32)
