"""Colours, decided once: the same class and the same head look the same in every picture.

The ten colours are Petroff's sequence (arXiv:2107.02270, matplotlib's "petroff10"), made for readers with
any colour vision. On white some are too pale and on near-black some too dark, so each has a variant per
theme, moved as little as it takes to stand out by a contrast of 2.2 on white and 3.5 on #0e1117 without
two of them coming closer than in the original (nearest pair at 0.061 in OKLab, protanopia). A test holds that.
"""

from dataclasses import dataclass
from zlib import crc32

PETROFF = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
ON_LIGHT = (
    "#3f90da", "#ed9e10", "#bd1f01", "#92a09c", "#832db6", "#a96b57", "#e76300", "#b9ac70", "#717581", "#71bac6",
)  # fmt: skip
ON_DARK = (
    "#3f90da", "#ffa90e", "#c53518", "#94a4a2", "#9643c5", "#ab6c58", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
SHAPES = ("circle", "square", "triangle", "plus")  # the diamond belongs to class centers

HEADS = {  # as classes are counted: the ten colours as circles, then as squares, then as triangles
    "Classification": 8, "NormFace": 5, "ArcMarginProduct": 3, "CosFace": 1, "ArcFace": 0, "AdaCos": 9,
    "SubCenterArcFace": 4, "CurricularFace": 2,
    "SphereFace": 17, "UnitedMargin": 10, "CM1": 11, "CM2": 12, "SphereFaceR": 14,
    "MagFace": 26, "AdaFace": 20, "MVSoftmax": 22, "SphereFace2": 27, "ElasticFace": 24, "LiArcFace": 21, "ETF": 25,
    "Triplet": 30, "SupCon": 31, "Quadruplet": 32, "SoftTriple": 34, "ProxyAnchor": 36, "Circle": 39,
}  # fmt: skip


@dataclass(frozen=True)
class Ink:
    """How something is drawn: its colour on a light and on a dark background, and the shape of its points."""

    light: str
    dark: str
    shape: str = SHAPES[0]


@dataclass(frozen=True)
class Paper:
    """What a chart is drawn on and with: its ground, words and lines, words that stand back, and cells without a value.

    Words are read at any size: 4.5 against the ground (WCAG AA). Ground and ink are those of .streamlit/config.toml.
    """

    ground: str
    ink: str
    quiet: str
    empty: str


LIGHT = Paper("#ffffff", "#0c131c", "#57606c", "#e9edf2")
DARK = Paper("#0e1117", "#e8ecf1", "#bac2cc", "#262c36")

# From little to much. Lightness alone tells the order, so any eye and a grey printer can read it.
SCALE = (
    Ink("#dcb95a", "#3c569b"), Ink("#a8a27c", "#5f7da6"), Ink("#74848f", "#8ca295"), Ink("#42608f", "#c3bd66"),
    Ink("#1c3373", "#ffe566"),
)  # fmt: skip
JUDGED = {  # what became of an image: a colour and a shape each
    "unknown": Ink(ON_LIGHT[3], ON_DARK[3]),
    "right": Ink(ON_LIGHT[0], ON_DARK[0]),
    "wrong": Ink(ON_LIGHT[6], ON_DARK[6], "triangle"),
    "right in both": Ink(ON_LIGHT[3], ON_DARK[3]),
    "right in A only": Ink(ON_LIGHT[0], ON_DARK[0], "square"),
    "right in B only": Ink(ON_LIGHT[1], ON_DARK[1], "triangle"),
    "wrong in both": Ink(ON_LIGHT[4], ON_DARK[4], "plus"),
    "validation image": Ink(ON_LIGHT[0], ON_DARK[0]),
    "training image": Ink(ON_LIGHT[1], ON_DARK[1], "square"),
}


def class_ink(index: int) -> Ink:
    """The ink of the class with this index: ten colours, then the same ten with the next shape."""
    turn, color = divmod(index, len(PETROFF))
    return Ink(ON_LIGHT[color], ON_DARK[color], SHAPES[turn % len(SHAPES)])


def head_ink(name: str) -> Ink:
    """The ink of a head; one that has no colour of its own takes one that follows from its name."""
    return class_ink(HEADS.get(name, crc32(name.encode()) % len(PETROFF)))
