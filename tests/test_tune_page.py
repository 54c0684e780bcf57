"""The page that tunes, run without a browser: what it asks, what it costs, what the map shows."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from faces import figures
from faces.heads import HEADS
from faces.palette import SCALE
from tests.test_sweep import hill, play
from trainer import RunConfig, sweep
from trainer.store import Store
from trainer.sweep import PRUNED, Axis, Sweep

ROOT = Path(__file__).parents[1]
SMALL = Sweep("ArcFace", (Axis("s", (2.0, 4.0, 8.0)), Axis("m", (0.0, 0.2))), {"epochs": 2}, seeds=2)


@pytest.fixture
def store(faces_home) -> Store:
    return Store(faces_home)


def opened(**params: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    app = app.switch_page(str(ROOT / "pages" / "explore" / "tune.py")).run()
    assert not app.exception
    return app


def chart(app: AppTest) -> dict:
    """The option of the only ECharts chart."""
    (found,) = app.get("echarts_chart")
    return json.loads(found.proto.spec)


def swept(store: Store) -> list:
    """The runs of sweeps; a first visit trains one by itself."""
    return [run for run in store.runs() if run.note.startswith("Sweep")]


def luminance(color: str) -> float:
    """WCAG's relative luminance."""
    shares = [part / 255 for part in bytes.fromhex(color[1:])]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def button(app: AppTest, begin: str):
    return next(one for one in app.button if one.label.startswith(begin))


def said(app: AppTest, word: str) -> bool:
    texts = [one.value for kind in (app.caption, app.markdown, app.info, app.warning) for one in kind]
    return any(word in text for text in texts)


def test_the_cost_is_said_before_anything_starts(store):
    app = opened()
    assert "There is no sweep yet" in app.info[0].value
    assert said(app, "5 × 5 cells × 2 seeds = 50 runs. About")
    assert said(app, "by a rough rule")
    app.number_input(key="ArcFace.s.steps").set_value(3).run()
    assert said(app, "3 × 5 cells × 2 seeds = 30 runs")
    assert swept(store) == []


def test_starting_queues_the_sweep_and_shows_its_map(store):
    app = opened()
    app.number_input(key="ArcFace.s.steps").set_value(2).run()
    app.number_input(key="ArcFace.m.steps").set_value(2).run()
    button(app, "Train 8 runs").click().run()
    assert not app.exception
    runs = swept(store)
    assert len(runs) == 8
    assert {(run.config.knobs["s"], run.config.knobs["m"]) for run in runs} == {
        (1.0, 0.0), (1.0, 0.6), (16.0, 0.0), (16.0, 0.6)
    }  # fmt: skip
    assert [item["label"]["formatter"] for item in chart(app)["series"][0]["data"]] == ["…"] * 4
    assert said(app, "8 under way")


def test_a_range_that_cannot_be_is_said_and_cannot_be_started(store):
    app = opened()
    app.number_input(key="ArcFace.s.to").set_value(0.7).run()
    assert said(app, "the end must be larger")
    app.number_input(key="ArcFace.s.to").set_value(30.0).run()
    app.number_input(key="ArcFace.s.steps").set_value(15).run()
    app.number_input(key="ArcFace.m.steps").set_value(15).run()
    app.slider(key="sweepseeds").set_value(5).run()
    assert any("1125 runs are too many" in one.value for one in app.warning)


def test_every_head_offers_two_axes_and_a_cost(store):
    app = opened()
    for head in HEADS:
        app.selectbox(key="head").select(head).run()
        assert not app.exception
        assert not app.warning
        assert said(app, "5 × 5 cells × 2 seeds = 50 runs"), head


def test_the_map_shows_means_failures_and_lines_with_words(store):
    sweep.start(store, SMALL)
    play(store, lambda config: None if config.knobs["s"] == 8 else hill(config))
    app = opened()
    drawn = chart(app)
    items = {tuple(item["value"][:2]): item for item in drawn["series"][0]["data"]}
    assert items[(1, 1)]["label"]["formatter"] == "90.5"
    assert items[(2, 0)]["label"]["formatter"] == "✕"
    assert "90.5 ± 0.7 %, 2 seeds" in items[(1, 1)]["tooltip"]["formatter"]
    assert "failed (It diverged.)" in items[(2, 0)]["tooltip"]["formatter"]
    assert len({item["name"] for item in items.values()}) == 6
    names = [one["data"][0]["label"]["formatter"] for one in drawn["series"] if one["type"] == "scatter"]
    assert names == ["default s", "CosFace's bound"]
    assert said(app, "**largest m**")
    assert said(app, "✕ failed")
    assert said(app, "Best mean so far: s = 4, m = 0.2, 90.5 ± 0.7 %.")
    assert button(app, "Try the failed again")


def test_a_sweep_under_way_can_be_stopped_and_go_on(store):
    sweep.start(store, SMALL)
    play(store, hill, 3)
    app = opened()
    button(app, "Stop all").click().run()
    assert {run.state for run in store.runs()} == {"finished", "stopped"}
    button(app, "Go on").click().run()
    assert {run.state for run in store.runs()} == {"finished", "queued"}


def test_a_search_shows_its_points_and_what_was_pruned(store):
    made = Sweep("ArcFace", SMALL.axes, {"epochs": 2}, trials=5)
    name = sweep.start(store, made)
    note = sweep.read(store, name).note
    for point in ((2.5, 0.1), (6.0, 0.15)):
        store.submit(made.config(point, 0), note)
    play(store, hill)
    given_up = store.submit(made.config((7.5, 0.0), 0), note)
    store.stop(given_up, PRUNED + "10 % after epoch 1 is less than half of the others had by then.")
    sweep.end_search(store, name, "It broke.")
    app = opened()
    spots = chart(app)["series"][0]["data"]
    assert [spot["value"][:2] for spot in spots] == [[2.5, 0.1], [6.0, 0.15], [7.5, 0.0]]
    assert spots[2]["label"]["formatter"] == "⊘"
    assert "less than half" in spots[2]["tooltip"]["formatter"]
    assert said(app, "It broke.")


def test_a_third_axis_is_a_choice_of_maps(store):
    three = Sweep("UnitedMargin", (Axis("m2", (0.0, 0.2)), Axis("m3", (0.0, 0.2)), Axis("m1", (1.0, 1.5))))
    sweep.start(store, three)
    app = opened()
    assert len(chart(app)["series"][0]["data"]) == 4


def test_one_axis_makes_one_row(store):
    sweep.start(store, Sweep("AdaCos", (Axis("lr", (0.01, 0.1)),)))
    assert len(chart(opened())["series"][0]["data"]) == 2


def test_all_runs_are_lines_coloured_by_knn_accuracy(store):
    sweep.start(store, SMALL)
    play(store, hill)
    drawn = chart(opened(tuneview="All runs"))["baseOption"]
    assert [axis["name"] for axis in drawn["parallelAxis"]] == ["s", "m", "seed", "KNN"]
    assert len(drawn["series"][0]["data"]) == 12
    assert drawn["visualMap"]["dimension"] == 3


def test_the_front_needs_held_out_classes_and_says_so(store):
    sweep.start(store, SMALL)
    play(store, hill)
    assert said(opened(tuneview="Pareto front"), "No finished run kept any out")


def test_the_front_names_what_nothing_beats(store, monkeypatch):
    from tests import test_sweep

    scores = {"ArcFace": (0.9, 0.4), "CosFace": (0.8, 0.6), "NormFace": (0.7, 0.3)}
    for head in scores:
        for seed in range(2):
            store.submit(RunConfig(head=head, held_out=3, seed=seed))
    plain = test_sweep.seen

    def seen(step, steps, score, **more):
        snapshot = plain(step, steps, score, **more)
        tar = next(tar for knn, tar in scores.values() if knn == score)
        snapshot.metrics["tar_at_far_0.01"] = tar
        return snapshot

    monkeypatch.setattr(test_sweep, "seen", seen)
    play(store, lambda config: scores[config.head][0])
    drawn = chart(opened(tuneview="Pareto front"))
    named = [one["name"] for one in drawn["series"] if one.get("label", {}).get("show")]
    assert sorted(named) == ["ArcFace", "CosFace"]


@given(share=st.floats(0, 1), dark=st.booleans())
def test_a_number_stands_out_from_every_colour_of_the_map(share, dark):
    scale = [ink.dark if dark else ink.light for ink in SCALE]
    fill = figures._blend(scale, share)
    light, low = sorted((luminance(fill), luminance(figures._readable(fill))), reverse=True)
    assert (light + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("params", [{"map": "gone"}, {"tuneview": "x"}, {"tunemetric": "x"}, {"way": "x"}])
def test_an_odd_link_breaks_nothing(store, params):
    sweep.start(store, SMALL)
    assert opened(**params).get("echarts_chart")


def test_the_web_process_loads_no_optuna(store):
    import subprocess
    import sys

    code = (
        "import sys, pages.components.sweeping, trainer.sweep, trainer.supervisor; print(sorted({'optuna', 'torch'} & "
    )
    code += "set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
