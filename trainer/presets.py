"""Settings that belong together, to be chosen as one: everything of a RunConfig but head, knobs and seed.

The article is the one of 2021-02-04 that this app started from; its terms survive in a copy of its notebook,
"So many Faces" (Imageomics/Butterflies on GitHub). Its knobs: s = sqrt(2) * ln(C - 1), m = 0.25, k = 3, as
here by default. It squashed photographs to 256 px where we take the centre square, and started from ImageNet
weights, which have seen most of Imagewoof's validation images: set `pretrained` to do so too.

The recipe for the leaderboard (fastai's, with Classification and `smoothing` 0.1) was chosen on a CPU with smaller
networks at 64 px; what it reaches on a CPU is in tests/benchmarks/results/recipe.md. On a GPU, with twice the channels,
it has not been measured.
"""

from typing import Any, NamedTuple

from faces.datasets import DATASETS
from faces.feasibility import angle_asked, spacing
from faces.heads import HEADS
from faces.knobs import Value, raised, settle

ARTICLE: dict[str, Any] = {
    "dataset": "imagewoof", "size": 256, "crop": 224, "encoder": "ResNet18", "dim": 128, "epochs": 20, "batch": 128,
    "lr": 1e-3, "weight_decay": 1e-5, "optimizer": "momentum", "schedule": "constant",
}  # fmt: skip

LIVE: dict[str, Any] = {  # nearly every run of the article's heads at 99 % KNN; tests/benchmarks/results/speed.md
    "dataset": "digits", **DATASETS["digits"].terms, "warp": 0.06, "epochs": 3, "batch": 36,
    "optimizer": "muon", "weight_decay": 0.05,
}  # fmt: skip

LEADERBOARD: dict[str, Any] = {  # its rules for 128 px: random weights, all images, 5 or 20 epochs, no test-time tricks
    "dataset": "imagewoof", "size": 128, "encoder": "ResNet9Deep", "epochs": 5, "batch": 64,
    "optimizer": "muon", "schedule": "flat",
}  # fmt: skip
ON_GPU = {**LEADERBOARD, "encoder": "ResNet9Large", "mode": "fast"}

CIRCLE: dict[str, Any] = {  # for embeddings of two or three numbers; tests/benchmarks/results/circle.md
    "dataset": "digits", "dim": 2, "epochs": 20, "lr": 0.02, "optimizer": "adamw", "ramp": 0.5,
}  # fmt: skip
ROOM = 0.7  # of the angle that ten classes on a circle keep; margins that ask for no more leave some to the images
UNFIT: dict[str, dict[str, Value]] = {  # knobs whose usual values let classes fall together on a circle
    "Triplet": {"mining": "all"}, "Quadruplet": {"m1": 0.3}, "SoftTriple": {"lam": 20.0, "gamma": 0.05},
    "Circle": {"m": 0.9, "gamma": 20.0}, "SubCenterArcFace": {"start": "together"},
    "SupCon": {"tau": 0.3},
}  # fmt: skip


class Preset(NamedTuple):
    """Settings with a title for people."""

    title: str
    terms: dict[str, Any]


PRESETS = {
    "circle": Preset("The circle", CIRCLE),
    "live": Preset("A live training on digits", LIVE),
    "leaderboard-cpu": Preset("Imagewoof's leaderboard, 128 px, 5 epochs, without a GPU: 40 minutes", LEADERBOARD),
    "leaderboard": Preset("Imagewoof's leaderboard, 128 px, 5 epochs, on a GPU", ON_GPU),
    "leaderboard-20": Preset(
        "Imagewoof's leaderboard, 128 px, 20 epochs, on a GPU", {**ON_GPU, "epochs": 20, "area": 0.35}
    ),
    "article": Preset("The article's experiment", ARTICLE),
    "article-64px": Preset("The article's, at 64 px", {**ARTICLE, "size": 64, "crop": 0, "epochs": 5}),
}


def circle_knobs(head: str, classes: int = 10) -> dict[str, Value]:
    """A head's knobs for a circle of so many classes: mostly its defaults, margins lowered until they ask for `ROOM`.

    ValueError for an unknown head.
    """
    about = HEADS.about(head)
    usual = settle(about.knobs, UNFIT.get(head, {}), classes)
    for share in (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1):
        knobs = usual | {name: round(float(value), 2) for name, value in raised(about.knobs, usual, share).items()}
        asked = angle_asked(about, knobs, classes, 2)
        if asked is None or asked <= ROOM * spacing(classes, 2).angle:
            break
    return knobs
