"""The whole training, from top to bottom. A generator that yields snapshots and knows no screen, file or queue."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize

from faces.datasets import Images, Progress, Progressed
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
from trainer.feed import Feed, feed
from trainer.measuring import asked_losses, forbidden_arcs, last_metrics, margin_cones, predicted
from trainer.muon import Muon
from trainer.snapshot import Snapshot

KS = (1, 3, 5, 10, 15, 20, 30, 50)  # the k of KNN accuracy; 5 is the one that tables show
COMPONENTS = 128  # of explained variance that a snapshot keeps
LIVE_SHARE = 0.03  # of the steps' time may go into looks within an epoch
LIVE_GAP = (0.7, 2.0)  # seconds between two of them, at first and after five minutes
FEWEST = 32  # images that a snapshot within an epoch shows of an encoder however slow
COUNTABLE = 200  # images from which on a share of right answers is worth telling


class TrainingError(RuntimeError):
    """A training that cannot go on, in one sentence with a hint."""


def train(
    config: RunConfig,
    turned: Callable[[], Mapping[str, Value]] = dict,
    stopped: Callable[[], bool] = bool,
    moved: Callable[[int, int, float], object] = lambda step, steps, loss: None,
    start: Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> Iterator[Snapshot]:
    """Train as the settings say and yield a snapshot at the start, live within epochs, after each, and at the end.

    `turned` is asked before every step for the head's knobs as a person wants them now; what changes
    takes effect at that step and is recorded. `stopped` is asked after it; a stop yields one more snapshot.
    `moved` is told (step, steps, loss) of every step once its loss is there: after it, or some steps later on a GPU,
    which is not waited for. `progress` is told how far the last look at all images is.
    `start` is what an earlier snapshot's `state()` returned: the run then goes on as if never interrupted.
    Same settings, same machine: the same weights, bit for bit, on a CPU. Raises
    ValueError when the dataset is not ready, TrainingError when the loss is no longer finite.
    """
    with unchanged():
        for moment in turns(config, turned, stopped, moved, start, device, progress):
            if moment is not None:
                yield moment


def in_turn(configs: Sequence[RunConfig], device: str | None = None) -> Iterator[tuple[int, Snapshot]]:
    """Train several runs in this process, a step of each in turn; yields which of them, and its snapshot.

    Each ends with the weights that it has when it trains alone. Runs that see the same batches, heads on equal terms
    say, have them made once, and get on side by side. Raises what `train` raises.
    """
    with unchanged():
        ring = [(index, turns(config, device=device)) for index, config in enumerate(configs)]
        while ring:
            for member in list(ring):
                index, steps = member
                try:
                    moment = next(steps)
                except StopIteration:
                    ring.remove(member)
                    continue
                if moment is not None:
                    yield index, moment


def turns(
    config: RunConfig,
    turned: Callable[[], Mapping[str, Value]] = dict,
    stopped: Callable[[], bool] = bool,
    moved: Callable[[int, int, float], object] = lambda step, steps, loss: None,
    start: Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> Iterator[Snapshot | None]:
    """The same as `train`, a turn at a time: yields after every step, None when there is no snapshot.

    Threads and what else PyTorch has once in a process are set at each turn, and left so. Of a GPU the seconds in a
    snapshot are those in which it was handed work, which no step waits for. Raises what `train` raises.
    """
    device = device or best_device()
    settle_process(config, device)
    fed = feed(config, device, progress)
    images, rate = fed.images, fed.steps_per_epoch
    steps = config.epochs * rate

    model = fresh_model(config, images).to(device).to(memory_format=torch.channels_last)
    optimizer = fresh_optimizer(model, config)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "turned": []}
    if start is not None:
        state = restored(model, optimizer, start)
    if compiled := config.mode == "compiled":
        model.encoder.compile(mode="reduce-overhead", dynamic=False)
    wanted = model.head.knob_values() | {name: value for _, name, value in state["turned"]}
    model.head.turn(**news(wanted, model.head.knob_values()))
    model.head.turn(**margins(config, wanted, state["step"] / steps))
    probe, halved = Probe(config, fed, progress), half(device)

    first = state["step"]
    losses, coming = list[Tensor](), Coming()
    looked = 0.0  # seconds that a look within an epoch takes
    if first in (0, steps):
        yield probe.look(model, state, steps, first / rate, losses, optimizer, whole=first == steps)
    shot, spent = time.perf_counter(), state["seconds"]  # when the last snapshot was there, and the steps' until then
    for step in range(first, steps):
        settle_process(config, device)
        began = time.perf_counter()
        if wish := news(turned(), wanted):
            model.head.turn(**wish)
            wanted |= wish
            model.head.turn(**margins(config, wanted, step / steps))
            state["turned"] += [(step, name, value) for name, value in wish.items()]

        for group in optimizer.param_groups:
            group["lr"] = config.lr * SCHEDULES[config.schedule](step / steps)
        seeing, labels = fed.batch(step)
        if compiled:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(device, torch.bfloat16, enabled=halved):
            loss = model.loss(seeing, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        coming.send(step + 1, loss.detach())

        state["step"] = step + 1
        model.head.turn(**margins(config, wanted, state["step"] / steps))
        state["seconds"] += (now := time.perf_counter()) - began
        for at, told in coming.there():
            if not math.isfinite(told):
                raise TrainingError(not_finite(at, model.head.knob_values(), config.lr))
            moved(at, steps, told)
        gap = min(max(LIVE_GAP[0], state["seconds"] / 150), LIVE_GAP[1])
        due = now - shot > gap and state["seconds"] - spent > looked / LIVE_SHARE
        if (whole := (step + 1) % rate == 0) or due or wish or stopped():
            if device == "cuda":
                torch.cuda.synchronize()  # the steps that it was handed are no part of the look
            now = time.perf_counter()
            moment = probe.look(model, state, steps, (step + 1) / rate, losses, optimizer, whole=whole)
            if not whole:
                looked = probe.settle(time.perf_counter() - now)
            yield moment
            shot, spent = time.perf_counter(), state["seconds"]
            if stopped():
                return
        else:
            yield None


class Coming:
    """Losses on their way from the device, read once they are there: at once on a CPU; nobody waits for a GPU's."""

    def __init__(self) -> None:
        self.queue = deque[tuple[int, Tensor, Callable[[], bool]]]()

    def send(self, step: int, loss: Tensor) -> None:
        """Let a step's loss come."""
        self.queue.append((step, loss.to("cpu", non_blocking=True), done(loss.device)))

    def there(self) -> Iterator[tuple[int, float]]:
        """Step and loss of those that have come since they were last asked for."""
        while self.queue and self.queue[0][2]():
            step, loss, _ = self.queue.popleft()
            yield step, loss.item()


def done(device: torch.device) -> Callable[[], bool]:
    """What tells, without waiting, whether a device has done all that it was given until now."""
    if device.type != "cuda":
        return lambda: True
    event = torch.cuda.Event()
    event.record()
    return event.query


class Probe:
    """The images that snapshots look at, embedded in eval mode with inference logits that saw no label.

    A head without logits predicts the class with the nearest mean of known images; -1 where none are known.
    After an epoch: `config.probe` validation images, the same each time, and twice as many training images
    for KNN; after the last epoch, all of them, and those of classes kept out of training. Within an epoch the
    first `glance` of the validation images: all of the probe for a fast encoder, fewer for a slow one, so that
    the picture moves every second or two.
    """

    def __init__(self, config: RunConfig, fed: Feed, progress: Progress):
        self.config, self.pixels, self.labels = config, fed.pixels, fed.images.labels
        self.glance = config.probe
        self.classes, self.numbers, self.progress = fed.parts.classes, fed.labels, progress
        self.asked, self.known, self.unseen = (
            spread_out(rows, self.labels) for rows in (fed.parts.val, fed.parts.train, fed.parts.unseen)
        )

    def settle(self, took: float) -> float:
        """Set for how many images the next look within an epoch is, after one that took so many seconds.

        As many as leave it time to come every `LIVE_GAP[1]` seconds: halved until they do, doubled when there is room.
        Returns the seconds that it should take.
        """
        most = LIVE_SHARE * LIVE_GAP[1]
        while took > most and self.glance > FEWEST:
            self.glance, took = max(FEWEST, self.glance // 2), took / 2
        if took < most / 4 and self.glance < self.config.probe:
            self.glance, took = min(self.config.probe, 2 * self.glance), took * 2
        return took

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
        with eager(self.config):
            rows = np.concatenate([asked, known, unseen])
            features = self.features(model, rows, silent if not last else self.progress)
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
        device = self.pixels.device
        halved, found = half(device.type), [torch.empty((0, self.config.dim), device=device)]
        done = 0
        for some in torch.from_numpy(rows).to(device).split(256):
            with torch.autocast(device.type, torch.bfloat16, enabled=halved):
                found.append(model.encoder(batches.ready(self.pixels.index_select(0, some), self.config.crop)).float())
            progress(Progressed("Looking at all images", done := done + len(some), len(rows), "images"))
        return torch.cat(found)


def best_device() -> str:
    """`FACES_DEVICE` when set, else a CUDA GPU when there is one that answers, else the CPU."""
    if asked := os.environ.get("FACES_DEVICE"):
        return asked
    with suppress(RuntimeError):
        if torch.cuda.is_available():
            return torch.zeros((), device="cuda").device.type
    return "cpu"


def as_gpu(device: str) -> bool:
    """Whether a training goes a GPU's way: on one, and on a CPU when `FACES_AS_GPU` is set, to try that way out."""
    return device == "cuda" or (device == "cpu" and bool(os.environ.get("FACES_AS_GPU")))


def half(device: str) -> bool:
    """Whether encoders compute in bfloat16: where a training goes a GPU's way and the device really has it.

    Never on a CPU unasked: a step takes 1.2 times as long there (AVX-512 with bf16, without AMX; torch 2.15), and on
    one that lacks it, which oneDNN tells, 8 to 14 times.
    """
    if not as_gpu(device):
        return False
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


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
    """SGD with momentum (Nesterov's, or the classical one), AdamW, or Muon.

    Weight decay spares the head, whose lengths carry no meaning.
    """
    groups = [
        {"params": list(model.encoder.parameters()), "weight_decay": config.weight_decay},
        {"params": list(model.head.parameters()), "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device.type
    if config.optimizer == "muon":
        return Muon(groups, lr=config.lr, half=half(device))
    fused = True if as_gpu(device) else None
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=fused)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=config.optimizer == "sgd", fused=fused)


def risen(done: float, high: float = 0.1) -> float:
    """A share of the peak learning rate: up in a line over the first tenth, and down a half cosine from `high` on."""
    if done < 0.1:
        return (done + 1e-3) / 0.101
    return 0.5 + 0.5 * math.cos(math.pi * max(0.0, done - high) / (1 - high))


SCHEDULES: dict[str, Callable[[float], float]] = {  # share of training done -> share of the peak learning rate
    "cosine": risen, "flat": partial(risen, high=0.6), "constant": lambda done: 1.0,
}  # fmt: skip


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
    for weight, mine in optimizer.state.items():
        for name, value in mine.items():
            if value.shape == weight.shape:  # in memory as the weight is, which a GPU's optimizers ask for
                mine[name] = torch.empty_like(weight).copy_(value)
    facts = start["facts"]
    return {**facts, "turned": [tuple(turn) for turn in facts["turned"]]}


def not_finite(step: int, knobs: Mapping[str, Value], lr: float) -> str:
    """The sentence for a loss that is no number any more."""
    said = ", ".join(f"{name} = {value:g}" for name, value in knobs.items() if isinstance(value, int | float))
    return f"The loss is no finite number at step {step} ({said}, learning rate {lr:g}); try smaller ones."


def settle_process(config: RunConfig, device: str) -> None:
    """Set what PyTorch has once in a process as this run wants it; nothing to do when its last turn did.

    On a CPU so many threads, not more than cores; one is best for several runs at once. On a GPU whether its kernels
    must give the same result again.
    """
    if device == "cpu":
        wanted = min(config.threads, cores()) if config.threads > 1 else 1  # asking for cores takes a while
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)
        return
    exact = config.mode == "deterministic"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is taken
    torch.backends.cudnn.benchmark = not exact
    if torch.are_deterministic_algorithms_enabled() != exact:
        torch.use_deterministic_algorithms(exact, warn_only=True)


def eager(config: RunConfig) -> AbstractContextManager:
    """Within it nothing is compiled: looks see other numbers of images, and few."""
    return torch.compiler.set_stance("force_eager") if config.mode == "compiled" else nullcontext()


@contextmanager
def unchanged() -> Iterator[None]:
    """Leaves what `settle_process` sets, in the end, as it was."""
    threads, seeks = torch.get_num_threads(), torch.backends.cudnn.benchmark
    exact = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact[0], warn_only=exact[1])
        torch.backends.cudnn.benchmark = seeks
