"""CurricularFace: ArcFace whose hard wrong classes count more as training goes on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from faces.heads.angle import cos_of_sum
from faces.heads.arcface import ArcFace
from faces.knobs import SEAM, Knob, Value, fixed_scale
from faces.shapes import Choices, Cosines, CosineTable, Features, Labels


class CurricularFace(ArcFace):
    """s * cos(theta + m) on the true class; a wrong class nearer than that gets s * cos_j * (t + cos_j).

    t is a running mean of the own-class cosine, from 0, with 0.01 for the new value: the authors'
    code, which they call the right version where the paper has it the other way round.

    On a simplex no wrong class is hard, so the loss there is ArcFace's. Whether any arrangement has a lower one is
    not known: a hard class counts cos_j (t + cos_j), which for t >= 0 is less than its cosine by at most y (1 - y),
    y the larger of cos(theta + m) and 1/2. `spares` allows for that, and so the proven floor is lower; training
    towards it ended at the simplex (4 and 5 classes; m = 0, 0.25 and 1.2; s = 0.5, 3 and 10; six starts each).
    """

    family = "Article's heads"
    title = "hard wrong classes count more as training goes on"
    source, born = "https://arxiv.org/abs/2004.00288", "2020-04"
    formula = r"s \cos(\theta_y + m), \quad \text{hard } j\!: s \cos\theta_j\,(t + \cos\theta_j)"
    at_angle = "turned(theta, m, seam)"
    spares = "maximum(cos(theta + m), 0.5) * (1 - maximum(cos(theta + m), 0.5))"
    notice = "At first t is near 0 and hard wrong classes hardly push; as t grows they push more and more."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
        "seam": SEAM,
    }
    drawn = {"t": Knob(0.0, 0.0, 1.0, "running mean of the own-class cosine, set by training, no unit")}
    watches_own = True
    t: Tensor

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        self.register_buffer("t", torch.tensor(0.0))

    def observe(self, cosine: CosineTable, own: Cosines, labels: Labels, features: Features) -> None:
        self.t.copy_(0.01 * own.mean() + 0.99 * self.t)

    def others(self, cosine: CosineTable, own: Cosines) -> CosineTable:
        return torch.where(self.hard(cosine, own), cosine * (self.t + cosine), cosine)

    def others_and_slope(
        self, cosine: CosineTable, own: Cosines, rooms: Sequence[CosineTable]
    ) -> tuple[CosineTable, CosineTable]:
        hard, more, slope = rooms
        torch.gt(cosine, self.edge(own)[:, None], out=hard)  # 1 or 0
        torch.add(cosine, self.t - 1, out=more).mul_(hard)  # what cos_j is multiplied with, above 1
        torch.addcmul(more, hard, cosine, out=slope).add_(1)
        return torch.addcmul(cosine, more, cosine, out=hard), slope

    def hard(self, cosine: CosineTable, own: Cosines) -> Choices:
        """Which classes are nearer than cos(theta + m), whatever the seam: the authors' comparison."""
        return cosine > self.edge(own)[:, None]

    def edge(self, own: Cosines) -> Cosines:
        """The largest cosine of a class that is not hard, for each sample."""
        return cos_of_sum(own, self.m, "raw_cos")
