"""Seven heads in one process, against each alone, processes of their own, and a vmapped ensemble.

    FACES_HOME=... python -m tests.benchmarks.together [--steps 12] [--times 5]

On Imagewoof at 64 px when it is prepared in the home, on a GPU when there is one; there at 128 px and in each mode of
training. Every way trains the same seven networks by `trainer.training.turns`, step by step, without looks: "alone"
one head after another, each on batches of its own, "in turn" all heads on a batch made once, as a GPU does it here,
"processes" as many at once as there are cores (or heads, on a GPU). vmap runs the seven encoders as one, with batch
norm that keeps no averages, which is compared with the same encoders one after another: forward and backward only.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from faces.datasets import find
from faces.encoders import ENCODERS
from tests.benchmarks.keeping import machine
from tests.benchmarks.speed import SEVEN, wait
from trainer import RunConfig, training
from trainer.engines.local import cores
from trainer.training import best_device, turns

training.LIVE_GAP = (1e9, 1e9)  # seconds: no looks within an epoch
RESTING = 3  # steps before the clock runs


def stepping(config: RunConfig, device: str) -> Iterator[Any]:
    """A training that has had its first look and `RESTING` steps."""
    steps = turns(config, device=device)
    for _ in range(1 + RESTING):
        next(steps)
    return steps


def alone(configs: list[RunConfig], steps: int, device: str) -> float:
    """Seconds for so many steps of each, one after another."""
    spent = 0.0
    for config in configs:
        run = stepping(config, device)
        wait(device)
        began = time.perf_counter()
        for _ in islice(run, steps):
            pass
        wait(device)
        spent += time.perf_counter() - began
        run.close()
    return spent


def in_turn(configs: list[RunConfig], steps: int, device: str) -> float:
    """Seconds for so many steps of each, a step of each in turn."""
    runs = [stepping(config, device) for config in configs]
    wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        for run in runs:
            next(run)
    wait(device)
    spent = time.perf_counter() - began
    for run in runs:
        run.close()
    return spent


def share(configs: list[RunConfig], steps: int, device: str, ready: Any) -> None:
    """What one process does: its heads one after another, once all processes are ready."""
    runs = [stepping(config, device) for config in configs]
    wait(device)
    ready.wait()
    for run in runs:
        for _ in islice(run, steps):
            pass
    wait(device)
    ready.wait()


def apart(configs: list[RunConfig], steps: int, device: str) -> float:
    """Seconds for so many steps of each, the heads dealt out to processes."""
    count = len(configs) if device == "cuda" else cores()
    start = multiprocessing.get_context("spawn")
    ready = start.Barrier(count + 1)
    helpers = [
        start.Process(target=share, args=(configs[place::count], steps, device, ready)) for place in range(count)
    ]
    for helper in helpers:
        helper.start()
    ready.wait()
    began = time.perf_counter()
    ready.wait()
    spent = time.perf_counter() - began
    for helper in helpers:
        helper.join()
    return spent


class Ensemble:
    """Seven encoders with a linear layer each, and a batch: vmapped, or one after another."""

    def __init__(self, config: RunConfig, device: str):
        self.models = [
            nn.Sequential(ENCODERS[config.encoder](3, config.size, config.dim), nn.Linear(config.dim, 10)).to(device)
            for _ in SEVEN
        ]
        for model in self.models:
            replace_all_batch_norm_modules_(model)
        self.images = torch.randn(config.batch, 3, config.size, config.size, device=device)
        self.labels = torch.randint(10, (config.batch,), device=device)
        self.stacked, self.buffers = stack_module_state(self.models)

    def one_by_one(self) -> None:
        """A forward and backward pass of each."""
        for model in self.models:
            cross_entropy(model(self.images), self.labels).backward()

    def mapped(self) -> None:
        """The same as one."""

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return cross_entropy(functional_call(self.models[0], (parameters, buffers), (self.images,)), self.labels)

        vmap(loss)(self.stacked, self.buffers).sum().backward()


def passes(act: Any, steps: int, device: str) -> float:
    """Seconds for so many passes, after one."""
    act()
    wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        act()
    wait(device)
    return time.perf_counter() - began


def main() -> None:
    """Print Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--steps", type=int, default=12)
    words.add_argument("--times", type=int, default=5)
    asked = words.parse_args()
    device = best_device()
    terms: dict[str, Any] = {"dataset": "digits"}
    if find("imagewoof").ready(size := 128 if device == "cuda" else 64):
        terms = {"dataset": "imagewoof", "size": size}
    where = torch.cuda.get_device_name() if device == "cuda" else f"{cores()} cores"
    print(f"{machine()}; {device}, {where}; load at the start {psutil.getloadavg()[0]:.1f}\n")
    for mode in ("deterministic", "fast", "compiled") if device == "cuda" else ("deterministic",):
        configs = [RunConfig(head=head, mode=mode, epochs=200, probe=100, **terms) for head in SEVEN]
        ways = {"alone": alone, "in turn": in_turn, "processes": apart}
        spent: dict[str, list[float]] = {way: [] for way in (*ways, "vmap", "one by one")}
        torch.set_num_threads(1)
        for _ in range(asked.times):
            for way, act in ways.items():
                spent[way].append(act(configs, asked.steps, device))
            ensemble = Ensemble(configs[0], device)
            spent["one by one"].append(passes(ensemble.one_by_one, asked.steps, device))
            with contextlib.suppress(RuntimeError):
                spent["vmap"].append(passes(ensemble.mapped, asked.steps, device))
        print(f"{configs[0].encoder} on {terms}, {mode}; {asked.steps} steps of each of seven, {asked.times} times.\n")
        print("| | steps a second in all | time, of one after another |\n|---|---|---|")
        for way, base in (*((way, "alone") for way in ways), ("vmap", "one by one")):
            if not spent[way]:
                print(f"| {way} | does not run | |")
                continue
            ratios = [mine / other for mine, other in zip(spent[way], spent[base], strict=True)]
            rate = len(SEVEN) * asked.steps / statistics.median(spent[way])
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {way} | {rate:.1f} | {spread} |")
        print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
