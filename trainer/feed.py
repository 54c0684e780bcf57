"""Feeds: the batches of a run, step by step, on its device. Runs that are to see the same batches share one feed.

What a step sees is a pure function of the settings and the step (`trainer.batches`), so heads that train in turn in one
process make each batch once for all of them, and compare on exactly the same images.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from faces.datasets import Images, Progress, find
from faces.datasets.base import silent
from faces.heads import HEADS
from trainer import batches, frozen
from trainer.config import RunConfig

SAME = ("dataset", "size", "noise", "drop_duplicates", "frozen_from", "held_out", "seed")  # decide which images
ALIKE = (*SAME, "batch", "crop", "warp", "area", "grow", "augment")  # and these what a step sees of them
KEPT = 4  # batches that a feed keeps: runs that share it may be some steps apart
ORDERS = 8  # of epochs that it keeps


class Parts(NamedTuple):
    """Which images a run trains on, asks about, and meets at its end only, and how its head numbers the classes."""

    train: Int[ndarray, " train"]  # rows of the dataset
    val: Int[ndarray, " val"]
    unseen: Int[ndarray, " unseen"]  # validation images of the classes kept out of training
    classes: Int[ndarray, " C"]  # the dataset's number of each class of the head
    numbers: Int[ndarray, " N"]  # the head's number of each image's class; of an unseen class it means nothing


def divided(config: RunConfig, images: Images) -> Parts:
    """The parts of a dataset for a run. An image of a held-out class is not trained on under a wrong label either."""
    every = np.arange(len(images.class_names))
    classes = np.setdiff1d(every, config.unseen(len(every)))
    known = np.isin(images.labels, classes)
    if config.noise and config.held_out:
        known &= np.isin(find(config.dataset).load(config.size).labels, classes)
    train, val = images.train_rows, images.val_rows
    numbers = np.searchsorted(classes, images.labels)
    return Parts(train[known[train]], val[known[val]], val[~known[val]], classes, numbers)


class Feed:
    """The images of a run on its device, as bytes, and of them the batch that a step trains on.

    `pixels` are (N, size, size, channels), all of the dataset, `labels` (N,) as the head numbers them, and `rows`
    (train,) those that training sees.

    ValueError when the dataset is not ready, or has no training image left.
    """

    def __init__(self, config: RunConfig, device: str, progress: Progress = silent):
        self.config, self.device, self.data = config, device, find(config.dataset)
        self.balanced = HEADS[config.head].balanced
        images = self.data.load(config.size, config.noise)
        if config.drop_duplicates:
            images = images.without(self.data.duplicates()[:, 0])
        self.images, self.parts = images, divided(config, images)
        if not len(self.parts.train):
            raise ValueError(
                f"No training image of {self.data.title} is left: each nearly equals a validation image. "
                "Keep near duplicates."
            )
        self.pixels = resident(config, images, device, progress)
        self.labels = batches.tensor(self.parts.numbers).to(device)
        self.rows = torch.from_numpy(self.parts.train)
        self.steps_per_epoch = max(1, len(self.rows) // config.batch)
        self.orders: dict[int, Tensor] = {}
        self.made: dict[int, tuple[Tensor, Tensor]] = {}

    def batch(self, step: int) -> tuple[Float[Tensor, "B channels side side"], Int[Tensor, " B"]]:
        """The images of a step as the encoder wants them, and their labels; on a GPU nothing waits for it."""
        if step not in self.made:
            self.made[step] = self._batch(step)
            drop_old(self.made, KEPT)
        return self.made[step]

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        config = self.config
        epoch, place = divmod(step, self.steps_per_epoch)
        seen = self._order(epoch)[place * config.batch : (place + 1) * config.batch]
        pixels = self.pixels.index_select(0, seen)  # whole images at a time, which [seen] does not do
        if config.area < 1:
            parts = batches.areas(len(pixels), config.seed, step, config.area)
            images = batches.resized(batches.warped(batches.ready(pixels), parts), config.crop)
        else:
            if config.augment and self.data.moved:
                where = batches.moves(len(pixels), config.size, config.seed, step, config.crop)
                pixels = batches.moved(pixels, *where, config.crop)
            images = batches.ready(pixels, config.crop)
        if config.warp:
            images = batches.warped(images, batches.warps(len(images), config.seed, step, config.warp))
        if config.grow:
            images = batches.resized(images, self._side(step))
        return images, self.labels[seen]

    def _side(self, step: int) -> int:
        """Of the images of a step, pixels; growing ones have two smaller sizes first: few, for what is compiled."""
        whole, grow = self.config.crop or self.config.size, self.config.grow
        done = step / (self.config.epochs * self.steps_per_epoch)
        return whole if done >= grow else whole * (2 + int(2 * done / grow)) // 4

    def _order(self, epoch: int) -> Int[Tensor, " train"]:
        if epoch not in self.orders:
            if self.balanced:
                order = batches.balanced_order(self.labels.cpu()[self.rows], self.config.seed, epoch)
            else:
                order = batches.order(len(self.rows), self.config.seed, epoch)
            self.orders[epoch] = batches.brought(self.rows[order], self.device)
            drop_old(self.orders, ORDERS)
        return self.orders[epoch]


def drop_old(kept: dict[int, Any], most: int) -> None:
    """Let go of what was put in first, until only so much is left."""
    while len(kept) > most:
        del kept[next(iter(kept))]


def feed(config: RunConfig, device: str, progress: Progress = silent) -> Feed:
    """The feed of a run: one that another run in this process has, when both are to see the same batches.

    Raises what `Feed` raises.
    """
    alike = (device, find(config.dataset).print, HEADS[config.head].balanced)
    key = (*alike, config.epochs if config.grow else 0, *(getattr(config, name) for name in ALIKE))
    found = _feeds.get(key)
    if found is None:
        found = _feeds[key] = Feed(config, device, progress)
    return found


def resident(config: RunConfig, images: Images, device: str, progress: Progress) -> Tensor:
    """A dataset's images as bytes, or what a frozen encoder made of them; on a GPU once for all runs of a process."""
    if device == "cpu" or config.drop_duplicates:
        return _pixels(config, images, device, progress).to(device)
    key = (device, find(config.dataset).print, config.dataset, config.size, config.frozen_from)
    found = _pixels_on.get(key)
    if found is None:
        found = _pixels_on[key] = _pixels(config, images, device, progress).to(device)
    return found


def _pixels(config: RunConfig, images: Images, device: str, progress: Progress) -> Tensor:
    pixels = batches.tensor(images.pixels)
    return frozen.features(config, pixels, device, progress) if config.frozen_from else pixels


_feeds: WeakValueDictionary[Hashable, Feed] = WeakValueDictionary()
_pixels_on: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()
