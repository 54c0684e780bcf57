"""Sweeps: their cells, their cost, what is shown of failures, going on without training twice, and searches."""

import math
import statistics
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.feasibility import limits
from faces.heads import HEADS
from faces.knobs import Knob, fixed_scale
from trainer import RunConfig, Snapshot, sweep, tuning
from trainer.store import Store
from trainer.sweep import PRUNED, Axis, Sweep
from trainer.tuning import Search

SM = (Axis.spaced("s", 1, 16, 5, log=True), Axis.spaced("m", 0, 0.6, 4))
GRID = Sweep("ArcFace", (Axis("s", (4.0, 8.0, 16.0)), Axis("m", (0.0, 0.2))), {"epochs": 2}, seeds=2)


@pytest.fixture
def store(faces_home) -> Store:
    return Store(faces_home)


def seen(step: int, steps: int, score: float, **more) -> Snapshot:
    """A snapshot whose only news is its KNN accuracy."""
    rows = np.eye(4, 128, dtype=np.float32)
    labels = np.arange(4)
    return Snapshot(
        step=step, steps=steps, epoch=2 * step / steps, seconds=step / 10, knobs={},
        metrics={"asked": 4.0, "known": 4.0, "knn_accuracy": score},
        embeddings=rows, labels=labels, predictions=labels, rows=labels, centers=rows, center_labels=labels,
        known=rows, known_labels=labels, variance=np.ones(4, np.float32) / 4, knn=np.array([[5, score]], np.float32),
        **more,
    )  # fmt: skip


def play(store: Store, score, count: int = 1000, **more) -> int:
    """Be the supervisor: finish so many waiting runs with `score(config)`; one without a score fails."""
    done = 0
    while done < count and (run := store.claim()):
        value = score(run.config)
        if value is not None:
            store.folder(run.id).keep(run.attempt, seen(8, 8, value, **more))
            store.index(run.id, run.attempt)
        store.end(run.id, run.attempt, "finished" if value is not None else "failed", "" if value else "It diverged.")
        done += 1
    return done


def hill(config: RunConfig) -> float:
    """Best at s = 4, m = 0.2, with the luck of its seed."""
    s, m = config.knobs["s"], config.knobs["m"]
    return 0.9 - 0.1 * math.log2(s / 4) ** 2 / 4 - (m - 0.2) ** 2 + 0.01 * config.seed


# ---- axes and cells -----------------------------------------------------------------------------------


def test_axes_by_hand():
    assert SM[0].values == (1.0, 2.0, 4.0, 8.0, 16.0)
    assert SM[1].values == (0.0, 0.2, 0.4, 0.6)
    assert Axis.spaced("k", 1, 3, 5, whole=True).values == (1, 2, 3)


@given(
    low=st.floats(0.01, 10), times=st.floats(1.5, 100), steps=st.integers(2, 12), log=st.booleans(),
    share=st.floats(0, 1),
)  # fmt: skip
def test_a_value_lies_between_its_neighbours_on_the_map(low, times, steps, log, share):
    axis = Axis.spaced("s", low, low * times, steps, log)
    for place, value in enumerate(axis.values):
        assert axis.place(value) == pytest.approx(place)
    value = axis.values[0] + share * (axis.values[-1] - axis.values[0])
    place = axis.place(value)
    assert axis.values[math.floor(place + 1e-9)] <= value * (1 + 1e-9)
    assert axis.values[min(math.ceil(place - 1e-9), steps - 1)] >= value * (1 - 1e-9)
    assert axis.place(axis.values[-1] * 2 + 100 * times) is None


@pytest.mark.parametrize("head", HEADS)
def test_every_number_of_every_head_and_the_shared_terms_can_be_an_axis(head):
    for name, knob in sweep.axes_of(head, "digits").items():
        low, high, log = sweep.usual(name, knob) if name != "dim" else (16, 64, True)  # ETF needs 9
        made = Sweep(head, (Axis.spaced(name, low, high, 3, log, knob.whole),))
        for point in made.points:
            assert made.point(made.config(point, 1)) == point
            assert made.config(point, 1).seed == 1


def test_a_sweep_survives_json():
    assert Sweep.from_json(GRID.to_json()) == GRID


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Axis.spaced("s", 4, 4, 3), "from 4 to 4"),
        (lambda: Axis.spaced("m", 0, 1, 3, log=True), "above 0"),
        (lambda: Axis.spaced("m", 0, 1, 1), "2 steps or more, not 1"),
        (lambda: Sweep("ArcFace", ()), "one to three"),
        (lambda: Sweep("ArcFace", (SM[0], SM[0])), "different axes"),
        (lambda: Sweep("AdaCos", (SM[1],)), "m can be no axis of AdaCos.*lr"),
        (lambda: Sweep("ArcFace", (Axis("m", (0.1, 9.0)),)), "m = 9.0 is out of range"),
        (lambda: Sweep("ArcFace", SM, seeds=40), "800 runs are too many"),
        (lambda: Sweep("ArcFace", SM, {"dataset": "mnist"}), "mnist"),
        (lambda: Sweep("ArcFace", SM, {"epochs": 0}), "epochs = 0"),
        (lambda: Sweep("ArcFace", (Axis("noise", (0, 25)),), {"dataset": "imagewoof"}, trials=9), "no label noise"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# ---- what becomes of it -------------------------------------------------------------------------------


def test_a_sweep_is_one_action_seed_by_seed_under_one_note(store):
    name = sweep.start(store, GRID)
    runs = store.runs()[::-1]
    assert len(runs) == GRID.count == 3 * 2 * 2
    assert {run.note for run in runs} == {sweep.read(store, name).note}
    assert [run.config.seed for run in runs] == [0] * 6 + [1] * 6
    assert {cell.state for cell in sweep.look(store, GRID)} == {"waiting"}


def test_the_map_fills_with_means_and_spreads(store):
    sweep.start(store, GRID)
    play(store, hill, 7)
    cells = sweep.look(store, GRID)
    assert [cell.state for cell in cells[:2]] == ["done", "waiting"]
    assert cells[0].scores == pytest.approx([hill(GRID.config((4.0, 0.0), seed)) for seed in (0, 1)])
    assert cells[0].sd == pytest.approx(statistics.stdev(cells[0].scores))
    assert (cells[1].sd, len(cells[1].scores)) == (None, 1)
    play(store, hill)
    cells = sweep.look(store, GRID)
    assert max(cells, key=lambda cell: cell.mean).point == (4.0, 0.2)


def test_failures_are_shown_with_their_reason_and_hide_no_score(store):
    sweep.start(store, GRID)
    play(store, lambda config: None if config.knobs["s"] == 16 and config.seed == 1 else hill(config), 11)
    assert sweep.look(store, GRID)[2].state == "failed"
    assert sweep.look(store, GRID)[5].state == "waiting"
    play(store, lambda _: None)
    failed = [cell for cell in sweep.look(store, GRID) if cell.state == "failed"]
    assert {cell.point[0] for cell in failed} == {16.0}
    assert len(failed) == 2
    assert failed[0].parts[1].reason == "It diverged."
    assert failed[0].mean == pytest.approx(hill(failed[0].parts[0].run.config))
    name = next(iter(sweep.sweeps(store)))
    assert sweep.go_on(store, name) == 0  # what failed fails again: only on wish
    sweep.try_again(store, name)
    assert sum(cell.state == "waiting" for cell in sweep.look(store, GRID)) == 2


def test_nothing_is_trained_twice_whoever_trained_it(store):
    store.submit(GRID.config((4.0, 0.2), 0), "by hand")
    play(store, hill)
    small = Sweep("ArcFace", (Axis("s", (4.0, 8.0)), Axis("m", (0.2, 0.4))), {"epochs": 2})
    assert (sweep.cost(store, small).runs, sweep.cost(store, small).done) == (3, 1)
    sweep.start(store, small)
    play(store, hill)
    assert len(store.runs()) == 4
    sweep.start(store, GRID)
    assert len(store.runs()) == 14


def test_a_run_whose_knobs_were_turned_is_no_cell(store):
    sweep.start(store, GRID)
    play(store, hill, 1, turned=((3, "m", 0.9),))
    assert sweep.look(store, GRID)[0].parts[0].state == "none"


def test_a_sweep_stops_as_one_action_and_goes_on_where_it_was(store):
    other = store.submit(RunConfig())
    name = sweep.start(store, GRID)
    play(store, hill, 6)
    sweep.stop(store, name)
    assert store.run(other).state == "finished"
    states = [part.state for cell in sweep.look(store, GRID) for part in cell.parts]
    assert (states.count("done"), states.count("stopped")) == (5, 7)
    assert sweep.go_on(store, name) == 7
    assert len(store.runs()) == 13
    play(store, hill)
    assert {cell.state for cell in sweep.look(store, GRID)} == {"done"}


def test_stopping_leaves_the_runs_of_others_alone(store):
    shared = store.submit(GRID.config((4.0, 0.2), 0), "by hand")
    name = sweep.start(store, GRID)
    assert len(store.runs()) == 12
    sweep.stop(store, name)
    assert store.run(shared).state == "queued"


def test_a_sweep_trains_runs_of_its_own_where_another_one_was_stopped(store):
    first = sweep.start(store, GRID)
    sweep.stop(store, first)
    second = sweep.start(store, GRID)
    assert [run.state for run in store.runs()].count("queued") == 12
    sweep.stop(store, second)
    assert not any(run.open for run in store.runs())


def test_a_forgotten_sweep_leaves_its_runs(store):
    name = sweep.start(store, GRID)
    play(store, hill)
    sweep.forget(store, name)
    assert sweep.sweeps(store) == {}
    assert len(store.runs()) == 12
    with pytest.raises(ValueError, match="no sweep of this id"):
        sweep.read(store, name)
    with pytest.raises(ValueError, match="no sweep id"):
        sweep.read(store, "../x")


# ---- cost ---------------------------------------------------------------------------------------------


def test_without_earlier_runs_the_cost_is_told_by_a_rule(store):
    told = sweep.cost(store, GRID)
    assert (told.runs, told.done, told.open, told.earlier) == (12, 0, 0, 0)
    assert 10 < told.seconds < 1000
    longer = sweep.cost(store, Sweep("ArcFace", GRID.axes, {"epochs": 20}, seeds=2))
    assert longer.seconds > 2 * told.seconds


def test_runs_trained_here_tell_the_cost_and_recorded_ones_do_not(store):
    store.submit(RunConfig(epochs=2, seed=9))
    run = store.claim()
    store.folder(run.id).keep(1, seen(8, 8, 0.9))
    store.index(run.id, 1)
    store.end(run.id, 1, "finished")
    assert sweep.cost(store, GRID).earlier == 0
    store.folder(run.id).attempt(1).joinpath("log.txt").touch()
    told, run = sweep.cost(store, GRID), store.run(run.id)
    assert told.earlier == 1
    assert told.seconds == pytest.approx(12 * (run.ended - run.started))
    assert sweep.cost(store, Sweep("ArcFace", SM, {"epochs": 2, "dim": 16})).earlier == 0


def test_a_frozen_encoder_that_has_seen_what_a_seed_holds_out_is_refused_before_anything_is_queued(store):
    source = store.submit(RunConfig(held_out=3))
    terms = {"frozen_from": source, "held_out": 3}
    assert sweep.cost(store, Sweep("ArcFace", GRID.axes, terms)).runs == 6
    for act in (sweep.cost, sweep.start):
        with pytest.raises(ValueError, match="seed 1 holds out"):
            act(store, Sweep("ArcFace", GRID.axes, terms, seeds=2))
        with pytest.raises(ValueError, match="no run of this id"):
            act(store, Sweep("ArcFace", GRID.axes, {"frozen_from": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}))
    assert len(store.runs()) == 1


# ---- lines on the map ---------------------------------------------------------------------------------


def test_the_default_s_the_bound_and_the_limit_are_lines_with_words(store):
    default, bound, limit = sweep.marks(GRID)
    assert default.xs == (fixed_scale(10),) * 2
    assert default.ys == (0.0, 0.2)
    assert bound.xs[0] == pytest.approx(6.11, abs=0.01)
    knobs = {"s": 4.0, "m": 0.2, "seam": "cos_minus_m_sin_m"}
    most = limits(HEADS.about("ArcFace"), knobs, 10, 128)[""].largest["m"]
    assert limit.ys == pytest.approx([most] * len(limit.ys))
    assert "3.11" in default.words
    assert "6.11" in bound.words


def test_a_limit_bends_where_two_margins_share_the_room():
    both = Sweep("UnitedMargin", (Axis.spaced("m2", 0, 1.2, 4), Axis.spaced("m3", 0, 0.8, 4)))
    (line,) = sweep.marks(both)
    assert all(one > other for one, other in zip(line.ys, line.ys[1:], strict=False))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_marks_or_none_but_breaks_nothing(head):
    names = [name for name, knob in HEADS.about(head).knobs.items() if isinstance(knob, Knob)][:2]
    for pair in (names, names[::-1], ["dim", "lr"]):
        known = sweep.axes_of(head, "digits") | {"dim": Knob(16, 12, 64, "numbers")}
        axes = [Axis.spaced(name, *sweep.usual(name, known[name])[:2], 3, whole=known[name].whole) for name in pair]
        for mark in sweep.marks(Sweep(head, tuple(axes), {"dim": 16})) if axes else ():
            assert len(mark.xs) == len(mark.ys)


# ---- searches -----------------------------------------------------------------------------------------


def searched(store: Store, made: Sweep, score, rounds: int = 200) -> list[sweep.Cell]:
    """Be supervisor and tuner in turn, until the search ends."""
    name = sweep.start(store, made)
    made = sweep.read(store, name)
    search = Search(made)
    for _ in range(rounds):
        if not tuning.step(store, search, 2):
            break
        play(store, score)
    return sweep.look(store, made)


def test_ask_and_tell_finds_the_better_half_of_a_known_function(store):
    """Half of the plane is better than hill's median there; of the later suggestions nearly all are."""
    cells = searched(store, Sweep("ArcFace", SM, {"epochs": 2}, trials=24), hill)
    assert len(cells) == len(store.runs()) == 24
    plane = Sweep("ArcFace", (Axis.spaced("s", 1, 16, 15, True), Axis.spaced("m", 0, 0.6, 15)), {"epochs": 2})
    middle = statistics.median(hill(plane.config(point, 0)) for point in plane.points)
    late = [cell.mean for cell in cells[12:]]
    assert sum(score > middle for score in late) >= 10
    assert max(cell.mean for cell in cells) > 0.88


def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been(store, tmp_path):
    made = Sweep("ArcFace", SM, {"epochs": 2}, trials=10, seed=3)
    whole = [cell.point for cell in searched(store, made, hill)]
    other = Store(tmp_path / "other")
    name = sweep.start(other, made)
    made = sweep.read(other, name)
    for _ in range(6):
        tuning.step(other, Search(made), 2)  # a new process each time
        play(other, hill)
    assert [cell.point for cell in sweep.look(other, made)] == whole
    assert len(set(whole)) == 10


def test_a_run_that_is_queued_while_a_search_is_stopped_does_not_train(store, monkeypatch):
    name = sweep.start(store, Sweep("ArcFace", SM, {"epochs": 2}, trials=9))
    queue = store.submit_many

    def late(*arguments):
        sweep.stop(store, name)
        return queue(*arguments)

    monkeypatch.setattr(Store, "submit_many", lambda _, *arguments: late(*arguments))
    monkeypatch.setattr("sys.stdin", Waiting())
    monkeypatch.setattr(tuning, "Store", lambda: store)
    assert tuning.tune(name, 1) == 0
    assert [run.state for run in store.runs()] == ["stopped"]


class Waiting:
    """An input that does not end."""

    def read(self):
        threading.Event().wait()


def test_the_other_seeds_follow_the_first_and_hopeless_runs_are_given_up(store):
    made = Sweep("ArcFace", SM, {"epochs": 2}, seeds=2, trials=9)
    name = sweep.start(store, made)
    made = sweep.read(store, name)
    search = Search(made)
    for _ in range(tuning.FREELY):
        tuning.step(store, search, 1)
        assert play(store, lambda _: 0.8) == 1
        tuning.step(store, search, 1)
        assert play(store, lambda _: 0.8) == 1  # the second seed
    tuning.step(store, search, 1)
    run = store.claim()
    store.folder(run.id).keep(run.attempt, seen(4, 8, 0.1))
    store.folder(run.id).keep(run.attempt, seen(6, 8, 0.1))
    store.index(run.id, run.attempt)
    tuning.step(store, search, 1)
    assert store.run(run.id).stop_wanted
    assert store.run(run.id).reason.startswith(PRUNED)
    store.end(run.id, run.attempt, "stopped", store.run(run.id).reason)
    assert tuning.step(store, search, 1)
    pruned = [cell for cell in sweep.look(store, made) if cell.state == "pruned"]
    assert [part.state for part in pruned[0].parts] == ["pruned", "none"]
    assert "less than half" in pruned[0].parts[0].reason
    assert len(sweep.look(store, made)) == tuning.FREELY + 2


def test_a_run_that_chance_alone_may_have_put_behind_is_not_given_up():
    search = Search(Sweep("ArcFace", SM, trials=20))
    for _ in range(tuning.FREELY):
        point = search.ask()
        assert not search.report(point, 2, 0.95, 500)
        search.tell(point, 0.95)
    point = search.ask()
    assert not search.report(point, 2, 0.93, 500)  # 3.2 points apart by chance
    assert search.report(point, 3, 0.5, 500) is False  # nobody was seen at this epoch
    point = search.ask()
    assert search.report(point, 2, 0.85, 500)


def test_a_search_ends_also_when_every_run_fails_or_no_new_point_is_left(store):
    cells = searched(store, Sweep("ArcFace", SM, {"epochs": 2}, trials=5), lambda _: None)
    assert {cell.state for cell in cells} == {"failed"}
    few = Sweep("SubCenterArcFace", (Axis("k", (1, 2)),), trials=2)
    assert {cell.point for cell in searched(store, few, lambda _: 0.5)} == {(1,), (2,)}
    with pytest.raises(ValueError, match="no new point"):
        searched(store, Sweep("SubCenterArcFace", (Axis("k", (1, 2)),), trials=3), lambda _: 0.5)


# ---- all runs -----------------------------------------------------------------------------------------


def test_the_front_by_hand():
    assert sweep.front([(1, 1), (2, 3), (3, 2), (1, 4), (2, 2)]) == [3, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_nothing_beats_the_front_and_it_beats_all_else(points):
    best = sweep.front(points)
    better = lambda one, other: one != other and one[0] >= other[0] and one[1] >= other[1]  # noqa: E731
    for place, point in enumerate(points):
        assert (place in best) == (not any(better(other, point) for other in points))
