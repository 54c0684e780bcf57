"""What fits C classes in D dimensions: by hand, against the heads themselves, and on the pages."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from faces.feasibility import NORMAL, limits, loss_of, note, scale, scale_needed, spacing, value, warning
from faces.heads import HEADS
from faces.knobs import Choice, fixed_scale, scale_bound, settle
from tests.test_pages import opened
from trainer.store import Store

ROOMY = [name for name in HEADS if hasattr(HEADS.about(name), "at_angle")]
FITTED = [name for name in HEADS if hasattr(HEADS.about(name), "fits")]


def cases(name, classes=10, dim=128, **knobs):
    about = HEADS.about(name)
    return limits(about, settle(about.knobs, knobs, classes), classes, dim)


def here(name, classes=10, dim=128, **knobs):
    (found,) = cases(name, classes, dim, **knobs).values()
    return found


def simplex(classes, dim):
    """Unit rows (C, D), every two at the cosine -1 / (C - 1), in the first C - 1 dimensions."""
    corners = torch.eye(classes, dtype=torch.float64) - 1 / classes
    rows = torch.zeros(classes, dim, dtype=torch.float64)
    rows[:, : classes - 1] = normalize(corners @ torch.linalg.svd(corners).Vh[: classes - 1].T)
    return rows


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
    found = here("UnitedMargin", classes=8, dim=2, m2=0.5, m3=0.2)
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
        limits(HEADS.about("ArcMarginProduct"), {}, 1, 2)
    with pytest.raises(ValueError, match="at least 2 dimensions; 1 given"):
        spacing(3, 1)


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(2, 1000), probability=st.floats(0.01, 0.9999), m=st.floats(0, 1.0))
def test_the_scale_that_is_needed_reaches_the_probability(classes, probability, m):
    lead = classes / (classes - 1)
    assert scale_needed(probability, lead, classes) == pytest.approx(scale_bound(classes, probability), abs=1e-9)
    s = scale_needed(probability, lead - m, classes)
    assert math.exp(-loss_of(s, lead - m, classes)) == pytest.approx(probability)
    assert scale_needed(0.99, -1.0, classes) == math.inf


# The note and the heads say the same.


def drawn_knobs(name, draw):
    """Knobs of a head anywhere in their ranges."""
    return {
        knob: draw(st.sampled_from(what.options))
        if isinstance(what, Choice)
        else draw(st.integers(what.low, what.high) if what.whole else st.floats(what.low, what.high))
        for knob, what in HEADS.about(name).knobs.items()
    }


def of_case(head, case, own):
    """What `margin` takes beside the cosines in each case that a head tells apart."""
    lengths = {"shortest features": "l_a", "longest features": "u_a"}
    if case in lengths:
        return (torch.full_like(own, getattr(head, lengths[case])),)
    return ({"short features": -1.0, "average features": 0.0, "long features": 1.0}[case],) if case else ()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(name=st.sampled_from(ROOMY), draw=st.data())
def test_the_declared_value_is_the_heads_own_at_every_angle(name, draw):
    head = HEADS[name](4, 5, **drawn_knobs(name, draw.draw))
    theta = np.linspace(0.01, math.pi - 0.01, 50)  # where float64 still tells the seam's two sides apart
    own = torch.from_numpy(np.cos(theta))
    declared = HEADS.about(name).at_angle
    for case, formula in (declared if isinstance(declared, dict) else {"": declared}).items():
        margined = head.margin(own, *of_case(head, case, own))
        if name == "ElasticFace":
            margins = [torch.full_like(own, head.m + head.sigma * z) for z in NORMAL]
            margined = torch.stack([head.margin(own, m) for m in margins]).mean(0)
        expected = value(formula, theta=theta, **head.knob_values())
        np.testing.assert_allclose(margined.numpy(), expected, atol=1e-6)
    likeness = value(getattr(HEADS.about(name), "likeness", "cos(theta)"), theta=theta)
    spares = value(getattr(HEADS.about(name), "spares", "0"), theta=theta, **head.knob_values())
    others = (
        head.others(own.repeat(50, 1), own).detach().numpy()
    )  # [i, j]: theta_i to the own class, theta_j to another
    assert (likeness - others <= np.broadcast_to(spares, 50)[:, None] + 1e-6).all()


def test_adacos_comes_to_rest_where_the_note_says():
    torch.manual_seed(0)
    head = HEADS["AdaCos"](10, 10)
    head.weight.data = corners = simplex(10, 10).float()
    for _ in range(200):
        head.loss(corners, torch.arange(10))
    found = here("AdaCos")
    assert head.s.item() == pytest.approx(found.s, rel=1e-4)
    assert head.loss(corners, torch.arange(10)).item() == pytest.approx(found.floor, abs=1e-4)


def trained(head, features, labels, steps):
    """The loss after training features and class vectors together."""
    weights = [weight for weight in head.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam([features, *weights], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(features, labels).backward()
        optimizer.step()
    return head.loss(features, labels).item()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(ROOMY),
    draw=st.data(),
    classes=st.integers(2, 8),
    more=st.integers(-1, 4),
    t=st.floats(0, 1),
    long=st.sampled_from([0.1, 1.0, 20.0, 150.0]),
    seed=st.integers(0, 2**31),
    steps=st.sampled_from([0, 30]),
)
def test_no_arrangement_has_a_lower_loss_and_the_simplex_has_the_one_named(
    name, draw, classes, more, t, long, seed, steps
):
    """Random arrangements and ones made better by training features and centers together, classes equally frequent."""
    torch.manual_seed(seed)
    dim = max(2, classes - 1 + max(0, more) if name == "ETF" else classes - 1 + more)
    knobs = drawn_knobs(name, draw.draw) | ({"sigma": 0.0} if name == "ElasticFace" else {})
    head = HEADS[name](dim, classes, **knobs).double().eval()
    if name == "CurricularFace":
        head.t.fill_(t)
    if name == "AdaCos":
        head.s.fill_(here(name, classes, dim, **knobs).s)
    if name == "AdaFace":
        head.mean.fill_(50.0), head.std.fill_(1e-3)
    rooms = cases(name, classes, dim, **knobs)
    labels = torch.arange(2 * classes) % classes
    features = (long * torch.randn(2 * classes, dim, dtype=torch.float64)).requires_grad_()
    assert trained(head, features, labels, steps) >= min(found.floor for found in rooms.values()) - 1e-6
    if dim < classes - 1:
        return
    corners = simplex(classes, dim)
    head.weight.data = corners[:, None].expand(head.weight.shape).clone() if head.weight.ndim == 3 else corners
    if "average features" in rooms:
        head.h = 1.0
    for case, found in rooms.items():
        long = {"short features": 1.0, "average features": 50.0, "long features": 90.0}.get(case, knobs.get("u_a", 1.0))
        if case != "shortest features":  # which give up some of the wish for length
            assert head.loss(long * corners[labels], labels).item() == pytest.approx(found.simplex_loss, abs=1e-6)
        assert found.floor <= found.simplex_loss + 1e-9


@pytest.mark.parametrize(
    "name", ["NormFace", "ArcFace", "CosFace", "SubCenterArcFace", "MVSoftmax", "SphereFaceR", "CM2"]
)
def test_for_most_margins_the_simplex_is_the_best_there_is(name):
    found = here(name)
    assert found.floor == pytest.approx(found.simplex_loss, abs=1e-12)


def test_where_it_is_not_centers_and_features_lean_to_opposite_sides():
    """m1 = 1/2 asks so little near the center that leaving it pays: the others are left farther behind."""
    classes, about = 6, HEADS.about("UnitedMargin")
    knobs = settle(about.knobs, {"m1": 0.5, "m2": 0.0}, classes)
    (found,) = limits(about, knobs, classes, classes).values()
    assert found.floor < found.simplex_loss - 1e-3
    u = np.cos(np.linspace(0, math.pi, 4001))
    u = u[np.argmax(np.cos(np.arccos(u) / 2) + (classes - (classes - 2) * u) / (2 * (classes - 1)))]
    lean = (1 - u) / 2
    head, labels = HEADS["UnitedMargin"](classes, classes, **knobs).double(), torch.arange(classes)
    head.weight.data = math.sqrt(1 - lean) * simplex(classes, classes)
    features = head.weight.detach().clone()
    head.weight.data[:, -1], features[:, -1] = math.sqrt(lean), -math.sqrt(lean)
    assert head.loss(features, labels).item() == pytest.approx(found.floor, abs=1e-6)


def test_margins_that_are_drawn_have_their_floor_as_a_mean_over_the_draws():
    torch.manual_seed(0)
    head, labels = HEADS["ElasticFace"](4, 5, sigma=0.2), torch.arange(20_000) % 5
    head.weight.data = corners = simplex(5, 4).float()
    assert head.loss(corners[labels], labels).item() == pytest.approx(
        here("ElasticFace", 5, 4, sigma=0.2).floor, rel=0.01
    )


# Heads without a softmax: what their margins ask of points on a sphere.


@pytest.mark.parametrize(("classes", "dim"), [(2, 2), (3, 2), (4, 3), (4, 5), (5, 2), (6, 3)])
@pytest.mark.parametrize("name", ["Triplet", "Quadruplet"])
def test_pairs_can_be_told_apart_up_to_the_margin_that_is_named_and_no_further(name, classes, dim):
    """Classes on points as far apart as they can be, then trained from chance with a margin beyond that."""
    most = here(name, classes, dim).largest
    if classes <= dim + 1:
        points = simplex(classes, dim)
    else:
        angle = 2 * math.pi / classes * torch.arange(classes, dtype=torch.float64)
        axes = torch.eye(dim, dtype=torch.float64)
        points = torch.stack([angle.cos(), angle.sin()], 1) if dim == 2 else torch.cat([axes, -axes])
    labels = torch.arange(2 * classes) % classes
    assert spacing(classes, dim).exact
    head = HEADS[name](dim, classes)
    for asked, met in ((-1e-6, True), (1e-3, False)):
        vars(head).update({knob: value + asked for knob, value in most.items()})
        assert (head.loss(points[labels], labels).item() == 0) == met
    torch.manual_seed(0)
    assert trained(head, torch.randn(2 * classes, dim, dtype=torch.float64, requires_grad=True), labels, 100) > 0


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_proxies_and_images_can_part_up_to_delta(classes):
    delta, corners = here("ProxyAnchor", classes, classes).largest["delta"], simplex(classes, classes)
    lean = (1 - delta) / 2
    side = torch.zeros(classes, dtype=torch.float64)
    side[-1] = math.sqrt(lean)
    cosine = (math.sqrt(1 - lean) * corners + side) @ (math.sqrt(1 - lean) * corners - side).T
    assert torch.allclose(cosine.diag(), torch.tensor(delta, dtype=torch.float64))
    assert cosine[~torch.eye(classes, dtype=torch.bool)].max() <= -delta + 1e-9


@pytest.mark.parametrize("images", [2, 4])
def test_supcon_stays_above_what_its_note_says(images):
    assert "ln(K - 1)" in note(HEADS.about("SupCon"), {}, 3, 4)
    torch.manual_seed(0)
    head, labels = HEADS["SupCon"](4, 3, tau=0.05), torch.arange(3 * images) % 3
    features = torch.randn(3 * images, 4, requires_grad=True)
    assert trained(head, features, labels, 200) >= math.log(images - 1)
    assert head.loss(features, labels).item() == pytest.approx(math.log(images - 1), abs=1e-3)


def test_a_yes_and_a_no_by_the_margin():
    head = HEADS["SphereFace2"](4, 5, t=2.0, m=here("SphereFace2", 5, 4, t=2.0).largest["m"])
    one, other = torch.ones(1), torch.full((1, 1), -0.25)
    assert head.margin(one).item() == pytest.approx(head.others(other, one).item(), abs=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_says_something_about_its_limits_with_no_blank_left(name):
    knobs = settle(HEADS.about(name).knobs, {}, 10)
    said = note(HEADS.about(name), knobs, 10, 3)
    assert limits(HEADS.about(name), knobs, 10, 3) or said
    assert not set(said) & set("{}")


def test_a_margin_that_does_not_fit_is_said_in_a_sentence():
    word = "m = 0.35 cannot be met by 10 classes in 2 dimensions: m at most 0.19."
    assert warning(here("CosFace", dim=2, m=0.35), 10, 2) == word
    assert warning(here("CosFace", dim=2, m=0.19), 10, 2) == ""
    assert warning(here("NormFace", dim=2), 10, 2) == ""
    assert "at most 0.61" in warning(here("Triplet", dim=2, m=0.7), 10, 2)


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
