"""How good each head is on digits, and how much CPU time it takes: python -m tests.benchmarks.heads_on_digits

One thread, evaluation included. Heads take turns within each seed, so that a busy machine hurts all alike.
"""

import argparse
import math
import os
import platform
import statistics
import time

import torch

from faces.heads import HEADS
from trainer import RunConfig, train

os.environ["FACES_DEVICE"] = "cpu"


def measure(head: str, epochs: int, seed: int) -> tuple[float, float, float, float]:
    """DNN (nan without class logits), KNN and class-mean accuracy, and CPU seconds, of one training."""
    began = time.process_time()
    *_, last = train(RunConfig(head=head, epochs=epochs, seed=seed))
    dnn, knn, mean = (last.metrics.get(f"{name}_accuracy", math.nan) for name in ("dnn", "knn", "ncm"))
    return dnn, knn, mean, time.process_time() - began


def main() -> None:
    """Print a Markdown table over heads."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--epochs", type=int, default=5)
    words.add_argument("--seeds", type=int, default=5)
    asked = words.parse_args()
    measure("ArcFace", 1, 0)  # loads what torch loads late
    found: dict[str, list[tuple[float, float, float, float]]] = {head: [] for head in HEADS}
    for seed in range(asked.seeds):
        for head, rows in found.items():
            rows.append(measure(head, asked.epochs, seed))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread; {asked.epochs} epochs,"
    )
    print(f"{asked.seeds} seeds: mean ± standard deviation, and the worst seed.\n")
    print("| head | DNN accuracy | KNN accuracy, k = 5 | worst KNN | class-mean accuracy | CPU s |")
    print("|---|---|---|---|---|---|")
    for head, rows in found.items():
        dnn, knn, mean, seconds = zip(*rows, strict=True)
        scores = f"{share(dnn)} | {share(knn)} | {min(knn):.1%} | {share(mean)}"
        print(f"| {head} | {scores} | {statistics.mean(seconds):.1f} |")


def share(values: tuple[float, ...]) -> str:
    """Shares in per cent with their spread."""
    if math.isnan(values[0]):
        return "none: no class logits"
    return f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f} %"


if __name__ == "__main__":
    main()
