"""Every number can be explained: a formula, the values that went in, and a source."""

import re

import pytest

from pages.components.explained import explain, explain_mean, formula
from trainer.comparison import MEASURES


@pytest.mark.parametrize("name", ["loss", *MEASURES])
def test_every_measure_has_a_formula_and_a_source(name):
    latex, source = formula(name)
    assert latex.count("{") == latex.count("}")
    assert source
    text = explain(name, {name: 0.5})
    assert latex in text
    assert source in text


def test_counts_are_put_in():
    text = explain("knn_accuracy", {"knn_accuracy": 2013 / 3929, "asked": 3929.0})
    assert re.search(r"= 2,013 / 3,929 = 51\.2 %", text)


def test_a_mean_shows_what_it_is_made_of():
    text = explain_mean("knn_accuracy", {"ArcFace": (0.41, 0.43), "CosFace": (0.5, 0.5)})
    assert "ArcFace: (41.0 + 43.0) / 2 = 42.0 ± 1.4 %" in text
