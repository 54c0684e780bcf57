"""ElasticFace: ArcFace with a margin drawn anew for every sample.    logit_y = s * cos(theta_y + m_i)"""

import torch
from torch import Tensor

from faces.heads.angle import cos_of_sum
from faces.heads.arcface import ArcFace
from faces.knobs import SEAM, Knob, Value, fixed_scale
from faces.shapes import Cosines, CosineTable, Features, Labels


class ElasticFace(ArcFace):
    """s * cos(theta + m_i) on the true class, m_i drawn from the normal distribution around m with deviation sigma.

    The draws follow from `place` alone, (where the run's seed began, batches trained on), which is saved: so a
    resumed run draws what an uninterrupted one would. Without training a batch meets the last draws again.
    The form ElasticFace-Arc; the paper has s = 64, m = 0.5, sigma = 0.05.
    """

    family = "Newer heads"
    title = "a margin drawn anew for every sample"
    source, born = "https://arxiv.org/abs/2109.09416", "2021-09"
    formula = r"s \cos(\theta_y + m_i), \quad m_i \sim \mathcal{N}(m, \sigma)"
    at_angle = "drawn(theta, m, sigma, seam)"  # as a mean over the draws
    notice = (
        "No sample meets the same margin twice, so classes are not all pressed into one mould. sigma = 0 is ArcFace."
    )
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "m": Knob(0.25, 0.0, 1.5, "mean margin on the angle, radians", neutral=0.0),
        "sigma": Knob(0.05, 0.0, 0.2, "standard deviation of the margin, radians"),
        "seam": SEAM,
    }
    undrawn = ("sigma",)
    watches_own = True
    sigma: float
    place: Tensor

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        self.register_buffer("place", torch.cat([torch.randint(2**31, (1,)), torch.zeros(1, dtype=torch.int64)]))

    def observe(self, cosine: CosineTable, own: Cosines, labels: Labels, features: Features) -> None:
        self.place[1] += 1

    def margin(self, own: Cosines, m: Cosines | None = None) -> Cosines:
        """For these margins; the mean one when not given."""
        return cos_of_sum(own, self.m if m is None else m, self.seam)

    def margins(self, own: Cosines, features: Features) -> Cosines:
        return self.margin(own, self.m + self.sigma * normal(self.place, len(own)).to(own.dtype))


def normal(place: Tensor, size: int) -> Tensor:
    """Standard normal numbers (size,) that follow from two whole numbers, without a generator whose state must be kept.

    Whole numbers are scrambled to 32 random bits, those are read as a probability, and that as a quantile.
    """
    bits = scrambled(scrambled(scrambled(place[0]) + place[1]) + torch.arange(size, device=place.device))
    return torch.special.ndtri((bits.double() + 0.5) / 2**32)  # never 0 or 1, so finite: at most 6.4


def scrambled(number: Tensor) -> Tensor:
    """32 bits in which every bit of the number (the lower 32 of it) has had its say."""
    number = number & 0xFFFFFFFF
    for _ in range(2):
        number = ((number ^ (number >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return number ^ (number >> 16)
