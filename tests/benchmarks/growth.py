"""How time and memory grow with the work: python -m tests.benchmarks.growth [--patience 60]

Classes of a head, points of a projection, the side of the images, runs in the queue. Each is made larger, a few times
its size, until one step takes longer than `patience` seconds or does not fit in memory, which is the first limit met.
Each size runs in a process of its own, so that the peak is its own. Seconds are CPU time, the median of the repeats;
memory is the most that the process held, less what it held before. The slope is the exponent between two neighbouring
sizes: 1 is linear, 2 is quadratic, below 1 fixed costs still weigh.

What people wait for at a long queue is told by the clock, each time by a new process in a new home: `--what queue`.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

LOOSE, DIM = 0.35, 128  # noise around the class centers, and size of the embeddings
B, D = 256, 512  # batch and features of a head, as in tests/benchmarks/heads.py
SIZES = {
    "ArcFace, classes": (10, 100, 1_000, 10_000, 100_000, 300_000),
    "PCA and all variances, points": (1_000, 3_929, 12_954, 40_000, 100_000),
    "KNN accuracy, points": (1_000, 3_929, 12_954, 40_000, 100_000),
    "t-SNE update, points": (1_000, 3_929, 12_954, 40_000, 100_000),
    "UMAP update, points": (1_000, 3_929, 12_954, 40_000, 100_000),
    "ResNet9 step of 64, pixels a side": (32, 64, 128, 224),
    "ResNet18 step of 64, pixels a side": (32, 64, 128, 224),
    "submit, queued runs": (1, 10, 100, 1_000, 10_000),
    "claim, queued runs": (10, 100, 1_000, 10_000),
    "list all, queued runs": (1, 10, 100, 1_000, 10_000),
}


def embeddings(count: int) -> np.ndarray:
    """Ten loose bundles of directions, unit length."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(10, DIM)).repeat(math.ceil(count / 10), 0)[:count] / math.sqrt(DIM)
    rows = rows + LOOSE * draw.normal(size=rows.shape) / math.sqrt(DIM)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def head(classes: int) -> Callable[[], object]:
    """Forward and backward of a batch."""
    import torch

    from faces.heads import HEADS

    torch.set_num_threads(1)
    module = HEADS["ArcFace"](D, classes)
    features, labels = torch.randn(B, D, requires_grad=True), torch.randint(classes, (B,))

    def step() -> None:
        module.zero_grad(set_to_none=True)
        module.loss(features, labels).backward()

    return step


def layout(name: str, count: int) -> Callable[[], object]:
    """What a look at so many embeddings computes."""
    from faces.evaluation import knn_accuracy, principal
    from faces.projections import PROJECTIONS

    rows = embeddings(count)
    labels = np.arange(count) * 10 // count
    few = embeddings(300)
    if name == "PCA":
        return lambda: principal(rows)
    if name == "KNN":
        return lambda: knn_accuracy(rows, labels, rows, labels, 5)
    projection = PROJECTIONS["tsne" if name == "t-SNE" else "umap"]
    projection.points(few, 2, few[:, :2])  # compiled
    if name == "UMAP":
        return lambda: projection.points(rows, 2, rows[:, :2])
    return lambda: next(projection.stages(rows, 2, rows[:, :2]))  # until it is shown


def encoder(name: str, side: int) -> Callable[[], object]:
    """A step of training."""
    import torch

    from tests.benchmarks.speed import built

    torch.set_num_threads(1)
    model, optimizer = built(name)
    images = torch.randn(64, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(64) % 10

    def step() -> None:
        optimizer.zero_grad()
        model.loss(images, labels).backward()
        optimizer.step()

    return step


def queue(what: str, count: int) -> Callable[[], object]:
    """One act on a store where so many runs wait."""
    from trainer import RunConfig
    from trainer.store import Store

    store, config = Store(Path(tempfile.mkdtemp())), RunConfig()
    store.submit_many([config] * count)
    return {"submit": lambda: store.submit(config), "claim": store.claim, "list": store.runs}[what]


def waits(count: int) -> dict[str, list[float]]:
    """Seconds by the clock of what is done at a queue of so many runs, on a new home."""
    from streamlit.testing.v1 import AppTest

    from tests.helpers import ROOT
    from trainer import RunConfig
    from trainer.store import Store

    os.environ["FACES_HOME"] = home = tempfile.mkdtemp()
    store, configs, times = Store(Path(home)), [RunConfig(seed=seed) for seed in range(count)], dict[str, list[float]]()
    store.runs()  # its tables are there

    def clocked(what: str, act: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = act()
        times.setdefault(what, []).append(time.perf_counter() - began)
        return done

    clocked(f"submit {count:,} runs", lambda: store.submit_many(configs))
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60)
    app.switch_page(str(ROOT / "pages" / "manage" / "runs.py"))
    clocked("page Runs, first visit of the process", app.run)
    for _ in range(10):
        clocked("page Runs, again", app.run)
    assert not app.exception
    assert app.title[0].value == "What has been trained here?"
    for number in range(200):
        clocked("submit one more", lambda seed=number: store.submit(RunConfig(seed=seed)))
        run = clocked("claim the oldest", store.claim)
        store.end(run.id, run.attempt, "finished")
    return times


def by_the_clock(times: int, count: int = 10_000) -> None:
    """Print what people wait for at a queue of so many runs."""
    print(f"\n## By the clock, {count:,} queued runs\n")
    print("| ms | median | 99 % | least | most | times |\n|---|---|---|---|---|---|", flush=True)
    words = [sys.executable, "-m", "tests.benchmarks.growth", "--what", "queue", "--size", str(count)]
    told = [json.loads(subprocess.check_output(words, text=True).splitlines()[-1]) for _ in range(times)]
    for what in told[0]:
        spent = 1000 * np.array([*chain.from_iterable(one[what] for one in told)])
        half, most = np.percentile(spent, [50, 99])
        print(f"| {what} | {half:.3g} | {most:.3g} | {spent.min():.3g} | {spent.max():.3g} | {len(spent):,} |")


def made(what: str, size: int) -> Callable[[], object]:
    """The act that is clocked."""
    word = what.split(",")[0].split()[0]
    if word == "ArcFace":
        return head(size)
    if word.startswith("ResNet"):
        return encoder(word, size)
    return queue(word, size) if word in ("submit", "claim", "list") else layout(word, size)


def one(what: str, size: int, patience: float) -> None:
    """Clock one size and print seconds, repeats and megabytes."""
    act = made(what, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times: list[float] = []
    until = time.monotonic() + patience / 8
    act()
    most = min(101, size - 1) if what.startswith("claim") else 101  # a queue that is empty is claimed from in no time
    while len(times) < 3 or (time.monotonic() < until and len(times) < most):
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
        if sum(times) > 2 * patience:
            break
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(statistics.median(times), len(times), more)


def curve(what: str, patience: float) -> None:
    """Print one table: size, seconds, memory, slope; and the limit, if one was met."""
    print(f"\n## {what}\n\n| | ms | repeats | MiB more | slope |\n|---|---|---|---|---|", flush=True)
    before: tuple[int, float] | None = None
    for size in SIZES[what]:
        words = [sys.executable, "-m", "tests.benchmarks.growth", "--what", what, "--size", str(size)]
        try:
            told = subprocess.run(
                [*words, "--patience", str(patience)], capture_output=True, text=True, timeout=6 * patience
            )
        except subprocess.TimeoutExpired:
            print(f"\nLimit: {size:,} took longer than {6 * patience:.0f} s, with its preparation.")
            return
        if told.returncode:
            last = (told.stderr.strip().splitlines() or [f"exit {told.returncode}"])[-1]
            print(f"\nLimit: {size:,} ended with: {last[:160]}")
            return
        seconds, repeats, more = map(float, told.stdout.split()[-3:])
        slope = math.log(seconds / before[1]) / math.log(size / before[0]) if before else math.nan
        rises = "" if before is None else f"{slope:.2f}"
        print(f"| {size:,} | {1000 * seconds:.3g} | {repeats:.0f} | {more:.0f} | {rises} |", flush=True)
        before = size, seconds
        if seconds > patience:
            print(f"\nLimit: at {size:,} a step takes longer than {patience:.0f} s.")
            return
    print("\nNo limit met.")


def main() -> None:
    """Print all curves as Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--patience", type=float, default=20, help="seconds that one step may take")
    words.add_argument("--times", type=int, default=5, help="homes that are made for the times by the clock")
    words.add_argument("--what", choices=[*SIZES, "queue"])
    words.add_argument("--size", type=int)
    asked = words.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if asked.size and asked.what == "queue":
        return print(json.dumps(waits(asked.size)))
    if asked.size:
        return one(asked.what, asked.size, asked.patience)
    from tests.benchmarks.keeping import machine

    print(f"{machine()}; load at the start {os.getloadavg()[0]:.1f}.", flush=True)
    for what in [asked.what] if asked.what else [*SIZES, "queue"]:
        if what == "queue":
            by_the_clock(asked.times)
        else:
            curve(what, asked.patience)


if __name__ == "__main__":
    main()
