"""How soon a run trains again after its supervisor is killed, and how soon one that trains is stopped.

    python -m tests.benchmarks.recovery [--kills 10] [--stops 20]

The real trainer and its workers, runs on digits. A supervisor is killed (SIGKILL) while a run trains, and another is
started at once; told are the seconds until the store has entered a moment that the run reached after that. The app
looks every two seconds whether its supervisor lives, so there up to two more pass. A stop is asked for as a page does,
while a run trains; told are the seconds until the store says "stopped", when its checkpoint is written.
"""

import argparse
import os
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, Popen

import numpy as np

from tests.benchmarks.keeping import machine
from tests.helpers import end, trainer, until
from trainer import RunConfig
from trainer.store import Store

CONFIG = RunConfig(head="ArcFace", epochs=200, dim=16, probe=100)  # a minute: it is always interrupted
wait = partial(until, patience=300.0)  # seconds


def serve(store: Store) -> Popen:
    """A supervisor."""
    return trainer("serve", home=store.path, stdout=DEVNULL, stderr=DEVNULL)


def reached(store: Store, name: str) -> int:
    """The newest step that the store has entered of a run."""
    return max((facts["step"] for facts in store.history(name)), default=-1)


def training(store: Store) -> str:
    """A new run, once it trains and has got further than its first moment."""
    name = store.submit(CONFIG)
    wait(lambda: reached(store, name) > 0)
    return name


def stopped(store: Store, name: str) -> float:
    """Seconds from the wish to stop a run that trains until it is stopped."""
    began = time.perf_counter()
    store.stop(name)
    wait(lambda: store.run(name).state == "stopped")
    return time.perf_counter() - began


def recovered(store: Store, supervisor: Popen) -> tuple[Popen, float, float]:
    """The next supervisor after one is killed, seconds until it takes up the run, and until that gets further."""
    name = training(store)
    supervisor.kill()
    began = time.perf_counter()
    supervisor.wait()
    following = serve(store)
    wait(lambda: store.run(name).attempt == 2)  # all that the first attempt kept is entered by now
    taken, before = time.perf_counter() - began, reached(store, name)
    wait(lambda: reached(store, name) > before)
    further = time.perf_counter() - began
    stopped(store, name)
    return following, taken, further


def tell(what: str, times: list[float]) -> None:
    """Print a row: median, 95 %, the least and the most."""
    half, most = np.percentile(times, [50, 95])
    print(f"| {what} | {half:.2f} | {most:.2f} | {min(times):.2f} | {max(times):.2f} | {len(times)} |", flush=True)


def main() -> None:
    """Print Markdown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=10)
    words.add_argument("--stops", type=int, default=20)
    asked = words.parse_args()
    print(f"{machine()}; Streamlit {version('streamlit')}; load at the start {os.getloadavg()[0]:.1f}\n")
    print("| s | median | 95 % | least | most | times |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        store = Store(Path(home))
        supervisor, taken, further = serve(store), list[float](), list[float]()
        try:
            for _ in range(asked.kills):
                supervisor, *spent = recovered(store, supervisor)
                taken.append(spent[0])
                further.append(spent[1])
            tell("supervisor killed, until the next one takes up the run", taken)
            tell("until the run has got further", further)
            tell("asked to stop, until stopped", [stopped(store, training(store)) for _ in range(asked.stops)])
        finally:
            end(supervisor)
    print(f"\nLoad at the end {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
