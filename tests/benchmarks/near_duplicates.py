"""What dropping near duplicates does to KNN accuracy on Imagewoof: python -m tests.benchmarks.near_duplicates KEPT

Imagewoof must be prepared at 64 px. Trainings are kept in the folder KEPT, so the command can be cut off and given
again. A third row per head tells memory from search: trained on all images, searched without the duplicates.
"""

import argparse
import os
import statistics
from pathlib import Path

import numpy as np

from faces.datasets import find
from faces.evaluation import nearest
from tests.benchmarks.keeping import machine, trained
from trainer import RunConfig
from trainer.snapshot import Snapshot
from trainer.training import spread_out

os.environ["FACES_DEVICE"] = "cpu"
HEADS = ("Classification", "ArcFace")


def right(last: Snapshot, use: np.ndarray, k: int) -> np.ndarray:
    """Whether the k nearest of the training images in use name each validation image (N,)."""
    labels = last.known_labels[use]
    rows, _ = nearest(last.known[use], last.embeddings, k)
    votes = labels[rows][:, :, None] == np.arange(labels.max() + 1)  # (N, k, C)
    return votes.sum(1).argmax(1) == last.labels


def scores(config: RunConfig, folder: Path, search_all: bool = True) -> list[float]:
    """KNN accuracy for k = 1 and 5 over all validation images, those with a near duplicate, and those without."""
    data = find(config.dataset)
    images, pairs = data.load(config.size), data.duplicates()
    last = trained(config, folder)
    train = images.without(pairs[:, 0]).train_rows if config.drop_duplicates else images.train_rows
    known = spread_out(train, images.labels)  # the rows that the snapshot embedded, in its order
    use = np.full(len(known), True) if search_all else ~np.isin(known, pairs[:, 0])
    twin = np.isin(last.rows, pairs[:, 1])
    hits = [right(last, use, k) for k in (1, 5)]
    return [float(hit[some].mean()) for some in (twin | True, twin, ~twin) for hit in hits]


def main() -> None:
    """Print a Markdown table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("kept", type=Path)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--search-only", action="store_true", help="leave out the trainings without duplicates")
    asked = words.parse_args()
    pairs = find("imagewoof").duplicates()
    train, val = (len(set(pairs[:, side].tolist())) for side in (0, 1))
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for seed in range(asked.seeds):
        for head in HEADS:
            whole = RunConfig(head=head, dataset="imagewoof", seed=seed)
            without = RunConfig(head=head, dataset="imagewoof", seed=seed, drop_duplicates=True)
            rows.setdefault((head, "all | all"), []).append(scores(whole, asked.kept))
            rows.setdefault((head, "all | dropped"), []).append(scores(whole, asked.kept, search_all=False))
            if not asked.search_only:
                rows.setdefault((head, "dropped | dropped"), []).append(scores(without, asked.kept))
    print(f"{machine()}. {len(pairs)} pairs: {train} training and {val} validation images; {asked.seeds} seeds.\n")
    print("Accuracy on all validation images, on those with a near duplicate, and on those without.\n")
    print("| head | trained on | searched | all, k = 1 | k = 5 | with, k = 1 | k = 5 | without, k = 1 | k = 5 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (head, what), found in rows.items():
        print(f"| {head} | {what} | " + " | ".join(share(column) for column in zip(*found, strict=True)) + " |")


def share(values: tuple[float, ...]) -> str:
    """Shares in per cent with their spread over seeds."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread} %"


if __name__ == "__main__":
    main()
