"""SoftTriple: a softmax over classes that have several centers each, nearer ones counting more."""

from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import SoftTripleLoss
from torch.func import functional_call
from torch.nn import Identity

from faces.heads.base import unit, widen
from faces.heads.metric import MetricHead
from faces.knobs import Knob, fixed_scale
from faces.shapes import Features, Labels, Loss


class SoftTriple(MetricHead):
    """Cross-entropy of lam * (S_j - delta for the own class), S_j the class' cosines weighted by their softmax.

    Eq. 8, without the term that merges centers; the paper has lambda 20. `weight` is (C, K, D). It is a triplet
    loss over smoothed triplets of an image and two centers, hence the family.
    """

    family = "Metric learning"
    title = "triplets of an image and soft centers"
    source, born = "https://arxiv.org/abs/1909.05235", "2019-09"
    formula = (
        r"\lambda\,(S_y - \delta), \quad "
        r"S_j = \sum_k \frac{e^{\cos\theta_{jk} / \gamma}}{\sum_l e^{\cos\theta_{jl} / \gamma}} \cos\theta_{jk}"
    )
    fits = {"delta": "1 - cos(phi)"}
    note = (
        "With all centers of a class on one point, images there win by the margin with delta up to {delta:.2f}. "
        "With several centers no floor under the loss is known."
    )
    notice = "A small gamma lets only the nearest center of a class count, as in SubCenterArcFace; a large one all."
    knobs = {
        "lam": Knob(fixed_scale, 0.5, 64.0, "the paper's lambda, scale of the logits, no unit"),
        "gamma": Knob(0.1, 0.01, 1.0, "temperature of the choice among centers, no unit"),
        "delta": Knob(0.01, 0.0, 1.0, "margin on the cosine, no unit"),
        "k": Knob(3, 1, 10, "centers per class, a whole number", live=False),
    }
    balanced = False
    lam: float
    gamma: float
    delta: float
    k: int

    def weight_shape(self, dim: int) -> tuple[int, ...]:
        return self.classes, self.k, dim

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        loss = SoftTripleLoss(
            self.classes, embeddings.shape[1], self.k, self.lam, self.gamma, self.delta, weight_init_func=Identity(),
            distance=DotProductSimilarity(normalize_embeddings=False),
        )  # fmt: skip
        centers = unit(widen(self.weight)).to(embeddings).flatten(0, 1)  # (C*K, D)
        return functional_call(loss, {"fc": centers.T}, (embeddings, labels))
