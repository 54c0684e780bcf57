"""ArcFace: a margin on the angle.    logit_y = s * cos(theta_y + m)"""

from faces.heads.angle import cos_of_sum
from faces.heads.base import CosineHead
from faces.knobs import SEAM, Knob, fixed_scale
from faces.shapes import Cosines


class ArcFace(CosineHead):
    """s * cos(theta + m) on the true class."""

    family = "Article's heads"
    title = "a margin on the angle"
    source, born = "https://arxiv.org/abs/1801.07698", "2018-01"
    formula = r"s \cos(\theta_y + m)"
    at_angle = "turned(theta, m, seam)"
    notice = "The margin asks most of samples at a right angle to their class, and little of those already on it."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
        "seam": SEAM,
    }
    m: float
    seam: str

    def margin(self, own: Cosines) -> Cosines:
        return cos_of_sum(own, self.m, self.seam)
