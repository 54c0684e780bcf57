"""CM2: all three margins together.    logit_y = s * (psi(0.9 * theta_y + 0.4) - 0.15)"""

from faces.heads.united_margin import UnitedMargin
from faces.knobs import Knob, fixed_scale


class CM2(UnitedMargin):
    """s * (psi(m1 * theta + m2) - m3) on the true class, starting from (0.9, 0.4, 0.15)."""

    family = "United margin"
    title = "combined margin 2: a gentler slope far away"
    source, born = "https://arxiv.org/abs/1801.07698", "2018-01"
    formula = r"s\,(\psi(m_1 \theta_y + m_2) - m_3)"
    at_angle = "psi(m1 * theta + m2) - m3"
    notice = "m1 below 1 takes back some of the margin far from the class, where CM1 asks most."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m1": Knob(0.9, 0.5, 4.0, "factor on the angle, no unit", neutral=1.0),
        "m2": Knob(0.4, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
        "m3": Knob(0.15, 0.0, 1.0, "margin on the cosine, no unit", neutral=0.0),
    }
