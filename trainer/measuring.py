"""What a run measures beside the plain scores: at every look its head's cones, and at the last one all the rest."""

import copy
import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch.nn.functional import cross_entropy

from faces import verification
from faces.evaluation import angles, center_shares, effective_rank, silhouette
from faces.heads.base import CosineHead, Head
from faces.shapes import Features, Labels
from trainer.snapshot import Snapshot

MOST = 4000  # images that are compared pair by pair: the first of an order that keeps the classes in proportion
CHUNK = 4096  # features a head takes at once
DRAWN = 3  # numbers of the longest embedding that is drawn as it is
FINE = 1024  # angles at which a cone's edge is looked for
ROUND = 2048  # directions of the circle at which a forbidden arc is looked for
FARS = (0.1, 0.01, 0.001)  # false accept rates at which the true accept rate is told


def last_metrics(snapshot: Snapshot) -> dict[str, float]:
    """The scores of the last look, by their names in `Snapshot.metrics`. What these images cannot tell is left out.

    Ranks and silhouette are of the validation images among themselves, angles to the head's centers in radians.
    """
    embeddings, labels = snapshot.embeddings[:MOST], snapshot.labels[:MOST]
    found = ranks(embeddings, labels)
    found["silhouette"] = silhouette(embeddings, labels)
    found["effective_rank"] = effective_rank(snapshot.embeddings)
    if len(snapshot.centers):
        centers = snapshot.centers, snapshot.center_labels
        for whose, rows, own in (
            ("", snapshot.embeddings, snapshot.labels),
            ("train_", snapshot.known, snapshot.known_labels),
        ):
            to_own, to_other = angles(rows, own, *centers)
            found |= {f"{whose}own_angle": to_own.mean(), f"{whose}other_angle": to_other.mean()}
        if len(snapshot.centers) > len(np.unique(snapshot.center_labels)):
            shares = center_shares(snapshot.known, snapshot.known_labels, *centers)
            found |= {f"center_share_{place}": share for place, share in enumerate(shares, 1)}
    found |= verified(snapshot.unseen[:MOST], snapshot.unseen_labels[:MOST])
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def ranks(embeddings: Float[ndarray, "N D"], labels: Int[ndarray, " N"]) -> dict[str, float]:
    """MAP@R and R-precision of each image among all others, by pytorch-metric-learning (arXiv:2003.08505, eq. 3-4).

    R is the number of other images of the same class; an image that is alone in its class is not asked.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        from pytorch_metric_learning.utils.inference import CustomKNN

    names = {"map_at_r": "mean_average_precision_at_r", "r_precision": "r_precision"}
    if np.unique(labels, return_counts=True)[1].max(initial=0) < 2:
        return {}
    search = CustomKNN(CosineSimilarity())  # the default needs faiss
    told = AccuracyCalculator(
        tuple(names.values()), k="max_bin_count", device=torch.device("cpu"), knn_func=search
    ).get_accuracy(embeddings, labels)
    return {ours: told[theirs] for ours, theirs in names.items()}


def verified(embeddings: Float[ndarray, "U D"], labels: Int[ndarray, " U"]) -> dict[str, float]:
    """Verification and identification on classes that training has not seen; nothing for fewer than two classes.

    A TAR is nan at a FAR too rare for the number of impostor pairs.
    """
    sizes = np.unique(labels, return_counts=True)[1]
    if len(sizes) < 2 or sizes.max() < 2:
        return {}
    curve = verification.roc(embeddings, labels)
    tars = {f"tar_at_far_{far}": verification.tar_at_far(curve, far) for far in FARS}
    return {"eer": verification.eer(curve), **tars, "rank1": verification.rank1(embeddings, labels)}


def asked_losses(head: Head, features: Features, labels: Labels) -> Float[ndarray, " B"]:
    """The cross-entropy of each feature's inference logits, which saw no label. The head must be in eval mode."""
    parts = zip(features.split(CHUNK), labels.split(CHUNK), strict=True)
    found = [cross_entropy(head(some).float(), own, reduction="none") for some, own in parts]
    return torch.cat(found).detach().cpu().numpy()


@torch.no_grad()
def margin_cones(head: Head, centers: Float[ndarray, "M D"], center_labels: Int[ndarray, " M"]) -> Float[ndarray, " M"]:
    """The angle around each center within which an embedding satisfies the head's margin, radians.

    It is where, on the way to the nearest center of another class, the training logit of the own class ceases to
    be the larger one; without a margin, halfway. 0: not even at the center is it. Empty for a head that does not
    decide by angles, and for embeddings of more than 3 numbers. A head whose margin depends on more than the angle
    gives the one that its drawing shows.
    """
    if not isinstance(head, CosineHead) or centers.shape[1] > DRAWN or not len(centers):
        return np.empty(0, np.float32)
    cosine = np.where(center_labels[:, None] == center_labels, -2.0, centers @ centers.T)  # (M, M)
    nearest = np.arccos(np.clip(cosine.max(1), -1, 1))  # (M,) radians
    own = np.linspace(0, nearest, FINE, axis=1)  # (M, FINE)
    cosines = torch.from_numpy(np.stack([np.cos(own), np.cos(nearest[:, None] - own)], -1)).float().flatten(0, 1)
    first = torch.zeros(len(cosines), dtype=torch.long)
    head = copy.deepcopy(head).cpu()
    logits = head.logits(cosines, cosines[:, 0], first, head.margin(cosines[:, 0]))
    satisfied = (logits[:, 0] >= logits[:, 1]).reshape(own.shape).numpy()
    kept = np.logical_and.accumulate(satisfied, 1).sum(1)  # angles up to the edge
    return (nearest * np.maximum(kept - 1, 0) / (FINE - 1)).astype(np.float32)


@torch.no_grad()
def forbidden_arcs(head: Head, centers: Float[ndarray, "M D"]) -> Float[ndarray, "A 2"]:
    """The arcs of the circle where no class would win by the head's margin: start and end of each, radians.

    An embedding there fails the margin whatever its class. Arcs go counter-clockwise and are known to 2 pi / ROUND;
    where two classes meet without a margin between them, one as narrow as that marks the boundary. Empty for other
    than 2 numbers, and for a head that does not decide by angles. A head whose margin depends on more than the angle
    gives the arcs that its drawing shows.
    """
    if not isinstance(head, CosineHead) or centers.shape[1] != 2 or not len(centers):
        return np.empty((0, 2), np.float32)
    angles = np.arange(ROUND) * 2 * np.pi / ROUND
    head = copy.deepcopy(head).cpu()
    cosine = head.of_classes(torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1) @ centers.T).float())
    count = cosine.shape[1]
    labels = torch.arange(count).repeat_interleave(ROUND)  # every direction as one of every class
    every = cosine.repeat(count, 1)  # (C * ROUND, C)
    own = every.gather(1, labels[:, None]).squeeze(1)
    won = (head.logits(every, own, labels, head.margin(own)).argmax(1) == labels).reshape(count, ROUND)
    allowed = np.flatnonzero(won.any(0).numpy())
    if not len(allowed):
        return np.array([[0, 2 * np.pi]], np.float32)
    winner = cosine.where(won.T, -2.0).argmax(1).numpy()[allowed]
    after, later = np.roll(allowed, -1), np.roll(winner, -1)
    ends = (after > allowed + 1) | (winner != later)
    ends[-1] = (after[-1] + ROUND > allowed[-1] + 1) or winner[-1] != later[-1]  # over the first axis
    start, end = angles[allowed[ends]], angles[after[ends]]
    return np.stack([start, np.where(end <= start, end + 2 * np.pi, end)], 1).astype(np.float32)


def predicted(head: Head, features: Features, labels: Labels | None = None) -> Int[ndarray, " B"]:
    """The class of each feature's largest logit, as the head numbers classes.

    With labels it is the largest training logit, which saw the label and carries the margin: the article's way
    of counting, kept for teaching. The head must be in eval mode; no state changes.
    """
    seen = [()] * len(features.split(CHUNK)) if labels is None else [(some,) for some in labels.split(CHUNK)]
    chosen = [head(some, *label).argmax(1) for some, label in zip(features.split(CHUNK), seen, strict=True)]
    return torch.cat(chosen).cpu().numpy()
