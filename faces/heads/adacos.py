"""AdaCos: a scale that follows the training, no margin.    logit_j = s * cos(theta_j)"""

import math

import torch
from torch import Tensor

from faces.heads.base import CosineHead
from faces.heads.fused import at_once
from faces.knobs import Choice, Knob, Value, fixed_scale
from faces.shapes import Cosines, CosineTable, Features, Labels


class AdaCos(CosineHead):
    """s * cos(theta) for every class, where s is set anew from every training batch.

    s = ln(B_avg) / cos(min(pi/4, theta_med)) (eq. 14-15), where B_avg is the mean over the batch of the
    summed exp(s * cos(theta_j)) over wrong classes and theta_med the median angle to the own class.
    Where that is not positive s stays: a negative scale would teach the opposite. With two classes
    the rule has no positive resting point, so s never moves.
    """

    family = "Article's heads"
    title = "a scale that follows the training"
    source, born = "https://arxiv.org/abs/1905.00292", "2019-05"
    formula = r"\tilde{s} \cos\theta_y"
    at_angle = "cos(theta)"
    notice = "Watch s fall as the classes part: it settles where a perfect sample has a probability of only one half."
    knobs = {"dynamic": Choice(("on", "off"), "s follows the training, or stays at sqrt(2) ln(C - 1)")}
    undrawn = ("dynamic",)
    drawn = {"s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, set by training, no unit")}
    dynamic: str
    s: Tensor

    def __init__(self, dim: int, classes: int, **knobs: Value):
        super().__init__(dim, classes, **knobs)
        self.register_buffer("s", torch.tensor(fixed_scale(classes)))

    def observe(self, cosine: CosineTable, own: Cosines, labels: Labels, features: Features) -> None:
        if self.dynamic == "off":
            self.s.fill_(fixed_scale(self.classes))
        elif self.classes > 2:
            few = at_once(cosine)
            each = [
                (self.s * some).scatter_(1, own_labels[:, None], -math.inf).logsumexp(1)
                for some, own_labels in zip(cosine.split(few), labels.split(few), strict=True)
            ]
            log_b_avg = torch.cat(each).logsumexp(0) - math.log(len(labels))
            median = -(-own).median()  # of an even number of angles the smaller middle one
            s = log_b_avg / median.clamp_min(math.cos(math.pi / 4))
            self.s.copy_(torch.where(s > 0, s, self.s))
