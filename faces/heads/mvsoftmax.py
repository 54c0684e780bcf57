"""MVSoftmax: ArcFace whose hard wrong classes count more, all alike."""

from collections.abc import Sequence

import torch

from faces.heads.angle import cos_of_sum
from faces.heads.arcface import ArcFace
from faces.knobs import SEAM, Knob, fixed_scale
from faces.shapes import Choices, Cosines, CosineTable


class MVSoftmax(ArcFace):
    """s * cos(theta + m) on the true class; a wrong class nearer than that gets s * ((t + 1) * cos_j + t).

    The form MV-Arc-Softmax, with the authors' t = 0.2. t = 0 is ArcFace.
    """

    family = "Newer heads"
    title = "hard wrong classes count more from the start"
    source, born = "https://arxiv.org/abs/1912.00833", "2019-12"
    formula = r"s \cos(\theta_y + m), \quad \text{hard } j\!: s\,((t + 1) \cos\theta_j + t)"
    at_angle = "turned(theta, m, seam)"
    notice = "At first nearly every wrong class is hard and pushes more; CurricularFace spares the start of this."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.5, "margin on the angle, radians", neutral=0.0),
        "t": Knob(0.2, 0.0, 1.0, "what is added to hard wrong classes, no unit"),
        "seam": SEAM,
    }
    t: float

    def others(self, cosine: CosineTable, own: Cosines) -> CosineTable:
        return torch.where(self.hard(cosine, own), (self.t + 1) * cosine + self.t, cosine)

    def others_and_slope(
        self, cosine: CosineTable, own: Cosines, rooms: Sequence[CosineTable]
    ) -> tuple[CosineTable, CosineTable]:
        shifted, more, slope = rooms
        more.copy_(self.hard(cosine, own)).mul_(self.t)
        torch.add(cosine, more, out=shifted).addcmul_(more, cosine)
        return shifted, torch.add(more, 1, out=slope)

    def hard(self, cosine: CosineTable, own: Cosines) -> Choices:
        """Which classes are nearer than cos(theta + m), whatever the seam: the authors' comparison."""
        return cosine > cos_of_sum(own, self.m, "raw_cos")[:, None]
