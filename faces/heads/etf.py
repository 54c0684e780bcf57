"""ETF: class vectors that stand still, as far from one another as can be.    logit_j = s * cos(theta_j)"""

import torch

from faces.heads.base import unit
from faces.heads.normface import NormFace
from faces.knobs import Knob, Value, fixed_scale


class ETF(NormFace):
    """s * cos(theta) for every class, with class vectors fixed on a simplex: every two at the cosine -1 / (C - 1).

    Such an equiangular tight frame is where trained class vectors end up anyway (neural collapse). It is turned at
    random and never trained. C vectors need C - 1 dimensions; fewer: ValueError. The paper also has a loss of its
    own (dot regression); here it is cross-entropy, so that only the vectors differ from NormFace.
    """

    family = "Newer heads"
    title = "class vectors fixed on a simplex"
    source, born = "https://arxiv.org/abs/2203.09081", "2022-03"
    formula = r"s \cos\theta_y"
    at_angle = "cos(theta)"
    simplex = True
    notice = "The centers never move: only the encoder learns. Other heads' centers drift towards this figure."
    knobs = {"s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit")}

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        if dim < classes - 1:
            raise ValueError(f"ETF needs embeddings of {classes - 1} numbers or more for {classes} classes, not {dim}.")
        turn = torch.linalg.qr(self.weight.detach()[: classes - 1].T).Q  # (D, C-1), a random frame
        corners = torch.linalg.qr(torch.eye(classes)[:, 1:] - 1 / classes).Q  # (C, C-1), of a simplex at 0
        self.weight.requires_grad_(False).copy_(unit(corners @ turn.T))
