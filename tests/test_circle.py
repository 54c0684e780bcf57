"""The circle and the sphere: margins that rise, arcs that are forbidden, features as long as they are, and the page."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faces.curves import Sketch, angles
from faces.heads import HEADS, angled, margined
from faces.knobs import raised
from tests.test_training import SHORT, equal, last
from trainer import RunConfig, train
from trainer.worker import pack, unpack

ANGLED = [name for name in HEADS if angled(name)]
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
    with pytest.raises(ValueError, match="ramp = 1.5 is out of range"):
        RunConfig(ramp=1.5)
