"""RunConfig: all that decides a run, as one flat frozen record of plain values."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray

from faces.datasets import find
from faces.encoders import ENCODERS
from faces.heads import HEADS
from faces.knobs import Choice, Knob, Value, settle
from faces.seals import from_json, to_json

VERSION = 1  # of the record; raised when a field changes meaning

TERMS: dict[str, Knob | Choice] = {
    "epochs": Knob(5, 1, 200, "times the training images are seen, epochs", live=False),
    "dim": Knob(128, 2, 512, "length of an embedding, numbers; 2 and 3 can be drawn as they are", live=False),
    "batch": Knob(64, 8, 1024, "images in a training step", live=False),
    "lr": Knob(0.05, 1e-5, 2.0, "peak learning rate, no unit", live=False),
    "weight_decay": Knob(5e-4, 0.0, 0.1, "pull of the encoder's weights towards zero, no unit", live=False),
    "optimizer": Choice(
        ("sgd", "adamw", "momentum", "muon"),
        "how weights follow the gradient; sgd has Nesterov's momentum, 0.9, and muon makes steps of filters orthogonal",
        live=False,
    ),
    "schedule": Choice(
        ("cosine", "flat", "constant"), "the learning rate rises and falls, rises and falls late, or stays", live=False
    ),
    "crop": Knob(0, 0, 224, "side of the random crops that training sees, pixels; 0: whole images, moved", live=False),
    "warp": Knob(
        0.0, 0.0, 0.5, "how far training turns, stretches, slants and moves images, half image sides", live=False
    ),
    "area": Knob(
        1.0, 0.08, 1.0, "smallest share of an image that training crops at random and resizes; 1: moved, not resized",
        live=False,
    ),
    "grow": Knob(
        0.0, 0.0, 1.0, "share of training in which images grow from half their side; 0: they are whole", live=False
    ),
    "seed": Knob(0, 0, 2**31 - 1, "start of every random draw, no unit", live=False),
    "probe": Knob(500, 100, 100_000, "validation images embedded for the picture, images", live=False),
    "ramp": Knob(0.0, 0.0, 1.0, "share of training in which the margin rises to its value; 0: it is there", live=False),
    "threads": Knob(1, 1, 64, "CPU threads; with several a run trains alone, to other last digits", live=False),
    "mode": Choice(
        ("deterministic", "fast", "compiled"),
        "what a GPU gives up for speed: nothing; the same last digits each time; and, compiled, a minute to begin",
        live=False,
    ),
    "held_out": Knob(0, 0, 254, "classes kept out of training, to verify on; drawn from the seed", live=False),
}  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """What to train on what, for how long. Everything left out is filled in, so a stored record is complete.

    `size` is the image size in pixels, `crop` the side of what the encoder sees of it (0: all), `noise` the
    percentage of wrong training labels, `drop_duplicates` whether to leave out training images that nearly equal
    a validation image, `frozen_from` the run whose finished encoder is kept as it is (`trainer.frozen`), `knobs` the
    head's (s, m, ...), whose defaults follow from the number of classes trained on, `held_out` not among them. Without
    `augment`, or with a frozen encoder, `warp` is 0. A head without a margin takes any `ramp`, with nothing to raise.
    More `threads` than the machine has cores are as many as it has. Raises ValueError, in one sentence, for a name or
    value that does not exist.
    """

    head: str = "ArcFace"
    dataset: str = "digits"
    knobs: Mapping[str, Value] = field(default_factory=dict)
    size: int = 0
    encoder: str = ""
    dim: int = 128
    epochs: int = 5
    batch: int = 64
    lr: float = 0.05
    weight_decay: float = 5e-4
    optimizer: str = "sgd"
    schedule: str = "cosine"
    crop: int = 0
    augment: bool = True
    pretrained: bool = False
    frozen_from: str = ""
    noise: int = 0
    drop_duplicates: bool = False
    seed: int = 0
    probe: int = 500
    held_out: int = 0
    ramp: float = 0.0
    warp: float = 0.0
    area: float = 1.0
    grow: float = 0.0
    threads: int = 1
    mode: str = "deterministic"

    def __post_init__(self) -> None:
        data = find(self.dataset)
        size = self.size or data.sizes[0]
        if size not in data.sizes:
            raise ValueError(f"{data.title} has no images of {size} px. Sizes here: {', '.join(map(str, data.sizes))}.")
        if self.noise not in data.noise:
            raise ValueError(f"{data.title} has no labels with {self.noise} % noise. Here: {list(data.noise)} %.")
        if self.crop > size:
            raise ValueError(f"Crops of {self.crop} px cannot be cut from images of {size} px; choose {size} or less.")
        if self.drop_duplicates and not data.compared:
            raise ValueError(
                f"{data.title} has no list of near duplicates to drop: only sets of photographs are searched for them."
            )
        if self.crop and not (self.augment and data.moved):
            why = f"{data.title} is shown as it is" if not data.moved else "augment is off, so images are shown whole"
            raise ValueError(f"Crops of {self.crop} px are drawn at random, but {why}; choose crop 0.")
        if self.area < 1 and not (self.augment and data.moved and not self.frozen_from):
            raise ValueError(
                f"area = {self.area:g} crops and resizes images as training sees them, but here they are shown as they "
                "are; choose area 1."
            )
        if self.frozen_from and not re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", self.frozen_from):
            raise ValueError("frozen_from names a run, by 26 letters and digits; leave it empty to train the encoder.")
        if self.frozen_from and self.crop:
            raise ValueError(
                f"A frozen encoder has seen its images already, so crop = {self.crop} cannot be; choose 0."
            )
        encoder = self.encoder or ("ConvNet" if size <= 16 else "ResNet9")
        if self.pretrained and not getattr(ENCODERS.about(encoder), "pretrained", False):
            raise ValueError(f"{encoder} has no pretrained weights. ResNet18 has.")
        seen = self.crop or size
        if self.grow and (self.frozen_from or getattr(ENCODERS.about(encoder), "fixed", False)):
            raise ValueError(f"grow = {self.grow:g} needs an encoder that takes images of any size; choose grow 0.")
        if self.grow and seen // 2 < getattr(ENCODERS.about(encoder), "smallest", 1):
            raise ValueError(f"Images of {seen} px cannot grow from {seen // 2} px: too small for {encoder}.")
        if seen < getattr(ENCODERS.about(encoder), "smallest", 1):
            raise ValueError(f"{encoder} needs images of {ENCODERS.about(encoder).smallest} px or more, not {seen}.")
        classes = len(data.class_names)
        terms = settle(TERMS, {name: getattr(self, name) for name in TERMS}, classes)
        left = classes - int(terms["held_out"])
        if left < min(classes, 2):
            possible = f"0, or 2 to {classes - 2}" if classes > 3 else "none"
            raise ValueError(
                f"held_out = {self.held_out} leaves {max(left, 0)} of {classes} classes to train on; "
                f"{possible} can be held out."
            )
        if terms["held_out"] == 1:
            raise ValueError("held_out = 1 has no second class to tell it from; hold out 0, or 2 or more.")
        about = HEADS.about(self.head)
        if getattr(about, "simplex", False) and int(terms["dim"]) < left - 1:
            raise ValueError(
                f"{self.head} needs embeddings of {left - 1} numbers or more for {left} classes, not {self.dim}."
            )
        filled = {
            "size": size,
            "encoder": encoder,
            "augment": self.augment and not self.frozen_from,
            "knobs": settle(about.knobs, self.knobs, left),
            **terms,
            "warp": terms["warp"] if self.augment and not self.frozen_from else 0.0,
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    def unseen(self, classes: int) -> ndarray:
        """Which of the dataset's classes are kept out of training, in order; every head with this seed keeps the same.

        More of them with the same seed are these and others.
        """
        return np.sort(np.random.default_rng((self.seed, 3)).permutation(classes)[: self.held_out])

    def to_json(self) -> str:
        """The record as one line of canonical JSON, with its version."""
        return json.dumps({"version": VERSION, **vars(self)}, sort_keys=True)

    @property
    def sealed(self) -> str:
        """The record as JSON with its version and a seal, as it is kept."""
        return to_json({"version": VERSION, **vars(self)}).decode()

    @classmethod
    def from_json(cls, text: str | bytes, name: object = "A run's settings") -> "RunConfig":
        """The record back from `to_json`, readable even when its dataset has gone since.

        A newer version or an unknown field: ValueError; DamagedError, which says the name, for no such text.
        """
        values = from_json(text, name)
        version = values.pop("version", VERSION)
        fields = {f.name for f in dataclasses.fields(cls)}
        if version > VERSION or set(values) - fields:
            raise ValueError(f"These settings are of version {version}; this Faces reads up to version {VERSION}.")
        record = object.__new__(cls)  # a stored record is complete and was checked when it was made
        for f in dataclasses.fields(cls):
            object.__setattr__(record, f.name, values.get(f.name, f.default))
        return record

    @property
    def key(self) -> str:
        """A short name for exactly these settings: 12 hexadecimal digits of their SHA-256."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def __hash__(self) -> int:
        return hash((self.head, self.dataset, self.seed, *sorted(self.knobs.items())))  # cheap: maps ask for it a lot
