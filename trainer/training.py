"""The whole training, from top to bottom. A generator that yields snapshots and knows no screen, file or queue."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize

from faces.datasets import Images, Progress, Progressed, find
from faces.datasets.base import silent
from faces.encoders import ENCODERS
from faces.evaluation import explained_variance, knn_accuracies, nearest_means
from faces.heads import HEADS
from faces.heads.base import Head
from faces.knobs import Value, Values, raised
from faces.model import EncoderWithHead
from trainer import batches, frozen
from trainer.config import RunConfig
from trainer.engines.local import cores
from trainer.measuring import asked_losses, forbidden_arcs, last_metrics, margin_cones, predicted
from trainer.snapshot import Snapshot

KS = (1, 3, 5, 10, 15, 20, 30, 50)  # the k of KNN accuracy; 5 is the one that tables show
COMPONENTS = 128  # of explained variance that a snapshot keeps
LIVE_SHARE = 0.15  # of the time may go into snapshots within an epoch
LIVE_GAP = (0.7, 2.0)  # seconds between two of them, at first and after five minutes
FEWEST = 32  # images that a snapshot within an epoch shows of an encoder however slow
COUNTABLE = 200  # images from which on a share of right answers is worth telling


class TrainingError(RuntimeError):
    """A training that cannot go on, in one sentence with a hint."""


def train(
    config: RunConfig,
    turned: Callable[[], Mapping[str, Value]] = dict,
    stopped: Callable[[], bool] = bool,
    moved: Callable[[int, int, Tensor], object] = lambda step, steps, loss: None,
    start: Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> Iterator[Snapshot]:
    """Train as the settings say and yield a snapshot at the start, live within epochs, after each, and at the end.

    `turned` is asked before every step for the head's knobs as a person wants them now; what changes
    takes effect at that step and is recorded. `stopped` is asked after it; a stop yields one more snapshot.
    `moved` is told (step, steps, loss) after every step, `progress` how far the last look at all images is.
    `start` is what an earlier snapshot's `state()` returned: the run then goes on as if never interrupted.
    Same settings, same machine: the same weights, bit for bit, on a CPU. Raises
    ValueError when the dataset is not ready, TrainingError when the loss is no longer finite.
    """
    data = find(config.dataset)
    images = data.load(config.size, config.noise)
    if config.drop_duplicates:
        images = images.without(data.duplicates()[:, 0])
    device = device or best_device()
    parts = divided(config, images)
    if not len(parts.train):
        raise ValueError(
            f"No training image of {data.title} is left: each nearly equals a validation image. Keep near duplicates."
        )
    pixels, labels = batches.tensor(images.pixels), batches.tensor(parts.numbers)
    if config.frozen_from:
        pixels = frozen.features(config, pixels, device, progress)
    if device == "cuda":
        pixels, labels = pixels.to(device), labels.to(device)  # the whole dataset, as bytes
    rows = torch.from_numpy(parts.train)
    steps_per_epoch = max(1, len(rows) // config.batch)
    steps = config.epochs * steps_per_epoch

    model = fresh_model(config, images).to(device).to(memory_format=torch.channels_last)
    optimizer = fresh_optimizer(model, config)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "turned": []}
    if start is not None:
        state = restored(model, optimizer, start)
    wanted = model.head.knob_values() | {name: value for _, name, value in state["turned"]}
    model.head.turn(**news(wanted, model.head.knob_values()))
    model.head.turn(**margins(config, wanted, state["step"] / steps))
    probe = Probe(config, images, parts, pixels, labels, progress)

    first = state["step"]
    with threads(config.threads, device):
        losses: list[Tensor] = []
        looked = 0.0  # seconds the last snapshot took
        if first in (0, steps):
            yield probe.look(model, state, steps, first / steps_per_epoch, losses, optimizer, whole=first == steps)
        shot = time.perf_counter()
        for step in range(first, steps):
            began = time.perf_counter()
            if wish := news(turned(), wanted):
                model.head.turn(**wish)
                wanted |= wish
                model.head.turn(**margins(config, wanted, step / steps))
                state["turned"] += [(step, name, value) for name, value in wish.items()]

            epoch, place = divmod(step, steps_per_epoch)
            if place == 0 or step == first:
                if model.head.balanced:
                    order = rows[batches.balanced_order(labels[rows].cpu(), config.seed, epoch)]
                else:
                    order = rows[batches.order(len(rows), config.seed, epoch)]
            seen = order[place * config.batch : (place + 1) * config.batch].to(device)
            batch = pixels[seen]
            if config.augment and data.moved:
                where = batches.moves(len(batch), config.size, config.seed, step, config.crop)
                batch = batches.moved(batch, *where, config.crop)

            for group in optimizer.param_groups:
                group["lr"] = config.lr * (schedule(step / steps) if config.schedule == "cosine" else 1.0)
            seeing = batches.ready(batch, config.crop)
            if config.warp:
                seeing = batches.warped(seeing, batches.warps(len(batch), config.seed, step, config.warp))
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = model.loss(seeing, labels[seen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())

            state["step"] = step + 1
            model.head.turn(**margins(config, wanted, state["step"] / steps))
            state["seconds"] += (now := time.perf_counter()) - began
            done, whole = (step + 1) / steps_per_epoch, place + 1 == steps_per_epoch
            if device == "cpu" and not math.isfinite(loss.item()):
                raise TrainingError(not_finite(step + 1, model.head.knob_values(), config.lr))
            gap = min(max(LIVE_GAP[0], state["seconds"] / 150), LIVE_GAP[1])
            due = now - shot > max(gap, looked / LIVE_SHARE)
            moved(step + 1, steps, losses[-1])
            if whole or due or wish or stopped():
                yield probe.look(model, state, steps, done, losses, optimizer, whole=whole)
                shot = time.perf_counter()
                looked = shot - now
                if not whole and looked > LIVE_SHARE * gap:
                    probe.glance = max(FEWEST, probe.glance // 2)
                if stopped():
                    return


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


class Probe:
    """The images that snapshots look at, embedded in eval mode with inference logits that saw no label.

    A head without logits predicts the class with the nearest mean of known images; -1 where none are known.
    After an epoch: `config.probe` validation images, the same each time, and twice as many training images
    for KNN; after the last epoch, all of them, and those of classes kept out of training. Within an epoch the
    first `glance` of the validation images: all of the probe for a fast encoder, fewer for a slow one, so that
    the picture moves every second or two.
    """

    def __init__(
        self, config: RunConfig, images: Images, parts: Parts, pixels: Tensor, numbers: Tensor, progress: Progress
    ):
        self.config, self.pixels, self.labels = config, pixels, images.labels
        self.glance = config.probe
        self.classes, self.numbers, self.progress = parts.classes, numbers, progress
        self.asked, self.known, self.unseen = (
            spread_out(rows, images.labels) for rows in (parts.val, parts.train, parts.unseen)
        )

    def look(
        self,
        model: EncoderWithHead,
        state: dict[str, Any],
        steps: int,
        epoch: float,
        losses: list[Tensor],
        optimizer: torch.optim.Optimizer,
        whole: bool = False,
    ) -> Snapshot:
        """The snapshot of this moment; forgets the losses that it has averaged."""
        last = state["step"] == steps
        asked = self.asked if last else self.asked[: self.config.probe if whole else self.glance]
        known = self.known[:0] if not whole else self.known if last else self.known[: 2 * self.config.probe]
        unseen = self.unseen if last else self.unseen[:0]
        head = model.head.eval()
        features = self.features(model, np.concatenate([asked, known, unseen]), silent if not last else self.progress)
        lengths = torch.linalg.vector_norm(features[: len(asked)], dim=1).cpu().numpy()
        embeddings, known_embeddings, unseen_embeddings = np.split(
            normalize(features, eps=1e-6).cpu().numpy(), np.cumsum([len(asked), len(known)])
        )
        metrics = {"asked": float(len(asked))}
        predictions, shortfall = np.full(len(asked), -1), np.empty(0, np.float32)  # of a head without logits
        if head.scored:
            features = features[: len(asked)]
            own = self.numbers[torch.from_numpy(asked).to(self.numbers.device)]
            predictions = self.classes[predicted(head, features)]
            shortfall = asked_losses(head, features, own)
            if len(asked) >= min(COUNTABLE, len(self.asked)):
                metrics["dnn_accuracy"] = float((predictions == self.labels[asked]).mean())
            if last:
                told = predicted(head, features, own)
                metrics["dnn_accuracy_with_labels"] = float((self.classes[told] == self.labels[asked]).mean())
        model.train()

        if losses:
            metrics["loss"] = float(torch.stack(losses).mean())
            losses.clear()
            if not math.isfinite(metrics["loss"]):
                raise TrainingError(not_finite(state["step"], head.knob_values(), self.config.lr))
        knn = {}
        if len(known):
            knn = knn_accuracies(known_embeddings, self.labels[known], embeddings, self.labels[asked], KS)
            metrics |= {"known": float(len(known))} | ({"knn_accuracy": knn[5]} if 5 in knn else {})
            means = nearest_means(known_embeddings, self.labels[known], embeddings)
            metrics["ncm_accuracy"] = float((means == self.labels[asked]).mean())
            predictions = predictions if head.scored else means
        metrics |= {name: float(value) for name, value in head.named_buffers() if value.numel() == 1}
        centers, owners = self.centers(head)
        snapshot = Snapshot(
            step=state["step"], steps=steps, epoch=epoch, seconds=state["seconds"],
            metrics=metrics, knobs=head.knob_values(), turned=tuple(state["turned"]),
            embeddings=embeddings, labels=self.labels[asked], predictions=predictions, rows=asked,
            centers=centers, center_labels=owners, known=known_embeddings, known_labels=self.labels[known],
            variance=explained_variance(embeddings, COMPONENTS).astype(np.float32),
            knn=np.array(list(knn.items()), dtype=np.float32).reshape(-1, 2),
            unseen=unseen_embeddings, unseen_labels=self.labels[unseen], losses=shortfall,
            cones=margin_cones(head, centers, owners), arcs=forbidden_arcs(head, centers), lengths=lengths,
            state=lambda: saved(model, optimizer, state),
        )  # fmt: skip
        return replace(snapshot, metrics={**metrics, **last_metrics(snapshot)}) if last else snapshot

    def centers(self, head: Head) -> tuple[Float[ndarray, "M D"], Int[ndarray, " M"]]:
        """The head's class directions and the class of each, as the dataset numbers them; none when it has none."""
        weight = getattr(head, "weight", None)
        if weight is None:
            return np.empty((0, self.config.dim), np.float32), np.empty(0, np.int64)
        rows = normalize(weight.detach().float().flatten(0, -2), eps=1e-6).cpu().numpy()
        return rows, np.repeat(self.classes, len(rows) // len(self.classes))

    @torch.no_grad()
    def features(self, model: EncoderWithHead, rows: ndarray, progress: Progress) -> Float[Tensor, "N D"]:
        """What the encoder, in eval mode, makes of these images; float32, on the training's device."""
        model.eval()
        found = [torch.empty((0, self.config.dim), device=self.pixels.device)]
        done = 0
        for some in torch.from_numpy(rows).to(self.pixels.device).split(256):
            with torch.autocast(self.pixels.device.type, torch.bfloat16, enabled=self.pixels.is_cuda):
                found.append(model.encoder(batches.ready(self.pixels[some], self.config.crop)).float())
            progress(Progressed("Looking at all images", done := done + len(some), len(rows), "images"))
        return torch.cat(found)


def best_device() -> str:
    """`FACES_DEVICE` when set, else a CUDA GPU when there is one, else the CPU."""
    return os.environ.get("FACES_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def fresh_model(config: RunConfig, images: Images) -> EncoderWithHead:
    """Encoder and head at their start. The encoder's depends on the seed alone, so all heads start equal."""
    extra = {"pretrained": True} if config.pretrained else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.frozen_from:
            encoder = frozen.projection(config)
        else:
            encoder = ENCODERS[config.encoder](images.pixels.shape[3], config.crop or config.size, config.dim, **extra)
        torch.manual_seed(config.seed)
        classes = len(images.class_names) - config.held_out
        return EncoderWithHead(encoder, HEADS[config.head](config.dim, classes, **config.knobs))


def fresh_optimizer(model: EncoderWithHead, config: RunConfig) -> torch.optim.Optimizer:
    """SGD with momentum (Nesterov's, or the classical one), or AdamW.

    Weight decay spares the head, whose lengths carry no meaning.
    """
    groups = [
        {"params": list(model.encoder.parameters()), "weight_decay": config.weight_decay},
        {"params": list(model.head.parameters()), "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=config.optimizer == "sgd")


def schedule(done: float) -> float:
    """The share of the peak learning rate: up in a line over the first tenth, then down a half cosine."""
    return (done + 1e-3) / 0.101 if done < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9)


def margins(config: RunConfig, wanted: Values, done: float) -> dict[str, Value]:
    """The head's margins in force when this share of training is done: a ramp raises them to what is wanted."""
    return raised(HEADS.about(config.head).knobs, wanted, done / config.ramp if config.ramp else 1.0)


def news(wished: Mapping[str, Value], wanted: Mapping[str, Value]) -> dict[str, Value]:
    """The wished knobs that differ from those wanted before."""
    return {name: value for name, value in wished.items() if wanted[name] != value}


def spread_out(rows: ndarray, labels: ndarray) -> ndarray:
    """Rows in a fixed order of which every beginning holds the classes in their true proportions."""
    rows = np.random.default_rng(0).permutation(rows)
    own = labels[rows]
    place = np.empty(len(rows))
    for label in np.unique(own):
        mine = own == label
        place[mine] = (np.arange(mine.sum()) + 0.5) / mine.sum()
    return rows[np.lexsort((own, place))]


def saved(model: EncoderWithHead, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """All that a resumed run needs: counters as plain values, weights and momenta as tensors."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, kept in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in kept.items() if value is not None}
    return {"facts": {**state, "turned": list(state["turned"])}, "tensors": tensors}


def restored(model: EncoderWithHead, optimizer: torch.optim.Optimizer, start: Mapping[str, Any]) -> dict[str, Any]:
    """Put saved tensors back into model and optimizer; returns the counters."""
    tensors = start["tensors"]
    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    kept: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            kept.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
    facts = start["facts"]
    return {**facts, "turned": [tuple(turn) for turn in facts["turned"]]}


def not_finite(step: int, knobs: Mapping[str, Value], lr: float) -> str:
    """The sentence for a loss that is no number any more."""
    said = ", ".join(f"{name} = {value:g}" for name, value in knobs.items() if isinstance(value, int | float))
    return f"The loss is no finite number at step {step} ({said}, learning rate {lr:g}); try smaller ones."


@contextmanager
def threads(number: int, device: str) -> Iterator[None]:
    """So many CPU threads while a run trains on the CPU, not more than cores; one is best for several runs at once."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(min(number, cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)
