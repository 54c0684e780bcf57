"""Every number can be explained: a formula, the values that went in, and a source; those that its page shows."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from pages.components.explained import EXPLAINED, added, explain, formula, kept, over_seeds, put_in
from tests.test_circle import finished
from tests.test_scoreboard import ROOT, finish
from tests.test_sweep import hill, play
from trainer import RunConfig, Snapshot, comparison, sweep, train
from trainer.pictures import draw, measured
from trainer.store import Store
from trainer.sweep import Axis, Sweep

HEADS = ("ArcFace", "CosFace")


@pytest.mark.parametrize("name", EXPLAINED)
def test_every_measure_has_a_formula_and_a_source(name):
    latex, source = formula(name)
    assert latex.count("{") == latex.count("}")
    assert source
    text = explain(name, put_in(name, {"": [{name: 0.5}]}))
    assert latex in text
    assert f"Source: {source}." in text
    assert f"= {EXPLAINED[name].said(0.5)}" in text


def test_counts_are_put_in():
    text = explain("knn_accuracy", put_in("knn_accuracy", {"": [{"knn_accuracy": 2013 / 3929, "asked": 3929.0}]}))
    assert "\n= 2,013 / 3,929 = 51.2 %\n" in text


def test_a_mean_shows_what_it_is_made_of_and_of_how_many_images_its_shares_are():
    assert over_seeds("knn_accuracy", {"ArcFace": (0.41, 0.43), "CosFace": (0.5,)}) == [
        "ArcFace: (41.0 + 43.0) / 2 = 42.0 ± 1.4 %", "CosFace: 50.0 %",
    ]  # fmt: skip
    looks = [{"knn_accuracy": 0.5, "asked": asked} for asked in (40.0, 50.0)]
    assert put_in("knn_accuracy", {"ArcFace": [*looks, {"asked": 7.0}], "CosFace": [{}]}) == [
        "ArcFace: (50.0 + 50.0) / 2 = 50.0 ± 0.0 %", "Each share is of 40 to 50 images.",
    ]  # fmt: skip


def test_explained_variance_is_a_sum():
    shares = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], np.float32)
    assert added(shares, 2) == "50.0 + 25.0 = 75.0 % in 2 components"
    assert added(shares, 5) == "50.0 + 25.0 + … + 6.2 = 100.0 % in 5 components"


@given(seed=st.integers(0, 99), count=st.integers(11, 120))
def test_what_a_picture_keeps_is_put_in_as_it_was_counted(seed, count):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    quality = measured(rows, rows[:, :2], rng.integers(0, 3, count))
    told = kept(quality, count)
    less, places, near, most = map(
        int, re.search(r"2 · (\S+) / \((\d+) · (\d) · (\d+)\)", told["trust"].replace(",", "")).groups()
    )
    assert (places, near, most) == (count, 5, 2 * count - 16)
    assert 1 - 2 * less / (places * near * most) == pytest.approx(quality[0], abs=1e-6)
    shares = re.findall(rf"(\d+) / {count} = ", told["picture_knn"])
    assert [int(share) / count for share in shares] == pytest.approx(quality[1:3].tolist(), abs=1e-6)
    assert "picture_variance" not in told
    assert kept(quality, count, raw=True) == {"raw_knn": told["picture_knn"].partition(" of ")[0]}


# ---- the pages ------------------------------------------------------------------------------------------


@pytest.fixture
def store(faces_home) -> Store:
    return Store(faces_home)


def opened(page: str, **params: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    if page != "explore/explore.py":
        app = app.switch_page(str(ROOT / "pages" / page)).run()
    assert not app.exception
    return app


def explained(app: AppTest, key: str, name: str) -> str:
    """What the control of this key says of a measure."""
    (choice,) = [one for one in app.selectbox if one.key == f"explained {key}"] or [None]
    if choice:
        choice.set_value(name).run()
        assert not app.exception
    latex, source = formula(name)
    return next(one.value for one in app.markdown if f"${latex}$" in one.value and f"Source: {source}." in one.value)


def scores(config: RunConfig) -> dict[str, float]:
    """Of so many images as no other seed asked, shares that are counts of them."""
    asked = 40 + 10 * config.seed
    return {
        "asked": float(asked), "knn_accuracy": (30 + len(config.head)) / asked, "dnn_accuracy": 31 / asked,
        "ncm_accuracy": 33 / asked, "loss": 1.25, "tar_at_far_0.01": 0.5 + 0.1 * config.seed,
    }  # fmt: skip


def test_compare_explains_the_numbers_of_its_table(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 2, HEADS)
    finish(store, scores)
    app = opened("explore/compare.py")
    table = app.dataframe[0].value.set_index("Head")
    text = explained(app, "table", "knn_accuracy")
    assert f"ArcFace: (92.5 + 74.0) / 2 = {table.loc['ArcFace', 'KNN accuracy, k = 5']}" in text
    assert "Each share is of 40 to 50 images." in text
    assert f"/ 2 = {table.loc['CosFace', 'DNN accuracy']}" in explained(app, "table", "dnn_accuracy")
    assert "CosFace: 50.0 + 50.0 = 100.0 % in 2 components" in explained(app, "variance", "explained_variance")


def test_compare_puts_the_counts_of_each_run_in(store):
    names = []
    for head, asked in (("ArcFace", 40), ("CosFace", 80)):
        names.append(store.submit(RunConfig(head=head)))
        finish(store, lambda config, asked=asked: {"asked": float(asked), "dnn_accuracy": 0.25})
    text = explained(opened("explore/compare.py", runs=",".join(names), source="Chosen runs"), "table", "dnn_accuracy")
    assert "ArcFace: 10 / 40 = 25.0 %" in text
    assert "CosFace: 20 / 80 = 25.0 %" in text


def test_runs_explains_what_its_cards_say(store):
    for head in HEADS:
        store.submit(RunConfig(head=head, seed=1))
    finish(store, scores)
    app = opened("manage/runs.py")
    assert any("DNN 62.0%" in one.value for one in app.markdown)
    assert "ArcFace on Digits: 31 / 50 = 62.0 %" in explained(app, "runs", "dnn_accuracy")
    assert "CosFace on Digits: 1.250" in explained(app, "runs", "loss")


def test_explore_explains_each_score_by_the_look_that_it_was_counted_at(store):
    name = store.submit(RunConfig(epochs=2))
    attempt = store.claim().attempt
    looks = list(train(RunConfig(epochs=2, batch=256, dim=8, probe=100)))
    whole = next(one for one in looks if "knn_accuracy" in one.metrics)
    later = next(one for one in looks if one.step > whole.step)
    glance = Snapshot(**{**vars(later), "metrics": {"asked": 40.0, "dnn_accuracy": 0.25, "loss": 1.0}})
    for snapshot in (whole, glance):
        store.folder(name).keep(attempt, snapshot)
    draw(store.folder(name), glance, "pca-2")
    store.index(name, attempt)
    store.end(name, attempt, "stopped")
    app = opened("explore/explore.py", run=name)
    help = {one.label: one.proto.help for one in app.metric}
    asked, right = whole.metrics["asked"], round(whole.metrics["asked"] * whole.metrics["knn_accuracy"])
    assert asked == 100
    assert "= 10 / 40 = 25.0 %" in help["DNN accuracy"]
    assert f"= {right} / 100 = " in help["KNN accuracy, k = 5"]
    first = 100 * later.variance[:2]
    assert f"{first[0]:.1f} + {first[1]:.1f} = {first.sum():.1f} % in 2" in explained(
        app, "variance", "explained_variance"
    )
    points = store.folder(name).points("pca-2", glance.step)
    assert f"Step {glance.step}: {kept(points.quality, len(points.points))['trust']}" in explained(
        app, "picture", "trust"
    )


def test_the_circle_explains_its_own_measures_and_names_each_once(store):
    app = opened("learn/circle.py", pair=finished(store))
    row = app.dataframe[0].value.set_index("Head").loc["ArcFace"]
    for name in ("knn_accuracy", "dnn_accuracy", "spread", "nearest_two"):
        text = explained(app, "outcome", name)
        assert re.search(rf"^ArcFace: (\d+ / \d+ = )?{re.escape(row[EXPLAINED[name].title])}$", text, re.M), name
    assert " / 500 = " not in explained(app, "outcome", "spread")
    shown = explained(app, "circle", "raw_knn")
    assert re.search(r"^ArcFace, step 5: \d+ / 100 = ", shown, re.M)


def test_the_circle_tells_the_class_mean_where_a_head_has_no_logits(store):
    app = opened("learn/circle.py", pair=finished(store, head="Triplet"))
    row = app.dataframe[0].value.set_index("Head").loc["Triplet"]
    assert row["DNN accuracy"] == "no class logits"
    assert "Triplet" not in explained(app, "outcome", "dnn_accuracy")
    assert f"= {row['Nearest class mean']}" in explained(app, "outcome", "ncm_accuracy").partition("Triplet: ")[2]


def test_the_map_explains_its_best_cell_from_the_runs_of_it(store):
    sweep.start(store, Sweep("ArcFace", (Axis("s", (2.0, 4.0)), Axis("m", (0.0, 0.2))), {"epochs": 2}, seeds=2))
    play(store, hill)
    app = opened("explore/tune.py")
    assert any("Best mean so far: s = 4, m = 0.2, 90.5 ± 0.7 %." in one.value for one in app.markdown)
    assert "s = 4, m = 0.2: (90.0 + 91.0) / 2 = 90.5 ± 0.7 %" in explained(app, "map", "knn_accuracy")
    assert explained(opened("explore/tune.py", tuneview="All runs"), "runs", "knn_accuracy")


def test_the_front_explains_the_means_that_nothing_beats(store):
    for head in HEADS:
        for seed in range(2):
            store.submit(RunConfig(head=head, held_out=3, seed=seed))
    finish(store, scores)
    app = opened("explore/tune.py", tuneview="Pareto front")
    assert "ArcFace: (74.0 + 92.5) / 2 = 83.2 ± 13.1 %" in explained(app, "front", "knn_accuracy")
    assert "ArcFace: (60.0 + 50.0) / 2 = 55.0 ± 7.1 %" in explained(app, "front", "tar_at_far_0.01")


def test_answers_and_rankings_explain_the_means_that_they_stand_on(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 2, HEADS)
    finish(store, scores)
    for page, key in (("explore/which.py", "answers"), ("explore/scoreboard.py", "ranking")):
        assert "CosFace: (92.5 + 74.0) / 2 = 83.2 ± 13.1 %" in explained(opened(page), key, "knn_accuracy")


def test_label_noise_and_angles_explain_their_numbers(store):
    comparison.submit_all(store, {}, {"dataset": "imagewoof"}, 2, HEADS, [0, 25])
    finish(store, lambda config: scores(config) | {"own_angle": 0.5 + 0.1 * config.seed})
    noise = explained(opened("explore/scoreboard.py", view="Label noise"), "noise", "knn_accuracy")
    assert "CosFace, 25 % wrong: (92.5 + 74.0) / 2 = 83.2 ± 13.1 %" in noise
    angles = explained(opened("explore/scoreboard.py", view="Angles"), "angles", "own_angle")
    assert "ArcFace: (28.6 + 34.4) / 2 = 31.5 ± 4.1°" in angles
