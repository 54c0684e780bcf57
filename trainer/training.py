"""The whole training, from top to bottom. A generator that yields snapshots and knows no screen, file or queue."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize

from faces.datasets import Images, find
from faces.encoders import ENCODERS
from faces.evaluation import explained_variance, knn_accuracies, nearest_means
from faces.heads import HEADS
from faces.knobs import Value
from faces.model import EncoderWithHead
from trainer import batches
from trainer.config import RunConfig
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
) -> Iterator[Snapshot]:
    """Train as the settings say and yield a snapshot at the start, live within epochs, after each, and at the end.

    `turned` is asked before every step for the head's knobs as a person wants them now; what changes
    takes effect at that step and is recorded. `stopped` is asked after it; a stop yields one more snapshot.
    `moved` is told (step, steps, loss) after every step.
    `start` is what an earlier snapshot's `state()` returned: the run then goes on as if never interrupted.
    Same settings, same machine: the same weights, bit for bit, on a CPU (which uses one thread). Raises
    ValueError when the dataset is not ready, TrainingError when the loss is no longer finite.
    """
    data = find(config.dataset)
    images = data.load(config.size, config.noise)
    if config.drop_duplicates:
        images = images.without(data.duplicates()[:, 0])
    device = device or best_device()
    pixels, labels = batches.tensor(images.pixels), batches.tensor(images.labels)
    if device == "cuda":
        pixels, labels = pixels.to(device), labels.to(device)  # the whole dataset, as bytes
    rows = torch.from_numpy(images.train_rows)
    steps_per_epoch = max(1, len(rows) // config.batch)
    steps = config.epochs * steps_per_epoch

    model = fresh_model(config, images).to(device).to(memory_format=torch.channels_last)
    optimizer = fresh_optimizer(model, config)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "turned": []}
    if start is not None:
        state = restored(model, optimizer, start)
        model.head.turn(**{name: value for _, name, value in state["turned"]})
    probe = Probe(config, images, pixels)

    first = state["step"]
    with one_thread(device):
        losses: list[Tensor] = []
        looked = 0.0  # seconds the last snapshot took
        if first in (0, steps):
            yield probe.look(model, state, steps, first / steps_per_epoch, losses, optimizer, whole=first == steps)
        shot = time.perf_counter()
        for step in range(first, steps):
            began = time.perf_counter()
            if wish := news(turned(), model.head.knob_values()):
                model.head.turn(**wish)
                state["turned"] += [(step, name, value) for name, value in wish.items()]

            epoch, place = divmod(step, steps_per_epoch)
            if place == 0 or step == first:
                if model.head.balanced:
                    order = rows[batches.balanced_order(labels[rows].cpu(), config.seed, epoch)]
                else:
                    order = rows[batches.order(len(rows), config.seed, epoch)]
            seen = order[place * config.batch : (place + 1) * config.batch].to(device)
            batch = pixels[seen]
            if config.augment and batch.shape[3] == 3:
                where = batches.moves(len(batch), config.size, config.seed, step, config.crop)
                batch = batches.moved(batch, *where, config.crop)

            for group in optimizer.param_groups:
                group["lr"] = config.lr * (schedule(step / steps) if config.schedule == "cosine" else 1.0)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = model.loss(batches.ready(batch, config.crop), labels[seen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())

            state["step"] = step + 1
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


class Probe:
    """The images that snapshots look at, embedded in eval mode with inference logits that saw no label.

    A head without logits predicts the class with the nearest mean of known images; -1 where none are known.
    After an epoch: `config.probe` validation images, the same each time, and twice as many training images
    for KNN; after the last epoch, all of them. Within an epoch the first `glance` of the validation images:
    all of the probe for a fast encoder, fewer for a slow one, so that the picture moves every second or two.
    """

    def __init__(self, config: RunConfig, images: Images, pixels: Tensor):
        self.config, self.pixels, self.labels = config, pixels, images.labels
        self.glance = config.probe
        self.asked = spread_out(images.val_rows, images.labels)
        self.known = spread_out(images.train_rows, images.labels)

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
        model.eval()
        embeddings, predictions = self.embed(model, asked)
        known_embeddings, _ = self.embed(model, known)
        model.train()

        metrics = {"asked": float(len(asked))}
        if model.head.scored and len(asked) >= min(COUNTABLE, len(self.asked)):
            metrics["dnn_accuracy"] = float((predictions == self.labels[asked]).mean())
        if losses:
            metrics["loss"] = float(torch.stack(losses).mean())
            losses.clear()
            if not math.isfinite(metrics["loss"]):
                raise TrainingError(not_finite(state["step"], model.head.knob_values(), self.config.lr))
        knn = {}
        if len(known):
            knn = knn_accuracies(known_embeddings, self.labels[known], embeddings, self.labels[asked], KS)
            metrics |= {"known": float(len(known))} | ({"knn_accuracy": knn[5]} if 5 in knn else {})
            means = nearest_means(known_embeddings, self.labels[known], embeddings)
            metrics["ncm_accuracy"] = float((means == self.labels[asked]).mean())
            predictions = predictions if model.head.scored else means
        metrics |= {name: float(value) for name, value in model.head.named_buffers() if value.numel() == 1}
        centers = getattr(model.head, "weight", torch.empty(0, 1, self.config.dim)).detach().float()
        return Snapshot(
            step=state["step"], steps=steps, epoch=epoch, seconds=state["seconds"],
            metrics=metrics, knobs=model.head.knob_values(), turned=tuple(state["turned"]),
            embeddings=embeddings, labels=self.labels[asked], predictions=predictions, rows=asked,
            centers=normalize(centers.flatten(0, -2), eps=1e-6).cpu().numpy(),
            center_labels=np.repeat(np.arange(len(centers)), math.prod(centers.shape[1:-1])),
            known=known_embeddings, known_labels=self.labels[known],
            variance=explained_variance(embeddings, COMPONENTS).astype(np.float32),
            knn=np.array(list(knn.items()), dtype=np.float32).reshape(-1, 2),
            state=lambda: saved(model, optimizer, state),
        )  # fmt: skip

    @torch.no_grad()
    def embed(self, model: EncoderWithHead, rows: ndarray) -> tuple[ndarray, ndarray]:
        """Unit embeddings (N, D) and predicted classes (N,) of these images, -1 when the head has no logits."""
        found = [(np.empty((0, self.config.dim), np.float32), np.empty(0, np.int64))]
        for some in torch.from_numpy(rows).to(self.pixels.device).split(256):
            with torch.autocast(self.pixels.device.type, torch.bfloat16, enabled=self.pixels.is_cuda):
                features = model.encoder(batches.ready(self.pixels[some], self.config.crop))
                predicted = model.head(features).argmax(1) if model.head.scored else torch.full((len(some),), -1)
            found.append((normalize(features.float(), eps=1e-6).cpu().numpy(), predicted.cpu().numpy()))
        embeddings, predictions = zip(*found, strict=True)
        return np.concatenate(embeddings), np.concatenate(predictions)


def best_device() -> str:
    """`FACES_DEVICE` when set, else a CUDA GPU when there is one, else the CPU."""
    return os.environ.get("FACES_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def fresh_model(config: RunConfig, images: Images) -> EncoderWithHead:
    """Encoder and head at their start. The encoder's depends on the seed alone, so all heads start equal."""
    extra = {"pretrained": True} if config.pretrained else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = ENCODERS[config.encoder](images.pixels.shape[3], config.crop or config.size, config.dim, **extra)
        torch.manual_seed(config.seed)
        return EncoderWithHead(encoder, HEADS[config.head](config.dim, len(images.class_names), **config.knobs))


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


def news(wished: Mapping[str, Value], in_force: Mapping[str, Value]) -> dict[str, Value]:
    """The wished knobs that differ from those in force."""
    return {name: value for name, value in wished.items() if in_force[name] != value}


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
def one_thread(device: str) -> Iterator[None]:
    """One CPU thread while a run trains on the CPU: faster for several runs at once, and repeatable."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
