"""Runs: their settings, the training loop, the store that keeps them, and the processes that carry them out.

    from trainer import RunConfig, train
    for snapshot in train(RunConfig(dataset="digits", head="ArcFace")):
        print(snapshot.epoch, snapshot.metrics)

Importing this is cheap; `train` brings torch with it.
"""

from typing import TYPE_CHECKING, Any

from trainer.config import RunConfig
from trainer.snapshot import Snapshot

if TYPE_CHECKING:
    from trainer.training import train

__all__ = ["RunConfig", "Snapshot", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from trainer.training import train

        return train
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
