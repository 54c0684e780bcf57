"""Margins on an angle that is known by its cosine, and what happens when it is pushed past pi."""

import math

import torch
from torch import Tensor

from faces.shapes import Cosines, CosineTable


def cos_of_sum(cosine: Cosines, m: float | Cosines, seam: str) -> Cosines:
    """cos(theta + m) for m in radians, one for all or one for each, -pi to pi, while theta + m <= pi.

    Past that seam, as `seam` says:

    cos_minus_m_sin_m   cos(theta) - m sin(m), still falling (CurricularFace's code, pytorch-metric-learning)
    keep_theta          cos(theta), the margin is dropped: jumps up by 1 - cos(m) (Catalyst)
    raw_cos             cos(theta + m), which rises again (insightface)
    clamp_pi            -1, flat: no gradient for the worst samples (AdaFace)
    psi_monotone        -cos(theta + m) - 2, continuous and falling (SphereFace)

    Where a negative m turns theta past 0: 1, flat.
    From cos(theta + m) = cos(theta) cos(m) - sin(theta) sin(m): no arccos, so no infinite slope.
    """
    cos_m, sin_m = (m.cos(), m.sin()) if isinstance(m, Tensor) else (math.cos(m), math.sin(m))
    turned = cosine * cos_m - sine(cosine) * sin_m
    match seam:
        case "cos_minus_m_sin_m":
            past = cosine - m * sin_m
        case "keep_theta":
            past = cosine
        case "raw_cos":
            past = turned
        case "clamp_pi":
            past = torch.full_like(cosine, -1.0)
        case "psi_monotone":
            past = -turned - 2
    if isinstance(m, Tensor) or m < 0:
        turned = torch.where((m < 0) & (cosine > cos_m), 1.0, turned)
        return torch.where((cosine < -cos_m) & (m >= 0), past, turned)
    return turned if seam == "raw_cos" else torch.where(cosine < -cos_m, past, turned)


def psi(cosine: Cosines, m1: float, m2: float) -> Cosines:
    """(-1)^k cos(a) - 2k with a = m1 * theta + m2 and k = floor(a / pi): cos(a), unrolled past pi.

    Continuous and never rising in theta, as is its slope (SphereFace, arXiv:1704.08063, section 3.3).
    """
    a = m1 * angle(cosine) + m2
    k = torch.floor(a.detach() / math.pi)
    return (1 - 2 * (k % 2)) * a.cos() - 2 * k


def angle(cosine: Cosines | CosineTable) -> Cosines | CosineTable:
    """theta, 0 to pi. Its slope is -1 / sin(theta), and 0 at |cosine| = 1, as for `sine`."""
    return torch.atan2(sine(cosine), cosine)


def sine(cosine: Cosines | CosineTable) -> Cosines | CosineTable:
    """sin(theta) >= 0. At |cosine| = 1 its slope is infinite and no direction is right there: taken as 0."""
    square = (1 - cosine) * (1 + cosine)
    inside = square > 0
    return torch.where(inside, torch.where(inside, square, 1.0).sqrt(), 0.0)
