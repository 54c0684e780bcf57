"""ArcMarginProduct: bare cosines as logits.    logit_j = cos(theta_j)"""

from faces.heads.base import CosineHead


class ArcMarginProduct(CosineHead):
    """cos(theta) for every class: no margin, whatever the name says.

    The name is that of the article this app started from (and of Catalyst's class). Elsewhere the
    same name is often given to ArcFace.
    """

    family = "Article's heads"
    title = "a cosine classifier, s = 1"
    source, born = "https://arxiv.org/abs/1702.05870", "2017-02"
    formula = r"\cos\theta_y"
    at_angle = "cos(theta)"
    notice = "With s = 1 no probability comes near 1: with 10 classes the loss cannot fall below 1.377."
    knobs = {}
    s = 1.0
