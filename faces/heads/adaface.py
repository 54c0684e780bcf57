"""AdaFace: the feature's length decides what kind of margin.    logit_y = s * (cos(theta_y - m z) - m z - m)"""

import torch
from torch import Tensor

from faces.heads.angle import cos_of_sum
from faces.heads.base import CosineHead, length
from faces.knobs import Knob, Value, fixed_scale
from faces.shapes import Cosines, CosineTable, Features, Labels, Lengths


class AdaFace(CosineHead):
    """s * (cos(theta - m * z) - (m + m * z)) on the true class, z from -1 (a short feature) to 1 (a long one).

    z = h * (|x| - mean) / (std + 0.001), cut at -1 and 1, outside the graph. `mean` and `std` of the lengths are
    running ones, with t_alpha for the new value: the authors' code, where the paper writes it the other way
    round. They start from 20 and 100 as there. Lengths count from 0.001 to 100; theta - m * z stops at 0 and pi.
    The authors also keep cosines 0.001 from the ends. They have s = 64, m = 0.4 and t_alpha = 0.01, which is
    too slow for a live run.
    """

    family = "Newer heads"
    title = "short features get another margin than long ones"
    source, born = "https://arxiv.org/abs/2204.00964", "2022-04"
    formula = r"s\,(\cos(\theta_y - m z) - (m + m z))"
    at_angle = {
        "short features": "turned(theta, m, 'clamp_pi')",
        "average features": "cos(theta) - m",
        "long features": "cos(maximum(theta - m, 0)) - 2 * m",
    }
    notice = "z = 0 is CosFace. Short, doubtful features are pulled most when near their class, long ones when far."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.0, "both margins, radians on the angle and no unit on the cosine", neutral=0.0),
        "h": Knob(0.333, 0.0, 1.0, "z of a length one standard deviation from the mean, no unit"),
        "t_alpha": Knob(0.1, 0.0, 1.0, "share of the new batch in mean and std, no unit"),
    }
    undrawn = ("t_alpha",)
    drawn = {
        "length": Knob(20.0, 0.0, 100.0, "length of the feature, no unit"),
        "std": Knob(100.0, 1.0, 100.0, "spread of the lengths around 20, set by training, no unit"),
    }
    watches_own = True
    m: float
    h: float
    t_alpha: float
    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))

    def observe(self, cosine: CosineTable, own: Cosines, labels: Labels, features: Features) -> None:
        lengths = counted(features)
        self.mean.copy_(self.t_alpha * lengths.mean() + (1 - self.t_alpha) * self.mean)
        if len(lengths) > 1:  # one length has no spread
            self.std.copy_(self.t_alpha * lengths.std() + (1 - self.t_alpha) * self.std)

    def margin(self, own: Cosines, z: Cosines | float = 0.0) -> Cosines:
        """For features this much longer than the mean; as long when not given."""
        return cos_of_sum(own, -self.m * z, "clamp_pi") - (self.m + self.m * z)

    def margins(self, own: Cosines, features: Features) -> Cosines:
        z = self.h * (counted(features) - self.mean) / (self.std + 1e-3)
        return self.margin(own, z.clamp(-1, 1).detach())


def counted(features: Features) -> Lengths:
    """The features' lengths as AdaFace counts them."""
    return length(features).clamp(1e-3, 100)
