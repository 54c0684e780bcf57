"""MagFace: the longer a feature, the larger its margin.    logit_y = s * cos(theta_y + m(|x|))"""

from faces.heads.angle import cos_of_sum
from faces.heads.base import CosineHead, length
from faces.knobs import SEAM, Knob, fixed_scale
from faces.shapes import Cosines, Features, Labels, Lengths, Loss


class MagFace(CosineHead):
    """s * cos(theta + m(a)) on the true class, a the feature's length; m goes from l_m at l_a to u_m at u_a.

    The loss has lam * (1 / a + a / u_a^2) besides, smallest at u_a: features want to be long, and those that can
    afford the larger margin are; with l_m above u_m, which the paper excludes, the margin falls. Outside l_a to u_a
    the length counts as the nearer end, as in the authors' code.
    The paper has s = 64, l_a = 10, u_a = 110, l_m = 0.45, u_m = 0.8, lam = 35; here the defaults suit features
    as long as this app's encoders make them.
    """

    family = "Newer heads"
    title = "the longer a feature, the larger its margin"
    source, born = "https://arxiv.org/abs/2103.06627", "2021-03"
    formula = r"s \cos(\theta_y + m(\|x\|))"
    at_angle = {"shortest features": "turned(theta, l_m, seam)", "longest features": "turned(theta, u_m, seam)"}
    adds = "2 * lam / u_a"
    notice = "The length becomes a measure of quality: clear images get long features, doubtful ones short."
    knobs = {
        "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
        "l_m": Knob(0.15, 0.0, 1.5, "margin of the shortest features, radians", neutral=0.0),
        "u_m": Knob(0.45, 0.0, 1.5, "margin of the longest features, radians", neutral=0.0),
        "l_a": Knob(1.0, 0.1, 10.0, "length of the shortest features, no unit"),
        "u_a": Knob(20.0, 12.0, 200.0, "length of the longest features, no unit"),
        "lam": Knob(5.0, 0.0, 50.0, "weight of the wish for length in the loss, no unit"),
        "seam": SEAM,
    }
    undrawn = ("lam",)  # it asks for length, whatever the angle
    drawn = {"length": Knob(10.5, 0.0, 200.0, "length of the feature, no unit")}
    l_m: float
    u_m: float
    l_a: float
    u_a: float
    lam: float
    seam: str

    def loss(self, features: Features, labels: Labels) -> Loss:
        a = self.counted(features)
        return super().loss(features, labels) + self.lam * (1 / a + a / self.u_a**2).mean()

    def counted(self, features: Features) -> Lengths:
        """The features' lengths, no shorter than l_a, no longer than u_a."""
        return length(features).clamp(self.l_a, self.u_a)

    def margin(self, own: Cosines, a: Lengths | None = None) -> Cosines:
        """For features of these lengths, l_a to u_a; halfway when not given."""
        share = 0.5 if a is None else (a - self.l_a) / (self.u_a - self.l_a)
        return cos_of_sum(own, self.l_m + (self.u_m - self.l_m) * share, self.seam)

    def margins(self, own: Cosines, features: Features) -> Cosines:
        return self.margin(own, self.counted(features))
