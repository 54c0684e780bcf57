"""Colours: seen on both backgrounds, by any eye, and the same everywhere."""

import tomllib
from itertools import combinations

import numpy as np
import pytest

from faces import figures, palette
from faces.heads import FAMILIES, HEADS
from tests.helpers import ROOT

ANY_EYE = {  # Machado, Oliveira and Fernandes 2009, full severity; linear RGB
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
LMS = [[0.4122215, 0.5363325, 0.051446], [0.2119035, 0.6806995, 0.107397], [0.0883025, 0.2817188, 0.6299787]]
OKLAB = [[0.2104543, 0.7936178, -0.004072], [1.9779985, -2.4285922, 0.4505937], [0.0259040, 0.7827718, -0.8086758]]


def linear(color):
    rgb = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    dark, light = sorted(linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other))
    return (light + 0.05) / (dark + 0.05)


def oklab(color, eye=ANY_EYE["full"]):
    return np.array(OKLAB) @ np.cbrt(np.array(LMS) @ np.clip(np.array(eye) @ linear(color), 0, 1))


@pytest.mark.parametrize(
    ("colors", "paper", "least"), [(palette.ON_LIGHT, "#ffffff", 2.2), (palette.ON_DARK, "#0e1117", 3.5)]
)
def test_every_colour_stands_out_from_the_page(colors, paper, least):
    assert min(contrast(color, paper) for color in colors) >= least


@pytest.mark.parametrize("paper", [palette.LIGHT, palette.DARK])
def test_words_in_charts_can_be_read(paper):
    assert contrast(paper.quiet, paper.ground) >= 4.5
    assert min(contrast(paper.ink, ground) for ground in (paper.ground, paper.empty)) >= 7


@pytest.mark.parametrize(("name", "paper"), [("light", palette.LIGHT), ("dark", palette.DARK)])
def test_charts_have_the_ground_and_the_ink_of_the_page(name, paper):
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"][name]
    assert (paper.ground, paper.ink) == (theme["backgroundColor"], theme["textColor"])


@pytest.mark.parametrize("eye", ANY_EYE)
@pytest.mark.parametrize("colors", [palette.ON_LIGHT, palette.ON_DARK])
def test_any_eye_tells_the_colours_apart(colors, eye):
    seen = [oklab(color, ANY_EYE[eye]) for color in colors]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) >= 0.061


def test_a_variant_is_still_the_same_colour():
    for variants in (palette.ON_LIGHT, palette.ON_DARK):
        moved = [
            np.linalg.norm(oklab(color) - oklab(given)) for color, given in zip(variants, palette.PETROFF, strict=True)
        ]
        assert max(moved) < 0.11


def test_forty_classes_all_look_different():
    assert len({(ink.light, ink.shape) for ink in map(palette.class_ink, range(40))}) == 40


def test_the_seven_heads_keep_colours_of_their_own():
    seven = ["Classification", "ArcMarginProduct", "CosFace", "ArcFace", "AdaCos", "SubCenterArcFace", "CurricularFace"]
    assert len({palette.head_ink(name).light for name in seven}) == 7


def test_every_head_has_an_ink_of_its_own_and_a_colour_of_its_own_in_its_family():
    assert len({palette.head_ink(name) for name in HEADS}) == len(HEADS)
    for family in FAMILIES:
        members = [name for name in HEADS if HEADS.about(name).family == family]
        assert len({palette.head_ink(name).light for name in members}) == len(members)


def test_a_head_unknown_here_still_has_one_fixed_colour():
    assert palette.head_ink("TomorrowsFace") == palette.head_ink("TomorrowsFace") != palette.head_ink("OtherFace")


@pytest.mark.parametrize("paper", [palette.LIGHT, palette.DARK])
def test_words_of_axes_are_not_grey(paper):
    words = {"axisLabel", "nameTextStyle", "textStyle"}
    drawn = figures.inked(figures.lines({"head": ([1, 2], [0.1, 0.2])}, {"head": "#3f90da"}, "epoch", ""), paper)

    def inks(part):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            if key in words:
                yield value.get("color")
            yield from inks(value)

    assert drawn["xAxis"]["axisLabel"]["color"] == drawn["yAxis"]["nameTextStyle"]["color"] == paper.quiet
    assert min(contrast(ink, paper.ground) for ink in inks(drawn) if ink) >= 4.5
    plotted = figures.inked(figures.still_two_ways([("head", 0.5, 0.6)], {"head": "#3f90da"}, ("a", "b")), paper)
    assert plotted.layout.xaxis.tickfont.color == plotted.layout.yaxis.title.font.color == paper.quiet
