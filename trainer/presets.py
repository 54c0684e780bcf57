"""Settings that belong together, to be chosen as one: everything of a RunConfig but head, knobs and seed.

The article is the one of 2021-02-04 that this app started from; its terms survive in a copy of its notebook,
"So many Faces" (Imageomics/Butterflies on GitHub). Its knobs: s = sqrt(2) * ln(C - 1), m = 0.25, k = 3, as
here by default. It squashed photographs to 256 px where we take the centre square, and started from ImageNet
weights, which have seen most of Imagewoof's validation images: set `pretrained` to do so too.
"""

from typing import Any, NamedTuple

ARTICLE: dict[str, Any] = {
    "dataset": "imagewoof", "size": 256, "crop": 224, "encoder": "ResNet18", "dim": 128, "epochs": 20, "batch": 128,
    "lr": 1e-3, "weight_decay": 1e-5, "optimizer": "momentum", "schedule": "constant",
}  # fmt: skip

CIRCLE: dict[str, Any] = {"dataset": "digits", "dim": 2, "epochs": 20, "ramp": 0.5}


class Preset(NamedTuple):
    """Settings with a title for people."""

    title: str
    terms: dict[str, Any]


PRESETS = {
    "circle": Preset("The circle", CIRCLE),
    "live": Preset("A live training on digits", {"dataset": "digits"}),
    "article": Preset("The article's experiment", ARTICLE),
    "article-64px": Preset("The article's, at 64 px", {**ARTICLE, "size": 64, "crop": 0, "epochs": 5}),
}
