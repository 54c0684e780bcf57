"""A margin on an angle that is known by its cosine, and what happens when it is pushed past pi."""

import math

import torch

from faces.shapes import Cosines


def cos_of_sum(cosine: Cosines, m: float, seam: str) -> Cosines:
    """cos(theta + m) for m >= 0 in radians, while theta + m <= pi; past that seam, as `seam` says:

    cos_minus_m_sin_m   cos(theta) - m sin(m), still falling (CurricularFace's code, pytorch-metric-learning)
    keep_theta          cos(theta), the margin is dropped: jumps up by 1 - cos(m) (Catalyst)
    raw_cos             cos(theta + m), which rises again (insightface)
    clamp_pi            -1, flat: no gradient for the worst samples (AdaFace)
    psi_monotone        -cos(theta + m) - 2, continuous and falling (SphereFace)

    From cos(theta + m) = cos(theta) cos(m) - sin(theta) sin(m): no arccos, so no infinite slope.
    """
    turned = cosine * math.cos(m) - sine(cosine) * math.sin(m)
    match seam:
        case "cos_minus_m_sin_m":
            past = cosine - m * math.sin(m)
        case "keep_theta":
            past = cosine
        case "raw_cos":
            return turned
        case "clamp_pi":
            past = torch.full_like(cosine, -1.0)
        case "psi_monotone":
            past = -turned - 2
    return torch.where(cosine < -math.cos(m), past, turned)


def sine(cosine: Cosines) -> Cosines:
    """sin(theta) >= 0. At |cosine| = 1 its slope is infinite and no direction is right there: taken as 0."""
    square = (1 - cosine) * (1 + cosine)
    inside = square > 0
    return torch.where(inside, torch.where(inside, square, 1.0).sqrt(), 0.0)
