"""What a GPU makes of it: seven heads at 128 px, the leaderboard's rules, Faces by the same, one result twice.

    FACES_HOME=... python -m tests.benchmarks.gpu [--only heads leaderboard faces again]
    FACES_HOME=... python -m tests.benchmarks.gpu --size 32 --epochs 1 --seeds 1 --encoder ResNet9 --heads 2

Needs Imagewoof, prepared at 128 px, in the home. The second line is for a machine without a GPU, with 32 px prepared:
the same code, and figures that say nothing about one.

heads: seven heads in turn on the same batches, looks included, in each mode of training, and fast without the live
view, which is looks within epochs. Every turn of all of them has its own seed; the first, in which things are compiled
and the quickest kernels found, is not counted. Beside them, at the same batch, the usual recipe (ImageFolder,
DataLoader, PIL) and a naive one (our batches, on the device), both eager, in float32 and one head after another:
clocked for some seconds, and the time for as many images reckoned from that, without looks.

FLOP are those of the network, forward and backward for an image trained on, forward for one looked at. The arithmetic
floor is the time that a large matrix product would take for as many.
"""

import argparse
import statistics
import tempfile
import time
from itertools import count, product
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from faces.datasets import find
from tests.benchmarks.keeping import machine
from tests.benchmarks.speed import SEVEN, about, clocked, ratio, spread, steady, unpacked, usual, wait
from trainer import RunConfig, train, training
from trainer.feed import Feed
from trainer.presets import PRESETS
from trainer.training import best_device, fresh_model, fresh_optimizer, in_turn

WAYS = {  # mode of training, and whether it is looked at within epochs
    "deterministic": ("deterministic", True),
    "fast": ("fast", True),
    "fast, no live view": ("fast", False),
    "compiled": ("compiled", True),
}


class Done(NamedTuple):
    """Heads that took turns: seconds and FLOP in all, and the last metrics of each."""

    seconds: float
    flop: float
    ends: list[dict[str, float]]


def done(configs: list[RunConfig], device: str, live: bool = True) -> Done:
    """Train them to their ends."""
    config, looked, last = configs[0], 0, {}
    began = time.perf_counter()
    with patch.object(training, "LIVE_GAP", training.LIVE_GAP if live else (1e9, 1e9)):
        for which, moment in in_turn(configs, device):
            looked += len(moment.embeddings) + len(moment.known)
            last[which] = moment.metrics
    seconds = time.perf_counter() - began
    trained = len(configs) * moment.steps * config.batch
    each = Costs.of(config)
    return Done(seconds, trained * each.trained + looked * each.looked, [last[which] for which in range(len(configs))])


class Costs(NamedTuple):
    """FLOP of an image trained on, of one looked at, and of what the optimizer multiplies in a step."""

    trained: float
    looked: float
    optimizer: float

    @staticmethod
    def of(config: RunConfig) -> "Costs":
        model = fresh_model(config, find(config.dataset).load(config.size))
        optimizer, side = fresh_optimizer(model, config), config.crop or config.size
        images, labels = torch.randn(8, 3, side, side), torch.arange(8)

        def flop(act: Any) -> int:
            with FlopCounterMode(display=False) as counter:
                act()
            return counter.get_total_flops()

        trained = flop(lambda: model.loss(images, labels).backward()) / 8
        return Costs(trained, flop(lambda: model.embed(images)) / 8, flop(optimizer.step))


def rate(device: str) -> float:
    """FLOP a second of a large matrix product: bfloat16 on a GPU, float32 on a CPU."""
    side, kind = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in "ab")

    def act() -> None:
        left @ right
        wait(device)

    return 2 * side**3 / clocked(act, 2)


def heads(asked: argparse.Namespace, device: str) -> None:
    """All heads in turn, in each way, beside the usual recipe and the naive one."""
    names = SEVEN[: asked.heads]
    terms = {"dataset": "imagewoof", "size": 128, "encoder": "ResNet18", "epochs": 5, "batch": 128, **given(asked)}
    base, most = RunConfig(**terms), rate(device)
    runs: dict[str, list[Done]] = {way: [] for way in WAYS}
    spent: dict[str, list[float]] = {way: [] for way in (*WAYS, "naive recipe", "usual recipe")}
    with tempfile.TemporaryDirectory() as folder:
        files = unpacked(Path(folder))
        for turn in range(1 + asked.times):
            for way, (mode, live) in WAYS.items():
                configs = [RunConfig(head=head, seed=turn, mode=mode, **terms) for head in names]
                runs[way].append(done(configs, device, live))
                spent[way].append(runs[way][-1].seconds)
            source = Feed(base, device)
            images = len(names) * base.epochs * source.steps_per_epoch * base.batch
            net = (base.encoder, base.size, device)
            spent["naive recipe"].append(images / steady(map(source.batch, count()), asked.seconds, *net))
            spent["usual recipe"].append(images / usual(files, asked.seconds, *net, base.batch))
    first, later = {way: some[0] for way, some in spent.items()}, {way: some[1:] for way, some in spent.items()}
    work = statistics.median(each.flop for each in runs["fast"])
    print(f"## Seven heads\n\n{len(names)} heads, {base.epochs} epochs each, {base.encoder} at {base.size} px, batches")
    print(f"of {base.batch}: {work / 1e12:.3g} TFLOP; a matrix product reaches {most / 1e12:.3g} a second.")
    print(
        f"\n| {asked.times} turns | s | first | of the usual recipe | of the naive one | of the matrix product's rate |"
    )
    print(f"|---|---|---|---|---|---|\n| arithmetic floor | {work / most:.1f} | | | | 1 |")
    for way, some in later.items():
        share = about([each.flop / each.seconds / most for each in runs[way][1:]], ".3f") if way in runs else ""
        ratios = f"{ratio(some, later['usual recipe'])} | {ratio(some, later['naive recipe'])}"
        print(f"| {way} | {about(some, '.1f')} | {first[way]:.1f} | {ratios} | {share} |")
    looking = ratio(later["fast"], later["fast, no live view"])
    print(f"\nWith the live view it takes {looking} of the time without it. Fast:\n")
    accuracies(names, runs["fast"])


def accuracies(names: tuple[str, ...], runs: list[Done]) -> None:
    """A table of the heads, over the seeds."""
    found = {
        metric: [[100 * each.ends[place][metric] for each in runs] for place in range(len(names))]
        for metric in ("dnn_accuracy", "knn_accuracy")
    }
    plain = found["knn_accuracy"][0]
    print(f"| {len(runs)} seeds | DNN accuracy, % | KNN accuracy, % | more than {names[0]}'s, seed by seed |")
    print("|---|---|---|---|")
    for head, dnn, knn in zip(names, *found.values(), strict=True):
        more = [mine - other for mine, other in zip(knn, plain, strict=True)]
        print(f"| {head} | {spread(dnn)} | {spread(knn)} | {spread(more)} |")


def ruled(name: str, asked: argparse.Namespace, device: str, names: tuple[str, ...]) -> list[Done]:
    """A preset of the leaderboard, seed by seed, its heads in turn."""
    terms = {**PRESETS[name].terms, **given(asked)}
    knobs = {"Classification": {"smoothing": 0.1}}
    return [
        done([RunConfig(head=head, knobs=knobs.get(head, {}), seed=seed, **terms) for head in names], device)
        for seed in range(asked.seeds)
    ]


def leaderboard(asked: argparse.Namespace, device: str) -> None:
    """The presets with Classification alone."""
    print("\n## The leaderboard's rules\n\nIts entry of 5 epochs has 76.61 %, that of 20 epochs 86.27 %.\n")
    print("| | DNN accuracy, % | KNN accuracy, % | s | TFLOP | of Muon besides | of the matrix product's rate |")
    print("|---|---|---|---|---|---|---|")
    most = rate(device)
    for name in ("leaderboard", "leaderboard-20"):
        config = RunConfig(**{**PRESETS[name].terms, **given(asked)})
        runs = ruled(name, asked, device, ("Classification",))
        dnn, knn = ([100 * each.ends[0][metric] for each in runs] for metric in ("dnn_accuracy", "knn_accuracy"))
        muon = Costs.of(config).optimizer * config.epochs * Feed(config, "cpu").steps_per_epoch
        what = f"{name}: {config.encoder}, {config.epochs} epochs at {config.size} px, {asked.seeds} seeds"
        print(
            f"| {what} | {spread(dnn)} | {spread(knn)} | {about([each.seconds for each in runs], '.1f')} | "
            f"{runs[0].flop / 1e12:.3g} | {muon / 1e12:.3g} | "
            f"{about([each.flop / each.seconds / most for each in runs], '.3f')} |"
        )


def faces(asked: argparse.Namespace, device: str) -> None:
    """The preset of 5 epochs with every head."""
    print("\n## Faces by the leaderboard's rules\n\nThe preset of 5 epochs, all heads in turn on the same batches.\n")
    accuracies(names := SEVEN[: asked.heads], ruled("leaderboard", asked, device, names))


def again(asked: argparse.Namespace, device: str) -> None:
    """Whether the same seed gives the same weights again."""
    print("\n## Twice with the same seed\n")
    encoders = [asked.encoder] if asked.encoder else ["ResNet18", "ResNet9", "ResNet9Large"]
    for mode, encoder in product(("deterministic", "fast"), encoders):
        config = RunConfig(dataset="imagewoof", size=asked.size or 128, encoder=encoder, epochs=1, mode=mode)
        ends = []
        for _ in range(2):
            *_, last = train(config, device=device)
            assert last.state is not None
            ends.append(last.state()["tensors"])
        same = all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
        print(f"- {mode}, {encoder}: {'the same weights' if same else 'other weights'}.")


def given(asked: argparse.Namespace) -> dict[str, Any]:
    """The terms that were asked for."""
    return {name: value for name in ("size", "epochs", "encoder") if (value := getattr(asked, name))}


def main() -> None:
    """Print Markdown."""
    parts = {part.__name__: part for part in (heads, leaderboard, faces, again)}
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--only", nargs="+", choices=parts, default=parts, help="parts; all by themselves")
    words.add_argument("--size", type=int, help="of images, pixels; 128 by itself")
    words.add_argument("--epochs", type=int, help="instead of 5, and of 20")
    words.add_argument("--encoder", help="instead of ResNet18, and of the presets'")
    words.add_argument("--seeds", type=int, default=5, help="of the presets")
    words.add_argument("--times", type=int, default=3, help="turns of the seven heads that are counted")
    words.add_argument("--heads", type=int, default=7, help="how many of the seven")
    words.add_argument("--seconds", type=float, default=20, help="for the usual recipe and the naive one, each turn")
    asked, device = words.parse_args(), best_device()
    if not find("imagewoof").ready(size := asked.size or 128):
        words.error(f"Imagewoof is not ready at {size} px: python -m trainer data prepare imagewoof --size {size}")
    where = torch.cuda.get_device_name() if device == "cuda" else "no GPU: these figures say nothing about one"
    print(f"{machine()}; {where}; load at the start {psutil.getloadavg()[0]:.1f}\n")
    for part in asked.only:
        parts[part](asked, device)


if __name__ == "__main__":
    main()
