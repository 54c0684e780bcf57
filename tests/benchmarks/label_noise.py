"""Does SubCenterArcFace earn its K when labels are wrong? python -m tests.benchmarks.label_noise NOTE

NOTE is the beginning of the note that the experiment's runs share: ArcFace and SubCenterArcFace over several noise
levels and seeds on Imagewoof, queued from the page "Which head is best?". Sub-centers of a class are ranked by how
many of its correctly labelled training images they win.
"""

import argparse

import numpy as np

from faces.datasets import find
from tests.benchmarks.keeping import machine
from tests.benchmarks.near_duplicates import share
from trainer.snapshot import Snapshot
from trainer.store import Store
from trainer.training import spread_out


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
    words.add_argument("note")
    asked = words.parse_args()
    store, data = Store(), find("imagewoof")
    runs = [run for run in store.runs(("finished",)) if run.note.startswith(asked.note)]
    found: dict[tuple[int, str], list[tuple[float, float, list[float], list[float]]]] = {}
    for run in sorted(runs, key=lambda run: run.id):
        config = run.config
        images = data.load(config.size, config.noise)
        true = data.load(config.size).labels[spread_out(images.train_rows, images.labels)]
        last = store.snapshot(run.id, store.history(run.id)[-1]["step"])
        scores = last.metrics["knn_accuracy"], last.metrics["dnn_accuracy"]
        name = config.head + (f", centers start {config.knobs.get('start', 'apart')}" if "k" in config.knobs else "")
        found.setdefault((config.noise, name), []).append((*scores, *won(last, true)))
    epochs = sorted({run.config.epochs for run in runs})
    print(f"{machine()}. {epochs} epochs, seeds {sorted({run.config.seed for run in runs})}.\n")
    print("| wrong labels | head | KNN, k = 5 | DNN | sub-centers win of the right labels | of the wrong ones |")
    print("|---|---|---|---|---|---|")
    for (noise, head), rows in sorted(found.items()):
        knn, dnn, right, wrong = zip(*rows, strict=True)
        print(f"| {noise} % | {head} | {share(knn)} | {share(dnn)} | {shares(right)} | {shares(wrong)} |")


def shares(runs: tuple[list[float], ...]) -> str:
    """Mean shares over seeds in per cent, nothing where there is but one center."""
    if len(runs[0]) < 2:
        return "–"
    return " / ".join(f"{100 * value:.0f}" for value in np.mean(runs, axis=0)) + " %"


if __name__ == "__main__":
    main()
