"""How fast training is on a CPU, beside the usual recipe: python -m tests.benchmarks.speed [--seconds 20]

    FACES_HOME=... python -m tests.benchmarks.speed --only trainings --times 5

Needs Imagewoof, prepared at 64 px, in the home (`FACES_HOME`). All take turns in one run on a machine that should have
nothing else to do; what is compared stands side by side and only ratios travel. "Usual" is what most notebooks do with
the same network and batch: torchvision's ImageFolder on the JPEG files, a DataLoader with a worker per core, PIL
transforms (RandomResizedCrop to 64 px, flip, ToTensor, Normalize), torch's own threads. Ours are whole trainings too:
images fetched from the cache, moved and mirrored, in processes of their own.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice, repeat
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from faces.datasets import find
from faces.encoders import ENCODERS
from faces.heads import HEADS
from faces.model import EncoderWithHead
from tests.benchmarks.keeping import machine
from trainer import RunConfig, train, training, worker
from trainer.engines.children import ENVIRONMENT
from trainer.folder import RunFolder
from trainer.presets import PRESETS
from trainer.writer import Writer

B, SIZE = 64, 64
GAP, NEVER = training.LIVE_GAP, (1e9, 1e9)
PARTS = ("steps", "trainings", "live", "epoch", "digits")
SEVEN = ("Classification", "ArcMarginProduct", "ArcFace", "CosFace", "AdaCos", "SubCenterArcFace", "CurricularFace")


def clocked(act: Callable[[], object], seconds: float, least: int = 3) -> float:
    """The median wall time of an act, in seconds, after one that is not counted."""
    act()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < until:
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def in_turns(acts: dict[str, Callable[[], float]], times: int) -> dict[str, list[float]]:
    """What each of them measures, so many times, one after the other in each turn."""
    found: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(times):
        for name, act in acts.items():
            found[name].append(act())
    return found


def about(values: list[float], form: str = ".0f") -> str:
    """The median and the range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def spread(values: list[float]) -> str:
    """The mean and the standard deviation."""
    return f"{statistics.fmean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def ratio(mine: list[float], theirs: list[float]) -> str:
    """The same of mine / theirs, turn by turn."""
    return about([one / other for one, other in zip(mine, theirs, strict=True)], ".2f")


def built(
    encoder: str, channels_last: bool = True, size: int = SIZE, device: str = "cpu"
) -> tuple[EncoderWithHead, torch.optim.Optimizer]:
    """A network with ArcFace, and its optimizer."""
    torch.manual_seed(0)
    model = EncoderWithHead(ENCODERS[encoder](3, size, 128), HEADS["ArcFace"](128, 10))
    model = model.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)


def stepper(encoder: str) -> Callable[[], None]:
    """One step of training: forward, backward, SGD."""
    model, optimizer = built(encoder)
    images = torch.randn(B, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(B) % 10

    def step() -> None:
        loss = model.loss(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def steps(seconds: float) -> None:
    """Steps of the encoders on one thread, beside the time that their multiplications alone take."""
    torch.set_num_threads(1)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    rate = 2 * 1024**3 / clocked(lambda: left @ right, seconds / 4)
    print(f"Matrix product 1024 x 1024: {rate / 1e9:.0f} GFLOP/s on one thread.\n")
    print(
        "| encoder | ms a step of 64 | GFLOP | of the matrix-product limit | steps of ResNet18 |\n|---|---|---|---|---|"
    )
    found = {}
    for name in ("ResNet9", "ResNet18"):
        step = stepper(name)
        with FlopCounterMode(display=False) as counter:
            step()
        found[name] = clocked(step, seconds), counter.get_total_flops()
    for name, (spent, flops) in found.items():
        print(
            f"| {name} | {1000 * spent:.0f} | {flops / 1e9:.1f} | {spent * rate / flops:.2f} | "
            f"{found['ResNet18'][0] / spent:.1f} |"
        )


def trained(threads: int, seconds: float) -> float:
    """Images a second of a real training on Imagewoof, after its first look and five steps."""
    training.LIVE_GAP = NEVER  # looks after an epoch only, at few images
    config = RunConfig(head="ArcFace", dataset="imagewoof", size=SIZE, threads=threads, epochs=200, probe=100)
    steps = training.turns(config, device="cpu")
    for _ in islice(steps, 6):
        pass
    began, seen = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(steps)
        seen += config.batch
    return seen / (time.perf_counter() - began)


class AtOnce(Writer):
    """A writer whose work is done when it has been handed, so that it counts where it comes from."""

    def hand(self, act: Callable[[], object], spare: bool = False) -> threading.Event:
        done = super().hand(act)
        done.wait(60)
        return done


def watched(epochs: int) -> float:
    """The speed of a worker's attempt with all that the live view takes, of that of a training without it.

    Looks, snapshots, pictures and files of whole epochs, after the first look. The two take turns step by step, each
    first in every other; their seeds differ, else one would make the batches of both.
    """
    config = RunConfig(head="ArcFace", dataset="imagewoof", size=SIZE, epochs=200)
    count = epochs * (len(find("imagewoof").load(SIZE).train_rows) // B)
    times: dict[str, list[float]] = {"with": [], "without": []}
    worker.Writer = AtOnce
    with tempfile.TemporaryDirectory() as made:
        folder = RunFolder(Path(made))
        folder.tell(config, {})
        with closing(worker.attempted(folder, 1, bool)) as attempt:
            gaps = {"with": GAP, "without": NEVER}
            turns = {"with": attempt, "without": training.turns(replace(config, seed=1), device="cpu")}
            for step in range(-5, count):  # five to warm up, and the first look
                for name in sorted(turns, reverse=bool(step % 2)):
                    training.LIVE_GAP = gaps[name]
                    began = time.perf_counter()
                    looked = next(turns[name])
                    if step >= 0 and looked is None:  # without: not those after an epoch
                        times[name].append(time.perf_counter() - began)
    return statistics.fmean(times["without"]) / statistics.fmean(times["with"])


def unpacked(folder: Path) -> Path:
    """The training photographs as files, a folder for each class."""
    data = find("imagewoof")
    with zipfile.ZipFile(next(data.folder.glob(f"originals-{data.print}.zip"))) as archive:
        for name in archive.namelist():
            if name.startswith("train/"):
                archive.extract(name, folder)
    return folder / "train"


def wait(device: str) -> None:
    """Until the GPU has done what it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def steady(batches: Iterable[tuple[Tensor, Tensor]], seconds: float, encoder: str, size: int, device: str) -> float:
    """Images a second by plain steps over these batches, eager and in float32, after the first five."""
    torch.set_num_threads(os.cpu_count() or 1)
    model, optimizer = built(encoder, channels_last=False, size=size, device=device)
    seen, began = 0, 0.0
    for place, (images, labels) in enumerate(batches):
        if place == 5:
            wait(device)
            seen, began = 0, time.perf_counter()
        loss = model.loss(images.to(device), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(images)
        if place > 5 and time.perf_counter() - began > seconds:
            break
    wait(device)
    return seen / (time.perf_counter() - began)


def usual(
    folder: Path, seconds: float, encoder: str = "ResNet9", size: int = SIZE, device: str = "cpu", batch: int = B
) -> float:
    """Images a second of the usual recipe."""
    from torchvision import transforms as tf
    from torchvision.datasets import ImageFolder

    flow = tf.Compose(
        [tf.RandomResizedCrop(size), tf.RandomHorizontalFlip(), tf.ToTensor(), tf.Normalize([0.5] * 3, [0.25] * 3)]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(folder, flow), batch, True, num_workers=os.cpu_count() or 1, drop_last=True
    )
    return steady(chain.from_iterable(repeat(loader)), seconds, encoder, size, device)  # epoch after epoch


def trainings(seconds: float, times: int) -> None:
    """One training and two at once, in processes such as workers are, and the usual recipe, in turns."""
    os.environ.update(ENVIRONMENT)  # of processes that start from now on
    with ProcessPoolExecutor(2, get_context("spawn")) as pool, tempfile.TemporaryDirectory() as folder:
        files = unpacked(Path(folder))

        def ours(runs: int, threads: int, seconds: float = seconds) -> float:
            return sum(pool.map(trained, [threads] * runs, [seconds] * runs))

        ours(2, 1, 0)  # both have started
        acts = {
            "one run, one thread": lambda: ours(1, 1),
            "one run, two threads": lambda: ours(1, 2),
            "two runs, one thread each": lambda: ours(2, 1),
            "the usual recipe, two cores": lambda: usual(files, seconds),
        }
        found = in_turns(acts, times)
    *_, theirs = found.values()
    print(f"\nReal trainings of ArcFace, {times} turns of {seconds:g} s each; median and range:\n")
    print("| | images a second in all | of the usual recipe's |\n|---|---|---|")
    for name, rates in found.items():
        print(f"| {name} | {about(rates)} | {ratio(rates, theirs)} |")
    two = ratio(found["two runs, one thread each"], found["one run, two threads"])
    print(f"\nTwo runs of one thread, of one of two: {two}.")


def live(times: int) -> None:
    """What is left of a training's speed with the live view, two of each at once."""
    os.environ.update(ENVIRONMENT)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        shares = [share for _ in range(times) for share in pool.map(watched, [2, 2])]
    print(f"\nSpeed of ArcFace with the live view, of that without, {len(shares)} trainings: {about(shares, '.2f')}.")


def epoch() -> None:
    """An epoch of the default encoder, looks included, on one thread."""
    began = time.perf_counter()
    *_, last = train(RunConfig(head="ArcFace", dataset="imagewoof", size=SIZE, epochs=1))
    spent = time.perf_counter() - began
    print(
        f"\nAn epoch of ArcFace on Imagewoof, {SIZE} px, one thread: {spent:.1f} s, {last.seconds:.1f} s of it steps."
    )


def digits() -> None:
    """All seven heads on digits by the live preset, one after the other on one thread."""
    took, scores = 0.0, []
    for head in SEVEN:
        for seed in range(5):
            began = time.process_time()
            *_, last = train(RunConfig(head=head, **PRESETS["live"].terms, seed=seed))
            took += time.process_time() - began
            scores.append(last.metrics["knn_accuracy"])
    print(
        f"\nDigits: seven heads by the live preset, five seeds: {took / 5:.1f} CPU s for a seed's seven, the look at "
        f"all images included; KNN accuracy {100 * min(scores):.1f} to {100 * max(scores):.1f} %, "
        f"{sum(score >= 0.99 for score in scores)} of {len(scores)} at 99 % or more."
    )


def main() -> None:
    """Print what was measured, as Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=15, help="for each thing that is repeated")
    words.add_argument("--times", type=int, default=5, help="turns of the trainings")
    words.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    asked = words.parse_args()
    print(f"{machine()}; load at the start {psutil.getloadavg()[0]:.1f}.\n")
    if "steps" in asked.only:
        steps(asked.seconds)
    if "trainings" in asked.only:
        trainings(asked.seconds, asked.times)
    if "live" in asked.only:
        live(asked.times)
    if "epoch" in asked.only:
        epoch()
    if "digits" in asked.only:
        digits()


if __name__ == "__main__":
    main()
