"""How a sweep goes with more workers: python -m tests.benchmarks.scaling [--runs 200] [--workers 1,2,4]

A sweep of short trainings on digits is queued and seen through by a supervisor, each time in a fresh home, on so many
worker processes of this machine (local) or so many nodes of one CPU each of a cluster that is all on this machine (ray,
with tests/requirements-cluster.txt; `--engines local` does without). Workers beyond the machine's cores can gain
nothing. The clock starts when every worker has finished a run of its own, so loading torch is not counted, and stops
when the last run is recorded. Prints Markdown; "weights" says whether each run ended with those of the first line, bit
for bit.
"""

import argparse
import hashlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.benchmarks.keeping import machine
from trainer import RunConfig, sweep
from trainer.engines import Engine
from trainer.engines.local import LocalEngine, cores
from trainer.engines.ray import RayEngine
from trainer.folder import RunFolder
from trainer.store import Store
from trainer.supervisor import Supervisor
from trainer.sweep import Axis, Sweep
from trainer.worker import unpack

TERMS = {"epochs": 2, "dim": 16, "probe": 100}


@contextmanager
def opened(name: str, workers: int) -> Iterator[Engine]:
    """An engine with so many workers."""
    if name == "local":
        engine: Engine = LocalEngine(workers)
        yield engine
        engine.close(10)
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(workers):
        cluster.add_node(num_cpus=1)
    engine = RayEngine(cluster.address, gpus=0)
    yield engine
    engine.close(10)
    cluster.shutdown()


def seen_through(supervisor: Supervisor) -> float:
    """Seconds until nothing is left of the queue."""
    began = time.perf_counter()
    while supervisor.store.count(("queued", "running")):
        supervisor.tick()
        supervisor.rest()
    return time.perf_counter() - began


def digest(folder: RunFolder) -> str:
    """SHA-256 over the weights that a run ended with."""
    content = folder.checkpoint()
    assert content is not None, f"{folder.path} has no weights"
    whole, tensors = hashlib.sha256(), unpack(content)["tensors"]
    for name in sorted(tensors):
        whole.update(tensors[name].numpy().tobytes())
    return whole.hexdigest()


def swept(name: str, workers: int, runs: int) -> tuple[float, list[float], dict[str, str]]:
    """Seconds for a sweep of so many runs, those of each run, and the digest of its weights by its settings."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ["FACES_HOME"] = home
        store = Store(Path(home))
        with opened(name, workers) as engine:
            supervisor = Supervisor(store, engine)
            for seed in range(workers):
                store.submit(RunConfig(seed=1000 + seed, **TERMS))
            seen_through(supervisor)
            side = next(side for side in range(int(runs**0.5), 0, -1) if runs % side == 0)
            s, m = np.linspace(1, 16, runs // side).round(3), np.linspace(0, 0.6, side).round(3)
            begun = store.count()
            sweep.start(
                store, Sweep("ArcFace", (Axis("s", tuple(map(float, s))), Axis("m", tuple(map(float, m)))), TERMS)
            )
            seconds = seen_through(supervisor)
        done = store.runs()[:-begun]
        assert [run.state for run in done] == ["finished"] * runs, {run.reason for run in done}
        each = [(run.ended or 0.0) - (run.started or 0.0) for run in done]
        return seconds, each, {run.config.key: digest(store.folder(run.id)) for run in done}


def main() -> None:
    """Print a line for each engine and number of workers."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--runs", type=int, default=200)
    words.add_argument("--workers", default="1,2,4")
    words.add_argument("--engines", default="local,ray")
    words.add_argument("--one", help="ENGINE:WORKERS, measured in this process and printed as JSON")
    asked = words.parse_args()
    if asked.one:
        name, workers = asked.one.split(":")
        print(json.dumps(swept(name, int(workers), asked.runs)))
        return
    os.environ.update(FACES_DEVICE="cpu", OMP_NUM_THREADS="1")
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")
    print(f"{machine()}; {cores()} to use, load at the start {os.getloadavg()[0]:.1f}.")
    print(f"{asked.runs} runs with {TERMS}.\n")
    print("| engine | workers | s | runs a minute | faster than one worker | a run, median s | weights |")
    print("|---|---|---|---|---|---|---|")
    first: dict[str, str] = {}
    for name in asked.engines.split(","):
        one = 0.0
        for workers in map(int, asked.workers.split(",")):
            cell = [sys.executable, "-m", "tests.benchmarks.scaling", "--runs", str(asked.runs)]
            told = subprocess.run([*cell, "--one", f"{name}:{workers}"], stdout=subprocess.PIPE, text=True, check=True)
            seconds, each, digests = json.loads(told.stdout.splitlines()[-1])
            first, one = first or digests, one or seconds
            same = "same" if digests == first else "DIFFER"
            print(
                f"| {name} | {workers} | {seconds:.0f} | {60 * asked.runs / seconds:.0f} | {one / seconds:.2f} × "
                f"| {statistics.median(each):.2f} | {same} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
