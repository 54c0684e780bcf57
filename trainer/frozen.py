"""Frozen encoders: what the finished encoder of another run makes of all images, computed once and kept.

A head alone moves no embedding of a fixed encoder, so KNN accuracy would be the same for all heads. Between the
two stands one linear layer, and that is what such a run trains: seconds become tenths of a second, and what is
learned is how the head arranges what the encoder sees already. Images are seen whole, neither moved nor mirrored.
"""

import contextlib

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from faces.datasets import Progress, Progressed, find
from faces.datasets.base import waited
from faces.encoders import ENCODERS
from faces.files import lock, read, write
from faces.home import home, runs
from faces.seals import UNSEALED, DamagedError, sealed, whole
from trainer import batches
from trainer.config import RunConfig
from trainer.folder import RunFolder
from trainer.snapshot import read_facts

SAME = ("dataset", "size", "encoder", "pretrained")  # what a run shares with the one whose encoder it keeps
CHUNK = 256  # images at once


def source(config: RunConfig) -> RunFolder:
    """The run whose encoder is kept. ValueError, in one sentence, when it cannot serve these settings."""
    folder = RunFolder(runs(home()) / config.frozen_from)
    try:
        before = folder.config
    except FileNotFoundError as why:
        raise ValueError(
            "The run whose encoder is to be kept is not here; choose a finished run of this home."
        ) from why
    if differing := [name for name in SAME if getattr(before, name) != getattr(config, name)]:
        name = differing[0]
        raise ValueError(
            f"The frozen encoder was trained with {name} = {getattr(before, name)}, not {getattr(config, name)}."
        )
    if before.frozen_from:
        raise ValueError("That run kept a frozen encoder itself; choose the run which trained it.")
    data = find(config.dataset)
    classes = len(data.class_names)
    if set(config.unseen(classes)) - set(before.unseen(classes)):
        raise ValueError(
            "The frozen encoder has seen classes that this run holds out; hold out none, or freeze a run that held out "
            "the same."
        )
    if folder.print != data.print:
        raise ValueError("The images have changed since the frozen encoder was trained; freeze the one of a newer run.")
    moments = list(folder.moments().values())
    facts = read_facts(moments[-1]) if moments else {"step": 0, "steps": 1}
    if facts["step"] != facts["steps"] or not folder.weighed:
        raise ValueError(
            "That run has no finished encoder here; choose one that was trained to its end on this machine."
        )
    return folder


def projection(config: RunConfig) -> nn.Module:
    """The layer that stands in the encoder's place: from its features to `dim` numbers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(source(config).config.dim, config.dim))


def features(
    config: RunConfig, pixels: UInt8[Tensor, "N size size channels"], device: str, progress: Progress
) -> Float[Tensor, "N D 1 1"]:
    """What the frozen encoder makes of every image of the dataset, as D channels of one pixel.

    Kept beside the run that trained it.
    """
    folder = source(config)
    file = folder.path / "features.safetensors"
    with waited(lock(file.with_suffix(".lock"), home()), progress):
        with contextlib.suppress(FileNotFoundError, DamagedError, SafetensorError):
            return load(whole(read(file), file))["features"][:, :, None, None]
        found = embedded(folder, pixels, device, progress).cpu().contiguous()
        write(file, sealed(save({"features": found}, UNSEALED)))
    return found[:, :, None, None]


@torch.no_grad()
def embedded(folder: RunFolder, pixels: Tensor, device: str, progress: Progress) -> Float[Tensor, "N D"]:
    """The features of images by a run's encoder as its last checkpoint has it, in eval mode."""
    config, content = folder.config, folder.checkpoint()
    assert content is not None
    encoder = ENCODERS[config.encoder](pixels.shape[3], config.crop or config.size, config.dim)
    begin = "model.encoder."
    encoder.load_state_dict(
        {name[len(begin) :]: value for name, value in load(content).items() if name.startswith(begin)}
    )
    encoder = encoder.to(device).to(memory_format=torch.channels_last).eval()
    found, done = [], 0
    for some in pixels.split(CHUNK):
        found.append(encoder(batches.ready(some.to(device), config.crop)).float())
        progress(Progressed("Looking at all images once", done := done + len(some), len(pixels), "images"))
    return torch.cat(found)  # (N, D)
