"""The checkpoint: weights alone, as safetensors, with all that is needed to build the model again in its header."""

import json
from collections.abc import Sequence
from typing import Any

from faces.datasets.base import Progress
from trainer.exports.base import Export, Taken
from trainer.folder import RunFolder
from trainer.naming import brought
from trainer.store import Run

MEAN_STD = "((pixels / 255) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), as many channels as there are"


class Weights(Export):
    """The trained weights."""

    name, title, suffix = "safetensors", "Checkpoint (safetensors)", ".safetensors"
    meaning = (
        "The weights, encoder.* and head.*, without the optimizer's state. Settings, class names, the step and how "
        "pixels are prepared are in the header, as metadata."
    )

    def refusal(self, run: Run, folder: RunFolder) -> str:
        return no_weights(run, folder)

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        return {f"{one.stem}{self.suffix}": weights(one) for one in taken}


def no_weights(run: Run, folder: RunFolder) -> str:
    """Why a run has no weights to take away; empty when it has some."""
    if brought(run.config):
        return f"{run.config.head} was brought as embeddings, so there is no model to take away."
    if run.config.frozen_from:
        return f"The encoder of this run is that of run {run.config.frozen_from}; take that one away."
    if not folder.weighed:
        return f"This run of {run.config.head} has no checkpoint: recorded runs come without weights."
    return ""


def weights(one: Taken) -> bytes:
    """The newest checkpoint's model as the content of a safetensors file. ValueError when every one is damaged."""
    from safetensors.numpy import load, save

    content = one.folder.checkpoint()
    if content is None:
        raise ValueError("The checkpoints of this run are damaged and are not taken away.")
    tensors = {name[6:]: array for name, array in load(content).items() if name.startswith("model.")}
    return save(tensors, described(one, checkpoint_step(content)))


def described(one: Taken, step: int) -> dict[str, str]:
    """What a model's file says of it, as words."""
    config = one.run.config
    return {
        "format": "pt", "made_by": "Faces", "config": config.to_json(), "run": one.run.id, "step": str(step),
        "classes": json.dumps(one.folder.class_names), "pixels": MEAN_STD,
    }  # fmt: skip


def checkpoint_step(content: bytes) -> int:
    """The step at which a checkpoint was kept."""
    length = int.from_bytes(content[:8], "little")  # safetensors: header length, header, data
    facts: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["facts"])
    return facts["step"]
