"""SubCenterArcFace: ArcFace with k centers per class, the nearest of which counts."""

from faces.heads.arcface import ArcFace
from faces.knobs import SEAM, Knob, fixed_scale
from faces.shapes import CosineTable, Table


class SubCenterArcFace(ArcFace):
    """s * cos(theta + m) on the true class, theta the angle to the nearest of its k centers.

    `weight` is (C, K, D). Only the nearest center of a class gets a gradient. k = 1 is ArcFace.
    """

    family = "Article's heads"
    title = "several centers per class, the nearest counts"
    source, born = "https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf", "2020-08"
    formula = r"s \cos(\theta_y + m), \quad \theta_y = \min_k \theta_{yk}"
    at_center = "cos(m)"
    notice = "Clean data gather on one center of each class; mislabelled samples may find another."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.5, "margin on the angle, radians"),
        "k": Knob(3, 1, 8, "centers per class, a whole number", live=False),
        "seam": SEAM,
    }
    k: int

    def weight_shape(self, dim: int) -> tuple[int, ...]:
        return self.classes, self.k, dim

    def of_classes(self, cosine: Table) -> CosineTable:
        return cosine.unflatten(1, (self.classes, self.k)).max(dim=2).values
