"""The circle and the sphere: margins that rise, arcs that are forbidden, features as long as they are, and the page."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from faces.curves import Sketch, angles
from faces.datasets import find
from faces.evaluation import lost_classes
from faces.feasibility import angle_asked
from faces.heads import HEADS, angled, margined
from faces.heads.base import CosineHead
from faces.knobs import raised, settle
from pages.components import blocks
from tests.test_pages import ROOT, button
from tests.test_training import SHORT, equal, last
from trainer import RunConfig, batches, train
from trainer.folder import RunFolder
from trainer.measuring import ROUND, forbidden_arcs
from trainer.pictures import ShownFacts, draw, shown_facts
from trainer.presets import PRESETS, circle_knobs
from trainer.snapshot import Snapshot
from trainer.store import Store
from trainer.training import fresh_model
from trainer.worker import pack, unpack

ANGLED = [name for name in HEADS if angled(name)]
EDGE = 1.1 * 360 / ROUND  # degrees that an arc is known to
RAMPED = {**SHORT, "epochs": 4, "ramp": 0.5}

few = settings(max_examples=20, deadline=None, derandomize=True)


def neutral(name):
    return raised(HEADS.about(name).knobs, {**HEADS[name](8, 5).knob_values()}, 0.0)


@pytest.mark.parametrize("name", ANGLED)
def test_where_a_ramp_begins_the_own_class_gets_what_it_gets_without_a_margin(name):
    drawn = Sketch(name, 5, 8, neutral(name))
    np.testing.assert_allclose(drawn.own(angles()), drawn.own(angles(), margin=False), atol=1e-6)
    usual = Sketch(name, 5, 8)
    moved = np.abs(usual.own(angles()) - usual.own(angles(), margin=False)).max() > 1e-3
    assert moved == margined(name)


@pytest.mark.parametrize("name", [name for name in HEADS if margined(name)])
@given(shares=st.lists(st.floats(0, 2), min_size=2, max_size=6))
@few
def test_margins_rise_in_a_line_and_end_at_their_value(name, shares):
    knobs, wanted = HEADS.about(name).knobs, HEADS[name](8, 5).knob_values()
    ways = [raised(knobs, wanted, share) for share in sorted(shares)]
    for margin, end in raised(knobs, wanted, 1.0).items():
        start, up = knobs[margin].neutral, 1 if wanted[margin] >= knobs[margin].neutral else -1
        line = [up * way[margin] for way in ways]
        assert line == sorted(line)
        assert up * start <= line[0] <= line[-1] <= up * end == up * wanted[margin]
    assert not {"s", "seam", "k"} & set(ways[0])


def test_a_ramp_starts_from_no_margin_ends_at_the_value_that_is_set_and_is_recorded():
    snapshots = list(train(RunConfig(knobs={"m": 0.4}, **RAMPED)))
    for snapshot in snapshots:
        assert snapshot.knobs["m"] == pytest.approx(0.4 * min(1, snapshot.step / snapshot.steps / 0.5))
    assert (snapshots[0].knobs["m"], snapshots[-1].knobs["m"]) == (0, 0.4)
    assert len({snapshot.knobs["m"] for snapshot in snapshots}) > 2
    assert all(snapshot.knobs["s"] == snapshots[0].knobs["s"] and not snapshot.turned for snapshot in snapshots)


def test_a_ramp_over_the_whole_training_ends_at_the_value_too():
    *_, end = train(RunConfig(head="MagFace", **{**RAMPED, "ramp": 1.0}))
    assert (end.knobs["l_m"], end.knobs["u_m"]) == (0.15, 0.45)


@pytest.mark.parametrize("cut", [1, 5, 9, 12])
@pytest.mark.parametrize("head", ["ArcFace", "UnitedMargin"])
def test_a_resumed_run_with_a_ramp_equals_an_uninterrupted_one_bit_for_bit(head, cut):
    config, steps = RunConfig(head=head, **RAMPED), iter(range(1, 100))
    wish = {"s": 4.0}
    whole, weights = last(config, turned=lambda: wish)
    *_, stop = train(config, turned=lambda: wish, stopped=lambda: next(steps) >= cut)
    assert stop.step == cut
    again, resumed = last(config, turned=lambda: wish, start=unpack(pack(stop)))
    assert equal(weights, resumed)
    assert again.facts["knobs"] == whole.facts["knobs"]


def test_a_margin_turned_on_its_way_rises_to_its_new_value():
    asked = 0

    def turned():
        nonlocal asked
        asked += 1
        return {"m": 0.8} if asked > 4 else {}

    snapshots = list(train(RunConfig(knobs={"m": 0.2}, **RAMPED), turned=turned))
    steps = snapshots[0].steps
    (change,) = snapshots[-1].turned
    assert change == (4, "m", 0.8)
    after = [one for one in snapshots if one.step > 4]
    assert all(one.knobs["m"] == pytest.approx(0.8 * min(1, 2 * one.step / steps)) for one in after)


def test_a_ramp_changes_nothing_for_a_head_without_a_margin_and_something_for_others():
    for head in ("Classification", "NormFace", "Triplet"):
        assert not margined(head)
        assert equal(last(RunConfig(head=head, **SHORT))[1], last(RunConfig(head=head, **SHORT, ramp=0.5))[1])
    assert not equal(last(RunConfig(**SHORT))[1], last(RunConfig(**SHORT, ramp=0.5))[1])


def test_a_record_from_before_there_was_a_ramp_has_none():
    values = json.loads(RunConfig(head="CosFace").to_json())
    assert values.pop("ramp") == 0.0
    assert RunConfig.from_json(json.dumps(values)) == RunConfig(head="CosFace")
    with pytest.raises(ValueError, match=r"ramp = 1\.5 is out of range"):
        RunConfig(ramp=1.5)


def crossing(quarters, m, name="ArcFace", **knobs):
    """The arcs of a head with centers at these quarters of a turn, in degrees."""
    turns = np.array(quarters) * np.pi / 2
    centers = np.stack([np.cos(turns), np.sin(turns)], 1).astype(np.float32)
    return np.degrees(forbidden_arcs(HEADS[name](2, len(quarters), m=m, **knobs).eval(), centers))


def test_the_forbidden_arcs_of_a_margin_on_the_angle_by_hand():
    m = math.degrees(0.5)
    wide = [
        (45 - m / 2, 45 + m / 2),
        (135 - m / 2, 135 + m / 2),
        (225 - m / 2, 225 + m / 2),
        (315 - m / 2, 315 + m / 2),
    ]
    np.testing.assert_allclose(crossing([0, 1, 2, 3], 0.5), wide, atol=EDGE)
    np.testing.assert_allclose(crossing([0.5, 1.5, 2.5, 3.5], 0.5)[-1], (360 - m / 2, 360 + m / 2), atol=EDGE)


def test_the_forbidden_arcs_of_a_margin_on_the_cosine_by_hand():
    ((start, end), *_) = np.radians(crossing([0, 1, 2, 3], 0.3, "CosFace"))
    assert math.cos(start) - 0.3 == pytest.approx(math.cos(math.pi / 2 - start), abs=0.01)
    assert end == pytest.approx(math.pi / 2 - start, abs=math.radians(EDGE))


def test_without_a_margin_an_arc_is_a_boundary_and_one_that_cannot_be_met_takes_the_whole_circle():
    boundaries = crossing([0, 1, 2, 3], 0.0)
    np.testing.assert_allclose(boundaries.mean(1), [45, 135, 225, 315], atol=EDGE)
    assert np.ptp(boundaries, axis=1).max() < EDGE
    ten = np.arange(10) * 0.4  # 0.628 apart
    assert crossing(ten, 0.6).shape == (10, 2)
    np.testing.assert_allclose(crossing(ten, 0.7), [(0, 360)])


@pytest.mark.parametrize("name", [name for name in ANGLED if not getattr(HEADS.about(name), "simplex", False)])
def test_in_a_forbidden_arc_no_label_wins_the_training_logits_and_outside_of_all_one_does(name):
    torch.manual_seed(2)
    head = HEADS[name](2, 3).eval()
    if type(head).margins is not CosineHead.margins:
        pytest.skip("Its margin differs from sample to sample.")
    centers = torch.nn.functional.normalize(head.weight.detach().flatten(0, -2)).numpy()
    arcs, turns = forbidden_arcs(head, centers), np.linspace(0, 2 * np.pi, 360, endpoint=False)
    near = np.abs((turns[:, None] - arcs.ravel() + np.pi) % (2 * np.pi) - np.pi).min(1)
    turns = turns[near > 2 * math.radians(EDGE)]
    inside = (((turns[:, None] - arcs[:, 0]) % (2 * np.pi)) < (arcs[:, 1] - arcs[:, 0])).any(1)
    places = torch.from_numpy(np.stack([np.cos(turns), np.sin(turns)], 1)).float()
    with torch.no_grad():
        won = [head(places, torch.full((len(turns),), label)).argmax(1) == label for label in range(3)]
    assert np.array_equal(~torch.stack(won).any(0).numpy(), inside)


def test_a_head_without_angles_and_longer_embeddings_have_no_arcs():
    assert forbidden_arcs(HEADS["Classification"](2, 3), np.eye(3, 2, dtype=np.float32)).shape == (0, 2)
    assert forbidden_arcs(HEADS["ArcFace"](3, 3), np.eye(3, dtype=np.float32)).shape == (0, 2)


@pytest.fixture(scope="module")
def flat():
    *_, last = train(RunConfig(epochs=1, batch=256, dim=2, probe=100))
    return last


def test_a_run_in_two_dimensions_keeps_arcs_and_lengths_through_its_files(tmp_path, flat):
    (tmp_path / "config.json").write_text(RunConfig(dim=2, probe=100).to_json())
    (tmp_path / "a.safetensors").write_bytes(flat.to_bytes())
    back = Snapshot.read(tmp_path / "a.safetensors")
    draw(RunFolder(tmp_path), back, "pca-2")
    draw(RunFolder(tmp_path), back, "pca-3")
    found = RunFolder(tmp_path).points("pca-2", flat.step)
    assert np.array_equal(found.arcs, flat.arcs)
    assert len(found.arcs)
    assert not len(RunFolder(tmp_path).points("pca-3", flat.step).arcs)
    assert np.array_equal(blocks.read_block(blocks.points_block(found)).arcs, found.arcs)
    assert back.lengths.shape == back.labels.shape
    assert (back.lengths > 0).all()
    assert np.array_equal(shown_facts(back, 100).lengths, flat.lengths[:100])


def test_lengths_are_those_of_the_features_before_they_are_made_unit_rows(flat):
    images = find("digits").load(8)
    state, model = flat.state()["tensors"], fresh_model(RunConfig(dim=2), images)
    model.load_state_dict({name[6:]: value for name, value in state.items() if name.startswith("model.")})
    with torch.no_grad():
        features = model.eval().encoder(batches.ready(batches.tensor(images.pixels[flat.rows]))).numpy()
    np.testing.assert_allclose(flat.embeddings * flat.lengths[:, None], features, atol=1e-4)


def test_facts_carry_lengths_and_say_where_there_are_none():
    facts = ShownFacts(np.arange(2), np.array([0, 1]), np.zeros(2), np.zeros(2), np.array([2.0, 8.0]))
    block = blocks.facts_block(facts)
    assert (block[:4], np.frombuffer(block, "<f4", 2, 8)[1]) == (b"FF02", 8)
    assert np.frombuffer(block, "<u2", 2, len(block) - 4).tolist() == [round(65534 / 4), 65534]
    assert np.frombuffer(blocks.facts_block(facts._replace(lengths=np.empty(0))), "<u2").tolist()[-2:] == [65535] * 2


def circle(**params):
    """The page as a link opens it, without another page before it."""
    app = AppTest.from_file(str(ROOT / "pages" / "learn" / "circle.py"), default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def here(store):
    """The runs of the page, oldest first."""
    return sorted((run for run in store.runs() if run.note.startswith("Circle")), key=lambda run: run.id)


def finished(store, **terms):
    """A pair that was trained for a moment, as the page leaves it; the id of the head's run."""
    terms = {"dim": 2, "batch": 256, "probe": 100, "epochs": 1, **terms}
    store.submit(RunConfig(**{**terms, "head": "Classification", "knobs": {}}), "Circle · then")
    name = store.submit(RunConfig(**terms), "Circle · then")
    for _ in range(2):
        while (run := store.claim()).note != "Circle · then":
            store.end(run.id, run.attempt, "stopped")
        *_, last = train(run.config)
        store.folder(run.id).begin("", [str(digit) for digit in range(10)])
        store.folder(run.id).keep(run.attempt, last)
        draw(store.folder(run.id), last, "pca-2")
        store.index(run.id, run.attempt)
        store.end(run.id, run.attempt, "finished")
    return name


def test_a_first_visit_trains_a_pair_on_equal_terms_and_a_second_one_watches_it(faces_home):
    store = Store(faces_home)
    for _ in range(2):
        app = circle()
        softmax, head = here(store)
        assert app.query_params["pair"] == head.id
    assert (softmax.config.head, head.config.head) == ("Classification", "ArcFace")
    unlike = {name for name, value in vars(head.config).items() if getattr(softmax.config, name) != value}
    assert unlike == {"head", "knobs"}
    assert (head.config.dim, head.config.ramp) == (2, PRESETS["circle"].terms["ramp"])


def test_a_link_sets_the_controls_and_waits_to_be_asked(faces_home):
    store = Store(faces_home)
    app = circle(head="CosFace", dims="Sphere", ramp="false", classes="8", seed="3", **{"CosFace.m": "0.4"})
    assert not here(store)
    assert "Nothing has been trained" in app.info[0].value
    button(app, "Train both").click().run()
    assert not app.exception
    config = here(store)[1].config
    assert (config.head, config.dim, config.ramp, config.held_out, config.seed) == ("CosFace", 3, 0.0, 2, 3)
    assert config.knobs["m"] == 0.4


def test_who_asks_for_what_trains_already_watches_it(faces_home):
    store = Store(faces_home)
    for _ in range(2):
        app = circle(head="CosFace")
        button(app, "Train both").click().run()
        assert app.query_params["pair"] == here(store)[1].id
    assert len(here(store)) == 2
    button(app, "Stop").click().run()
    assert {run.state for run in here(store)} == {"stopped"}
    button(app, "Train both").click().run()
    assert len(here(store)) == 4


def test_every_head_opens_on_the_circle_and_on_the_sphere_or_is_refused_in_a_sentence(faces_home):
    app = circle(seed="1")
    assert "Classification" not in app.selectbox(key="head").options
    for name in app.selectbox(key="head").options:
        app.selectbox(key="head").select(name)
        for place in ("Sphere", "Circle"):
            app.segmented_control(key="dims").set_value(place).run()
            assert not app.exception, name
            fits = not getattr(HEADS.about(name), "simplex", False)
            assert button(app, "Train both").disabled != fits
            assert [warning.value for warning in app.warning] == ([] if fits else [
                f"ETF needs embeddings of 9 numbers or more for 10 classes, not {3 if place == 'Sphere' else 2}."
            ])  # fmt: skip
    assert not here(Store(faces_home))


@pytest.mark.parametrize("head", HEADS)
def test_the_knobs_that_the_circle_starts_with_leave_room(head):
    knobs = circle_knobs(head)
    asked = angle_asked(HEADS.about(head), knobs, 10, 2)
    assert asked is None or asked <= 0.7 * 2 * math.pi / 10 + 1e-9
    assert settle(HEADS.about(head).knobs, knobs, 10) == knobs


def test_a_margin_that_cannot_fit_is_announced_and_can_be_tried(faces_home):
    store = Store(faces_home)
    app = circle(**{"ArcFace.m": "0.8"})
    assert "m = 0.80 cannot be met by 10 classes in 2 dimensions: m at most 0.62" in app.warning[0].value
    assert any("the margin asks for 45.8°" in caption.value for caption in app.caption)
    button(app, "Train both").click().run()
    assert here(store)[1].config.knobs["m"] == 0.8
    app = circle(**{"ArcFace.m": "0.6"})
    assert not app.warning


def test_a_slider_turns_the_head_that_trains(faces_home):
    store = Store(faces_home)
    app = circle(head="CosFace")
    button(app, "Train both").click().run()
    app.slider(key="CosFace.m").set_value(0.15).run()
    assert not app.exception
    assert store.folder(here(store)[1].id).wishes == {"m": 0.15}
    assert not store.folder(here(store)[0].id).wishes


def test_classes_that_were_lost_are_said_by_name(faces_home):
    store = Store(faces_home)
    app = circle(pair=finished(store, knobs={"m": 1.5}))
    (said,) = [warning.value for warning in app.warning if "ArcFace" in warning.value]
    snapshot = store.snapshot(here(store)[1].id, 5)
    lost = lost_classes(snapshot.predictions, snapshot.labels)
    assert 0 < len(lost) < 10
    assert f"ArcFace has lost {len(lost)} of 10 classes" in said
    assert ", ".join(map(str, lost)) in said
    assert "Turn the margin ramp on" in said
    table = app.dataframe[0].value
    assert list(table["Head"]) == ["Classification", "ArcFace"]
    assert any("Shown is ArcFace" in caption.value for caption in app.caption)


def test_a_class_is_lost_when_less_than_half_of_it_is_named_right():
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert lost_classes(np.array([0, 1, 1, 1, 0, 0]), labels).tolist() == [2]
    assert lost_classes(labels, labels).tolist() == []


def test_a_link_to_a_pair_that_is_gone_breaks_nothing(faces_home):
    app = circle(pair="01ARZ3NDEKTSV4RRFFQ69G5FAV", head="CosFace")
    assert "Nothing has been trained" in app.info[0].value


@pytest.mark.parametrize(
    "name", [name for name in ANGLED if isinstance(getattr(HEADS.about(name), "at_angle", 0), str)]
)
@given(share=st.floats(0.0, 1.0))
@few
def test_the_angle_that_is_asked_for_is_the_one_the_lab_shows(name, share):
    knobs = HEADS[name].knobs
    given_ = {"m": share * min(knobs["m"].high, 1.4)} if "m" in knobs else {}
    if name == "ElasticFace":  # drawn at its mean margin, and noted by its mean value
        given_ |= {"sigma": 0.0}
    drawn = Sketch(name, 10, 16, given_)
    asked = angle_asked(HEADS.about(name), drawn.head.knob_values(), 10, 16)
    assert asked == pytest.approx(drawn.asks(), abs=2e-3)
