"""What makes a short training better: optimizers, schedules, smoothing, crops, on equal terms, several seeds.

    FACES_HOME=... python -m tests.benchmarks.recipe --keep FOLDER [--seeds 3] [--epochs 5] [--part 0/1]
        [--size 64] [--encoder ResNet9] [--only "Muon, flat, smoothing 0.1"]

On Imagewoof with Classification, on one thread. Ended trainings are kept in the folder, so several
processes can share the work (`--part 0/2`, which prints the table, and `--part 1/2`) and one that was cut off goes on.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.keeping import machine, trained
from trainer import RunConfig

MUON = {"optimizer": "muon"}
FLAT = {**MUON, "schedule": "flat"}
SMOOTH = {"knobs": {"smoothing": 0.1}}
RECIPES: dict[str, dict[str, Any]] = {
    "SGD, the default settings": {},
    "SGD, smoothing 0.1": SMOOTH,
    "SGD, resized crops of 0.35 or more": {"area": 0.35},
    "AdamW, learning rate 0.004": {"optimizer": "adamw", "lr": 0.004},
    "Muon": MUON,
    "Muon, flat": FLAT,
    "Muon, flat, smoothing 0.1": {**FLAT, **SMOOTH},
    "Muon, flat, smoothing 0.1, resized crops of 0.35 or more": {**FLAT, **SMOOTH, "area": 0.35},
    "Muon, flat, smoothing 0.1, growing over half of it": {**FLAT, **SMOOTH, "grow": 0.5},
}


def main() -> None:
    """Train what is not kept yet; print Markdown once all is."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--keep", type=Path, required=True)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--epochs", type=int, default=5)
    words.add_argument("--part", default="0/1", help="which of how many processes this one is")
    words.add_argument("--size", type=int, default=64, help="of images, pixels")
    words.add_argument("--encoder", default="ResNet9")
    words.add_argument("--only", nargs="+", default=[*RECIPES], choices=RECIPES)
    asked = words.parse_args()
    mine, of = map(int, asked.part.split("/"))
    configs = {
        (name, seed): RunConfig(
            head="Classification",
            dataset="imagewoof",
            size=asked.size,
            encoder=asked.encoder,
            epochs=asked.epochs,
            seed=seed,
            **RECIPES[name],
        )
        for seed in range(asked.seeds)
        for name in asked.only
    }
    for config in list(configs.values())[mine::of]:
        trained(config, asked.keep)
    while missing := [config for config in configs.values() if not (asked.keep / f"{config.key}.safetensors").exists()]:
        if mine:
            return
        print(f"{len(missing)} are with the other processes.", flush=True)
        time.sleep(20)
    what = f"{asked.encoder}, Classification, Imagewoof at {asked.size} px"
    print(f"{machine()}\n\n{what}, {asked.epochs} epochs, {asked.seeds} seeds.\n")
    print("| settings | DNN accuracy, % | KNN accuracy, % | seconds of steps |\n|---|---|---|---|")
    for name in asked.only:
        ends = [trained(configs[name, seed], asked.keep) for seed in range(asked.seeds)]
        columns = []
        for metric in ("dnn_accuracy", "knn_accuracy"):
            values = [100 * end.metrics[metric] for end in ends]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            columns.append(f"{statistics.fmean(values):.1f}{spread}")
        print(f"| {name} | {' | '.join(columns)} | {statistics.median(end.seconds for end in ends):.0f} |")


if __name__ == "__main__":
    main()
