"""CosFace: a margin on the cosine.    logit_y = s * (cos(theta_y) - m)"""

from faces.heads.base import CosineHead
from faces.knobs import Knob, fixed_scale
from faces.shapes import Cosines


class CosFace(CosineHead):
    """s * (cos(theta) - m) on the true class."""

    family = "Article's heads"
    title = "a margin on the cosine"
    source, born = "https://arxiv.org/abs/1801.09414", "2018-01"
    formula = r"s\,(\cos\theta_y - m)"
    at_angle = "cos(theta) - m"
    notice = "The margin is the same at every angle, so even a sample right on its class is still asked for more."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.0, "margin on the cosine, no unit", neutral=0.0),
    }
    m: float

    def margin(self, own: Cosines) -> Cosines:
        return own - self.m
