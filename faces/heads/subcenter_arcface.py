"""SubCenterArcFace: ArcFace with k centers per class, the nearest of which counts."""

import torch

from faces.heads.arcface import ArcFace
from faces.heads.base import unit
from faces.knobs import SEAM, Choice, Knob, Value, fixed_scale
from faces.shapes import CosineTable, Ranks, Table

NEAR = 0.01  # how far from one another centers are that start together, of their length


class SubCenterArcFace(ArcFace):
    """s * cos(theta + m) on the true class, theta the angle to the nearest of its k centers.

    `weight` is (C, K, D). Only the nearest center of a class gets a gradient. k = 1 is ArcFace.

    Where centers start apart, as in the paper's code, the nearest of each class is one that already points to
    where the features of an untrained encoder lie, and a margin then draws all of these together: on Imagewoof
    the angle to the own center fell to 0.4 rad, one center of each class won 99.9 % of its images, and accuracy
    lagged by a third. Without a margin, or with centers of a class that start together, it did not
    (tests/benchmarks/results/label_noise.md).
    """

    family = "Article's heads"
    title = "several centers per class, the nearest counts"
    source, born = "https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf", "2020-08"
    formula = r"s \cos(\theta_y + m), \quad \theta_y = \min_k \theta_{yk}"
    at_angle = "turned(theta, m, seam)"
    notice = "Clean data gather on one center of each class; mislabelled samples may find another."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
        "k": Knob(3, 1, 8, "centers per class, a whole number", live=False),
        "start": Choice(("apart", "together"), "where the centers of a class begin", live=False),
        "seam": SEAM,
    }
    k: int
    start: str

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        if self.start == "together":
            self.weight.data = unit(self.weight[:, :1] + NEAR * self.weight).detach()

    def weight_shape(self, dim: int) -> tuple[int, ...]:
        return self.classes, self.k, dim

    def of_classes(self, cosine: Table) -> CosineTable:
        return cosine.view(len(cosine), cosine.shape[1] // self.k, self.k).max(dim=2).values

    def winners(self, cosine: Table) -> tuple[CosineTable, Ranks]:
        first, *others = cosine.view(len(cosine), cosine.shape[1] // self.k, self.k).unbind(2)
        nearest, which = first.contiguous(), torch.zeros_like(first, dtype=torch.uint8)
        for k, other in enumerate(others, 1):  # faster than `max`; of two that are equal the first wins, as there
            which = torch.maximum(which, (other > nearest).to(torch.uint8).mul_(k))
            nearest = torch.maximum(nearest, other)
        return nearest, which
