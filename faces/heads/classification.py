"""Classification: the ordinary linear classifier.    logit_j = w_j . x + b_j"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from faces.heads.base import Head, inner, widen
from faces.knobs import Knob, Value
from faces.shapes import Features, Labels, Logits, Loss


class Classification(Head):
    """w . x + b for every class; lengths count, so it has no cosines of its own."""

    family = "Article's heads"
    title = "a linear classifier with a bias"
    source, born = "https://doi.org/10.1007/978-3-642-76153-9_28", "1990-01"
    formula = r"w_y \cdot x + b_y"
    note = "Lengths are free: longer features and weights can lower the loss without end, so it has no floor."
    notice = "It trains on the features' lengths too, but KNN and the pictures see only their directions."
    knobs = {"smoothing": Knob(0.0, 0.0, 0.5, "label smoothing: share of the target given to all classes, no unit")}

    smoothing: float

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Features, labels: Labels | None = None) -> Logits:
        return inner(widen(features), widen(self.weight)) + self.bias

    def loss(self, features: Features, labels: Labels) -> Loss:
        return cross_entropy(self(features, labels), labels, label_smoothing=self.smoothing)
