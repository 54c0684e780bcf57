"""SphereFace2: one yes-or-no question for each class.    logit_y = s * (g(cos(theta_y)) - m) + b"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from faces.heads.base import CosineHead
from faces.knobs import Knob, Value
from faces.shapes import Cosines, CosineTable, Features, Labels, Logits, Loss


class SphereFace2(CosineHead):
    """s * (g(cos(theta)) - m) + b on the true class, s * (g(cos(theta_j)) + m) + b elsewhere, g(c) = 2((c+1)/2)^t - 1.

    Each is the logit of one binary problem, "is it class j?"; b is `bias`, which is learned, from `start`. The loss is
    lam * softplus(-logit_y) + (1 - lam) * sum over j of softplus(logit_j); no class competes with another.
    Without a label: s * g(cos) + b. The form SphereFace2-C; the paper's r is s here. The authors have r = 40,
    m = 0.4, multiply the loss by 50 / r, and keep the slope of the plain cosine; here it is g's.
    """

    family = "Newer heads"
    title = "one yes-or-no question for each class"
    source, born = "https://arxiv.org/abs/2108.01513", "2021-08"
    formula = r"s\,(g(\cos\theta_y) - m) + b"
    fits = {"m": "1 - ((1 + cos(phi)) / 2) ** t"}
    note = (
        "On its center a sample says yes to its class and no to all others, both by the margin, with m up to {m:.2f}."
    )
    notice = (
        "No softmax: a sample may answer yes to several classes or to none. That suits classes not seen in training."
    )
    knobs = {
        "s": Knob(8.0, 0.5, 64.0, "scale of the logits, r in the paper, no unit"),
        "m": Knob(0.2, 0.0, 1.0, "margin on g of the cosine, no unit", neutral=0.0),
        "t": Knob(3.0, 1.0, 10.0, "power in g, no unit"),
        "lam": Knob(0.7, 0.01, 0.99, "weight of the true class against the others, no unit"),
    }
    s: float
    m: float
    t: float
    lam: float

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        self.bias = nn.Parameter(torch.tensor(0.0))

    def start(self) -> float:
        """The b with the smallest loss where every cosine is 0; it follows the knobs."""
        z = self.lam / ((1 - self.lam) * (self.classes - 1))
        right_angle = 2 * 0.5**self.t - 1
        own, other = self.s * (right_angle - self.m), self.s * (right_angle + self.m)
        root = math.sqrt((1 - z) ** 2 + 4 * z * math.exp(own - other))
        if z > 1:  # of two equal forms the one that does not subtract
            return math.log((z - 1 + root) / 2) - own
        return math.log(2 * z / (1 - z + root)) - other

    def forward(self, features: Features, labels: Labels | None = None) -> Logits:
        if labels is None:
            return self.s * self.g(self.cosine(features)) + self.b
        return super().forward(features, labels) + self.b

    @property
    def b(self) -> Tensor:
        """What is added to every logit."""
        return self.start() + self.bias

    def loss(self, features: Features, labels: Labels) -> Loss:
        logits = self(features, labels)
        own = logits.gather(1, labels[:, None]).squeeze(1)
        others = logits.scatter(1, labels[:, None], -math.inf)  # its softplus and slope are 0
        return (self.lam * softplus(-own) + (1 - self.lam) * softplus(others).sum(1)).mean()

    def margin(self, own: Cosines) -> Cosines:
        return self.g(own) - self.m

    def others(self, cosine: CosineTable, own: Cosines) -> CosineTable:
        return self.g(cosine) + self.m

    def g(self, cosine: CosineTable | Cosines) -> CosineTable | Cosines:
        """Cosines spread out: those of wrong classes crowd around 0, and g makes them differ less."""
        return 2 * torch.relu((cosine + 1) / 2) ** self.t - 1
