"""ONNX of the encoder: images in, features and unit embeddings out, to run without PyTorch."""

import json
from collections.abc import Sequence
from typing import Any

from faces.datasets import find
from faces.datasets.base import Progress, Progressed
from trainer.exports.base import Export, Taken
from trainer.exports.weights import checkpoint_step, described, no_weights
from trainer.folder import RunFolder
from trainer.store import Run

OPSET = 18  # of ONNX: every operation of the encoders is in it, and onnxruntime reads it from 1.14 on


class Onnx(Export):
    """The encoder as a graph."""

    name, title, suffix, slow = "onnx", "Encoder (ONNX)", ".onnx", True
    meaning = (
        "Images in (N, channels, size, size), float32 from 0 to 1; features and unit embeddings out. Standardising is "
        "inside, so pixels / 255 is all it takes. Without the head, which only training needs."
    )

    def refusal(self, run: Run, folder: RunFolder) -> str:
        return no_weights(run, folder)

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        found = {}
        for done, one in enumerate(taken):
            progress(Progressed("Writing encoders", done, len(taken), "encoders"))
            found[f"{one.stem}{self.suffix}"] = encoder(one)
        progress(Progressed("Writing encoders", len(taken), len(taken), "encoders"))
        return found


def encoder(one: Taken) -> bytes:
    """A run's encoder as the content of an ONNX file, its settings in the metadata."""
    import onnx
    import torch

    from trainer.worker import unpack

    content = one.folder.checkpoint()
    if content is None:
        raise ValueError("The checkpoints of this run are damaged and are not taken away.")
    weights = {
        name.removeprefix("model.encoder."): tensor
        for name, tensor in unpack(content)["tensors"].items()
        if name.startswith("model.encoder.")
    }
    config = one.run.config
    side = config.crop or config.size
    model = embedder(config, channels(config, weights), weights)
    example = torch.rand(2, model.channels, side, side)
    program = torch.onnx.export(
        model, (example,), dynamo=True, opset_version=OPSET, input_names=["images"], verbose=False,
        output_names=["features", "embeddings"], dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
    )  # fmt: skip
    assert program is not None
    graph = program.model_proto
    told = described(one, checkpoint_step(content)) | {"pixels": "RGB or grey, 0 to 1", "side": json.dumps(side)}
    onnx.helper.set_model_props(graph, {name: told[name] for name in told if name != "format"})
    return graph.SerializeToString()


def channels(config: Any, weights: Any) -> int:
    """How many channels the encoder's images have."""
    try:
        data = find(config.dataset)
        if data.ready(config.size):
            return data.load(config.size).pixels.shape[3]
    except ValueError:
        pass  # gone since
    first = next(tensor for tensor in weights.values() if tensor.ndim == 4)
    return int(first.shape[1])


def embedder(config: Any, channels: int, weights: Any) -> Any:
    """A module from images of 0 to 1 to (features, embeddings), with these weights, ready to be asked."""
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import normalize

    from faces.encoders import ENCODERS
    from trainer.batches import MEAN, STD

    class Embedder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.channels = channels
            self.encoder = ENCODERS[config.encoder](channels, config.crop or config.size, config.dim)
            for name, values in (("mean", MEAN), ("std", STD)):
                self.register_buffer(name, torch.tensor(values[:channels]).view(1, -1, 1, 1))

        mean: Tensor
        std: Tensor

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features = self.encoder((images - self.mean) / self.std)
            return features, normalize(features, eps=1e-6)

    model = Embedder()
    model.encoder.load_state_dict(weights)
    return model.eval()
