"""SupCon: the images of a class as each other's right answers in a softmax over the batch."""

from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import SupConLoss

from faces.heads.metric import MetricHead
from faces.knobs import Knob
from faces.shapes import Features, Labels, Loss


class SupCon(MetricHead):
    """-log of exp(cos(a, p) / tau) over the sum of exp(cos(a, i) / tau) for all other i, mean over p of the class.

    The paper's L_out (eq. 2), with one view of each image.
    """

    family = "Metric learning"
    title = "the images of a class as each other's answers"
    source, born = "https://arxiv.org/abs/2004.11362", "2020-04"
    formula = (
        r"-\frac{1}{|P(a)|} \sum_{p \in P(a)} \log \frac{\exp(\cos\theta_{ap} / \tau)}"
        r"{\sum_{i \neq a} \exp(\cos\theta_{ai} / \tau)}"
    )
    note = (
        "Where a batch has K images of a class, its loss stays above ln(K - 1), however near they come to each other."
    )
    notice = (
        "A small tau looks at the nearest images only, a large one at all alike. The loss cannot reach 0: "
        "a class of K images shares the softmax among K - 1."
    )
    knobs = {"tau": Knob(0.1, 0.01, 1.0, "temperature of the softmax, no unit")}
    tau: float

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        return SupConLoss(self.tau, distance=DotProductSimilarity(normalize_embeddings=False))(embeddings, labels)
