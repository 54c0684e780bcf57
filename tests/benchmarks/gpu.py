"""What a GPU makes of it: seven heads at 128 px, the leaderboard's rules, the same result twice.

    FACES_HOME=... python -m tests.benchmarks.gpu [--size 128] [--epochs 5] [--seeds 5]
    FACES_HOME=... python -m tests.benchmarks.gpu --size 32 --epochs 1 --seeds 1 --encoder ResNet9 --heads 2

Needs Imagewoof, prepared at that size, in the home. The second line is for a machine without a GPU: the same code, and
figures that say nothing about one. Seven heads train in turn on the same batches, looks included; the usual recipe
beside it (torchvision ImageFolder, DataLoader, float32, one head after another) is clocked for some seconds and its
time for as many images reckoned from that. FLOPs are counted on one step, looks not included.
"""

import argparse
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from faces.datasets import find
from tests.benchmarks.keeping import machine
from tests.benchmarks.speed import SEVEN, built, clocked, unpacked, usual
from trainer import RunConfig, train
from trainer.presets import PRESETS
from trainer.training import best_device, in_turn


def rate(device: str) -> float:
    """FLOP a second of a large matrix product: bfloat16 on a GPU, float32 on a CPU."""
    side, kind = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in "ab")

    def act() -> None:
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * side**3 / clocked(act, 2)


def flops(encoder: str, size: int) -> float:
    """FLOP of a training step for each image."""
    model, _ = built(encoder, size=size)
    with FlopCounterMode(display=False) as counter:
        model.loss(torch.randn(8, 3, size, size), torch.arange(8)).backward()
    return counter.get_total_flops() / 8


def seven(asked: argparse.Namespace, device: str) -> None:
    """All heads in turn, in each mode, beside the usual recipe."""
    heads, most = SEVEN[: asked.heads], rate(device)
    terms: dict[str, Any] = {"dataset": "imagewoof", "size": asked.size, "encoder": asked.encoder, "batch": 128}
    images = len(find("imagewoof").load(asked.size).train_rows) * asked.epochs * len(heads)
    work = images * flops(asked.encoder, asked.size)
    print(
        f"{len(heads)} heads, {asked.epochs} epochs each, {asked.encoder} at {asked.size} px: {work / 1e12:.1f} TFLOP;"
    )
    print(f"a matrix product reaches {most / 1e12:.2f} TFLOP/s, at which that takes {work / most:.1f} s.\n")
    with tempfile.TemporaryDirectory() as folder:
        theirs = usual(unpacked(Path(folder)), asked.seconds, asked.encoder, asked.size, device)
    print(f"The usual recipe: {theirs:.0f} images a second, {images / theirs:.0f} s for these.\n")
    print("| mode | s | of the usual recipe | of the matrix product's rate |\n|---|---|---|---|")
    for mode in ("deterministic", "fast", "compiled"):
        spent = []
        for _ in range(2):  # the first compiles, and finds the quickest kernels
            began = time.perf_counter()
            for _ in in_turn([RunConfig(head=head, epochs=asked.epochs, mode=mode, **terms) for head in heads], device):
                pass
            spent.append(time.perf_counter() - began)
        share = spent[1] * theirs / images
        print(f"| {mode} | {spent[1]:.1f} (first {spent[0]:.1f}) | {share:.3f} | {work / spent[1] / most:.2f} |")


def leaderboard(asked: argparse.Namespace, device: str) -> None:
    """The preset, seed by seed."""
    for name in ("leaderboard", "leaderboard-20"):
        terms = {**PRESETS[name].terms}
        if device != "cuda":
            terms |= {"size": asked.size, "encoder": asked.encoder, "epochs": asked.epochs}
        scores, spent = [], []
        for seed in range(asked.seeds):
            config = RunConfig(head="Classification", knobs={"smoothing": 0.1}, seed=seed, **terms)
            began = time.perf_counter()
            *_, last = train(config, device=device)
            spent.append(time.perf_counter() - began)
            scores.append(100 * last.metrics["dnn_accuracy"])
        spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
        said = f"{name}, {terms['epochs']} epochs at {terms['size']} px: {asked.seeds} seeds, DNN accuracy"
        took = f"{statistics.median(spent):.1f} s each, looks included"
        print(f"\n{said} {statistics.fmean(scores):.2f}{spread} %, {took}.")


def again(asked: argparse.Namespace, device: str) -> None:
    """Whether the same seed gives the same weights again."""
    for mode, encoder in product(("deterministic", "fast"), dict.fromkeys((asked.encoder, "ResNet9", "ResNet9Large"))):
        config = RunConfig(dataset="imagewoof", size=asked.size, encoder=encoder, epochs=1, mode=mode)
        ends = []
        for _ in range(2):
            *_, last = train(config, device=device)
            assert last.state is not None
            ends.append(last.state()["tensors"])
        same = all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
        print(f"\n{mode}, {encoder}, twice with the same seed: {'the same weights' if same else 'other weights'}.")


def main() -> None:
    """Print Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--size", type=int, default=128)
    words.add_argument("--epochs", type=int, default=5)
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--heads", type=int, default=7)
    words.add_argument("--seconds", type=float, default=20, help="for the usual recipe")
    words.add_argument("--encoder", default="ResNet18")
    asked, device = words.parse_args(), best_device()
    where = torch.cuda.get_device_name() if device == "cuda" else "no GPU: these figures say nothing about one"
    print(f"{machine()}; {where}; load at the start {psutil.getloadavg()[0]:.1f}\n")
    seven(asked, device)
    leaderboard(asked, device)
    again(asked, device)


if __name__ == "__main__":
    main()
