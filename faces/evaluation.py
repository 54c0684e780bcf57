"""What embeddings are worth: KNN and class-mean accuracy, explained variance, angles, pictures. NumPy only.

Embeddings are rows of unit length. "Known" are the images whose labels a search may use (training),
"asked" the ones it must name (validation).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

CHUNK = 512  # asked rows a matrix product takes at once


Near = Callable[
    [int], tuple[Int[ndarray, "N k"], Float[ndarray, "N k"]]
]  # `nearest` of N images among themselves, by k


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
    voted = known_labels[rows]  # (asked, max k)
    return {k: float((vote(voted[:, :k]) == asked_labels).mean()) for k in ks}


def vote(labels: Int[ndarray, "asked k"]) -> Int[ndarray, " asked"]:
    """The label that occurs most often in each row; of a tie the smallest."""
    return (labels[:, :, None] == np.arange(int(labels.max()) + 1)).sum(1).argmax(1)


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


def lost_classes(predictions: Int[ndarray, " N"], labels: Int[ndarray, " N"]) -> Int[ndarray, " lost"]:
    """The classes of which less than half of the images are named right, in order."""
    return np.array(
        [label for label in np.unique(labels) if 2 * (predictions == label)[labels == label].mean() < 1], int
    )


def principal(embeddings: Float[ndarray, "N D"]) -> tuple[Float[ndarray, " D"], Float[ndarray, "D D"]]:
    """The principal axes, as columns of unit length, and the share of the total variance along each, largest first.

    From the eigenvectors of the scatter matrix, in float64. Embeddings that do not vary at all explain nothing: zeros.
    """
    spread = embeddings - embeddings.mean(0)
    variances, directions = np.linalg.eigh((spread.T @ spread).astype(np.float64))  # smallest first
    variances = variances[::-1].clip(0)
    total = variances.sum()
    return variances / total if total > 0 else variances, directions[:, ::-1]


def explained_variance(
    embeddings: Float[ndarray, "N D"], components: int | None = None
) -> Float[ndarray, " components"]:
    """Share of the total variance along each principal axis, largest first; all D of them by default."""
    return principal(embeddings)[0][:components]


def effective_rank(embeddings: Float[ndarray, "N D"]) -> float:
    """How many directions embeddings use: exp of the entropy of the shares of the singular values, 0 to D.

    Roy and Vetterli, "The effective rank" (EUSIPCO 2007), of the centered embeddings, as explained variance is.
    Embeddings that do not vary at all use none: 0.
    """
    lengths = np.sqrt(explained_variance(embeddings))
    if not lengths.any():
        return 0.0
    shares = lengths[lengths > 0] / lengths.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def silhouette(embeddings: Float[ndarray, "N D"], labels: Int[ndarray, " N"]) -> float:
    """How much nearer, by cosine, images are to their own class than to the next one, -1 to 1; by scikit-learn.

    nan with fewer than two classes, or with no class of two images.
    """
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(embeddings, labels, metric="cosine"))


def angles(
    embeddings: Float[ndarray, "N D"],
    labels: Int[ndarray, " N"],
    centers: Float[ndarray, "M D"],
    center_labels: Int[ndarray, " M"],
) -> tuple[Float[ndarray, " N"], Float[ndarray, " N"]]:
    """The angle of each embedding to the nearest center of its own class, and to the nearest of another, in radians.

    Rows must have unit length.
    """
    cosine = embeddings @ centers.T  # (N, M)
    own = labels[:, None] == center_labels

    def to(allowed: ndarray) -> ndarray:
        return apart(embeddings, centers[np.where(allowed, cosine, -np.inf).argmax(1)])

    return to(own), to(~own)


def apart(some: Float[ndarray, "N D"], others: Float[ndarray, "N D"]) -> Float[ndarray, " N"]:
    """The angle between each row and the other of its place, both of unit length, in radians.

    2 * atan2(|a - b|, |a + b|): right at both ends, where the arccos of a float32 cosine is off by up to 3e-4.
    """
    return 2 * np.arctan2(np.linalg.norm(some - others, axis=1), np.linalg.norm(some + others, axis=1))


def center_shares(
    embeddings: Float[ndarray, "N D"],
    labels: Int[ndarray, " N"],
    centers: Float[ndarray, "M D"],
    center_labels: Int[ndarray, " M"],
) -> Float[ndarray, " K"]:
    """The share of a class's images that each of its K centers is nearest to, largest first; the mean over classes."""
    found = []
    for label in np.unique(labels):
        winners = (embeddings[labels == label] @ centers[center_labels == label].T).argmax(1)
        wins = np.bincount(winners, minlength=int((center_labels == label).sum()))
        found.append(np.sort(wins / wins.sum())[::-1])
    return np.mean(found, axis=0)


def trustworthiness(embeddings: Float[ndarray, "N D"], near: Int[ndarray, "N k"]) -> float:
    """How far `neighbours` in a picture are neighbours by cosine too: 1 when all are, about 0.5 by chance.

    1 - 2 / (N k (2N - 3k - 1)) * sum of (rank - k) over those whose rank by cosine exceeds k (Venna and Kaski,
    "Neighborhood preservation in nonlinear projection methods", 2001). scikit-learn has the same; importing it
    takes longer than the first picture of a training may, and a test holds the two equal.
    Raises ValueError for 2k points or fewer.
    """
    count, k = near.shape
    if count <= 2 * k:
        raise ValueError(f"{count} points are too few for {k} neighbours; more than {2 * k} are needed.")
    far = -(embeddings @ embeddings.T)  # (N, N)
    np.fill_diagonal(far, -np.inf)  # rank 0
    ranks = np.stack([(far < np.take_along_axis(far, near[:, [i]], axis=1)).sum(1) for i in range(k)], axis=1)
    excess = np.maximum(ranks - k, 0).sum()
    return float(1 - 2 / (count * k * (2 * count - 3 * k - 1)) * excess)


def knn_inside(near: Int[ndarray, "N k"], labels: Int[ndarray, " N"]) -> float:
    """Share of points whose `neighbours` in a picture vote for their class; ties to the smaller index."""
    return float((vote(labels[near]) == labels).mean())


def knn_among(embeddings: Float[ndarray, "N D"], labels: Int[ndarray, " N"], k: int = 5) -> float:
    """Share of embeddings whose k nearest others, by cosine, vote for their class; ties to the smaller index.

    It compares with `knn_inside`: the same points, leaving one out. Raises ValueError for k points or fewer.
    """
    if len(embeddings) <= k:
        raise ValueError(f"{len(embeddings)} embeddings do not have {k} neighbours each.")
    near = embeddings @ embeddings.T  # (N, N)
    np.fill_diagonal(near, -np.inf)
    return float((vote(labels[np.argpartition(-near, k - 1, axis=1)[:, :k]]) == labels).mean())


def neighbours(points: Float[ndarray, "N axes"], k: int) -> Int[ndarray, "N k"]:
    """The k nearest other points of each point, in no order. Raises ValueError for k points or fewer."""
    if len(points) <= k:
        raise ValueError(f"{len(points)} points do not have {k} neighbours each.")
    apart = sum((axis[:, None] - axis) ** 2 for axis in points.T)  # (N, N)
    np.fill_diagonal(apart, np.inf)
    return np.argpartition(apart, k - 1, axis=1)[:, :k]
