"""Circle: every pair pulled or pushed by how far it still is from where it should be."""

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import CircleLoss

from faces.heads.metric import MetricHead
from faces.knobs import Knob
from faces.shapes import Features, Labels, Loss


class Circle(MetricHead):
    """Softplus of logsumexp over negatives plus logsumexp over positives, each pair weighted by its distance to go.

    Positives aim at cosine 1 + m and must pass 1 - m; negatives aim at -m and must stay under m (eq. 8).
    The weights pass no gradient.
    """

    family = "Metric learning"
    title = "each pair at its own pace"
    source, born = "https://arxiv.org/abs/2002.10857", "2020-02"
    formula = (
        r"\log\Big[1 + \sum_n e^{\gamma [\cos\theta_n + m]_+ (\cos\theta_n - m)}"
        r" \sum_p e^{-\gamma [1 + m - \cos\theta_p]_+ (\cos\theta_p - 1 + m)}\Big]"
    )
    note = (
        "The nearest two classes are no farther than the cosine {cosine:.2f}: where m is under that, not every pair "
        "of unlike images can stay under m. How low the loss gets depends on how many pairs a batch has."
    )
    notice = "A pair that is nearly right is hardly moved any more; with gamma large only the worst pairs count."
    knobs = {
        "m": Knob(0.4, 0.0, 1.0, "relaxation of the cosines that are asked for, no unit"),
        "gamma": Knob(80.0, 1.0, 256.0, "scale of the cosines, no unit"),
    }
    m: float
    gamma: float

    def objective(self, embeddings: Features, labels: Labels) -> Loss:
        cosine = CosineSimilarity()
        cosine.normalize_embeddings = False  # they come with unit length, zeros stay zeros
        return CircleLoss(self.m, self.gamma, distance=cosine)(embeddings, labels)
