"""How fast every head comes apart on the circle and on the sphere: python -m tests.benchmarks.circle

Embeddings of 2 and of 3 numbers of the ten digits, on the terms of the page "Circle and sphere". A run has converged
at the end of the first epoch from which on its validation KNN accuracy stays within one point of the run's best one.
A class is lost when less than half of its validation images are named right. Seconds are of CPU time on one thread,
looks at the images included: what a run takes when a core is its own. Heads take turns within each seed.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from typing import Any, NamedTuple

import torch

from faces.evaluation import lost_classes
from faces.heads import HEADS
from trainer import RunConfig, train
from trainer.presets import PRESETS, circle_knobs

os.environ["FACES_DEVICE"] = "cpu"


class Found(NamedTuple):
    """One training: seconds until it had converged and until its end, final accuracies, and classes lost."""

    converged: float
    ended: float
    knn: float
    dnn: float
    lost: int


def measure(head: str, dim: int, seed: int, **terms: Any) -> Found:
    """Train once. ValueError for a head that needs more dimensions."""
    own = {"knobs": circle_knobs(head), **PRESETS["circle"].terms, **terms, "dim": dim}
    config = RunConfig(head=head, seed=seed, **own)
    began, track = time.process_time(), list[tuple[float, float]]()
    for last in train(config):
        if "knn_accuracy" in last.metrics:
            track.append((time.process_time() - began, last.metrics["knn_accuracy"]))
    best = max(knn for _, knn in track)
    late = max((at for at, (_, knn) in enumerate(track) if knn < best - 0.01), default=-1)
    converged = track[min(late + 1, len(track) - 1)][0]
    right = float((last.predictions == last.labels).mean())
    return Found(converged, track[-1][0], track[-1][1], right, len(lost_classes(last.predictions, last.labels)))


def main() -> None:
    """Print a Markdown table per number of dimensions."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--heads", nargs="*", default=list(HEADS))
    words.add_argument("--dims", type=int, nargs="*", default=[2, 3])
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--terms", nargs="*", default=[], metavar="NAME=VALUE", help="other terms than the page's")
    asked = words.parse_args()
    terms = {name: float(value) for name, value in (pair.split("=") for pair in asked.terms)}
    terms = {
        name: int(value) if value == int(value) and name not in ("lr", "ramp") else value
        for name, value in terms.items()
    }
    measure("ArcFace", 2, 0, epochs=1)  # loads what torch loads late
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread; {asked.seeds} seeds:")
    print(f"mean ± standard deviation, and the worst seed. Terms: { {**PRESETS['circle'].terms, **terms} }")
    for dim in asked.dims:
        found: dict[str, list[Found]] = {}
        refused: dict[str, str] = {}
        for seed in range(asked.seeds):
            for head in asked.heads:
                try:
                    found.setdefault(head, []).append(measure(head, dim, seed, **terms))
                    print(dim, seed, head, found[head][-1], file=sys.stderr, flush=True)
                except ValueError as error:
                    refused[head] = str(error)
        print(f"\nD = {dim}\n")
        print("| head | s to converge | slowest | s in all | KNN accuracy | worst | named right | classes lost |")
        print("|---|---|---|---|---|---|---|---|")
        for head, runs in found.items():
            if runs:
                print(f"| {head} | {row(runs)} |")
        for said in refused.values():
            print(f"\nRefused: {said}")


def row(runs: list[Found]) -> str:
    """The cells of a head."""
    converged, ended, knn, right, lost = zip(*runs, strict=True)
    cells = [about(converged), f"{max(converged):.1f}", f"{statistics.mean(ended):.1f}", about(knn, 100)]
    cells += [f"{100 * min(knn):.1f}", about(right, 100), " ".join(map(str, lost))]
    return " | ".join(cells)


def about(values: tuple[float, ...], times: float = 1) -> str:
    """Mean and spread."""
    spread = f" ± {times * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{times * statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
