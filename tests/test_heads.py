"""What every head promises, kept by all of them at once, and each formula by hand once."""

import io
import math
import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from faces.heads import HEADS
from faces.heads.base import CosineHead, unit
from faces.knobs import Choice, fixed_scale

SCORED = [name for name in HEADS if HEADS[name].scored]  # the others are in test_metric_heads.py
COSINE = [name for name in HEADS if issubclass(HEADS[name], CosineHead)]
SEAMED = [name for name in HEADS if "seam" in HEADS[name].knobs]
SEAMS = HEADS["ArcFace"].knobs["seam"].options
LENGTHY = ["SphereFace", "AdaFace", "MagFace"]  # the feature's length counts in training
DIRECTED = [name for name in COSINE if name not in LENGTHY]
OTHERS = ["CurricularFace", "MVSoftmax", "SphereFace2"]  # the other classes' logits change in training, too
DIM = {"ETF": 4}  # the least for the five classes of these tests
LIVE = [(name, knob) for name in SCORED for knob, what in HEADS[name].knobs.items() if what.live]
STATEFUL = [
    ("AdaCos", "s"), ("CurricularFace", "t"), ("AdaFace", "mean"), ("AdaFace", "std"), ("ElasticFace", "place"),
]  # fmt: skip

few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


def batch(name="", size=12, dim=2, classes=5, seed=0, dtype=torch.float32):
    """Features of any length and direction and their labels. In 2-D many are more than pi - m from their class."""
    torch.manual_seed(seed)
    return torch.randn(size, max(dim, DIM.get(name, 2)), dtype=dtype) * 3, torch.arange(size) % classes


def built(name, dim=2, classes=5, seed=0, **knobs):
    """A head from a seed. Heads with the same shape of weight have the same weight."""
    torch.manual_seed(seed)
    return HEADS[name](max(dim, DIM.get(name, 2)) if classes == 5 else dim, classes, **knobs)


def with_margin(name, m):
    """The knobs that give a head this margin on the angle."""
    return {"l_m": m, "u_m": m} if name == "MagFace" else {"m": m} if "m" in HEADS[name].knobs else {}


def trained(head):
    return [value for value in head.parameters() if value.requires_grad]


def another_value(knob):
    """A value that fits and is not the default."""
    return knob.options[1] if isinstance(knob, Choice) else 0.75 * knob.high


def copied(head):
    return {name: value.clone() for name, value in head.state_dict().items()}


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


# One case by hand for each: class vectors at 0 and 90 degrees, a feature of length 2 at 30 degrees, of the first class.

DEGREES = {"SubCenterArcFace": [[0.0, 270.0], [90.0, 180.0]]}
BY_HAND = {
    "Classification": ({}, [2 * math.sqrt(0.75), 1.0]),
    "ArcMarginProduct": ({}, [math.sqrt(0.75), 0.5]),
    "NormFace": ({"s": 4.0}, [4 * math.sqrt(0.75), 2.0]),
    "ArcFace": ({"s": 4.0, "m": math.pi / 6}, [4 * 0.5, 2.0]),  # cos(30 + 30 degrees)
    "CosFace": ({"s": 4.0, "m": 0.25}, [4 * (math.sqrt(0.75) - 0.25), 2.0]),
    "AdaCos": ({}, [math.log(999) / 2 * math.sqrt(0.75), math.log(999) / 2 * 0.5]),  # two classes: s stays
    # cos(30 + 45 degrees) < cos(60 degrees): hard; t = 0.01 * cos(30 degrees)
    "CurricularFace": (
        {"s": 4.0, "m": math.pi / 4},
        [4 * math.cos(math.radians(75)), 4 * 0.5 * (0.01 * math.sqrt(0.75) + 0.5)],
    ),
    "SubCenterArcFace": ({"s": 4.0, "m": math.pi / 6, "k": 2}, [4 * 0.5, 2.0]),
    # 2 * 30 degrees; the length 2 is the scale
    "SphereFace": ({"m1": 2.0, "lam": 1.0}, [2 * (math.sqrt(0.75) + 0.5) / 2, 2 * 0.5]),
    # 1.5 * 30 + 15 degrees
    "UnitedMargin": ({"s": 4.0, "m1": 1.5, "m2": math.pi / 12, "m3": 0.25}, [4 * (0.5 - 0.25), 2.0]),
    "CM1": ({"s": 4.0}, [4 * (math.cos(math.pi / 6 + 0.3) - 0.2), 2.0]),
    "CM2": ({"s": 4.0}, [4 * (math.cos(0.9 * math.pi / 6 + 0.4) - 0.15), 2.0]),
    "SphereFaceR": ({"s": 4.0, "m1": 2.0}, [4 * 0.5, 2.0]),
    "LiArcFace": ({"s": 4.0, "m": math.pi / 6}, [4 * (1 - 2 / 3), 4 * (1 - 2 / 3)]),  # both come to 60 degrees
    # cos(30 + 45 degrees) < cos(60 degrees): hard
    "MVSoftmax": ({"s": 4.0, "m": math.pi / 4, "t": 0.2}, [4 * math.cos(math.radians(75)), 4 * (1.2 * 0.5 + 0.2)]),
    # the length 2 is a twentieth of the way from 1 to 21
    "MagFace": (
        {"s": 4.0, "l_m": 0.1, "u_m": 0.9, "l_a": 1.0, "u_a": 21.0},
        [4 * math.cos(math.pi / 6 + 0.1 + 0.8 / 20), 2.0],
    ),
    # the mean length becomes (20 + 2) / 2, so z = (2 - 11) / 100.001 * 1
    "AdaFace": (
        {"s": 4.0, "m": 0.25, "h": 1.0, "t_alpha": 0.5},
        [4 * (math.cos(math.pi / 6 + 0.25 * 9 / 100.001) - 0.25 + 0.25 * 9 / 100.001), 2.0],
    ),
    "ElasticFace": ({"s": 4.0, "m": math.pi / 6, "sigma": 0.0}, [4 * 0.5, 2.0]),
    "ETF": ({"s": 4.0}, [4 * math.sqrt(0.75), 2.0]),
    # equal weights: at right angles the logits are b - 3 and b - 1, on both sides of 0 for b = 2
    "SphereFace2": (
        {"s": 4.0, "m": 0.25, "t": 2.0, "lam": 0.5},
        [4 * (2 * ((math.sqrt(0.75) + 1) / 2) ** 2 - 1 - 0.25) + 2, 4 * (2 * 0.75**2 - 1 + 0.25) + 2],
    ),
}


def at(degrees):
    """Unit vectors at these angles."""
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


@pytest.mark.parametrize("name", SCORED)
def test_training_logits_by_hand(name):
    knobs, expected = BY_HAND[name]
    head = built(name, classes=2, **knobs)
    head.load_state_dict({"weight": at(DEGREES.get(name, [0.0, 90.0]))}, strict=False)
    logits = head(2 * at([30.0]), torch.tensor([0]))
    torch.testing.assert_close(logits, torch.tensor([expected]), rtol=1e-6, atol=1e-6)


def test_the_scale_of_adacos_by_hand():
    """Three class vectors at 0, 90 and 180 degrees, a feature at 30: below 45 degrees the median counts."""
    head = built("AdaCos", classes=3)
    head.load_state_dict({"weight": at([0.0, 90.0, 180.0])}, strict=False)
    start = math.sqrt(2) * math.log(2)
    head(at([30.0]), torch.tensor([0]))
    b_avg = math.exp(start * 0.5) + math.exp(-start * math.sqrt(0.75))
    assert head.s.item() == pytest.approx(math.log(b_avg) / math.sqrt(0.75), rel=1e-6)
    start = head.s.item()
    head(at([30.0]), torch.tensor([1]))  # 60 degrees from its class: pi / 4 counts
    b_avg = math.exp(start * math.sqrt(0.75)) + math.exp(-start * math.sqrt(0.75))
    assert head.s.item() == pytest.approx(math.log(b_avg) / math.cos(math.pi / 4), rel=1e-6)


def test_a_batch_sets_the_scale_of_adacos_from_its_mean_and_its_median():
    head, (features, labels) = built("AdaCos"), batch(size=12)
    features = head.weight.detach()[labels] + 0.1 * features  # most within 45 degrees: there the median counts
    cosine, start = head.cosine(features), head.s.clone()
    wrong = torch.ones_like(cosine).scatter(1, labels[:, None], 0.0)
    b_avg = ((start * cosine).exp() * wrong).sum(1).mean()
    theta = cosine[torch.arange(12), labels].acos().sort().values[5]  # the smaller of the two in the middle
    assert theta < math.pi / 4
    head(features, labels)
    torch.testing.assert_close(head.s, b_avg.log() / theta.clamp(max=math.pi / 4).cos())


def test_a_wrong_class_is_hard_when_nearer_than_the_turned_own_class_even_past_the_seam():
    """A feature 170 degrees from its class and 165 from the other; cos(170 + 30 degrees) is the nearer."""
    head = built("CurricularFace", classes=2, s=4.0, m=math.pi / 6)
    head.load_state_dict({"weight": at([0.0, 5.0])}, strict=False)
    logits = head(at([170.0]), torch.tensor([0]))
    assert logits[0, 1].item() == pytest.approx(4 * math.cos(math.radians(165)), rel=1e-6)


@pytest.mark.parametrize("name", SEAMED)
def test_past_the_seam_by_hand(name):
    """170 degrees and a margin of 30."""
    m, cos = math.pi / 6, math.cos(math.radians(170))
    expected = {
        "cos_minus_m_sin_m": cos - m * 0.5,
        "keep_theta": cos,
        "raw_cos": math.cos(math.radians(200)),
        "clamp_pi": -1.0,
        "psi_monotone": -math.cos(math.radians(200)) - 2,
    }
    for seam in SEAMS:
        own = built(name, **with_margin(name, m), seam=seam).margin(torch.tensor([cos], dtype=torch.float64))
        assert own.item() == pytest.approx(expected[seam], abs=1e-12)


# What all heads have in common.


@pytest.mark.parametrize("name", HEADS)
def test_a_head_declares_what_a_menu_needs(name):
    head = HEADS[name]
    assert all([head.title, head.formula, head.notice.endswith((".", "!")), head.source.startswith("https://")])
    assert re.fullmatch(r"\d{4}-\d{2}", head.born)
    assert all(knob.meaning for knob in head.knobs.values())


@pytest.mark.parametrize("name", SCORED)
def test_class_vectors_start_at_length_one_and_equal_for_equal_seeds(name):
    head = built(name, dim=64, classes=10)
    lengths = head.weight.detach().norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-6)
    if name not in ("SubCenterArcFace", "ETF"):
        assert torch.equal(head.weight, built("ArcFace", dim=64, classes=10).weight)
    if name == "Classification":
        assert torch.equal(head.bias, torch.zeros(10))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes", [0, 1])
def test_fewer_than_two_classes_are_refused_in_a_sentence(name, classes):
    given = {"s": 30.0} if "s" in HEADS[name].knobs else {}
    for knobs in ({}, given):
        with pytest.raises(ValueError, match=f"^A head needs at least 2 classes to tell apart; {classes} given.$"):
            HEADS[name](2, classes, **knobs)


@pytest.mark.parametrize("name", [name for name in SCORED if name != "ETF"])  # its class vectors stay where they are
def test_two_classes_learn(name):
    features, labels = 2 * at([0.0, 20.0, 40.0, 120.0, 150.0]), torch.tensor([0, 0, 0, 1, 1])
    head = built(name, classes=2, **{"k": 1} if "k" in HEADS[name].knobs else {})
    head.load_state_dict({"weight": at([170.0, 30.0]).reshape(head.weight.shape)}, strict=False)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(100):
        loss = head.loss(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(head(features).argmax(1), labels)


@pytest.mark.parametrize("name", SCORED)
def test_inference_logits_carry_no_margin(name):
    features, _ = batch(name)
    head = built(name)
    if name in COSINE:
        centers = normalize(head.weight, dim=-1).flatten(0, -2)
        cosine = (normalize(features) @ centers.T).unflatten(1, (5, -1)).amax(2)
        torch.testing.assert_close(head.cosine(features), cosine)
        expected = {
            "SphereFace": lambda: features.norm(dim=1, keepdim=True) * cosine,
            "LiArcFace": lambda: head.s * (1 - 2 * cosine.acos() / math.pi),
            "SphereFace2": lambda: head.s * (2 * ((cosine + 1) / 2) ** 3 - 1) + head.b,
        }.get(name, lambda: head.s * cosine)
        torch.testing.assert_close(head(features), expected(), rtol=1e-5, atol=1e-4)
    else:
        head.bias.data = torch.arange(5.0)
        torch.testing.assert_close(head(features), features @ head.weight.T + torch.arange(5.0))


@pytest.mark.parametrize("name", COSINE)
def test_the_formula_that_trains_is_the_one_that_is_drawn(name):
    features, labels = batch(name)
    head = built(name, **{"sigma": 0.0} if name == "ElasticFace" else {}).eval()
    typical = {"AdaFace": 20.0, "MagFace": (1.0 + 20.0) / 2}  # the length that a drawing without one is for
    features = normalize(features) * typical.get(name, 3.0)
    own = head.cosine(features)[torch.arange(len(labels)), labels]
    asked = head(features, labels)[torch.arange(len(labels)), labels]
    scale, b = 3.0 if name == "SphereFace" else head.s, head.b if name == "SphereFace2" else 0.0
    torch.testing.assert_close(asked, scale * head.margin(own) + b)
    line = torch.linspace(-1, 1, 101)
    assert head.margin(line).shape == line.shape


@pytest.mark.parametrize("name", [name for name in COSINE if name not in OTHERS])
def test_a_margin_leaves_the_other_classes_alone(name):
    features, labels = batch(name)
    head = built(name).eval()
    logits = head(features, labels)
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], False)
    assert torch.equal(logits[others], head(features)[others])


class Tables(TorchDispatchMode):
    """Counts the tensors of one size that are made."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.made, self.addresses = numel, [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() == self.numel:
            self.made.append(out)  # kept alive, so no address is used twice
            self.addresses.add(out.data_ptr())
        return out


@pytest.mark.parametrize("name", ["ArcFace", "CosFace"])
def test_a_margin_makes_no_table_of_all_cosines_of_its_own(name):
    features, labels = batch(size=7, dim=3, classes=11)
    head = built(name, dim=3, classes=11)
    with Tables(7 * 11) as made:
        head(features, labels)
    assert len(made.addresses) == 2  # the cosines and the logits, as without a margin


# State: only in train() with labels, saved, and never by looking.


@pytest.mark.parametrize("name", SCORED)
def test_evaluation_changes_no_state_and_no_parameter(name):
    features, labels = batch(name)
    head = built(name)
    before = copied(head)
    head(features)
    head.eval()
    head(features)
    head(features, labels)
    assert same(before, copied(head))


@pytest.mark.parametrize(("name", "buffer"), STATEFUL)
def test_training_changes_state_and_it_survives_saving(name, buffer):
    features, labels = batch()
    head = built(name)
    before = getattr(head, buffer).clone()
    head(features, labels)
    assert not torch.equal(getattr(head, buffer), before)
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    restored = built(name, seed=1)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(getattr(restored, buffer), getattr(head, buffer))
    assert torch.equal(head(features), restored(features))


@pytest.mark.parametrize(("name", "buffer"), STATEFUL)
def test_state_is_used_after_its_update_and_is_no_path_for_gradients(name, buffer):
    features, labels = batch()
    head = built(name)
    logits = head(features.requires_grad_(), labels)
    assert not getattr(head, buffer).requires_grad
    assert torch.equal(logits, head.eval()(features, labels))


def test_t_is_a_running_mean_of_the_own_class_cosine():
    features, labels = batch()
    head = built("CurricularFace")
    own = head.cosine(features)[torch.arange(len(labels)), labels].mean()
    head(features, labels)
    torch.testing.assert_close(head.t, 0.01 * own)
    head(features, labels)
    torch.testing.assert_close(head.t, 0.01 * own + 0.99 * 0.01 * own)


def test_the_scale_of_adacos_stays_positive_and_finite():
    head = built("AdaCos", classes=3)
    head.load_state_dict({"weight": at([0.0, 180.0, 180.0])}, strict=False)
    head(at([0.0]), torch.tensor([0]))  # the rule gives ln(2) - s < 0 here
    assert head.s == torch.tensor(fixed_scale(3))
    head.s.fill_(500.0)  # exp(500) is no float32
    head(at([90.0, 10.0]), torch.tensor([1, 1]))
    assert 0 < head.s < math.inf


def test_adacos_with_two_classes_keeps_its_scale():
    features, labels = batch(classes=2)
    head = built("AdaCos", classes=2)
    head(features, labels)
    assert head.s == torch.tensor(fixed_scale(2))


def test_adacos_switched_off_is_normface():
    features, labels = batch()
    head, control = built("AdaCos", dynamic="off"), built("NormFace")
    torch.testing.assert_close(head(features, labels), control(features, labels))
    head = built("AdaCos")
    head(features, labels)
    head.turn(dynamic="off")
    torch.testing.assert_close(head(features, labels), control(features, labels))


# Knobs.


@pytest.mark.parametrize("name", HEADS)
def test_a_head_without_given_knobs_has_the_declared_defaults(name):
    assert built(name, dim=9, classes=10).knob_values() == {
        knob: what.start(10) for knob, what in HEADS[name].knobs.items()
    }


@pytest.mark.parametrize(("name", "knob"), LIVE)
def test_a_knob_turned_live_equals_a_head_built_with_it(name, knob):
    features, labels = batch(name, size=200)
    value = another_value(HEADS[name].knobs[knob])
    alike = {"k": 1} if "k" in HEADS[name].knobs else {}  # the nearest of several is seldom past the seam
    turned, fresh, untouched = built(name, **alike), built(name, **alike | {knob: value}), built(name, **alike)
    turned.turn(**{knob: value})
    assert turned.knob_values() == fresh.knob_values() == untouched.knob_values() | {knob: value}
    assert torch.equal(turned(features, labels), fresh(features, labels))
    assert torch.equal(turned.loss(features, labels), fresh.loss(features, labels))
    assert not torch.equal(turned.loss(features, labels), untouched.loss(features, labels))


@pytest.mark.parametrize("name", HEADS)
def test_a_wrong_knob_changes_nothing_and_is_answered_in_a_sentence(name):
    head = built(name)
    before, knobs = head.knob_values(), HEADS[name].knobs
    with pytest.raises(ValueError, match=re.escape(f"Unknown knob ['margin']. Knobs here: {list(knobs)}.")):
        built(name, margin=0.5)
    good = {knob: another_value(what) for knob, what in knobs.items() if what.live}
    wrong = {"margin": 0.5} | dict.fromkeys(knobs, "wrong") | {knob: 3 for knob in knobs if not knobs[knob].live}
    for knob, value in wrong.items():
        with pytest.raises(ValueError, match=knob):
            head.turn(**good | {knob: value})
        assert head.knob_values() == before


def test_a_knob_of_new_runs_only_says_so():
    with pytest.raises(ValueError, match=r"\['k'\] can only be set in a new run.*\['s', 'm', 'seam'\]"):
        built("SubCenterArcFace").turn(k=2)


# Geometry.


@few
@given(seed=seeds, length=st.floats(1e-3, 1e3), name=st.sampled_from(DIRECTED))
def test_only_directions_count(seed, length, name):
    features, labels = batch(name, seed=seed, dtype=torch.float64)
    head = built(name, seed=seed).double().eval()
    logits = head(features, labels)
    head.weight.data *= length
    torch.testing.assert_close(head(features * length, labels), logits)


@few
@given(seed=seeds, length=st.floats(1e-3, 1e3), name=st.sampled_from(COSINE))
def test_the_length_of_class_vectors_never_counts(seed, length, name):
    features, labels = batch(name, seed=seed, dtype=torch.float64)
    head = built(name, seed=seed).double().eval()
    logits = head(features, labels)
    head.weight.data *= length
    torch.testing.assert_close(head(features, labels), logits)


@few
@given(seed=seeds, name=st.sampled_from([*DIRECTED, "AdaFace"]))  # AdaFace sees lengths outside the graph
def test_the_gradient_is_orthogonal_to_the_features(seed, name):
    features, labels = batch(dim=4, seed=seed, dtype=torch.float64)
    features.requires_grad_()
    head = built(name, dim=4, seed=seed).double()
    head.loss(features, labels).backward()
    assert features.grad.abs().max() > 1e-6
    assert (features.grad * features).sum(1).abs().max() < 1e-12


@few
@given(m=st.floats(0, 1.5), name=st.sampled_from(COSINE), seam=st.sampled_from(["cos_minus_m_sin_m", "psi_monotone"]))
def test_the_own_value_never_rises_with_the_angle(m, name, seam):
    top = {"CosFace": 1.0, "AdaFace": 1.0, "SphereFace2": 1.0}.get(name, 1.5)
    head = built(name, **with_margin(name, min(m, top)), **{"seam": seam} if name in SEAMED else {})
    theta = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    value = head.margin(theta.cos())
    assert value.diff().max() <= 1e-12
    if seam == "psi_monotone":
        assert value.diff().min() > -0.01  # no jump anywhere


@few
@given(seed=seeds, seam=st.sampled_from(SEAMS))
def test_no_margin_is_normface(seed, seam):
    features, labels = batch(seed=seed)
    expected = built("NormFace", seed=seed, s=7.0)(features, labels)
    for head in (
        built("ArcFace", seed=seed, s=7.0, m=0.0, seam=seam),
        built("CosFace", seed=seed, s=7.0, m=0.0),
        built("SubCenterArcFace", seed=seed, s=7.0, m=0.0, k=1, seam=seam),
        built("MagFace", seed=seed, s=7.0, l_m=0.0, u_m=0.0, seam=seam),
        built("AdaFace", seed=seed, s=7.0, m=0.0),
        built("ElasticFace", seed=seed, s=7.0, m=0.0, sigma=0.0, seam=seam),
        built("MVSoftmax", seed=seed, s=7.0, m=0.0, t=0.0, seam=seam),
    ):
        torch.testing.assert_close(head(features, labels), expected, rtol=0, atol=7e-7)
    for head in (
        built("UnitedMargin", seed=seed, s=7.0, m1=1.0, m2=0.0, m3=0.0),
        built("SphereFaceR", seed=seed, s=7.0, m1=1.0),
    ):  # these go by the angle and back
        torch.testing.assert_close(head(features, labels), expected, rtol=0, atol=7e-6)


@few
@given(seed=seeds, m=st.floats(0, 1.5), seam=st.sampled_from(SEAMS))
def test_one_center_per_class_is_arcface(seed, m, seam):
    features, labels = batch(seed=seed)
    head, arcface = (
        built("SubCenterArcFace", seed=seed, m=m, k=1, seam=seam),
        built("ArcFace", seed=seed, m=m, seam=seam),
    )
    assert torch.equal(head.weight.squeeze(1), arcface.weight)
    torch.testing.assert_close(head(features, labels), arcface(features, labels))


def test_only_the_nearest_center_of_a_class_learns():
    head = built("SubCenterArcFace", classes=2, k=2)
    head.load_state_dict({"weight": at([[0.0, 270.0], [90.0, 180.0]])})
    cross_entropy(head(at([30.0]), torch.tensor([0])), torch.tensor([0])).backward()
    assert (head.weight.grad.norm(dim=-1) > 0).tolist() == [[True, False], [True, False]]


def test_the_centers_of_a_class_may_start_together():
    apart, together = (
        built("SubCenterArcFace", dim=64, start=start).weight.detach() for start in ("apart", "together")
    )
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(5, 3))
    assert (together[:, 0] * together[:, 2]).sum(-1).min() > 0.999 > 0.6 > (apart[:, 0] * apart[:, 2]).sum(-1).max()
    assert not torch.equal(together[:, 0], together[:, 1])


def test_directions_can_be_differentiated_twice_and_the_shortest_vectors_stay():
    torch.manual_seed(0)
    rows = torch.randn(4, 3, dtype=torch.float64)
    rows[0] *= 1e-8
    rows[1] = 0
    assert torch.equal(unit(rows)[:2], rows[:2])
    torch.testing.assert_close(unit(rows)[2:], normalize(rows[2:]))
    rows.requires_grad_()
    assert torch.autograd.gradcheck(unit, rows, eps=1e-9, atol=1e-5)
    assert torch.autograd.gradgradcheck(unit, rows[2:].detach().requires_grad_())


# Numbers.


@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", SCORED)
def test_nothing_is_nan_on_a_center_opposite_to_it_or_at_zero(name, half, seam):
    head = built(name, dim=8, **with_margin(name, 0.5), **{"seam": seam} if name in SEAMED else {})
    directions = head.weight.detach().reshape(5, -1, 8)[:, 0]
    features = torch.cat([directions * size for size in (1, -1, 0, 3, -3, 1e-30, 1e30)]).requires_grad_()
    labels = torch.arange(len(features)) % 5
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = head(features, labels)
        loss = head.loss(features, labels)
    assert torch.isfinite(logits).all()
    for gradient in torch.autograd.grad(loss, [features, *trained(head)]):
        assert torch.isfinite(gradient).all()
        if (
            name in COSINE and name != "SphereFace"
        ):  # a plain product with features of length 1e30 may be as large as it likes
            assert gradient.abs().max() < 1e3


@pytest.mark.parametrize("name", SCORED)
def test_autocast_does_not_round(name):
    features, labels = batch(dim=64)
    head = built(name, dim=64).eval()
    with torch.autocast("cpu", torch.bfloat16):
        rounded, asked = head(features, labels), head(features)
        of_half = head(features.bfloat16(), labels)
    assert rounded.dtype == asked.dtype == of_half.dtype == torch.float32
    assert torch.equal(rounded, head(features, labels))
    assert torch.equal(asked, head(features))
    assert torch.equal(of_half, head(features.bfloat16().float(), labels))


@pytest.mark.parametrize("name", SCORED)
def test_wide_stays_wide_and_narrow_is_widened(name):
    features, labels = batch(name)
    head = built(name)
    assert head(features.double(), labels).dtype == torch.float64
    assert head.bfloat16()(features.bfloat16(), labels).dtype == torch.float32
    assert head.double()(features, labels).dtype == torch.float64


@few
@given(seed=seeds, m=st.floats(0.01, 1.5), name=st.sampled_from(SEAMED), seam=st.sampled_from(SEAMS))
def test_the_slope_of_the_margin_is_its_derivative(seed, m, name, seam):
    head = built(name, **with_margin(name, m), seam=seam)
    cosine = torch.empty(50, dtype=torch.float64).uniform_(-0.99, 0.99, generator=torch.Generator().manual_seed(seed))
    cosine = cosine[(cosine + math.cos(m)).abs() > 1e-4].requires_grad_()  # beside the seam
    assert torch.autograd.gradcheck(head.margin, cosine, eps=1e-7, atol=1e-5)


# The united margin.


margins = {"m1": st.floats(0.5, 4), "m2": st.floats(0, 1.5), "m3": st.floats(0, 1)}


@few
@given(seed=seeds, m=st.floats(0, 1.0))
def test_the_united_margin_holds_its_relatives(seed, m):
    """(1, m, 0) is ArcFace with a monotone seam, (1, 0, m) CosFace, and a preset is its three numbers."""
    features, labels = batch(size=60, seed=seed, dtype=torch.float64)
    for (m1, m2, m3), relative in {
        (1.0, m, 0.0): built("ArcFace", seed=seed, s=7.0, m=m, seam="psi_monotone"),
        (1.0, 0.0, m): built("CosFace", seed=seed, s=7.0, m=m),
        (1 + m, 0.0, 0.0): built("SphereFaceR", seed=seed, s=7.0, m1=1 + m),
        (1.0, 0.3, 0.2): built("CM1", seed=seed, s=7.0),
        (0.9, 0.4, 0.15): built("CM2", seed=seed, s=7.0),
    }.items():
        head = built("UnitedMargin", seed=seed, s=7.0, m1=m1, m2=m2, m3=m3)
        for dtype, close in {torch.float64: 1e-9, torch.float32: 1e-5}.items():
            x = features.to(dtype).requires_grad_()
            found = [one.to(dtype).loss(x, labels) for one in (head, relative)]
            torch.testing.assert_close(found[0], found[1], rtol=close, atol=7 * close)
            slopes = [torch.autograd.grad(loss, x)[0] for loss in found]
            torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=10 * close * slopes[1].abs().max().item())


def test_sphereface_is_spherefacer_whose_scale_is_the_length():
    features, labels = batch()
    head, relative = built("SphereFace", lam=0.0, m1=2.0), built("SphereFaceR", s=2.5, m1=2.0)
    torch.testing.assert_close(head(2.5 * normalize(features), labels), relative(features, labels))


@few
@given(**margins)
def test_the_united_margin_falls_without_a_jump(m1, m2, m3):
    head = built("UnitedMargin", m1=m1, m2=m2, m3=m3)
    value = head.margin(torch.linspace(0, math.pi, 20_001, dtype=torch.float64).cos())
    assert value.diff().max() <= 1e-12
    assert value.diff().min() >= -m1 * math.pi / 20_000 - 1e-9  # no steeper than m1


@few
@given(seed=seeds, **margins)
def test_the_slope_of_the_united_margin_is_its_derivative(seed, m1, m2, m3):
    cosine = torch.empty(50, dtype=torch.float64).uniform_(-0.99, 0.99, generator=torch.Generator().manual_seed(seed))
    for head in (built("UnitedMargin", m1=m1, m2=m2, m3=m3), built("SphereFace", m1=max(m1, 1.0)), built("LiArcFace")):
        assert torch.autograd.gradcheck(head.margin, cosine.requires_grad_(), eps=1e-7, atol=1e-4)


@few
@given(half=st.booleans(), **margins)
def test_the_united_margin_is_finite_on_a_center_opposite_to_it_and_at_zero(half, m1, m2, m3):
    head = built("UnitedMargin", dim=8, m1=m1, m2=m2, m3=m3)
    features = torch.cat([head.weight.detach() * size for size in (1, -1, 0, 3, -3)]).requires_grad_()
    labels = torch.arange(25) % 5
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = head.loss(features, labels)
    for value in (loss, *torch.autograd.grad(loss, [features, head.weight])):
        assert torch.isfinite(value).all()
        assert value.abs().max() < 1e3


# What is particular to a newer head.


def test_the_lengths_of_adaface_are_followed_by_their_mean_and_spread():
    features, labels = batch()
    head, lengths = built("AdaFace", t_alpha=0.25), features.norm(dim=1)
    head(features, labels)
    torch.testing.assert_close(head.mean, 0.25 * lengths.mean() + 0.75 * 20)
    torch.testing.assert_close(head.std, 0.25 * lengths.std() + 0.75 * 100)
    head(features[:1], labels[:1])  # one length has no spread
    torch.testing.assert_close(head.std, 0.25 * lengths.std() + 0.75 * 100)


def test_adaface_pulls_short_features_when_near_and_long_ones_when_far():
    head = built("AdaFace", m=0.4)
    slopes = []
    for z in (-1.0, 1.0):
        own = torch.tensor([math.cos(0.5), math.cos(2.2)], requires_grad=True)
        slopes += [torch.autograd.grad(head.margin(own, z).sum(), own)[0]]
    assert slopes[0][0] > 1 > slopes[1][0]  # near its class a short feature is pulled more
    assert slopes[0][1] < 1 < slopes[1][1]  # and far from it a long one
    assert head.margin(torch.tensor([0.5]), 1.0) < head.margin(torch.tensor([0.5]), -1.0)
    assert head.margin(torch.ones(1), -1.0).item() == pytest.approx(math.cos(0.4))
    assert head.margin(-torch.ones(1), -1.0).item() == pytest.approx(-1.0)  # theta - m z stops at pi
    assert head.margin(torch.ones(1), 1.0).item() == pytest.approx(1 - 0.8)  # and at 0


def test_magface_wants_length_by_hand():
    """Lengths 2 and 30, of which 12 count: 1/2 + 2/144 and 1/12 + 12/144, twice their mean besides."""
    head = built("MagFace", classes=2, u_a=12.0, lam=2.0)
    features, labels = torch.tensor([[2.0, 0.0], [0.0, 30.0]]), torch.tensor([0, 1])
    wish = head.loss(features, labels) - cross_entropy(head(features, labels), labels)
    assert wish.item() == pytest.approx(1 / 2 + 2 / 144 + 1 / 12 + 12 / 144, rel=1e-5)


def test_the_longer_a_feature_the_more_magface_asks():
    head = built("MagFace")
    own = torch.full((4,), 0.5)
    asked = head.margins(own, torch.tensor([[0.5, 0.0], [1.0, 0.0], [10.0, 0.0], [40.0, 0.0]]))
    assert asked.tolist() == pytest.approx([math.cos(math.pi / 3 + m) for m in (0.15, 0.15, 0.15 + 0.3 * 9 / 19, 0.45)])


def test_sphereface2_asks_each_class_by_hand():
    head = built("SphereFace2", classes=3, lam=0.75).double()
    features, labels = batch(classes=3, dtype=torch.float64)
    logits = head(features, labels)
    yes = torch.nn.functional.one_hot(labels, 3).bool()
    p = logits.sigmoid()
    expected = torch.where(yes, -0.75 * p.log(), -0.25 * (1 - p).log()).sum(1).mean()
    torch.testing.assert_close(head.loss(features, labels), expected)


@example(classes=2, s=40.0, m=0.4, t=3.0, lam=0.7)
@few
@given(
    classes=st.integers(2, 2000),
    s=st.floats(0.5, 64), m=st.floats(0, 1), t=st.floats(1, 10), lam=st.floats(0.01, 0.99),
)  # fmt: skip
def test_sphereface2_starts_where_its_loss_at_right_angles_is_smallest(classes, s, m, t, lam):
    head = built("SphereFace2", classes=classes, s=s, m=m, t=t, lam=lam).double()
    features, labels = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    (slope,) = torch.autograd.grad(head.loss(features, labels), head.bias)
    assert abs(slope.item()) < 1e-6


def test_elastic_margins_are_drawn_around_m_anew_for_each_batch_and_run():
    drawn = {}
    for seed in range(3):
        head = built("ElasticFace", classes=2, m=0.5, sigma=0.1, seed=seed)
        for step in range(3):
            own, features = torch.full((4000,), math.cos(1.0), dtype=torch.float64), torch.zeros(4000, 2)
            head.observe(torch.zeros(4000, 2), own, torch.zeros(4000, dtype=torch.int64), features)
            drawn[seed, step] = head.margins(own, features).acos() - 1.0
    together = torch.stack(list(drawn.values()))
    assert together.unique().numel() == together.numel()
    assert together.mean().item() == pytest.approx(0.5, abs=0.003)
    assert together.std().item() == pytest.approx(0.1, abs=0.003)
    assert torch.corrcoef(together).fill_diagonal_(0).abs().max() < 0.07
    quarters = torch.tensor([0.5 - 0.06745, 0.5, 0.5 + 0.06745], dtype=torch.float64)  # of a normal distribution
    torch.testing.assert_close(
        together.flatten().quantile(torch.tensor([0.25, 0.5, 0.75]).double()), quarters, atol=0.003, rtol=0
    )


def test_elastic_margins_go_on_after_a_restart():
    features, labels = batch()
    head = built("ElasticFace")
    head(features, labels)
    other = built("ElasticFace", seed=1)
    other.load_state_dict(head.state_dict())
    torch.manual_seed(7)  # no generator has a part in it
    expected = head(features, labels)
    torch.manual_seed(8)
    assert torch.equal(other(features, labels), expected)
    assert not torch.equal(head(features, labels), expected)


def test_a_hard_wrong_class_weighs_more_in_mvsoftmax_and_others_do_not():
    features, labels = batch(size=60)
    head, arcface = built("MVSoftmax"), built("ArcFace")
    more, plain = head(features, labels), arcface(features, labels)
    cosine, own = head.cosine(features), torch.zeros(60, 5, dtype=torch.bool).scatter(1, labels[:, None], True)
    turned = (cosine[own].acos() + 0.25).cos()[:, None]
    hard = (cosine > turned) & ~own
    assert 0 < hard.sum() < hard.numel()
    assert torch.equal(more[~hard], plain[~hard])
    torch.testing.assert_close(more[hard], head.s * (1.2 * cosine[hard] + 0.2))


@few
@given(classes=st.integers(2, 40), spare=st.integers(-1, 20), seed=seeds)
def test_the_class_vectors_of_etf_are_a_simplex_that_never_moves(classes, spare, seed):
    head = built("ETF", dim=classes + spare, classes=classes, seed=seed)
    table = head.weight @ head.weight.T
    expected = torch.full((classes, classes), -1 / (classes - 1)).fill_diagonal_(1.0)
    torch.testing.assert_close(table, expected, rtol=0, atol=1e-5)
    assert not trained(head)


def test_etf_without_room_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"^ETF needs embeddings of 9 numbers or more for 10 classes, not 8\.$"):
        HEADS["ETF"](8, 10)


@pytest.mark.parametrize(("optimizer", "lr"), [(torch.optim.SGD, 20.0), (torch.optim.AdamW, 0.5)])
def test_etf_teaches_the_features_alone(optimizer, lr):
    head = built("ETF")
    before, labels = head.weight.clone(), torch.arange(10) % 5
    features = torch.nn.Parameter(batch("ETF", size=10)[0])
    steps = optimizer([{"params": [features]}, {"params": list(head.parameters()), "weight_decay": 0.0}], lr=lr)
    for _ in range(200):
        steps.zero_grad()
        head.loss(features, labels).backward()
        steps.step()
    assert torch.equal(head(features).argmax(1), labels)
    assert torch.equal(head.weight, before)
