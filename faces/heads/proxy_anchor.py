"""ProxyAnchor: each class has a proxy that gathers its images and keeps off the others."""

from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import ProxyAnchorLoss
from torch.func import functional_call
from torch.nn import Identity

from faces.heads.base import unit, widen
from faces.heads.metric import MetricHead
from faces.knobs import Knob
from faces.shapes import Features, Labels, Loss


class ProxyAnchor(MetricHead):
    """log(1 + sum of exp(-alpha (cos - delta))) over a proxy's own images, exp(alpha (cos + delta)) over others.

    A mean over the proxies whose class is in the batch, and one over all (eq. 4). `weight` (C, D) are the proxies.
    """

    family = "Metric learning"
    title = "a proxy per class gathers its images"
    source, born = "https://arxiv.org/abs/2003.13911", "2020-03"
    formula = (
        r"\frac{1}{|P^+|} \sum_{p \in P^+} \log\Big(1 + \sum_{x^+} e^{-\alpha(\cos\theta_{xp} - \delta)}\Big)"
        r" + \frac{1}{C} \sum_p \log\Big(1 + \sum_{x^-} e^{\alpha(\cos\theta_{xp} + \delta)}\Big)"
    )
    fits = {"delta": "C / (3 * C - 4)"}
    note = (
        "No arrangement meets delta above {delta:.2f} for every image and proxy. How low the loss gets depends on how "
        "many images a batch has."
    )
    notice = "The proxies look like class centers, but are pulled by the hardest images of a batch, not by their mean."
    knobs = {
        "alpha": Knob(32.0, 1.0, 64.0, "scale of the cosines, no unit"),
        "delta": Knob(0.1, 0.0, 1.0, "margin on the cosine, no unit"),
    }
    balanced = False
    alpha: float
    delta: float

    def weight_shape(self, dim: int) -> tuple[int, ...]:
        return self.classes, dim

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        loss = ProxyAnchorLoss(
            self.classes, embeddings.shape[1], margin=self.delta, alpha=self.alpha, weight_init_func=Identity(),
            distance=DotProductSimilarity(normalize_embeddings=False),
        )  # fmt: skip
        proxies = unit(widen(self.weight)).to(embeddings)  # of one type, or the library would change the proxies'
        return functional_call(loss, {"proxies": proxies}, (embeddings, labels))
