"""The margin lab: its lines are what the heads train by, and its page opens with every head."""

import asyncio
import json
import math
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from faces.curves import Sketch, alike, angles, in_numbers, onset, together
from faces.feasibility import limits
from faces.figures import Line, crossing, over_angles
from faces.heads import HEADS, angled
from faces.heads.base import CosineHead
from faces.knobs import Choice, fixed_scale
from faces.sketches import drawn
from pages.components import curves
from tests.test_pages import opened
from trainer.sketching import Sketcher

ANGLED = [name for name in HEADS if angled(name)]
SEAMED = [name for name in ANGLED if "seam" in HEADS[name].knobs]
LINE = angles()

few = settings(max_examples=10, deadline=None, derandomize=True)


def sketch(name, classes=5, dim=8, drawn=None, **knobs):
    return Sketch(name, classes, dim, knobs, drawn or {})


def test_the_heads_that_are_drawn_are_those_on_angles():
    assert [name for name in HEADS if issubclass(HEADS[name], CosineHead)] == ANGLED


@pytest.mark.parametrize("name", ANGLED)
def test_a_sketch_answers_as_the_head_does_that_sees_features(name):
    torch.manual_seed(0)
    knobs = {"sigma": 0.0} if name == "ElasticFace" else {}
    drawn = sketch(name, **knobs)
    head = HEADS[name](8, 5, **knobs).eval()
    features = torch.nn.functional.normalize(torch.randn(20, 8)) * float(drawn.drawn.get("length", 1.0))
    labels = torch.zeros(20, dtype=torch.int64)
    with torch.no_grad():
        cosine = head.cosine(features)
        wide = cosine.double()
        torch.testing.assert_close(drawn.logits(wide), head(features, labels), check_dtype=False)
        torch.testing.assert_close(drawn.logits(wide, margin=False), head(features), check_dtype=False)
        inputs, labels = drawn.told(wide)
        torch.testing.assert_close(drawn.head.loss(inputs, labels), head.loss(features, labels), check_dtype=False)


@pytest.mark.parametrize("name", [name for name in ANGLED if name != "SphereFace2"])
@given(theta=st.floats(0.05, 2.6), other=st.floats(0.1, 3.0))
@few
def test_the_pull_is_one_less_p_times_the_slope_of_the_own_logit(name, theta, other):
    drawn, step = sketch(name), 1e-5
    before, after = drawn.own(np.array([theta - step, theta + step]))
    p = drawn.probability(np.array([theta]), other)[0]
    (pull,), _ = drawn.pull(np.array([theta]), other)
    assert pull == pytest.approx((1 - p) * (before - after) / (2 * step), abs=1e-4)


@given(classes=st.integers(3, 1000))
@few
def test_without_a_margin_p_is_one_half_at_45_degrees_at_the_default_scale(classes):
    drawn = sketch("NormFace", classes, s=fixed_scale(classes))
    assert drawn.probability(np.array([math.pi / 4]))[0] == pytest.approx(0.5, abs=1e-6)
    half = crossing(np.degrees(LINE), drawn.probability(LINE), 0.5)
    assert half == pytest.approx(45, abs=0.1)


def test_a_margin_moves_that_place_by_itself():
    p = sketch("ArcFace", 10, m=0.5, s=fixed_scale(10)).probability(LINE)
    assert crossing(np.degrees(LINE), p, 0.5) == pytest.approx(45 - math.degrees(0.5), abs=0.1)  # 16.4, as in ui.md
    assert crossing(np.arange(3.0), np.array([0.4, 0.3, 0.2]), 0.5) is None


def test_lines_by_hand():
    theta = np.radians([30.0, 60.0, 150.0])
    np.testing.assert_allclose(sketch("ArcFace", s=4.0, m=0.5).own(theta[:2]), 4 * np.cos(theta[:2] + 0.5))
    np.testing.assert_allclose(sketch("CosFace", s=4.0, m=0.25).own(theta), 4 * np.cos(theta) - 1)
    np.testing.assert_allclose(sketch("CosFace", s=4.0, m=0.25).own(theta, margin=False), 4 * np.cos(theta))
    np.testing.assert_allclose(sketch("AdaCos", drawn={"s": 2.0}).own(theta), 2 * np.cos(theta), atol=1e-6)
    # a sample at 60 degrees of both classes, and three at right angles: e^(4 cos 60) twice, and 3
    p = sketch("NormFace", s=4.0).probability(theta[1:2], math.radians(60))[0]
    assert p == pytest.approx(math.exp(2) / (2 * math.exp(2) + 3))


def test_the_push_off_a_hard_class_grows_with_t():
    theta = np.radians([100.0])
    pushes = [sketch("CurricularFace", drawn={"t": t}).pull(theta)[1][0] for t in (0.0, 0.4, 0.8)]
    assert pushes[0] == pytest.approx(0, abs=1e-6)  # the slope of cos_j * (t + cos_j) at a right angle is t
    assert pushes[0] < pushes[1] < pushes[2]


def test_where_the_own_class_wins_by_hand():
    theta = np.radians([20.0, 45.0, 90.0])
    near = {"rtol": 0, "atol": 2e-5}
    np.testing.assert_allclose(sketch("NormFace").boundary(theta), theta, **near)
    np.testing.assert_allclose(sketch("ArcFace", m=0.5).boundary(theta), theta + 0.5, **near)
    np.testing.assert_allclose(sketch("LiArcFace", m=0.5).boundary(theta), theta + 0.5, **near)
    np.testing.assert_allclose(sketch("CosFace", m=0.3).boundary(theta), np.arccos(np.cos(theta) - 0.3), **near)
    assert sketch("CosFace", m=0.3).boundary(np.array([2.9]))[0] == math.pi
    # cos_j (0 + cos_j) = cos(45 + 30 degrees): a hard class hardly counts while t is 0
    found = sketch("CurricularFace", m=math.pi / 6).boundary(theta[1:2])[0]
    assert math.cos(found) ** 2 == pytest.approx(math.cos(math.radians(75)), abs=1e-4)


@given(place=st.floats(0, math.pi))
@few
def test_the_angle_is_found_from_which_on_something_is_true(place):
    places = torch.tensor([[place], [place / 2]], dtype=torch.float64)
    assert onset(lambda theta: theta >= places, 2) == pytest.approx(places[:, 0].numpy(), abs=2e-5)
    assert onset(lambda theta: theta >= 9, 1)[0] == math.pi
    assert onset(lambda theta: theta >= 0, 1)[0] == 0


# ElasticFace is drawn at its mean margin, and noted by its mean loss; others have a note for each of several cases.
NOTED = [name for name in ANGLED if isinstance(getattr(HEADS[name], "at_angle", None), str) and name != "ElasticFace"]


@pytest.mark.parametrize("name", NOTED)
@given(classes=st.integers(2, 40), dim=st.integers(2, 64), share=st.floats(0.0, 1.0))
@few
def test_the_gauge_and_the_best_probability_agree_with_the_note_below_them(name, classes, dim, share):
    knobs = HEADS[name].knobs
    given_ = {"m": share * knobs["m"].high} if "m" in knobs else {}
    drawn = sketch(name, classes, max(dim, classes) if name == "ETF" else dim, **given_)
    noted = limits(HEADS.about(name), drawn.head.knob_values(), classes, dim)[""]
    if abs(drawn.asks() - noted.spacing.angle) > 1e-3:
        assert noted.fits == (drawn.asks() < noted.spacing.angle)
    if name != "AdaCos":  # the note says where its s comes to rest
        assert drawn.best() == pytest.approx(math.exp(-noted.simplex_loss), abs=1e-4)


@pytest.mark.parametrize("name", SEAMED)
def test_the_seam_is_where_the_margin_reaches_pi(name):
    knobs = {"l_m": 0.4, "u_m": 0.4} if name == "MagFace" else {"m": 0.4}
    assert sketch(name, **knobs).seam() == pytest.approx(math.pi - 0.4, abs=2e-5)
    assert sketch(name, **dict.fromkeys(knobs, 0.0)).seam() is None
    drawn = sketch(name, **knobs)
    past = np.array([math.pi - 0.1])
    values = {rule: drawn.past(past, rule)[0] for rule in HEADS[name].knobs["seam"].options}
    assert len({round(value, 6) for value in values.values()}) == 5
    assert drawn.past(past, drawn.head.seam) == drawn.own(past)
    assert np.isclose(angles(drawn.seam()), drawn.seam(), atol=2e-4).sum() == 2


def test_a_head_without_seam_has_none():
    assert sketch("CosFace").seam() is None


@pytest.mark.parametrize("name", ANGLED)
def test_every_knob_that_is_offered_moves_a_line_and_no_other_does(name):
    about = HEADS.about(name)

    off_the_mean = {"length": 25.0, "std": 5.0} if name == "AdaFace" else {}

    def looks(knobs, drawn):
        one = sketch(name, drawn=off_the_mean | drawn, **knobs)
        return [one.own(LINE), one.probability(LINE, 1.2), *one.pull(LINE, 1.2), one.boundary(LINE)]

    def moved(knobs, drawn):
        return not all(np.allclose(*pair, atol=1e-6) for pair in zip(looks({}, {}), looks(knobs, drawn), strict=True))

    for letter, knob in about.knobs.items():
        value = knob.options[1] if isinstance(knob, Choice) else 0.75 * knob.high
        if knob.live:
            assert moved({letter: value}, {}) == (letter not in getattr(about, "undrawn", ())), letter
    for letter, knob in getattr(about, "drawn", {}).items():
        assert moved({}, {letter: 0.5 * knob.high}), letter


def test_heads_of_one_line_are_told_as_one():
    lines = {name: sketch(name, m=0.4).own(LINE) for name in ("ArcFace", "CosFace", "ElasticFace", "MVSoftmax")}
    assert alike(lines) == {"ArcFace": ["ArcFace", "ElasticFace", "MVSoftmax"], "CosFace": ["CosFace"]}


def test_other_heads_take_the_knobs_that_fit_them():
    assert together("CosFace", {"s": 8.0, "m": 0.5, "seam": "raw_cos"}, 10) == {"s": 8.0, "m": 0.5}
    assert together("CosFace", {"m": 1.4}, 10)["m"] == 0.25  # its own goes to 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ArcFace", r"4 \cos(1.047 + 0.5)"),
        ("CosFace", r"4\,(\cos1.047 - 0.5)"),
        ("AdaCos", r"4 \cos1.047"),
        ("CurricularFace", r"4 \cos(1.047 + 0.5)"),
        ("UnitedMargin", r"4\,(\psi(1.5 \cdot 1.047 + 0.5) - 0.1)"),
        ("LiArcFace", r"4\,\left(1 - \frac{2 (1.047 + 0.5)}{\pi}\right)"),
        ("SphereFace", r"7\,\frac{5 \cos1.047 + \psi(1.5 \cdot 1.047)}{1 + 5}"),
    ],
)
def test_formulas_in_numbers(name, said):
    values = {"s": 4.0, "m": 0.5, "m1": 1.5, "m2": 0.5, "m3": 0.1, "lam": 5.0, "length": 7.0, "theta": math.pi / 3}
    assert in_numbers(HEADS.about(name).formula, values) == said


@pytest.mark.parametrize("name", ["Classification", "Triplet", "Nobody"])
def test_a_head_without_angles_is_refused_with_those_that_have_some(name):
    with pytest.raises(ValueError, match=f"{name} has no angles to class centers to draw. There are: .*ArcFace"):
        sketch(name)
    with pytest.raises(ValueError, match="at least 2 classes to tell apart; 1 given"):
        sketch("ArcFace", 1)


def lab(**params):
    app = opened("learn/lab.py", **{f"lab.{name}" if name != "lab" else name: value for name, value in params.items()})
    assert not app.exception
    return app


def pictures(app):
    """What the page has drawn: the description of each picture."""
    return [one for part in app.get("bidi_component") for one in json.loads(part.proto.json)[0]["pictures"]]


def said(app):
    return [picture["words"] for picture in pictures(app)]


def test_every_head_opens_and_a_step_of_each_slider_draws(faces_home):
    app = lab()
    assert app.selectbox(key="lab").options == [*dict.fromkeys(app.selectbox(key="lab").options)]
    assert sorted(app.selectbox(key="lab").options) == sorted(ANGLED)
    for name in ANGLED:
        app.selectbox(key="lab").select(name).run()
        assert not app.exception, name
        assert len(pictures(app)) == 5
        assert name in [line["name"] for line in pictures(app)[0]["lines"]]
        keys = [slider.key for slider in app.slider if slider.key.startswith(f"lab.{name}.")]
        for key in keys:
            app.slider(key=key).set_value(app.slider(key=key).max)
        app.run()
        assert not app.exception, name
        assert not [warning.value for warning in app.warning if "cannot be met" not in warning.value], name


def test_a_link_restores_the_lab(faces_home):
    app = lab(lab="CurricularFace", C="100", D="3", theta="45", other="70", **{"CurricularFace.m": "0.8"})
    assert app.selectbox(key="lab").value == "CurricularFace"
    assert app.slider(key="lab.CurricularFace.m").value == 0.8
    assert [app.slider(key=f"lab.{name}").value for name in ("theta", "other")] == [45, 70]
    assert [app.number_input(key=f"lab.{name}").value for name in ("C", "D")] == [100, 3]
    assert any("100 classes in 3 dimensions" in words for words in said(app))
    assert any(r"\cos(0.7854 + 0.8)" in text.value for text in app.markdown)


def test_two_classes_are_drawn_and_one_cannot_be_chosen(faces_home):
    app = lab(C="2")
    assert any("With two classes" in words for words in said(app))
    assert len(pictures(app)) == 5
    assert lab(C="1").number_input(key="lab.C").value == 10
    assert app.number_input(key="lab.C").min == 2


def test_a_head_that_does_not_fit_the_dimensions_says_so(faces_home):
    app = lab(lab="ETF", D="3")
    assert any("ETF needs embeddings of 9 numbers or more" in warning.value for warning in app.warning)
    assert not pictures(app)  # nothing of another head stays


def test_the_process_that_draws_is_started_again_and_says_what_cannot_be_drawn():
    one, asked = Sketcher(), {"name": "ArcFace", "classes": 5, "dim": 8, "theta": 60, "other": 90}
    try:
        first = one.drawn(asked)
        with pytest.raises(ValueError, match="ETF needs embeddings of 4 numbers or more"):
            one.drawn({**asked, "name": "ETF", "dim": 2})
        one.process.kill()
        assert one.drawn(asked) == first == json.loads(json.dumps(drawn(asked)))
    finally:
        one.process.stdin.close()
    assert one.process.wait(10) == 0  # as when the server is gone


def answered(asked):
    return asyncio.run(curves.answer(Request({"type": "http", "query_string": urlencode({"asked": asked}).encode()})))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, None),
        ({"classes": 10**9}, "Say classes as a whole number from 2 to 1000."),
        ({"dim": True}, "Say dim as a whole number from 2 to 512."),
        ({"name": "Triplet"}, "Triplet has no angles"),
        ({"name": ["ArcFace"]}, "cannot be drawn"),
        ({"knobs": {"m": 9.0}}, "m = 9.0"),
        ({"knobs": 3}, "cannot be drawn"),
        ({"theta": 1e999}, "Angles go from 0 to 180 degrees"),
        ({"theta": "no"}, "cannot be drawn"),
        ({"name": "\ud800"}, "? has no angles"),
    ],
)
def test_a_slider_on_the_move_is_answered_and_what_cannot_be_drawn_is_said(asked, said):
    good = {"name": "CosFace", "classes": 5, "dim": 8, "knobs": {"m": 0.3}, "theta": 60, "other": 90}
    answer = answered(json.dumps({**good, **asked}))
    assert answer.status_code == (404 if said else 200)
    text = answer.body.decode()
    assert said in text if said else json.loads(text) == json.loads(json.dumps(drawn(good)))


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_what_is_no_question_is_refused(text):
    assert answered(text).status_code == 404


def test_the_page_says_which_slider_says_what(faces_home):
    told = json.loads(next(iter(lab(lab="CurricularFace").get("bidi_component"))).proto.json)[0]["followed"]
    for name, way in told["sliders"].items():
        place = told["asked"]
        for key in way:
            place = place[key]
        assert name == curves.class_of(f"lab.{'CurricularFace.' if len(way) > 1 else ''}{way[-1]}") or way[-1] == "s"
    assert {way[-1] for way in told["sliders"].values()} == {"s", "m", "t", "theta", "other"}


def test_the_ring_says_where_the_default_scale_comes_from(faces_home):
    assert any("√2·ln 9 = 3.107" in words and "p = ½ at 45°" in words for words in said(lab()))


def test_lines_over_the_same_angles_share_a_table_and_a_gap_is_a_gap():
    x = np.array([0.0, 90.0, 180.0])
    drawn = over_angles([Line("a", x, [1.0, math.nan, 3.0], "#000000"), Line("b", x, x, "#000000", edge=0.0)])
    assert drawn["tables"] == [[0, 90, 180]]
    assert [line["table"] for line in drawn["lines"]] == [0, 0]
    assert [line["y"] for line in drawn["lines"]] == [[1, None, 3], [0, 90, 180]]
    assert "edge" not in drawn["lines"][0]
    json.dumps(drawn, allow_nan=False)
