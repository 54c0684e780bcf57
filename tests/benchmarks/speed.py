"""How fast training is on a CPU, beside the usual recipe: python -m tests.benchmarks.speed [--seconds 20]

Needs Imagewoof, prepared at 64 px, in the home (`FACES_HOME`). All take turns in one run on a machine that should have
nothing else to do; what is compared stands side by side and only ratios travel. "Usual" is what most notebooks do with
the same network and batch: torchvision's ImageFolder on the JPEG files, a DataLoader with a worker per core, PIL
transforms (RandomResizedCrop to 64 px, flip, ToTensor, Normalize), torch's own threads.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from faces.datasets import find
from faces.datasets.pictures import pixels
from faces.encoders import ENCODERS
from faces.heads import HEADS
from faces.model import EncoderWithHead
from tests.benchmarks.keeping import machine
from trainer import RunConfig, train
from trainer.batches import moved, moves, ready
from trainer.presets import PRESETS

B, SIZE = 64, 64
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


def built(encoder: str, channels_last: bool = True, size: int = SIZE) -> tuple[EncoderWithHead, torch.optim.Optimizer]:
    """A network with ArcFace, and its optimizer."""
    torch.manual_seed(0)
    model = EncoderWithHead(ENCODERS[encoder](3, size, 128), HEADS["ArcFace"](128, 10))
    model = model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
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


def alone(threads: int, seconds: float) -> float:
    """Steps a second of the default encoder in this process."""
    torch.set_num_threads(threads)
    return 1 / clocked(stepper("ResNet9"), seconds)


def together(seconds: float) -> None:
    """Two processes of one thread beside one of two."""
    with ProcessPoolExecutor(1) as one:
        rates = {"1 process, 1 thread": one.submit(alone, 1, seconds).result()}
        rates["1 process, 2 threads"] = one.submit(alone, 2, seconds).result()
    with ProcessPoolExecutor(2) as two:
        rates["2 processes, 1 thread"] = sum(each.result() for each in [two.submit(alone, 1, seconds) for _ in "ab"])
    print("\n| | steps a second in all |\n|---|---|")
    print("\n".join(f"| {name} | {rate:.1f} |" for name, rate in rates.items()))


def epoch() -> tuple[float, float]:
    """Wall seconds of an epoch of the default encoder, looks included, and of its steps alone."""
    began = time.perf_counter()
    *_, last = train(RunConfig(head="ArcFace", dataset="imagewoof", size=SIZE, epochs=1))
    return time.perf_counter() - began, last.seconds


def unpacked(folder: Path) -> Path:
    """The training photographs as files, a folder for each class."""
    data = find("imagewoof")
    with zipfile.ZipFile(next(data.folder.glob(f"originals-{data.print}.zip"))) as archive:
        for name in archive.namelist():
            if name.startswith("train/"):
                archive.extract(name, folder)
    return folder / "train"


def usual(folder: Path, seconds: float, encoder: str = "ResNet9", size: int = SIZE, device: str = "cpu") -> float:
    """Images a second of the usual recipe, in float32, from a DataLoader that has warmed up."""
    from torchvision import transforms as tf
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(os.cpu_count() or 1)
    flow = tf.Compose(
        [tf.RandomResizedCrop(size), tf.RandomHorizontalFlip(), tf.ToTensor(), tf.Normalize([0.5] * 3, [0.25] * 3)]
    )
    model, optimizer = built(encoder, channels_last=False, size=size)
    model.to(device)
    seen, began = 0, 0.0
    for place, (images, labels) in enumerate(
        torch.utils.data.DataLoader(ImageFolder(folder, flow), B, True, num_workers=os.cpu_count() or 1, drop_last=True)
    ):
        if place == 5:
            seen, began = 0, time.perf_counter()
        loss = model.loss(images.to(device), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(images)
        if place > 10 and time.perf_counter() - began > seconds:
            break
    return seen / (time.perf_counter() - began)


def data(files: Path, seconds: float) -> None:
    """Decoding a photograph and taking a batch, beside PIL; on one thread."""
    torch.set_num_threads(1)
    chosen = sorted(files.rglob("*.JPEG"))[:: max(1, len(list(files.rglob("*.JPEG"))) // 300)][:300]
    contents = [file.read_bytes() for file in chosen]

    def whole(content: bytes) -> np.ndarray:
        """As most notebooks do: decode all of it, then resize and cut the middle."""
        image = Image.open(io.BytesIO(content)).convert("RGB")
        scale = SIZE / min(image.size)
        image = image.resize((max(SIZE, round(image.width * scale)), max(SIZE, round(image.height * scale))))
        left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
        return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))

    theirs = clocked(lambda: [whole(content) for content in contents], seconds)
    ours = clocked(lambda: [pixels(content, SIZE) for content in contents], seconds)
    began = time.perf_counter()
    images = find("imagewoof").load(SIZE)
    opened = time.perf_counter() - began
    stored, labels = torch.from_numpy(np.asarray(images.pixels)), len(images.train_rows)
    rows = torch.randperm(labels)[:B]
    by, mirrored = moves(B, SIZE, 0, 0)
    batch = clocked(lambda: ready(moved(stored[rows], by, mirrored)), seconds)
    decoded = clocked(lambda: [whole(content) for content in contents[:B]], seconds)
    print(
        f"\nDecoding to {SIZE} px, {len(contents)} photographs of 160 px: {1000 * ours / len(contents):.2f} ms each, "
        f"{ours / theirs:.2f} of PIL's full decoding. Opening what is decoded: {1000 * opened:.0f} ms. A batch of {B}, "
        f"moved, mirrored and standardized: {1000 * batch:.1f} ms, {batch / decoded:.2f} of decoding it by PIL."
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
    asked = words.parse_args()
    print(f"{machine()}; load at the start {os.getloadavg()[0]:.1f}.\n")
    steps(asked.seconds)
    together(asked.seconds)
    whole, training = epoch()
    with tempfile.TemporaryDirectory() as folder:
        files = unpacked(Path(folder))
        theirs = usual(files, asked.seconds)
        data(files, asked.seconds / 3)
    ours = 140 * B / training  # 9,025 images make 140 batches
    print(
        f"\nAn epoch of ArcFace on Imagewoof, 64 px, one thread: {whole:.1f} s, {training:.1f} s of it steps, "
        f"{ours:.0f} images a second. The usual recipe on {os.cpu_count()} cores: {theirs:.0f}; "
        f"ours / its {ours / theirs:.2f}."
    )
    digits()


if __name__ == "__main__":
    main()
