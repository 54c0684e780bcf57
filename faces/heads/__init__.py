"""Margin heads, one file each: `HEADS[name](dim, classes, **knobs)`.

A head is added by saving a file here with a class that declares when it was `born`. Reading the
names and what the classes declare imports no torch; `HEADS[name]` does.
"""

from collections.abc import Iterable
from pathlib import Path

from faces.catalogue import catalogue

HEADS = catalogue("faces.heads", Path(__file__).parent)
FAMILIES = ("Article's heads", "United margin", "Newer heads", "Metric learning")  # in the order of menus


def scored(name: str) -> bool:
    """Whether a head has class logits, and so a DNN accuracy, without importing it. True for a name that is gone."""
    return name not in HEADS or HEADS.about(name).family != "Metric learning"


def angled(name: str) -> bool:
    """Whether a head's logits are made of angles to class centers, so that it has curves, without importing it."""
    return name in HEADS and scored(name) and name != "Classification"


def in_families(names: Iterable[str]) -> list[str]:
    """Names of heads by family, in the order of menus; within a family they stay as they came."""
    return sorted(names, key=lambda name: FAMILIES.index(HEADS.about(name).family))


def margined(name: str) -> bool:
    """Whether a head has a margin that can rise from nothing, without importing it."""
    return name in HEADS and any(
        getattr(knob, "neutral", None) is not None for knob in HEADS.about(name).knobs.values()
    )
