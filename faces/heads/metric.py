"""Metric learning: losses on how near the embeddings of a batch are to each other, or to proxies of their classes."""

import torch

from faces.heads.base import Head, unit, widen
from faces.shapes import Features, Labels, Logits, Loss


class MetricHead(Head):
    """A loss on unit embeddings, without class logits: no DNN accuracy, scored by KNN and by class means.

    A head that compares images with each other has no parameters, and is `balanced`: in a batch of
    unlike images it has nothing to pull together. What there is to compare hangs on each batch's labels, so
    every step waits for a GPU; SoftTriple's does not.
    """

    scored = False
    balanced = True

    def weight_shape(self, dim: int) -> tuple[int, ...]:
        return ()

    def forward(self, features: Features, labels: Labels | None = None) -> Logits:
        """Always a ValueError."""
        raise ValueError(f"{type(self).__name__} has no class logits. Score its embeddings by KNN or by class means.")

    def loss(self, features: Features, labels: Labels) -> Loss:
        embeddings = unit(widen(features))
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.objective(embeddings, labels)

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        """The loss of unit rows, outside autocast."""
        raise NotImplementedError
