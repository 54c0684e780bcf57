"""Rankings by hand and by property, and the page that shows them, run without a browser."""

import dataclasses
import itertools
import math
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import faces.heads
from faces import evaluation, figures
from faces.palette import head_ink
from pages.components.runs import names
from trainer import RunConfig, Snapshot, comparison
from trainer.comparison import MEASURES, SEVEN
from trainer.presets import PRESETS
from trainer.store import Store

ROOT = Path(__file__).parents[1]
HEADS = ("ArcFace", "CosFace", "NormFace")


def told(scores, metric="knn_accuracy", noise=0, **facts):
    """Runs and their facts from a score per head and seed."""
    runs = [
        SimpleNamespace(id=f"{head} {seed} {noise}", config=SimpleNamespace(head=head, seed=seed, noise=noise))
        for head, row in scores.items()
        for seed in range(len(row))
    ]
    values = itertools.chain(*scores.values())
    whole = {"step": 9, "steps": 9, "turned": []} | facts
    return runs, {run.id: {**whole, "metrics": {metric: value}} for run, value in zip(runs, values, strict=True)}


def ranked(scores, metric="knn_accuracy"):
    return comparison.ranking(*told(scores, metric), metric)


def ranks(ranking):
    return {one.head: one.ranks for one in ranking.standings}


# ---- by hand ------------------------------------------------------------------------------------------


def test_a_paired_interval_by_hand():
    gap, within = comparison.paired([0.5, 0.6, 0.7], [0.4, 0.4, 0.4])  # differences 0.1, 0.2, 0.3
    assert gap == pytest.approx(0.2)
    assert within == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)  # t of 2 degrees of freedom at 97.5 %


def test_several_comparisons_widen_each_interval():
    alone, several = (comparison.paired([0.5, 0.6, 0.7], [0.4] * 3, count)[1] for count in (1, 6))
    assert several / alone == pytest.approx(10.8859 / 4.3027, rel=1e-4)  # t at 1 - 0.025 / 6


def test_seeds_are_compared_with_themselves():
    """The spread over seeds is large and the same for both, so the small difference is told apart."""
    good = ranked({"ArcFace": [0.5, 0.6, 0.7, 0.8], "CosFace": [0.48, 0.581, 0.679, 0.78]})
    assert ranks(good) == {"ArcFace": (1, 1), "CosFace": (2, 2)}
    shuffled = ranked({"ArcFace": [0.5, 0.6, 0.7, 0.8], "CosFace": [0.78, 0.679, 0.581, 0.48]})
    assert ranks(shuffled) == {"ArcFace": (1, 2), "CosFace": (1, 2)}


def test_a_tie_and_one_behind():
    told = ranked({"ArcFace": [0.50, 0.52, 0.51], "CosFace": [0.51, 0.50, 0.52], "NormFace": [0.20, 0.21, 0.20]})
    assert [one.rank for one in told.standings] == ["1–2", "1–2", "3"]
    assert [one.tied for one in told.standings] == [True, True, False]
    assert told.standings[2].mean == pytest.approx(0.61 / 3)
    assert told.standings[2].sd == pytest.approx(statistics.stdev([0.20, 0.21, 0.20]))
    assert (
        comparison.verdict(told) == "ArcFace and CosFace share the lead. The other one is behind by more than chance."
    )


def test_less_is_better_where_it_is():
    told = ranked({"ArcFace": [0.1, 0.11, 0.1], "CosFace": [0.3, 0.31, 0.301]}, "eer")
    assert ranks(told) == {"ArcFace": (1, 1), "CosFace": (2, 2)}


def test_one_seed_gives_no_ranking_and_says_so():
    told = ranked({"CosFace": [0.1], "ArcFace": [0.9]})
    assert [(one.head, one.rank, one.sd, one.tied) for one in told.standings] == [
        ("CosFace", "–", None, False), ("ArcFace", "–", None, False),
    ]  # fmt: skip
    assert "no ranking" in comparison.verdict(told)


def test_only_shared_seeds_count_and_heads_without_a_score_are_named():
    runs, latest = told({"ArcFace": [0.5, 0.6, 0.7], "CosFace": [0.4, 0.5], "NormFace": [0.1]})
    latest["NormFace 0 0"]["metrics"] = {}
    ranking = comparison.ranking(runs, latest, "knn_accuracy")
    assert (ranking.seeds, ranking.missing) == ((0, 1), ("NormFace",))
    assert ranking.standings[0].scores == (0.5, 0.6)


@pytest.mark.parametrize("facts", [{"step": 3}, {"turned": [[1, "m", 0.3]]}], ids=["unfinished", "turned"])
def test_runs_that_are_not_complete_or_were_turned_do_not_count(facts):
    assert comparison.ranking(*told({"ArcFace": [0.5, 0.6]}, **facts), "knn_accuracy").standings == ()


# ---- for any scores -----------------------------------------------------------------------------------

shares = st.floats(0, 1, allow_nan=False)
rows = st.integers(2, 5).flatmap(lambda seeds: st.lists(shares, min_size=seeds, max_size=seeds))
tables = st.integers(1, 5).flatmap(
    lambda seeds: st.fixed_dictionaries(
        {head: st.lists(shares, min_size=seeds, max_size=seeds) for head in HEADS}
    )
)  # fmt: skip


@given(row=rows)
def test_identical_scores_tie(row):
    assert set(ranks(ranked(dict.fromkeys(HEADS, row))).values()) == {(1, 3)}


@given(row=rows, noise=st.floats(0, 1e-4), offset=st.floats(0.05, 0.5))
def test_an_offset_larger_than_the_noise_ranks(row, noise, offset):
    other = [score - offset + noise * (-1) ** place for place, score in enumerate(row)]
    assert ranks(ranked({"ArcFace": other, "CosFace": row})) == {"CosFace": (1, 1), "ArcFace": (2, 2)}


@given(table=tables, random=st.randoms())
def test_the_order_of_runs_does_not_matter(table, random):
    runs, latest = told(table)
    before = comparison.ranking(runs, latest, "knn_accuracy")
    random.shuffle(runs)
    after = comparison.ranking(runs, latest, "knn_accuracy")
    assert set(after.standings) == set(before.standings)
    if len(before.seeds) > 1:
        assert after == before


@given(table=tables)
def test_ranks_agree_with_the_intervals(table):
    told = ranked(table)
    for one in told.standings if len(told.seeds) > 1 else ():
        assert 1 <= one.ranks[0] <= one.ranks[1] <= len(HEADS)
        if not one.tied:
            assert one.ranks[0] > 1
    if len(told.seeds) > 1:
        assert told.standings[0].tied
        assert told.standings[0].ranks[0] == 1


# ---- experiments --------------------------------------------------------------------------------------


@pytest.fixture
def store(faces_home) -> Store:
    return Store(faces_home)


def test_an_experiment_is_heads_by_seeds_by_noise_levels_under_one_note(store):
    budget = {"dataset": "imagewoof", "epochs": 2}
    note = comparison.submit_all(store, {"s": 3.0, "m": 0.2}, budget, 2, ["AdaCos", "CosFace"], [0, 25])
    runs = store.runs()
    assert len(note) <= 64
    assert {run.note for run in runs} == {note}
    assert sorted((run.config.head, run.config.seed, run.config.noise) for run in runs) == sorted(
        itertools.product(["AdaCos", "CosFace"], [0, 1], [0, 25])
    )
    assert {run.config.knobs.get("m") for run in runs if run.config.head == "CosFace"} == {0.2}
    assert comparison.unequal([run for run in runs if run.config.noise == 25]) == []
    (group,) = comparison.together(runs).values()
    assert [run.config.seed for run in group] == sorted(run.config.seed for run in group)


def test_an_experiment_with_a_setting_that_does_not_fit_queues_nothing(store):
    with pytest.raises(ValueError, match="noise"):
        comparison.submit_all(store, {}, {"dataset": "digits"}, 2, SEVEN, [0, 25])
    with pytest.raises(ValueError, match="No head"):
        comparison.submit_all(store, {}, {"dataset": "digits"}, 2, [])
    assert store.runs() == []


def test_a_shared_knob_goes_only_where_it_fits():
    assert comparison.shared("CosFace", {"s": 4.0, "m": 0.3, "k": 2}) == {"s": 4.0, "m": 0.3}
    assert comparison.shared("CosFace", {"s": 4.0, "m": 7.0}) == {"s": 4.0}
    assert comparison.shared("Classification", {"s": 4.0, "m": 0.3}) == {}


def test_the_time_is_told_from_runs_of_the_same_cost():
    def run(start, end, attempt=1, **config):
        return SimpleNamespace(
            state="finished", attempt=attempt, started=start, ended=end, config=RunConfig(epochs=2, **config)
        )

    budget = {"dataset": "digits", "epochs": 4, "dim": 128}
    photographs = {"dataset": "imagewoof", "crop": 32}
    assert comparison.expected([run(5, 10, dataset="imagewoof")], photographs, 35) == (None, 0)
    assert comparison.expected([], budget, 35) == (None, 0)
    assert comparison.expected([run(0, 10, dim=16), run(0, 10, attempt=2)], budget, 35) == (None, 0)
    one_by_one, beside = [run(100, 110), run(200, 210)], [run(100, 110), run(100, 110)]
    assert comparison.expected(one_by_one, budget, 3) == (pytest.approx(3 * 20.0), 2)
    assert comparison.expected(beside, budget, 3) == (pytest.approx(3 * 10.0), 2)


def test_lines_of_one_colour_have_dashes_of_their_own():
    heads = list(faces.heads.HEADS)
    looks = list(zip((head_ink(head).light for head in heads), figures.dashes(heads), strict=True))
    assert len(set(looks)) == len(heads)
    assert figures.dashes(SEVEN) == ["solid"] * 7
    assert len(set(figures.dashes(["ArcFace"] * 4))) == 4
    drawn = figures.still_roc({head: [np.zeros(3)] for head in heads}, dict.fromkeys(heads, "#000000"), np.ones(3))
    assert [line.line.dash for line in drawn.data[1:]] == figures.dashes(heads)


def test_runs_of_one_head_are_named_by_what_sets_them_apart():
    configs = [RunConfig(knobs={"m": 0.1}), RunConfig(knobs={"m": 0.2}), RunConfig(head="CosFace"), RunConfig()]
    runs = [SimpleNamespace(config=config) for config in [*configs, configs[0]]]
    assert names(runs) == ["ArcFace m 0.1", "ArcFace m 0.2", "CosFace", "ArcFace m 0.25", "ArcFace m 0.1′"]


def test_the_lead_is_told_at_each_noise_level_over_the_seeds_both_have():
    runs, latest = [], {}
    for noise, ours in ((0, [0.9, 0.8, 0.7]), (50, [0.6, 0.5])):
        for scores in ({"SubCenterArcFace": ours}, {"ArcFace": [0.5, 0.4]}):
            more, facts = told(scores, noise=noise)
            runs, latest = runs + more, latest | facts
    found = comparison.by_noise(runs, latest, "knn_accuracy")
    leads = comparison.lead(found["SubCenterArcFace"], found["ArcFace"])
    assert leads[0][0] == pytest.approx(0.4)
    assert leads[50][0] == pytest.approx(0.1)


def test_only_seeds_that_every_head_has_are_fair():
    runs, _ = told({"ArcFace": [0.5, 0.6, 0.7], "CosFace": [0.4, 0.5]})
    assert [(run.config.head, run.config.seed) for run in comparison.fair(runs)] == [
        ("ArcFace", 0), ("ArcFace", 1), ("CosFace", 0), ("CosFace", 1),
    ]  # fmt: skip
    assert comparison.fair([]) == []


def test_shares_of_sub_centers_are_means_by_noise():
    runs, latest = told({"SubCenterArcFace": [0.7, 0.9], "ArcFace": [0.1]}, "center_share_1", noise=5)
    for facts in latest.values():
        facts["metrics"]["center_share_2"] = 1 - facts["metrics"]["center_share_1"]
    assert comparison.center_shares(runs, latest) == {5: [pytest.approx(0.8), pytest.approx(0.2)]}


# ---- figures ------------------------------------------------------------------------------------------


def test_a_roc_is_read_at_rates_as_a_step():
    far, tar = np.array([0.0, 0.01, 0.1, 1.0]), np.array([0.2, 0.5, 0.9, 1.0])
    assert figures.at_rates(far, tar, np.array([1e-4, 0.01, 0.05, 1.0])).tolist() == [0.2, 0.5, 0.5, 1.0]


def test_angles_are_counted_by_degree():
    spread = figures.per_degree(np.radians([1.0, 1.5, 91.0, 179.0]))
    assert (spread * 2).sum() == pytest.approx(1)
    assert spread[0] == pytest.approx(0.25)


# ---- the page -----------------------------------------------------------------------------------------


def snapshot(config: RunConfig, metrics: dict[str, float], **more) -> Snapshot:
    """A last snapshot of two classes in the plane."""
    labels = np.arange(40) % 2
    rng = np.random.default_rng(config.seed)
    angle = labels * np.pi / 2 + rng.normal(0, 0.3, 40)
    rows = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    names = {field.name for field in dataclasses.fields(Snapshot)}
    return Snapshot(
        step=4, steps=4, epoch=1.0, seconds=1.0, metrics={"asked": 40.0, "dnn_accuracy": 0.5} | metrics,
        knobs=config.knobs, embeddings=rows, labels=labels, predictions=labels, rows=np.arange(40),
        centers=np.eye(2, dtype=np.float32), center_labels=np.arange(2), known=rows, known_labels=labels,
        variance=np.ones(2, np.float32) / 2, knn=np.array([[5, 0.5]], np.float32),
        **{name: value for name, value in more.items() if name in names},
    )  # fmt: skip


def finish(store: Store, metrics, **more) -> None:
    """Complete all waiting runs with the metrics that `metrics(config)` gives."""
    while run := store.claim():
        store.folder(run.id).keep(run.attempt, snapshot(run.config, metrics(run.config), **more))
        store.index(run.id, run.attempt)
        store.end(run.id, run.attempt, "finished")


def opened(**params: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    app = app.switch_page(str(ROOT / "pages" / "explore" / "scoreboard.py")).run()
    assert not app.exception
    return app


def spread(config: RunConfig) -> dict[str, float]:
    """ArcFace ahead, the others together, all with the luck of their seed."""
    luck = 0.05 * config.seed + 0.001 * (len(config.head) * (config.seed + 1) % 5)
    first = {"ArcFace": 0.3}.get(config.head, 0.0)
    return {
        "knn_accuracy": 0.4 + first + luck, "dnn_accuracy": 0.4 + luck, "dnn_accuracy_with_labels": 0.3 + luck,
        "eer": 0.3 - first / 2 + luck / 9, "own_angle": 0.5 + luck, "center_share_1": 0.8, "center_share_2": 0.2,
    }  # fmt: skip


def test_an_empty_home_offers_the_experiment_and_its_cost(store):
    app = opened()
    assert "Nothing has been ranked" in app.info[0].value
    assert any("35 runs; no earlier run" in caption.value for caption in app.caption)
    app.multiselect(key="heads").set_value(["ArcFace", "CosFace"]).run()
    app.slider(key="seeds5").set_value(2).run()
    next(button for button in app.button if button.label == "Train 2 heads × 2 seeds").click().run()
    assert not app.exception
    runs = [run for run in store.runs() if run.note]
    assert sorted((run.config.head, run.config.seed) for run in runs if "2 heads" in run.note) == [
        ("ArcFace", 0), ("ArcFace", 1), ("CosFace", 0), ("CosFace", 1),
    ]  # fmt: skip
    assert any("No run of this experiment is done" in info.value for info in app.info)


@pytest.mark.parametrize("name", ["live", "circle"])
def test_the_settings_of_a_preset_are_asked_for_whole(store, name):
    app = opened()
    next(button for button in app.button if button.label == PRESETS[name].title).click().run()
    next(button for button in app.button if button.label.startswith("Train 7 heads")).click().run()
    assert not app.exception
    runs = [run for run in store.runs() if "7 heads" in run.note]
    assert len(runs) == 35
    for run in runs:
        assert {term: getattr(run.config, term) for term in PRESETS[name].terms} == PRESETS[name].terms


def test_presets_with_settings_that_pages_do_not_ask_for_are_not_offered(store):
    labels = {button.label for button in opened().button}
    for preset in PRESETS.values():
        assert (preset.title in labels) == ("mode" not in preset.terms)


def test_the_ranking_says_who_is_ahead_with_intervals_and_ranks(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 5, HEADS)
    finish(store, spread)
    app = opened()
    assert app.header[0].value == "ArcFace is ahead of every other head by more than chance."
    table = app.dataframe[0].value
    assert table["Head"][0] == "ArcFace"
    assert sorted(table["Rank"]) == ["1", "2–3", "2–3"]
    assert "±" in table["KNN accuracy"][0]
    assert "[" in table["Difference to the best"][1]
    assert app.get("plotly_chart")


def test_the_measure_is_a_choice_and_comes_from_the_link(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 3, HEADS)
    finish(store, spread)
    app = opened(metric="Equal error rate")
    assert "Less is better" in next(one.value for one in app.caption if "is better" in one.value)
    offered = app.selectbox(key="metric").options
    assert offered == ["KNN accuracy", "DNN accuracy", "Equal error rate", "Angle to own center"]
    app.selectbox(key="metric").select("Angle to own center").run()
    assert "°" in app.dataframe[0].value["Angle to own center"][0]


def test_one_seed_shows_dots_and_no_ranking(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 1, HEADS)
    finish(store, spread)
    app = opened()
    assert "no ranking" in app.header[0].value
    assert set(app.dataframe[0].value["Rank"]) == {"–"}


@pytest.mark.parametrize(
    ("view", "word"),
    [("Verification", "kept none out"), ("Label noise", "one level"), ("The article's way", "has not been measured")],
)
def test_a_view_without_its_numbers_says_what_would_give_them(store, view, word):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 2, HEADS)
    finish(store, lambda config: {"knn_accuracy": 0.5})
    assert any(word in info.value for info in opened(view=view).info)


def test_the_article_s_way_stands_beside_the_honest_one(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 2, HEADS)
    finish(store, spread)
    table = opened(view="The article's way").dataframe[0].value
    assert list(table["Lost by counting"]) == ["10.0 %"] * 3


def test_label_noise_shows_the_lead_of_several_centers_and_their_shares(store):
    comparison.submit_all(store, {}, {"dataset": "imagewoof"}, 2, ["ArcFace", "SubCenterArcFace"], [0, 5, 50])
    finish(store, spread)
    app = opened(view="Label noise")
    assert list(app.dataframe[0].value["Wrong labels"]) == ["0 %", "5 %", "50 %"]
    assert set(app.dataframe[0].value["So"]) == {"behind"}
    assert len(app.get("plotly_chart")) == 2
    app = opened(view="Ranking", level="50")
    assert app.get("plotly_chart")
    assert not app.warning


@pytest.mark.skipif(not hasattr(evaluation, "angles"), reason="angles are not measured yet")
def test_angles_are_drawn_for_each_head_that_has_centers(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 2, HEADS)
    finish(store, spread)
    assert len(opened(view="Angles").get("plotly_chart")) == len(HEADS)


@pytest.mark.skipif("unseen" not in {field.name for field in dataclasses.fields(Snapshot)}, reason="nothing unseen yet")
def test_verification_draws_the_roc_of_unseen_classes(store):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 2, HEADS)
    rows = np.eye(4, dtype=np.float32)[np.arange(20) % 4]
    finish(store, spread, unseen=rows, unseen_labels=np.arange(20) % 4)
    app = opened(view="Verification")
    assert len(app.get("plotly_chart")) == 1
    assert list(app.dataframe[0].value["Head"]) == list(HEADS)


@pytest.mark.parametrize("params", [{"group": "gone"}, {"view": "nothing"}, {"metric": "x"}, {"level": "7"}])
def test_an_odd_link_breaks_nothing(store, params):
    comparison.submit_all(store, {}, {"dataset": "digits"}, 2, HEADS)
    finish(store, spread)
    assert opened(**params).get("plotly_chart")


def test_every_measure_says_what_it_counts():
    for measure in MEASURES.values():
        assert measure.meaning
    assert MEASURES["own_angle"].said(math.pi / 2) == "90.0°"
    assert MEASURES["knn_accuracy"].about([0.4, 0.5]) == "45.0 ± 7.1 %"
