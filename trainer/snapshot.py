"""Snapshot: one moment of a run, as plain numbers and arrays; in memory, and as one safetensors file."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from faces.files import read
from faces.knobs import Value
from faces.seals import UNSEALED, damaged, sealed, whole

ARRAYS = (
    "embeddings", "labels", "predictions", "rows", "centers", "center_labels", "known", "known_labels",
    "variance", "knn", "unseen", "unseen_labels", "losses", "cones", "lengths", "arcs",
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """What a run is at one step.

    `seconds` is training time so far, snapshots excluded. `embeddings` are unit rows of the asked
    (validation) images, of which `rows` names the places in the dataset; the picture shows them. `known`
    are training images, embedded at the end of an epoch only, since they cost most. `centers` are the
    head's class directions, if it has any. `predictions` come from its logits; without logits they are the
    nearest class means of `known`, -1 while there are none. `variance` is the explained variance per
    component, `knn` rows of (k, KNN accuracy). `unseen` are validation images of the classes kept out of
    training, embedded at the end only. `losses` are the cross-entropies of the asked images' inference logits,
    none where there are no such logits. `cones` are the angles around the centers within which the head's margin
    is satisfied, radians, for embeddings that can be drawn as they are; `arcs`, for embeddings of two numbers, those
    of the circle where it is for no class. `lengths` are those of the features that `embeddings` are the directions
    of. `knobs` are those in force, `turned` the ones that a person has turned so far: (step, name, value). `state`
    gives what a resumed run starts from, valid until the run goes on.
    """

    step: int
    steps: int
    epoch: float
    seconds: float
    metrics: Mapping[str, float]
    knobs: Mapping[str, Value]
    embeddings: Float[ndarray, "N D"]
    labels: Int[ndarray, " N"]
    predictions: Int[ndarray, " N"]
    rows: Int[ndarray, " N"]
    centers: Float[ndarray, "M D"]
    center_labels: Int[ndarray, " M"]
    known: Float[ndarray, "K D"]
    known_labels: Int[ndarray, " K"]
    variance: Float[ndarray, " V"]
    knn: Float[ndarray, "ks 2"]
    turned: tuple[tuple[int, str, Value], ...] = ()
    unseen: Float[ndarray, "U D"] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    unseen_labels: Int[ndarray, " U"] = field(default_factory=lambda: np.empty(0, np.int64))
    losses: Float[ndarray, " L"] = field(default_factory=lambda: np.empty(0, np.float32))
    cones: Float[ndarray, " M"] = field(default_factory=lambda: np.empty(0, np.float32))
    lengths: Float[ndarray, " L"] = field(default_factory=lambda: np.empty(0, np.float32))
    arcs: Float[ndarray, "A 2"] = field(default_factory=lambda: np.empty((0, 2), np.float32))
    state: Callable[[], Mapping[str, Any]] | None = field(default=None, compare=False, repr=False)

    @property
    def last(self) -> bool:
        """Whether training is complete."""
        return self.step == self.steps

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the arrays, as plain values."""
        return {
            "step": self.step, "steps": self.steps, "epoch": self.epoch, "seconds": round(self.seconds, 4),
            "metrics": dict(self.metrics), "knobs": dict(self.knobs), "turned": [list(turn) for turn in self.turned],
        }  # fmt: skip

    def to_bytes(self) -> bytes:
        """The snapshot as the content of a safetensors file; the plain values are in its header."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        return sealed(save(arrays, {"snapshot": json.dumps(self.facts), **UNSEALED}))

    @classmethod
    def read(cls, path: Any) -> "Snapshot":
        """The snapshot in a file written from `to_bytes`. Arrays that an older Faces did not measure are empty.

        DamagedError when the file is not what was written.
        """
        return cls.of(read(path), path)

    @classmethod
    def of(cls, content: bytes, name: object = "This snapshot") -> "Snapshot":
        """The snapshot in a file's content; errors as `read`."""
        facts, arrays = _opened(content, name)
        turned = tuple((step, knob, value) for step, knob, value in facts.pop("turned"))
        return cls(**facts, turned=turned, **{name: arrays[name] for name in ARRAYS if name in arrays})


def read_facts(path: Any) -> dict[str, Any]:
    """The plain values of a snapshot file, without its arrays. DamagedError when it is not what was written."""
    return facts_of(read(path), path)


def facts_of(content: bytes, name: object = "This snapshot") -> dict[str, Any]:
    """The plain values in a snapshot file's content; errors as `read_facts`."""
    return _opened(content, name)[0]


def _opened(content: bytes, name: object) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        arrays = load(whole(content, name))
        length = int.from_bytes(content[:8], "little")  # safetensors: header length, header, data
        return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["snapshot"]), arrays
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise damaged(name) from error
