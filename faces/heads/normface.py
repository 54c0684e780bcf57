"""NormFace: a scale and no margin.    logit_j = s * cos(theta_j)"""

from faces.heads.arc_margin_product import ArcMarginProduct
from faces.knobs import Knob, fixed_scale


class NormFace(ArcMarginProduct):
    """s * cos(theta) for every class: the control for every margin head at the same s."""

    family = "Article's heads"
    title = "a cosine classifier with a free scale"
    source, born = "https://arxiv.org/abs/1704.06369", "2017-04"
    formula = r"s \cos\theta_y"
    at_angle = "cos(theta)"
    notice = "What a margin head does better than this one, at the same s, is the margin's doing."
    knobs = {"s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit")}
