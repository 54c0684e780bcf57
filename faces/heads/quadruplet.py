"""Quadruplet: a class smaller than its gap to others, and than gaps elsewhere.    [d2(a,p) - d2(n1,n2) + m2]+"""

import math

import torch
from torch import Tensor

from faces.heads.metric import MetricHead
from faces.knobs import Knob
from faces.shapes import Cosines, Features, Labels, Loss


class Quadruplet(MetricHead):
    """[d2(a, p) - d2(a, n) + m1]+ + [d2(a, p) - d2(n1, n2) + m2]+, each averaged over images where it is not zero.

    d2 is the squared distance of unit embeddings, 2 - 2 cos, from 0 to 4. For each image a of the batch:
    p the farthest of its class, n the nearest of another class, n1 and n2 the nearest two of two other
    classes (the paper's hardest quadruplets). With two classes there are no n1 and n2 and no second term.
    """

    family = "Metric learning"
    title = "also a margin between pairs that share no image"
    source, born = "https://arxiv.org/abs/1704.01719", "2017-04"
    formula = r"[\,d^2(a, p) - d^2(a, n) + m_1\,]_+ + [\,d^2(a, p) - d^2(n_1, n_2) + m_2\,]_+"
    notice = "The second term wants every class smaller than every gap, also gaps that it does not border on."
    knobs = {
        "m1": Knob(0.4, 0.0, 2.0, "margin on the squared distance to another class, no unit"),
        "m2": Knob(0.2, 0.0, 2.0, "margin on the squared distance between two other classes, no unit"),
    }
    m1: float
    m2: float

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        square = 2 - 2 * embeddings @ embeddings.T  # (B, B)
        classes, place = labels.unique(return_inverse=True)
        same, itself = labels[:, None] == labels, torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        farthest = square.masked_fill(~same | itself, -math.inf).amax(1)  # (B,), -inf for the only one of its class
        between = square.masked_fill(same, math.inf)
        gap = between.amin(1)  # (B,), inf when there is no other class

        P = len(classes)
        gaps = square.new_full((P * P,), math.inf)
        pair = (place[:, None] * P + place).flatten()
        gaps = gaps.scatter_reduce(0, pair, between.flatten(), "amin").view(P, P)  # nearest pair of two classes
        own = torch.eye(P, dtype=torch.bool, device=labels.device)
        elsewhere = gaps.masked_fill(own[:, :, None] | own[:, None, :], math.inf).amin((1, 2))  # (P,)
        return violation(farthest - gap + self.m1) + violation(farthest - elsewhere[place] + self.m2)


def violation(values: Cosines) -> Tensor:
    """The mean of those that are positive, 0 when none is."""
    positive = values.relu()
    return positive.sum() / positive.count_nonzero().clamp_min(1)
