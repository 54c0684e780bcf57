"""Seven heads trained by the real trainer, from the wish to the last score: python -m tests.benchmarks.demo

Needs Imagewoof, prepared at 64 px, in the home (`FACES_HOME`), or `--dataset digits`, which are trained by the live
preset; runs are submitted there as anybody would. Worker processes are warm, as they are while the app is open. Told
are the time until the first points of the first run are there, until all have ended, what share of a run's time within
its epochs the steps themselves had (the rest looks at images, writes snapshots and draws), and an epoch of one run
alone with one thread and with one for each core.
"""

import argparse
import statistics
import time

import psutil

from faces.home import home
from tests.benchmarks.keeping import machine
from tests.benchmarks.speed import SEVEN
from trainer import RunConfig
from trainer.engines.local import LocalEngine, cores
from trainer.presets import PRESETS
from trainer.store import Store
from trainer.supervisor import Supervisor


def seen_through(supervisor: Supervisor, runs: list[str]) -> tuple[float, float]:
    """Seconds until the first of these has points, and until all have ended."""
    began, first, store = time.perf_counter(), 0.0, supervisor.store
    while any(store.run(run).open for run in runs):
        supervisor.tick()
        supervisor.rest()
        if not first and any(store.folder(run).drawn("pca-2") for run in runs):
            first = time.perf_counter() - began
    assert [store.run(run).state for run in runs] == ["finished"] * len(runs)
    return first, time.perf_counter() - began


def share_of_steps(store: Store, run: str) -> float:
    """Of the wall time between the first and the last look within the epochs, that of the steps."""
    folder = store.folder(run)
    moments = [(file.stat().st_mtime, step) for step, file in folder.moments().items()][:-1]
    spent = {facts["step"]: facts["seconds"] for facts in store.history(run)}
    (begun, first), (ended, last) = moments[0], moments[-1]
    return (spent[last] - spent[first]) / (ended - begun)


def main() -> None:
    """Print Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--dataset", default="imagewoof")
    asked = words.parse_args()
    print(f"{machine()}; {cores()} to use; load at the start {psutil.getloadavg()[0]:.1f}\n")
    store, engine = Store(home()), LocalEngine(cores())
    supervisor = Supervisor(store, engine)
    seen_through(supervisor, [store.submit(RunConfig(epochs=1), "demo, warming up") for _ in range(cores())])
    terms = PRESETS["live"].terms if asked.dataset == "digits" else {"dataset": asked.dataset, "epochs": 5}
    runs = [store.submit(RunConfig(head=head, **terms), "demo") for head in SEVEN]
    first, all_ended = seen_through(supervisor, runs)
    shares = [share_of_steps(store, run) for run in runs]
    print(
        f"Seven heads, {terms['epochs']} epochs of {asked.dataset}, {cores()} at a time: {all_ended:.1f} s; the first"
    )
    print(f"points after {first:.1f} s. Steps had {statistics.median(shares):.2f} of a run's time within its epochs")
    print(f"({min(shares):.2f} to {max(shares):.2f}).\n")
    for threads in (1, cores()):
        run = store.submit(RunConfig(**{**terms, "epochs": 1, "threads": threads}), "demo, alone")
        first, ended = seen_through(supervisor, [run])
        print(f"An epoch of ArcFace alone on {threads} threads: {ended:.1f} s, its first points after {first:.1f} s.")
    engine.close(20)


if __name__ == "__main__":
    main()
