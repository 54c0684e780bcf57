"""LiArcFace: logits in a straight line with the angle.    logit_y = s * (1 - 2 * (theta_y + m) / pi)"""

import math

from faces.heads.angle import angle
from faces.heads.base import CosineHead
from faces.knobs import Knob, fixed_scale
from faces.shapes import Cosines, CosineTable, Features, Labels, Logits


class LiArcFace(CosineHead):
    """s * (1 - 2 * (theta + m) / pi) on the true class, s * (1 - 2 * theta_j / pi) elsewhere and without a label.

    From 1 at 0 to -1 at pi, like the cosine, but straight, so there is no seam: theta + m may pass pi.
    The paper has s = 64 and m = 0.45. 1 - 2 * theta / pi is itself a cosine: of the signs that two vectors have on
    all the hyperplanes through 0, of which a share theta / pi parts them. So what no cosines can do, it cannot either.
    """

    family = "Newer heads"
    title = "a straight line instead of the cosine"
    source, born = "https://arxiv.org/abs/1907.12256", "2019-07"
    formula = r"s\,\left(1 - \frac{2 (\theta_y + m)}{\pi}\right)"
    at_angle = "1 - 2 * (theta + m) / pi"
    likeness = "1 - 2 * theta / pi"
    notice = "It pulls as hard at every angle, where a cosine lets go of samples that are nearly there."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
    }
    m: float

    def forward(self, features: Features, labels: Labels | None = None) -> Logits:
        return self.s * straight(self.cosine(features)) if labels is None else super().forward(features, labels)

    def margin(self, own: Cosines) -> Cosines:
        return straight(own) - 2 * self.m / math.pi

    def others(self, cosine: CosineTable, own: Cosines) -> CosineTable:
        return straight(cosine)


def straight(cosine: CosineTable | Cosines) -> CosineTable | Cosines:
    """1 - 2 * theta / pi."""
    return 1 - 2 * angle(cosine) / math.pi
