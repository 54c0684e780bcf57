"""An experiment of this home as Markdown tables: python -m tests.benchmarks.experiment NOTE [MEASURE ...]

NOTE is the beginning of the note that the experiment's runs share (`python -m trainer runs list`, or the
page "Which head is best?"). A table per noise level: rank, then mean ± standard deviation over the shared seeds.
"""

import argparse
import os
import platform
from importlib.metadata import version

from trainer.comparison import MEASURES, ranking
from trainer.store import Store

USUAL = ("knn_accuracy", "dnn_accuracy", "dnn_accuracy_with_labels", "ncm_accuracy", "map_at_r", "silhouette")


def main() -> None:
    """Print the tables."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("note")
    words.add_argument("measures", nargs="*", default=USUAL)
    asked = words.parse_args()
    store = Store()
    runs = [run for run in store.runs(("finished",)) if run.note.startswith(asked.note)]
    if not runs:
        raise SystemExit(f"No finished run has a note that begins with {asked.note!r}.")
    latest = store.latest([run.id for run in runs])
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy"))
    config = runs[0].config
    print(
        f"{runs[0].note}. {platform.machine()}, {os.cpu_count()} cores, {packages}, Python {platform.python_version()}."
    )
    print(
        f"{config.encoder}, {config.size} px, D = {config.dim}, {config.epochs} epochs, batch {config.batch}, "
        f"{config.optimizer} {config.lr:g}, {config.schedule}, held out {config.held_out}.\n"
    )
    for noise in sorted({run.config.noise for run in runs}):
        mine = [run for run in runs if run.config.noise == noise]
        ranked = {name: ranking(mine, latest, name) for name in asked.measures}
        ranked = {name: found for name, found in ranked.items() if found.standings}
        print(f"Wrong labels {noise} %, seeds {next(iter(ranked.values())).seeds}\n")
        print("| head | " + " | ".join(MEASURES[name].title for name in ranked) + " |")
        print("|---" * (len(ranked) + 1) + "|")
        for head in dict.fromkeys(standing.head for found in ranked.values() for standing in found.standings):
            cells = []
            for name, found in ranked.items():
                own = next((standing for standing in found.standings if standing.head == head), None)
                cells.append(f"{MEASURES[name].about(own.scores)} ({own.rank})" if own else "–")
            print(f"| {head} | " + " | ".join(cells) + " |")
        print()


if __name__ == "__main__":
    main()
