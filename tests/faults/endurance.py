"""Ten hours of use in minutes: does anything grow?    python -m tests.faults.endurance [--runs 500]

So many short trainings on digits go through the real app, one after another is submitted as the queue empties, one in
ten is stopped, and all the while a viewer comes, opens the first page over its WebSocket, fetches the newest picture
and leaves. Memory, open files and threads of the server, the supervisor and the process that forks the workers are
looked at again and again. The first fifth is warming up; of the rest the last third may not have more files or threads
than the first, nor more than 3 % and 2 MB more memory, medians compared. Prints Markdown. Streamlit keeps the last 128
sessions that have left for two minutes, each with an event loop of three files: the server's files rise to about 390
and stay there.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from tests.benchmarks.keeping import machine
from tests.faults.kills import serve
from tests.helpers import end, until
from tests.wire import opened
from trainer import RunConfig
from trainer.store import Store

WAITING = 6  # runs that are kept in the queue
SAMPLES = 50


def held(process: psutil.Process) -> tuple[float, int, int]:
    """MB of memory, open files and sockets, threads."""
    with process.oneshot():
        return process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()


def family(server: subprocess.Popen) -> dict[str, psutil.Process]:
    """The processes that stay, by what they are; workers come and go."""
    found = {"server": psutil.Process(server.pid)}
    for name, word, above in (("supervisor", "serve", "server"), ("nursery", "nurse", "supervisor")):
        with suppress(psutil.NoSuchProcess, KeyError, StopIteration):
            found[name] = next(child for child in found[above].children() if word in child.cmdline())
    return found


async def visit(port: int) -> None:
    """Open the first page as a browser does, until its script has ended."""
    async with opened(f"127.0.0.1:{port}") as page:
        async for _ in page.run():
            pass


def fetch(address: str, store: Store) -> None:
    """The points of the newest picture."""
    with suppress(OSError, IndexError):
        run = store.runs(("finished",), slice(1))[0].id
        step = store.latest([run])[run]["step"]
        urllib.request.urlopen(f"{address}/faces/points/{run}/{step}/pca-2.bin", timeout=10).read()


def grown(values: list[float], room: float) -> bool:
    """Whether the last third of what was seen after warming up is above the first by more than this room."""
    steady = values[len(values) // 5 :]
    third = len(steady) // 3
    return statistics.median(steady[-third:]) > statistics.median(steady[:third]) + room


def main() -> None:
    """Print what was held at each look, and fail when something has grown."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--runs", type=int, default=500)
    asked = words.parse_args()
    draw, began, visits, submitted = random.Random(0), time.monotonic(), 0, 0
    looks: dict[str, list[tuple[float, int, int]]] = {"server": [], "supervisor": [], "nursery": []}
    print(f"{machine()}; {asked.runs} runs; load at the start {psutil.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        store = Store(Path(home))
        server = serve(store.path)
        try:
            while (done := store.count(("finished", "failed", "stopped"))) < asked.runs:
                for _ in range(min(WAITING - store.count(("queued",)), asked.runs - submitted)):
                    config = RunConfig(epochs=1, batch=256, dim=8, probe=100, seed=submitted)
                    name, submitted = store.submit(config), submitted + 1
                    if draw.random() < 0.1:
                        store.stop(name)
                asyncio.run(visit(server.port))
                fetch(server.address, store)
                visits += 1
                found = family(server.process)
                if done >= len(looks["server"]) * asked.runs // SAMPLES and len(found) == len(looks):
                    for who, process in found.items():
                        looks[who].append(held(process))
            until(lambda: not store.count(("running",)), 60)
            states = {state: store.count((state,)) for state in ("finished", "stopped", "failed")}
        finally:
            end(server.process, 60)
    print("| | MB, after warming up | MB, in the end | most | files | threads | grown |")
    print("|---|---|---|---|---|---|---|")
    bad = False
    for who, seen in looks.items():
        memory, files, threads = (list(map(float, column)) for column in zip(*seen, strict=True))
        warm = len(memory) // 5
        grew = [
            name
            for name, values, room in (
                ("memory", memory, max(2, 0.03 * memory[warm])), ("files", files, 0.5), ("threads", threads, 0.5),
            )
            if grown(values, room)
        ]  # fmt: skip
        bad |= bool(grew)
        print(
            f"| {who} | {memory[warm]:.0f} | {statistics.median(memory[-5:]):.0f} | {max(memory):.0f} "
            f"| {files[warm]:.0f} to {files[-1]:.0f} | {threads[warm]:.0f} to {threads[-1]:.0f} "
            f"| {', '.join(grew) or 'nothing'} |"
        )
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    print(f"\n{told}; {visits} visits; {len(looks['server'])} looks in {(time.monotonic() - began) / 60:.0f} min.")
    sys.exit(bad)


if __name__ == "__main__":
    main()
