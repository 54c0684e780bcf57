"""UnitedMargin: all three margins at once.    logit_y = s * (psi(m1 * theta_y + m2) - m3)"""

from faces.heads.angle import psi
from faces.heads.base import CosineHead
from faces.knobs import Knob, fixed_scale
from faces.shapes import Cosines


class UnitedMargin(CosineHead):
    """s * (psi(m1 * theta + m2) - m3) on the true class, psi the cosine, unrolled past pi so that it keeps falling.

    (1, 0, 0) is NormFace, (m1, 0, 0) SphereFaceR, (1, m2, 0) ArcFace with the seam psi_monotone, (1, 0, m3)
    CosFace. Equation 4 of the paper, which leaves open what comes past pi; psi is SphereFace's answer.
    """

    family = "United margin"
    title = "three margins, free to mix"
    source, born = "https://arxiv.org/abs/1801.07698", "2018-01"
    formula = r"s\,(\psi(m_1 \theta_y + m_2) - m_3)"
    at_angle = "psi(m1 * theta + m2) - m3"
    notice = "m1 asks most far from the class, m2 in between, m3 the same everywhere: mix them and watch the curve."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m1": Knob(1.0, 0.5, 4.0, "factor on the angle, no unit", neutral=1.0),
        "m2": Knob(0.25, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
        "m3": Knob(0.0, 0.0, 1.0, "margin on the cosine, no unit", neutral=0.0),
    }
    m1: float
    m2: float
    m3: float

    def margin(self, own: Cosines) -> Cosines:
        return psi(own, self.m1, self.m2) - self.m3
