"""Forward and backward of each head beside other implementations: python -m tests.benchmarks.heads

Beside nn.Linear + cross-entropy (the unit of the tables), pytorch-metric-learning and Catalyst, where these are
installed. One thread, float32, 256 features of 512 numbers. All take turns in one process, in an order
that is drawn anew for each round. Time is CPU time of the process, which neighbours on a busy machine disturb
least, and a ratio is the median over rounds of the ratio within a round. Memory is the most bytes that torch's
allocator held above what it held before, gradients included, from the profiler's record of every
allocation: exact and the same each time. What a matrix library takes for itself is not in it.
"""

import argparse
import importlib.util
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from faces.heads import HEADS
from faces.heads.base import Head
from faces.knobs import fixed_scale

B, D = 256, 512
UNIT = "nn.Linear"
AS_MANY = "nn.Linear of as many rows"  # as SubCenterArcFace has, K for each class
S, M = 16.0, 0.25
NAMES: dict = {  # ours: (pytorch-metric-learning's, Catalyst's)
    "Classification": (None, None),
    "ArcMarginProduct": (None, ("arcmargin", "ArcMarginProduct")),
    "NormFace": ("NormalizedSoftmaxLoss", None),
    "ArcFace": ("ArcFaceLoss", ("arcface", "ArcFace")),
    "CosFace": ("CosFaceLoss", ("cosface", "CosFace")),
    "AdaCos": (None, ("cosface", "AdaCos")),
    "CurricularFace": (None, ("curricularface", "CurricularFace")),
    "SubCenterArcFace": ("SubCenterArcFaceLoss", ("arcface", "SubCenterArcFace")),
}
Step = Callable[[Tensor, Tensor], Tensor]  # features and labels to a loss


def ours(name: str, classes: int) -> nn.Module:
    """A head of this project."""
    known = {"s": S, "m": M}
    return HEADS[name](D, classes, **{knob: known[knob] for knob in HEADS[name].knobs if knob in known})


def metric_learning(name: str, classes: int) -> nn.Module | None:
    """The same loss from pytorch-metric-learning, which takes angles in degrees."""
    title = NAMES[name][0]
    if title is None or importlib.util.find_spec("pytorch_metric_learning") is None:
        return None
    from pytorch_metric_learning import losses

    if title == "NormalizedSoftmaxLoss":
        return losses.NormalizedSoftmaxLoss(num_classes=classes, embedding_size=D, temperature=1 / S)
    margin = M if title == "CosFaceLoss" else math.degrees(M)
    return getattr(losses, title)(num_classes=classes, embedding_size=D, margin=margin, scale=S)


def catalyst(name: str, classes: int) -> nn.Module | None:
    """The same layer from Catalyst, file by file: the package as a whole imports far more."""
    found, where = NAMES[name][1], importlib.util.find_spec("catalyst")
    if found is None or where is None or where.origin is None:
        return None
    file, title = found
    spec = importlib.util.spec_from_file_location(file, Path(where.origin).parent / f"contrib/layers/{file}.py")
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    knobs = {} if title in ("ArcMarginProduct", "AdaCos") else {"s": S, "m": M}
    return getattr(module, title)(D, classes, **knobs)


MAKERS = {"Faces": ours, "PML": metric_learning, "Catalyst": catalyst}


def step_of(module: nn.Module) -> Step:
    """How to get a loss from features and labels."""
    if isinstance(module, Head):
        return module.loss
    if isinstance(module, nn.Linear) or type(module).__name__ == "ArcMarginProduct":
        return lambda features, labels: cross_entropy(module(features), labels)
    if type(module).__module__.startswith("pytorch_metric_learning"):
        return module
    return lambda features, labels: cross_entropy(module(features, labels), labels)


def measure(classes: int, seconds: float, least: int) -> tuple[dict, dict, int]:
    """CPU seconds of every round, and peak bytes, of every (maker, head); and the number of rounds."""
    torch.manual_seed(0)
    modules: dict[tuple[str, str], nn.Module] = {(UNIT, ""): nn.Linear(D, classes)}
    modules[AS_MANY, ""] = nn.Linear(D, classes * HEADS["SubCenterArcFace"].knobs["k"].default)
    for name in HEADS:
        if name in NAMES:
            made = {maker: make(name, classes) for maker, make in MAKERS.items()}
            modules |= {(maker, name): module for maker, module in made.items() if module is not None}
    features = torch.randn(B, D, requires_grad=True)
    labels = torch.randint(classes, (B,))
    steps = {key: step_of(module) for key, module in modules.items()}

    def clear(key: tuple[str, str]) -> None:
        features.grad = None
        for parameter in modules[key].parameters():
            parameter.grad = None

    def run(key: tuple[str, str]) -> float:
        """CPU seconds of one step; small steps are repeated and averaged."""
        repeats = max(1, 500 // classes)
        began = time.process_time()
        for _ in range(repeats):
            clear(key)
            steps[key](features, labels).backward()
        return (time.process_time() - began) / repeats

    memory = {}
    for key in modules:  # a first round, not timed
        memory[key] = peak(lambda key=key: steps[key](features, labels).backward())
        clear(key)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in modules}
    end, rounds = time.monotonic() + seconds, 0
    while rounds < least or time.monotonic() < end:
        for key in random.Random(rounds).sample(list(modules), len(modules)):
            times[key].append(run(key))
            clear(key)
        rounds += 1
    return times, memory, rounds


def peak(step: Callable[[], object]) -> int:
    """The most bytes that torch's allocator held above what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def ratio(of: list[float], to: list[float]) -> str:
    """The median ratio within a round, with the middle half of the rounds."""
    each = sorted(one / other for one, other in zip(of, to, strict=True))
    low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def table(classes: int, times: dict, memory: dict, rounds: int) -> None:
    """Print what was measured at one number of classes."""
    unit = (UNIT, "")
    mib = memory[unit] / 2**20
    print(f"\n## C = {classes:,}\n")
    print(
        f"nn.Linear + cross-entropy: {1000 * statistics.median(times[unit]):.3g} ms of CPU, at most {mib:.3g} MiB; "
        f"{rounds} rounds. In brackets the middle half of the rounds.\n"
    )
    print("| head | time / Linear | time / PML | time / Catalyst | memory / Linear | PML's | Catalyst's |")
    print("|---|---|---|---|---|---|---|")
    for name in [name for maker, name in times if maker == "Faces"]:
        own = ("Faces", name)
        cells = [ratio(times[own], times[unit])]
        cells += [
            ratio(times[own], times[maker, name]) if (maker, name) in times else "–" for maker in ("PML", "Catalyst")
        ]
        cells += [
            f"{memory[maker, name] / memory[unit]:.2f}" if (maker, name) in memory else "–"
            for maker in ("Faces", "PML", "Catalyst")
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    own, as_many = ("Faces", "SubCenterArcFace"), (AS_MANY, "")
    print(
        f"\nSubCenterArcFace beside nn.Linear + cross-entropy of as many rows: time "
        f"{ratio(times[own], times[as_many])}, memory {memory[own] / memory[as_many]:.2f}.",
        flush=True,
    )


def installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


def processor() -> str:
    """The processor's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Print a Markdown table for each number of classes."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--classes", type=int, nargs="+", default=[10, 1000, 100_000])
    words.add_argument("--seconds", type=float, default=30, help="for the rounds at each number of classes")
    words.add_argument("--least", type=int, default=3, help="rounds at each number of classes")
    asked = words.parse_args()
    torch.set_num_threads(1)
    packages = [installed(name) for name in ("torch", "pytorch-metric-learning", "catalyst")]
    print(
        f"{processor()}, {os.cpu_count()} cores, one thread; Python {platform.python_version()}, {', '.join(packages)};"
    )
    print(
        f"B = {B}, D = {D}, s = {S:g} (ArcMarginProduct 1, AdaCos its own, {fixed_scale(10):.3f} at C = 10), m = {M};"
    )
    print(f"load average at the start {os.getloadavg()[0]:.1f}.")
    for classes in asked.classes:
        table(classes, *measure(classes, asked.seconds, asked.least))


if __name__ == "__main__":
    main()
