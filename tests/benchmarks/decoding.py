"""From JPEG files to batches: python -m tests.benchmarks.decoding [--times 5]

Needs Imagewoof in the home (`FACES_HOME`). Three hundred of its photographs of 160 px, and the same enlarged to 320 px
and saved as JPEG of quality 90, become squares in three ways that take turns: PIL decodes all of a file and resizes it;
ours, which drafts (decodes at 1/2, 1/4 or 1/8) to twice the square at least; and PIL drafts as far as it goes, to the
square at least. Resizing is the same. Batches are taken from the caches at 64 and 128 px that are there, and the whole
set is decoded to one at 160 px, in a home of its own. One thread is told by its CPU time, two by wall time.
"""

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from faces.datasets import find
from faces.datasets.pictures import pixels
from tests.benchmarks.keeping import machine
from tests.benchmarks.speed import B, about, in_turns, ratio
from trainer.batches import moved, moves, ready, tensor

COUNT = 300  # photographs


def photographs() -> list[bytes]:
    """Some training photographs, evenly spread over the set."""
    data = find("imagewoof")
    with zipfile.ZipFile(next(data.folder.glob(f"originals-{data.print}.zip"))) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("train/"))
        return [archive.read(name) for name in names[:: max(1, len(names) // COUNT)][:COUNT]]


def enlarged(content: bytes) -> bytes:
    """A photograph with twice its sides, as a JPEG of quality 90."""
    image, out = Image.open(io.BytesIO(content)).convert("RGB"), io.BytesIO()
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def by_pil(content: bytes, size: int, draft: int = 0) -> np.ndarray:
    """The middle square of a JPEG, resized: all of it decoded, or drafted to no less than `draft` pixels."""
    image = Image.open(io.BytesIO(content))
    if draft:
        image.draft("RGB", (draft, draft))
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side)))


def spent(
    clock: Callable[[], float], over: Callable[..., Iterable], way: Callable, contents: list[bytes], size: int
) -> float:
    """Milliseconds by this clock for each file; `over` is map, or a pool's."""
    began = clock()
    for _ in over(way, contents, repeat(size)):
        pass
    return 1000 * (clock() - began) / len(contents)


def squares(title: str, contents: list[bytes], size: int, times: int) -> None:
    """A row for each way."""
    ways = {"all of it": by_pil, "ours": pixels, "drafted as far as it goes": partial(by_pil, draft=size)}
    with ThreadPoolExecutor(2) as two:
        acts = {name: partial(spent, time.process_time, map, way, contents, size) for name, way in ways.items()}
        acts["wall"] = partial(spent, time.perf_counter, map, by_pil, contents, size)
        for name, way in ways.items():
            acts[f"{name}, two"] = partial(spent, time.perf_counter, two.map, way, contents, size)
        found = in_turns(acts, times)
    whole = np.stack([by_pil(content, size) for content in contents]).astype(int)
    for name, way in ways.items():
        off = np.abs(np.stack([way(content, size) for content in contents]) - whole).mean()
        one, both = ratio(found[name], found["all of it"]), ratio(found[f"{name}, two"], found["wall"])
        print(f"| {title}, {name} | {about(found[name], '.2f')} | {one} | {both} | {off:.1f} |")


def whole_set(size: int = 160) -> None:
    """All of Imagewoof to the cache, in a home of its own."""
    kept = find("imagewoof").folder
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, FACES_HOME=home):
        shutil.copytree(kept, Path(home) / "data" / kept.name, ignore=shutil.ignore_patterns("*px-*"))
        began, worked = time.perf_counter(), time.process_time()
        find("imagewoof").prepare(size)
        wall, worked = time.perf_counter() - began, time.process_time() - worked
        count = sum(find("imagewoof").counts or ())
    print(f"\nAll {count:,} files to the cache at {size} px, two threads: {wall:.1f} s, {worked:.1f} s of CPU.")


def batch(contents: list[bytes], size: int, times: int) -> None:
    """Opening what is decoded, and a standardized batch of it, beside decoding one."""
    began = time.perf_counter()
    images = find("imagewoof").load(size)
    opened = time.perf_counter() - began
    stored, rows = tensor(images.pixels), torch.randperm(len(images.train_rows))[:B]
    makers: dict[str, Callable[[], Tensor]] = {
        "theirs": lambda: torch.from_numpy(np.stack([by_pil(content, size) for content in contents[:B]])),
        "fetched": lambda: stored[rows],
        "moved": lambda: moved(stored[rows], *moves(B, size, 0, 0)),
    }

    def worked(make: Callable[[], Tensor]) -> float:
        began = time.process_time()
        for _ in range(10):
            ready(make())
        return 100 * (time.process_time() - began)

    torch.set_num_threads(1)
    theirs, *ours = in_turns({name: partial(worked, make) for name, make in makers.items()}, times).values()
    fetched, changed = (f"{about(some, '.1f')} CPU ms, {ratio(some, theirs)} of decoding it by PIL" for some in ours)
    print(
        f"\n{size} px: what is decoded opened in {1000 * opened:.0f} ms. A batch of {B} of it, standardized: {fetched};"
    )
    print(f"moved and mirrored too: {changed}.")


def main() -> None:
    """Print what was measured, as Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--times", type=int, default=5)
    asked = words.parse_args()
    print(f"{machine()}; load at the start {psutil.getloadavg()[0]:.1f}.\n")
    small = photographs()
    large = [enlarged(content) for content in small]
    sizes = " and ".join(f"{statistics.fmean(map(len, some)) / 1000:.1f}" for some in (small, large))
    print(f"{len(small)} photographs of 160 px, and enlarged to 320 px, {sizes} kB each; {asked.times} turns.\n")
    print("| | ms each | of PIL's whole | two threads, of PIL's whole on one | grey levels from it |")
    print("|---|---|---|---|---|")
    for title, contents, size in (
        ("320 to 160 px", large, 160), ("320 to 64 px", large, 64), ("160 to 64 px", small, 64),
    ):  # fmt: skip
        squares(title, contents, size, asked.times)
    for size in (64, 128):
        if find("imagewoof").ready(size):
            batch(small, size, asked.times)
    whole_set()


if __name__ == "__main__":
    main()
