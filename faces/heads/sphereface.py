"""SphereFace: a factor on the angle, and features of any length.    logit_y = |x| * psi(m1 * theta_y)"""

from faces.heads.angle import psi
from faces.heads.base import CosineHead, length
from faces.knobs import Knob, fixed_scale
from faces.shapes import Cosines, Features, Labels, Logits


class SphereFace(CosineHead):
    """|x| * (lam * cos(theta) + psi(m1 * theta)) / (1 + lam) on the true class, |x| * cos(theta_j) elsewhere.

    The feature's own length is the scale, so it counts, in training and in what it is asked without a label.
    m1 = 4 is the paper's m. There lam falls from 1000 to 5 over thousands of steps; a live run has
    a hundred, so lam starts at 5, and a hand on the slider can take it further. lam = 0 is the bare formula
    (digits, 5 epochs, one seed: KNN accuracy 0.99 with lam = 5, 0.19 with 0, which needs 15 epochs to come right).
    """

    family = "United margin"
    title = "a factor on the angle, the feature's length is the scale"
    source, born = "https://arxiv.org/abs/1704.08063", "2017-04"
    formula = r"\|x\|\,\frac{\lambda \cos\theta_y + \psi(m_1 \theta_y)}{1 + \lambda}"
    note = "The feature's length is its scale: longer features can lower the loss without end, so it has no floor."
    notice = "Long features are sure of themselves. Take lam down while it trains: a run that starts at 0 is slow."
    knobs = {
        "m1": Knob(4.0, 1.0, 4.0, "factor on the angle, no unit", neutral=1.0),
        "lam": Knob(5.0, 0.0, 100.0, "weight of the plain cosine beside psi, no unit"),
    }
    drawn = {"length": Knob(fixed_scale, 0.5, 64.0, "length of the feature, which is the scale, no unit")}
    s = 1.0
    m1: float
    lam: float

    def forward(self, features: Features, labels: Labels | None = None) -> Logits:
        return length(features)[:, None] * super().forward(features, labels)

    def margin(self, own: Cosines) -> Cosines:
        return (self.lam * own + psi(own, self.m1, 0.0)) / (1 + self.lam)
