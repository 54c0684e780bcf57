"""CM1: an angular and a cosine margin together.    logit_y = s * (psi(theta_y + 0.3) - 0.2)"""

from faces.heads.united_margin import UnitedMargin
from faces.knobs import Knob, fixed_scale


class CM1(UnitedMargin):
    """s * (psi(m1 * theta + m2) - m3) on the true class, starting from (1, 0.3, 0.2)."""

    family = "United margin"
    title = "combined margin 1: ArcFace and CosFace at once"
    source, born = "https://arxiv.org/abs/1801.07698", "2018-01"
    formula = r"s\,(\psi(m_1 \theta_y + m_2) - m_3)"
    at_angle = "psi(m1 * theta + m2) - m3"
    notice = "The two margins together ask for more than either alone at every angle; the loss starts higher."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m1": Knob(1.0, 0.5, 4.0, "factor on the angle, no unit", neutral=1.0),
        "m2": Knob(0.3, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
        "m3": Knob(0.2, 0.0, 1.0, "margin on the cosine, no unit", neutral=0.0),
    }
