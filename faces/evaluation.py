"""What embeddings are worth: KNN and class-mean accuracy, explained variance. NumPy only.

Embeddings are rows of unit length. "Known" are the images whose labels a search may use (training),
"asked" the ones it must name (validation).
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

CHUNK = 512  # asked rows a matrix product takes at once


def nearest(
    known: Float[ndarray, "known dim"], asked: Float[ndarray, "asked dim"], k: int
) -> tuple[Int[ndarray, "asked k"], Float[ndarray, "asked k"]]:
    """The k known rows with the largest cosine for each asked row, nearest first, and those cosines.

    Raises ValueError when fewer than k rows are known.
    """
    if not 1 <= k <= len(known):
        raise ValueError(f"k = {k} neighbours were asked for; {len(known)} embeddings are known.")
    rows, cosines = [], []
    for start in range(0, len(asked), CHUNK):
        similar = asked[start : start + CHUNK] @ known.T  # (chunk, known)
        top = np.argpartition(-similar, k - 1, axis=1)[:, :k]  # (chunk, k)
        near = np.take_along_axis(similar, top, axis=1)
        order = np.lexsort((top, -near), axis=1)
        rows.append(np.take_along_axis(top, order, axis=1))
        cosines.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(rows), np.concatenate(cosines)


def knn_accuracies(
    known: Float[ndarray, "known dim"],
    known_labels: Int[ndarray, " known"],
    asked: Float[ndarray, "asked dim"],
    asked_labels: Int[ndarray, " asked"],
    ks: tuple[int, ...],
) -> dict[int, float]:
    """KNN accuracy for several k from one search; a k larger than the number of known rows is left out."""
    ks = tuple(k for k in ks if k <= len(known))
    rows, _ = nearest(known, asked, max(ks))
    classes = np.arange(int(known_labels.max()) + 1)
    voted = known_labels[rows]  # (asked, max k)
    return {k: float(((voted[:, :k, None] == classes).sum(1).argmax(1) == asked_labels).mean()) for k in ks}


def knn_accuracy(
    known: Float[ndarray, "known dim"],
    known_labels: Int[ndarray, " known"],
    asked: Float[ndarray, "asked dim"],
    asked_labels: Int[ndarray, " asked"],
    k: int = 5,
) -> float:
    """Share of asked points whose k nearest known points (by cosine) vote for their true class.

    A tied vote goes to the smaller class index. Raises ValueError when fewer than k points are known.
    """
    if k > len(known):
        raise ValueError(f"k = {k} neighbours were asked for; {len(known)} embeddings are known.")
    return knn_accuracies(known, known_labels, asked, asked_labels, (k,))[k]


def class_means(
    known: Float[ndarray, "known dim"], known_labels: Int[ndarray, " known"]
) -> tuple[Int[ndarray, " classes"], Float[ndarray, "classes dim"]]:
    """The classes that are known, in order, and the direction of each one's mean embedding (unit rows)."""
    classes, place = np.unique(known_labels, return_inverse=True)
    sums = (place == np.arange(len(classes))[:, None]).astype(known.dtype) @ known  # (classes, dim)
    return classes, sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)


def nearest_means(
    known: Float[ndarray, "known dim"], known_labels: Int[ndarray, " known"], asked: Float[ndarray, "asked dim"]
) -> Int[ndarray, " asked"]:
    """The class whose mean embedding is nearest, by cosine, to each asked row. A tie goes to the smaller index."""
    classes, means = class_means(known, known_labels)
    return classes[(asked @ means.T).argmax(1)]


def nearest_mean_accuracy(
    known: Float[ndarray, "known dim"],
    known_labels: Int[ndarray, " known"],
    asked: Float[ndarray, "asked dim"],
    asked_labels: Int[ndarray, " asked"],
) -> float:
    """Share of asked points that lie nearest to the mean of their true class."""
    return float((nearest_means(known, known_labels, asked) == asked_labels).mean())


def explained_variance(
    embeddings: Float[ndarray, "N D"], components: int | None = None
) -> Float[ndarray, " components"]:
    """Share of the total variance along each principal axis, largest first; all D of them by default.

    Embeddings that do not vary at all explain nothing: zeros.
    """
    spread = embeddings - embeddings.mean(0, keepdims=True)
    variances = np.linalg.eigvalsh(spread.T.astype(np.float64) @ spread)[::-1].clip(0)  # (D,)
    total = variances.sum()
    return (variances / total if total > 0 else variances)[:components]
