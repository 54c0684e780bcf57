"""Triplet: an image nearer to its own class than to any other, by a margin.    [d(a, p) - d(a, n) + m]+"""

from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner

from faces.heads.metric import MetricHead
from faces.knobs import Choice, Knob
from faces.shapes import Features, Labels, Loss

MOST = 20_000_000  # triplets of a batch, which take 1 GB


class Triplet(MetricHead):
    """[d(a, p) - d(a, n) + m]+, d the distance of unit embeddings, averaged over the triplets where it is not zero.

    "batch-hard" (arXiv:1703.07737) takes for each image the farthest of its class and the nearest of
    another; "all" takes every triplet of the batch, and raises ValueError for more than 20 million.
    """

    family = "Metric learning"
    title = "nearer to its own class than to others, by a margin"
    source, born = "https://arxiv.org/abs/1503.03832", "2015-03"
    formula = r"[\,d(a, p) - d(a, n) + m\,]_+"
    fits = {"m": "2 * sin(phi / 2)"}
    note = "Every triplet can be met with m up to {m:.2f}, classes being points that far from each other: then loss 0."
    notice = (
        "P classes with K images each make P·K·(K-1)·(P-1)·K triplets, 20,000 in a batch of 64 from ten classes. Most "
        "soon ask for nothing; the loss is a mean over the others, so it need not fall while the embeddings get better."
    )
    knobs = {
        "m": Knob(0.2, 0.0, 1.5, "margin on the distance, no unit"),
        "mining": Choice(("batch-hard", "all"), "which triplets of a batch count"),
    }
    m: float
    mining: str

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        distance = LpDistance(normalize_embeddings=False)
        loss = TripletMarginLoss(margin=self.m, distance=distance)
        if self.mining == "batch-hard":
            return loss(embeddings, labels, BatchHardMiner(distance=distance)(embeddings, labels))
        images = labels.bincount()
        if (count := int((images * (images - 1) * (len(labels) - images)).sum())) > MOST:
            raise ValueError(
                f"A batch of {len(labels)} has {count:,} triplets. Take smaller ones, or mining batch-hard."
            )
        return loss(embeddings, labels)
