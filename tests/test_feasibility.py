"""What fits C classes in D dimensions: by hand, against the heads themselves, and on the pages."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from faces.feasibility import loss_floor, room, scale, scale_needed, spacing, value_at_center, warning
from faces.heads import HEADS
from faces.knobs import fixed_scale, scale_bound, settle
from tests.test_pages import opened
from trainer.store import Store

NOTED = [name for name in HEADS if getattr(HEADS.about(name), "at_center", "")]
FLOORED = ("ArcMarginProduct", "NormFace", "ArcFace", "CosFace", "SubCenterArcFace", "CurricularFace")


def here(name, classes=10, dim=128, **knobs):
    about = HEADS.about(name)
    return room(about.at_center, settle(about.knobs, knobs, classes), classes, dim)


@pytest.mark.parametrize(
    ("name", "knobs", "loss", "probability"),
    [
        ("ArcMarginProduct", {}, 1.377, 0.252),
        ("AdaCos", {}, 0.693, 0.500),
        ("CosFace", {"m": 0.35}, 0.613, 0.542),
        ("ArcFace", {"m": 0.5}, 0.349, 0.706),
        ("ArcFace", {"m": 0.25}, 0.273, 0.761),
        ("NormFace", {}, 0.251, 0.778),
        ("NormFace", {"s": 64.0}, 0.000, 1.000),
    ],
)
def test_the_lowest_loss_of_ten_classes_by_hand(name, knobs, loss, probability):
    found = here(name, **knobs)
    assert found.floor == pytest.approx(loss, abs=1e-3)
    assert found.probability == pytest.approx(probability, abs=1e-3)


def test_the_largest_margins_by_hand():
    assert here("CosFace").largest == pytest.approx({"m": 10 / 9})  # C / (C - 1)
    assert here("ArcFace").largest == pytest.approx({"m": math.acos(-1 / 9)})
    assert here("CosFace", dim=2).largest == pytest.approx({"m": 1 - math.cos(math.pi / 5)})  # 0.19 on the circle
    assert here("ArcFace", dim=2).largest == pytest.approx({"m": math.pi / 5})
    assert here("NormFace", dim=2).largest == {}
    assert here("CosFace", classes=2, dim=2).largest == pytest.approx({"m": 2.0})


def test_a_margin_on_angle_and_cosine_together_leaves_each_what_the_other_does_not_take():
    found = room("cos(m2) - m3", {"s": 16.0, "m2": 0.5, "m3": 0.2}, 8, 2)
    assert not found.fits
    assert found.largest["m2"] == pytest.approx(math.acos(math.cos(math.pi / 4) + 0.2))
    assert found.largest["m3"] == pytest.approx(math.cos(0.5) - math.cos(math.pi / 4))


@pytest.mark.parametrize(
    ("classes", "dim", "degrees"),
    [(2, 2, 180), (3, 2, 120), (8, 2, 45), (4, 3, 109.4712), (5, 3, 90), (6, 3, 90), (10, 9, 96.3794), (11, 6, 90)],
)
def test_the_angle_between_centers_where_it_is_known(classes, dim, degrees):
    found = spacing(classes, dim)
    assert found.exact
    assert math.degrees(found.angle) == pytest.approx(degrees, abs=1e-3)


@pytest.mark.parametrize(
    ("classes", "dim", "degrees", "near"),
    [(12, 3, 63.4349, 0.01), (10, 3, 66.1468, 3.6), (24, 3, 43.6908, 1.1), (24, 4, 60, 12), (240, 8, 60, 14)],
)
def test_beyond_that_it_is_a_bound_which_the_best_known_arrangements_keep(classes, dim, degrees, near):
    found = spacing(classes, dim)
    assert not found.exact
    assert degrees - 0.001 <= math.degrees(found.angle) <= min(90, degrees + near)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(classes=st.integers(2, 40), dim=st.integers(2, 12), seed=st.integers(0, 2**31))
def test_no_directions_are_farther_apart(classes, dim, seed):
    torch.manual_seed(seed)
    rows = normalize(torch.randn(classes, dim, dtype=torch.float64))
    nearest = (rows @ rows.T).fill_diagonal_(-1).max().clamp(-1, 1).acos()
    assert nearest <= spacing(classes, dim).angle + 1e-6


def test_two_classes_work_and_one_is_refused():
    assert scale({"s": fixed_scale(2)}, 2) == pytest.approx(3.4534, abs=1e-4)
    assert here("NormFace", classes=2, dim=2).probability == pytest.approx(0.999)
    assert scale(settle(HEADS.about("AdaCos").knobs, {}, 2), 2) == fixed_scale(2)
    with pytest.raises(ValueError, match=r"^A head needs at least 2 classes to tell apart; 1 given\.$"):
        room("1", {"s": 3.0}, 1, 2)
    with pytest.raises(ValueError, match="at least 2 dimensions; 1 given"):
        spacing(3, 1)


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(2, 1000), probability=st.floats(0.01, 0.9999), m=st.floats(0, 1.0))
def test_the_scale_that_is_needed_reaches_the_probability(classes, probability, m):
    assert scale_needed(probability, 1.0, classes) == pytest.approx(
        classes * scale_bound(classes, probability) / classes, abs=1e-9
    )
    s = scale_needed(probability, 1 - m, classes)
    assert math.exp(-loss_floor(s, 1 - m, classes)) == pytest.approx(probability)
    assert scale_needed(0.99, -1.0, classes) == math.inf


# The note and the heads say the same.


@pytest.mark.parametrize("name", NOTED)
def test_the_declared_value_at_the_center_is_the_heads_own(name):
    head = HEADS[name](4, 5)
    value = value_at_center(HEADS.about(name).at_center, head.knob_values())
    assert head.margin(torch.ones(1, dtype=torch.float64)).item() == pytest.approx(value, abs=1e-7)


def test_adacos_comes_to_rest_where_the_note_says():
    torch.manual_seed(0)
    simplex = normalize(torch.eye(10) - 0.1)
    head = HEADS["AdaCos"](10, 10)
    head.weight.data = simplex
    for _ in range(200):
        head.loss(simplex, torch.arange(10))
    found = here("AdaCos")
    assert head.s.item() == pytest.approx(found.s, rel=1e-4)
    assert head.loss(simplex, torch.arange(10)).item() == pytest.approx(found.floor, abs=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(FLOORED),
    classes=st.integers(2, 8),
    more=st.integers(-1, 4),
    s=st.floats(0.5, 20),
    m=st.floats(0, 1.0),
    t=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    steps=st.sampled_from([0, 60]),
)
def test_no_arrangement_has_a_lower_loss_and_the_simplex_reaches_it(name, classes, more, s, m, t, seed, steps):
    """Random arrangements and ones made better by training features and centers together, classes equally frequent."""
    torch.manual_seed(seed)
    dim = max(2, classes - 1 + more)
    head = HEADS[name](dim, classes, **{knob: v for knob, v in {"s": s, "m": m}.items() if knob in HEADS[name].knobs})
    head = head.double().eval()
    if name == "CurricularFace":
        head.t.fill_(t)
    floor = room(HEADS.about(name).at_center, head.knob_values(), classes, dim).floor
    labels = torch.arange(2 * classes) % classes
    features = torch.randn(2 * classes, dim, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([features, head.weight], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(features, labels).backward()
        optimizer.step()
    assert head.loss(features, labels).item() >= floor - 1e-9
    if more >= 0:
        corners = torch.eye(classes, dtype=torch.float64) - 1 / classes
        basis = torch.linalg.svd(corners).Vh[: classes - 1]  # (C - 1, C)
        simplex = torch.zeros(classes, dim, dtype=torch.float64)
        simplex[:, : classes - 1] = normalize(corners @ basis.T)
        head.weight.data = simplex[:, None].expand(head.weight.shape) if head.weight.ndim == 3 else simplex
        assert head.loss(simplex[labels], labels).item() == pytest.approx(floor, abs=1e-9)


def test_a_margin_that_does_not_fit_is_said_in_a_sentence():
    found, values = here("CosFace", dim=2, m=0.35), {"s": 3.0, "m": 0.35}
    assert warning(found, values, 10, 2) == "m = 0.35 cannot be met by 10 classes in 2 dimensions: m at most 0.19."
    assert warning(here("CosFace", dim=2, m=0.19), values | {"m": 0.19}, 10, 2) == ""
    assert warning(here("NormFace", dim=2), {}, 10, 2) == ""


# On the pages.


@pytest.fixture
def store(faces_home) -> Store:
    return Store(faces_home)


def test_explore_shows_what_fits_and_warns_of_what_does_not(store):
    opened()
    app = opened(head="CosFace")
    assert any("Loss ≥ 0.482" in caption.value and "fits m up to 1.11" in caption.value for caption in app.caption)
    assert not any("cannot be met" in warning.value for warning in app.warning)
    app.slider(key="CosFace.m").set_value(0.35)
    app.number_input(key="dim").set_value(2).run()
    assert not app.exception
    assert [w.value for w in app.warning] == ["m = 0.35 cannot be met by 10 classes in 2 dimensions: m at most 0.19."]
    app.selectbox(key="head").select("Classification").run()
    assert not app.exception
    assert not any("Loss ≥" in caption.value for caption in app.caption)


def test_compare_says_which_heads_a_shared_margin_does_not_fit(store):
    app = opened("explore/compare.py")
    assert any("ArcFace 0.273" in caption.value for caption in app.caption)
    app.number_input(key="dim").set_value(2).run()
    assert [w.value[:16] for w in app.warning] == ["CosFace: m = 0.2"]
