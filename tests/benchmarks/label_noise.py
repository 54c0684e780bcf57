"""Does SubCenterArcFace earn its K when labels are wrong? python -m tests.benchmarks.label_noise KEPT

Imagewoof must be prepared at 64 px, with noisy_imagewoof.csv. Trainings are kept in the folder KEPT, so the command
can be cut off and given again. Sub-centers of a class are ranked by how many of its correctly labelled training
images they win.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from faces.datasets import find
from tests.benchmarks.keeping import machine, trained
from tests.benchmarks.near_duplicates import share
from trainer import RunConfig
from trainer.snapshot import Snapshot
from trainer.training import spread_out

os.environ["FACES_DEVICE"] = "cpu"
HEADS = ("ArcFace", "SubCenterArcFace")


def won(last: Snapshot, true_labels: np.ndarray) -> tuple[list[float], list[float]]:
    """Share of training images that each sub-center of their class wins: correctly labelled ones, mislabelled ones.

    Means over classes, the class's sub-center with most correctly labelled images first.
    """
    clean = last.known_labels == true_labels
    shares: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label in np.unique(last.known_labels):
        centers = last.centers[last.center_labels == label]  # (K, D)
        mine = last.known_labels == label
        winner = (last.known[mine] @ centers.T).argmax(1)
        order = np.argsort(-np.bincount(winner[clean[mine]], minlength=len(centers)), kind="stable")
        for found, some in zip(shares, (clean[mine], ~clean[mine]), strict=True):
            if some.any():
                found.append(np.bincount(winner[some], minlength=len(centers))[order] / some.sum())
    right, wrong = ([float(value) for value in np.mean(found, axis=0)] if found else [] for found in shares)
    return right, wrong


def main() -> None:
    """Print a Markdown table over noise and heads."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("kept", type=Path)
    words.add_argument("--seeds", type=int, default=2)
    words.add_argument("--epochs", type=int, default=5)
    words.add_argument("--noise", type=int, nargs="+", default=[0, 1, 5, 25, 50])
    asked = words.parse_args()
    found: dict[tuple[int, str], list[tuple[float, float, list[float], list[float]]]] = {}
    for seed in range(asked.seeds):
        for noise in asked.noise:
            images = find("imagewoof").load(64, noise)
            true = find("imagewoof").load(64).labels[spread_out(images.train_rows, images.labels)]
            for head in HEADS:
                last = trained(
                    RunConfig(head=head, dataset="imagewoof", noise=noise, seed=seed, epochs=asked.epochs), asked.kept
                )
                knn, dnn = last.metrics["knn_accuracy"], last.metrics["dnn_accuracy"]
                found.setdefault((noise, head), []).append((knn, dnn, *won(last, true)))
    print(f"{machine()}. {asked.epochs} epochs, {asked.seeds} seeds.\n")
    print("| wrong labels | head | KNN, k = 5 | DNN | sub-centers win of the right labels | of the wrong ones |")
    print("|---|---|---|---|---|---|")
    for (noise, head), runs in sorted(found.items()):
        knn, dnn, right, wrong = zip(*runs, strict=True)
        print(f"| {noise} % | {head} | {share(knn)} | {share(dnn)} | {shares(right)} | {shares(wrong)} |")


def shares(runs: tuple[list[float], ...]) -> str:
    """Mean shares over seeds in per cent, nothing where there is but one center."""
    if len(runs[0]) < 2:
        return "–"
    return " / ".join(f"{100 * value:.0f}" for value in np.mean(runs, axis=0)) + " %"


if __name__ == "__main__":
    main()
