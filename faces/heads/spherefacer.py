"""SphereFaceR: SphereFace on features of one length.    logit_y = s * psi(m1 * theta_y)"""

from faces.heads.united_margin import UnitedMargin
from faces.knobs import Knob, fixed_scale


class SphereFaceR(UnitedMargin):
    """s * psi(m1 * theta) on the true class.

    The authors' code keeps the slope of the plain cosine ("characteristic gradient detachment") and uses
    m = 1.7 at s = 30; here the slope is that of the formula, and m1 starts at 1.35, ArcFace's reading of SphereFace.
    """

    family = "United margin"
    title = "a factor on the angle, features of one length"
    source, born = "https://arxiv.org/abs/2109.05565", "2021-09"
    formula = r"s\,\psi(m_1 \theta_y)"
    at_angle = "psi(m1 * theta)"
    notice = "The factor asks nothing of a sample right on its class and most of one opposite to it."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m1": Knob(1.35, 1.0, 4.0, "factor on the angle, no unit", neutral=1.0),
    }
    m2 = 0.0
    m3 = 0.0
