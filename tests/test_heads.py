"""What every head promises, kept by all of them at once, and each formula by hand once."""

import io
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from faces.heads import HEADS
from faces.heads.base import CosineHead, unit
from faces.knobs import Choice, fixed_scale

COSINE = [name for name in HEADS if issubclass(HEADS[name], CosineHead)]
SEAMED = [name for name in HEADS if "seam" in HEADS[name].knobs]
SEAMS = HEADS["ArcFace"].knobs["seam"].options
LIVE = [(name, knob) for name in HEADS for knob, what in HEADS[name].knobs.items() if what.live]
STATEFUL = [("AdaCos", "s"), ("CurricularFace", "t")]

few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


def batch(size=12, dim=2, classes=5, seed=0, dtype=torch.float32):
    """Features of any length and direction and their labels. In 2-D many are more than pi - m from their class."""
    torch.manual_seed(seed)
    return torch.randn(size, dim, dtype=dtype) * 3, torch.arange(size) % classes


def built(name, dim=2, classes=5, seed=0, **knobs):
    """A head from a seed. Heads with the same shape of weight have the same weight."""
    torch.manual_seed(seed)
    return HEADS[name](dim, classes, **knobs)


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
}


def at(degrees):
    """Unit vectors at these angles."""
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


@pytest.mark.parametrize("name", HEADS)
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
        own = built(name, m=m, seam=seam).margin(torch.tensor([cos], dtype=torch.float64))
        assert own.item() == pytest.approx(expected[seam], abs=1e-12)


# What all heads have in common.


@pytest.mark.parametrize("name", HEADS)
def test_a_head_declares_what_a_menu_needs(name):
    head = HEADS[name]
    assert all([head.title, head.formula, head.notice.endswith((".", "!")), head.source.startswith("https://")])
    assert re.fullmatch(r"\d{4}-\d{2}", head.born)
    assert all(knob.meaning for knob in head.knobs.values())


@pytest.mark.parametrize("name", HEADS)
def test_class_vectors_start_at_length_one_and_equal_for_equal_seeds(name):
    head = built(name, dim=64, classes=10)
    lengths = head.weight.detach().norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-6)
    if name != "SubCenterArcFace":
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


@pytest.mark.parametrize("name", HEADS)
def test_two_classes_learn(name):
    features, labels = 2 * at([0.0, 20.0, 40.0, 120.0, 150.0]), torch.tensor([0, 0, 0, 1, 1])
    head = built(name, classes=2, **{"k": 1} if "k" in HEADS[name].knobs else {})
    head.load_state_dict({"weight": at([170.0, 30.0]).reshape(head.weight.shape)}, strict=False)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(100):
        loss = cross_entropy(head(features, labels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(head(features).argmax(1), labels)


@pytest.mark.parametrize("name", HEADS)
def test_inference_logits_carry_no_margin(name):
    features, _ = batch()
    head = built(name)
    if name in COSINE:
        centers = normalize(head.weight, dim=-1).reshape(-1, 2)
        cosine = (normalize(features) @ centers.T).unflatten(1, (5, -1)).amax(2)
        torch.testing.assert_close(head.cosine(features), cosine)
        torch.testing.assert_close(head(features), head.s * cosine)
    else:
        head.bias.data = torch.arange(5.0)
        torch.testing.assert_close(head(features), features @ head.weight.T + torch.arange(5.0))


@pytest.mark.parametrize("name", COSINE)
def test_the_formula_that_trains_is_the_one_that_is_drawn(name):
    features, labels = batch()
    head = built(name).eval()
    own = head.cosine(features)[torch.arange(len(labels)), labels]
    logits = head(features, labels)
    torch.testing.assert_close(logits[torch.arange(len(labels)), labels], head.s * head.margin(own))
    line = torch.linspace(-1, 1, 101)
    assert head.margin(line).shape == line.shape


@pytest.mark.parametrize("name", [name for name in COSINE if name != "CurricularFace"])
def test_a_margin_leaves_the_other_classes_alone(name):
    features, labels = batch()
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


@pytest.mark.parametrize("name", HEADS)
def test_evaluation_changes_no_state_and_no_parameter(name):
    features, labels = batch()
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
    assert getattr(head, buffer) != before
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
    assert built(name, classes=10).knob_values() == {knob: what.start(10) for knob, what in HEADS[name].knobs.items()}


@pytest.mark.parametrize(("name", "knob"), LIVE)
def test_a_knob_turned_live_equals_a_head_built_with_it(name, knob):
    features, labels = batch(size=200)
    value = another_value(HEADS[name].knobs[knob])
    alike = {"k": 1} if "k" in HEADS[name].knobs else {}  # the nearest of several is seldom past the seam
    turned, fresh, untouched = built(name, **alike), built(name, **alike | {knob: value}), built(name, **alike)
    turned.turn(**{knob: value})
    assert turned.knob_values() == fresh.knob_values() == untouched.knob_values() | {knob: value}
    assert torch.equal(turned(features, labels), fresh(features, labels))
    assert not torch.equal(turned(features, labels), untouched(features, labels))


@pytest.mark.parametrize("name", HEADS)
def test_a_wrong_knob_changes_nothing_and_is_answered_in_a_sentence(name):
    head = built(name)
    before, knobs = head.knob_values(), HEADS[name].knobs
    with pytest.raises(ValueError, match=re.escape(f"Unknown knob ['margin']. Knobs here: {list(knobs)}.")):
        HEADS[name](2, 5, margin=0.5)
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
@given(seed=seeds, length=st.floats(1e-3, 1e3), name=st.sampled_from(COSINE))
def test_only_directions_count(seed, length, name):
    features, labels = batch(seed=seed, dtype=torch.float64)
    head = built(name, seed=seed).double().eval()
    logits = head(features, labels)
    head.weight.data *= length
    torch.testing.assert_close(head(features * length, labels), logits)


@few
@given(seed=seeds, name=st.sampled_from(COSINE))
def test_the_gradient_is_orthogonal_to_the_features(seed, name):
    features, labels = batch(dim=4, seed=seed, dtype=torch.float64)
    features.requires_grad_()
    head = built(name, dim=4, seed=seed).double()
    cross_entropy(head(features, labels), labels).backward()
    assert features.grad.abs().max() > 1e-6
    assert (features.grad * features).sum(1).abs().max() < 1e-12


@few
@given(m=st.floats(0, 1.5), name=st.sampled_from(COSINE), seam=st.sampled_from(["cos_minus_m_sin_m", "psi_monotone"]))
def test_the_own_value_never_rises_with_the_angle(m, name, seam):
    knobs = {knob: value for knob, value in {"m": m, "seam": seam}.items() if knob in HEADS[name].knobs}
    knobs["m"] = min(m, 1.0) if name == "CosFace" else m
    head = HEADS[name](2, 5, **{knob: value for knob, value in knobs.items() if knob in HEADS[name].knobs})
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
    ):
        torch.testing.assert_close(head(features, labels), expected, rtol=0, atol=7e-7)


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
@pytest.mark.parametrize("name", HEADS)
def test_nothing_is_nan_on_a_center_opposite_to_it_or_at_zero(name, half, seam):
    knobs = {"m": 0.5} if "m" in HEADS[name].knobs else {}
    head = built(name, dim=8, **knobs | ({"seam": seam} if name in SEAMED else {}))
    directions = head.weight.detach().reshape(5, -1, 8)[:, 0]
    features = torch.cat([directions * size for size in (1, -1, 0, 3, -3, 1e-30, 1e30)]).requires_grad_()
    labels = torch.arange(len(features)) % 5
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = head(features, labels)
        loss = cross_entropy(logits, labels)
    assert torch.isfinite(logits).all()
    for gradient in torch.autograd.grad(loss, [features, head.weight]):
        assert torch.isfinite(gradient).all()
        if name in COSINE:  # a plain product with features of length 1e30 may be as large as it likes
            assert gradient.abs().max() < 1e3


@pytest.mark.parametrize("name", HEADS)
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


@pytest.mark.parametrize("name", HEADS)
def test_wide_stays_wide_and_narrow_is_widened(name):
    features, labels = batch()
    head = built(name)
    assert head(features.double(), labels).dtype == torch.float64
    assert head.bfloat16()(features.bfloat16(), labels).dtype == torch.float32
    assert head.double()(features, labels).dtype == torch.float64


@few
@given(seed=seeds, m=st.floats(0.01, 1.5), name=st.sampled_from(SEAMED), seam=st.sampled_from(SEAMS))
def test_the_slope_of_the_margin_is_its_derivative(seed, m, name, seam):
    head = built(name, m=m, seam=seam)
    cosine = torch.empty(50, dtype=torch.float64).uniform_(-0.99, 0.99, generator=torch.Generator().manual_seed(seed))
    cosine = cosine[(cosine + math.cos(m)).abs() > 1e-4].requires_grad_()  # beside the seam
    assert torch.autograd.gradcheck(head.margin, cosine, eps=1e-7, atol=1e-5)
