"""What runs say to a practitioner: duels by hand, and the page from recorded scores, run without a browser."""

import math

import pytest
from streamlit.testing.v1 import AppTest

from tests.test_scoreboard import ROOT, finish, ranked
from trainer import advice, comparison
from trainer.store import Store

ROWS = {
    "ArcFace": [0.90, 0.92, 0.91, 0.93],
    "CosFace": [0.90, 0.91, 0.92, 0.93],
    "NormFace": [0.80, 0.82, 0.81, 0.83],
    "Triplet": [0.70, 0.72, 0.71, 0.73],
}


def test_a_duel_is_of_the_best_of_each_side_and_allows_for_the_choice():
    found = advice.duel(ranked(ROWS), ["NormFace", "ArcFace", "CosFace"], ["Triplet"])
    assert (found.ours.head, found.theirs.head) == ("ArcFace", "Triplet")
    gap, within = comparison.paired(ROWS["ArcFace"], ROWS["Triplet"], 3)
    assert (found.gap, found.within) == (pytest.approx(gap), pytest.approx(within))
    assert found.told_apart
    assert advice.said(found, "knn_accuracy").startswith("ArcFace is ahead of Triplet: +20.0 points")
    assert advice.duel(ranked(ROWS), ["ArcFace"], ["SupCon"]) is None


def test_what_chance_may_have_done_is_not_told_apart():
    near = {"ArcFace": [0.9, 0.8, 0.85], "Triplet": [0.8, 0.9, 0.83]}
    found = advice.duel(ranked(near), ["ArcFace"], ["Triplet"])
    assert not found.told_apart
    assert "cannot be told from" in advice.said(found, "knn_accuracy")


def test_where_less_is_better_the_smaller_one_is_ahead():
    errors = {"ArcFace": [0.10, 0.11, 0.10], "Triplet": [0.20, 0.21, 0.20]}
    found = advice.duel(ranked(errors, "eer"), ["ArcFace"], ["Triplet"])
    assert advice.said(found, "eer").startswith("ArcFace is ahead of Triplet: −10.0 points")


def test_of_equals_the_plainest_is_the_one_with_the_fewest_knobs_then_the_oldest():
    assert advice.plainest(["UnitedMargin", "ArcFace", "CosFace"]) == "CosFace"
    assert advice.plainest(["CurricularFace", "ArcFace"]) == "ArcFace"


def test_a_head_with_a_margin_is_one_that_has_the_knob_and_class_logits():
    assert set(advice.margins(ranked(ROWS))) == {"ArcFace", "CosFace"}


@pytest.fixture
def store(faces_home) -> Store:
    return Store()


def submit(store: Store, rows: dict[str, list[float]], metric: str = "knn_accuracy", **budget) -> str:
    seeds = len(next(iter(rows.values())))
    note = comparison.submit_all(store, {}, {"dataset": "digits", "epochs": 1, **budget}, seeds, list(rows))
    finish(store, lambda config: {metric: rows[config.head][config.seed]})
    return note


def opened(**params: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    app = app.switch_page(str(ROOT / "pages" / "explore" / "which.py")).run()
    assert not app.exception
    return app


def said(page: AppTest) -> str:
    return "\n".join(one.value for kind in ("header", "markdown", "caption", "info") for one in page.get(kind))


def test_an_empty_home_says_what_it_would_take_and_still_does_the_arithmetic(store):
    text = said(opened())
    assert "No experiment at hand" in text
    assert f"√2·ln(C−1) is {math.sqrt(2) * math.log(9):.2f}" in text


def test_every_question_is_answered_from_the_runs(store):
    submit(store, ROWS)
    text = said(opened())
    assert "Of the 4 here 2 share the lead; the plainest of these is CosFace." in text
    assert "It helps here." in text
    assert "ArcFace is ahead of NormFace: +10.0 points" in text
    assert "**Supervised.**" in text


def test_one_seed_wrong_labels_or_other_measures_answer_nothing(store):
    submit(store, {name: row[:1] for name, row in ROWS.items()})
    assert "No experiment at hand" in said(opened())
    submit(store, ROWS, "dnn_accuracy")
    assert "No experiment at hand" in said(opened())
    assert "No experiment at hand" not in said(opened(purpose="Name images of known classes"))


def test_ones_own_classes_and_dimensions_change_the_arithmetic_and_come_from_the_link(store):
    text = said(opened(C="100", D="2"))
    assert f"√2·ln(C−1) is {math.sqrt(2) * math.log(99):.2f}" in text
    assert "at most 4° apart" in text
