"""Many browsers on one live run: python -m tests.benchmarks.viewers [--viewers 50] [--seconds 24] [--pairs 6]

Each viewer speaks Streamlit's protocol over a WebSocket as a browser does: it runs the page, comes back whenever a
part of it wants to be drawn again, and fetches the points of every new moment. What a browser draws is not measured.

With `--pairs` it is measured how much slower a training gets: so many times with the viewers and without, in turns. The
viewers are at home on other machines, but here their work is done by the same cores: without them this process works
as much for nothing, as evenly, so that what differs is what the server does.
"""

import argparse
import asyncio
import re
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.benchmarks.keeping import machine
from tests.helpers import Server, end, until
from trainer import RunConfig
from trainer.folder import RunFolder
from trainer.store import Store

NEWEST = re.compile(rb'"steps": ?\[([\d, ]*)\]')


class Viewer:
    """One session on the page Explore."""

    def __init__(self, server: Server, folder: RunFolder, run: str, fetchers: ThreadPoolExecutor):
        self.server, self.folder, self.run, self.fetchers = server, folder, run, fetchers
        self.reruns: list[float] = []  # seconds from asking to the end of the script
        self.delays: list[float] = []  # seconds from a picture on disk until it, or a newer one, is here
        self.shown, self.bytes, self.errors, self.first, self.page = -1, 0, 0, 0.0, ""
        self.timers: dict[str, asyncio.Task] = {}
        self.asked: list[float] = []
        self.fetching: set[asyncio.Task] = set()

    async def look(self) -> None:
        """Open the page and follow it until cancelled."""
        address = self.server.address.replace("http", "ws") + "/_stcore/stream"
        async with websockets.connect(address, max_size=None, subprotocols=["streamlit"]) as self.wire:
            await self.ask()
            async for raw in self.wire:
                self.bytes += len(raw)
                message = ForwardMsg.FromString(raw)
                kind = message.WhichOneof("type")
                if kind == "new_session":
                    self.page = message.new_session.page_script_hash
                elif kind == "auto_rerun":
                    self.repeat(message.auto_rerun.fragment_id, message.auto_rerun.interval)
                elif kind == "stop_auto_rerun":
                    for timer in self.timers.values():
                        timer.cancel()
                elif kind == "script_finished" and self.asked:
                    self.reruns.append(time.monotonic() - self.asked[0])
                    self.asked = self.asked[1:][-1:]  # what was asked for meanwhile is answered by one more run
                    self.first = self.first or self.reruns[0]
                elif kind == "delta":
                    self.errors += message.delta.new_element.WhichOneof("type") == "exception"
                    for found in NEWEST.findall(raw)[-1:]:
                        self.follow([int(step) for step in found.split(b",") if step.strip()])

    async def ask(self, fragment: str = "") -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash = f"run={self.run}", self.page
        state.fragment_id, state.is_auto_rerun = fragment, bool(fragment)
        self.asked.append(time.monotonic())
        await self.wire.send(message.SerializeToString())

    def repeat(self, fragment: str, interval: float) -> None:
        async def again() -> None:
            while True:
                await asyncio.sleep(interval)
                await self.ask(fragment)

        if timer := self.timers.pop(fragment, None):
            timer.cancel()
        self.timers[fragment] = asyncio.create_task(again())

    def follow(self, steps: list[int]) -> None:
        if not (new := [step for step in steps if step > self.shown]):
            return
        self.shown = steps[-1]
        task = asyncio.get_running_loop().run_in_executor(self.fetchers, self.fetch, new)
        self.fetching.add(task)
        task.add_done_callback(self.fetching.discard)

    def fetch(self, steps: list[int]) -> None:
        with suppress(OSError):
            for kind in (f"points/{self.run}/{steps[-1]}/pca-2.bin", f"facts/{self.run}/{steps[-1]}.bin"):
                with urllib.request.urlopen(f"{self.server.address}/faces/{kind}", timeout=30) as answer:
                    self.bytes += len(answer.read())
            now, first = time.time(), not self.delays
            written = [self.folder.points_file("pca-2", step).stat().st_mtime for step in steps[-1 if first else 0 :]]
            self.delays += [now - at for at in written]


class Window:
    """Some seconds of training: its speed, and what the server and this process took meanwhile."""

    def __init__(self, store: Store, run: str, server: psutil.Process):
        self.store, self.run, self.server = store, run, server
        self.began, self.cpu, self.own, self.first = time.monotonic(), *self.taken(), self.newest()

    def taken(self) -> tuple[float, float]:
        return sum(self.server.cpu_times()[:2]), time.process_time()

    def newest(self) -> tuple[int, float]:
        """The step of the newest moment, and when it was written."""
        folder, step = self.store.folder(self.run), self.store.latest([self.run])[self.run]["step"]
        return step, folder.moments()[step].stat().st_mtime

    def close(self) -> tuple[float, float, float]:
        """Steps a second, and the shares of one core that the server and this process used."""
        (step, at), (first, since) = self.newest(), self.first
        seconds, (cpu, own) = time.monotonic() - self.began, self.taken()
        return (
            (step - first) / (at - since) if step > first else 0.0,
            (cpu - self.cpu) / seconds,
            (own - self.own) / seconds,
        )


async def watch(
    viewers: list[Viewer], seconds: float, window: Callable[[], Window], settle: float = 0.0, share: float = 0.0
) -> tuple[float, float, float, list[float]]:
    """All viewers open the page within a second and look for some time; the speeds, and memory in MB once a second.

    What is measured begins `settle` seconds later. This process computes for `share` of a core beside.
    """
    looks = [asyncio.create_task(work(share))] if share else []
    for viewer in viewers:
        looks.append(asyncio.create_task(viewer.look()))
        await asyncio.sleep(1 / len(viewers))
    await asyncio.sleep(settle)
    measured, memory = window(), []
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        memory.append(measured.server.memory_info().rss / 1e6)
        await asyncio.sleep(1)
    speeds = measured.close()
    for task in (*looks, *(timer for viewer in viewers for timer in viewer.timers.values())):
        task.cancel()
    ended = await asyncio.gather(*looks, return_exceptions=True)
    if share and not isinstance(ended[0], asyncio.CancelledError):
        raise RuntimeError(f"The work beside ended early: {ended[0]!r}")
    for viewer, gone in zip(viewers, ended[-len(viewers) :] if viewers else [], strict=True):
        viewer.errors += not isinstance(gone, asyncio.CancelledError)
    return *speeds, memory


async def work(share: float) -> None:
    """Compute for this share of a core, two milliseconds at a time."""
    while True:
        until_then = time.process_time() + 0.002
        while time.process_time() < until_then:
            pass
        await asyncio.sleep(0.002 / share - 0.002)


def spread(values: list[float], *percents: int, form: str = ".2f") -> str:
    """These percentiles, as cells of a table."""
    found = np.percentile(values, percents) if values else ["–"] * len(percents)
    return " | ".join(f"{value:{form}}" if values else "–" for value in found)


class Live:
    """A training on a real server, which viewers look at."""

    def __init__(self, store: Store, server: Server, fetchers: ThreadPoolExecutor):
        self.store, self.server, self.fetchers = store, server, fetchers
        self.run = store.submit(RunConfig(head="ArcFace", dataset="digits", epochs=200, batch=8), "viewers")
        until(lambda: store.latest([self.run]))
        until(lambda: store.latest([self.run])[self.run]["step"] > 200)

    def window(self) -> Window:
        return Window(self.store, self.run, psutil.Process(self.server.process.pid))

    def viewers(self, number: int) -> list[Viewer]:
        return [Viewer(self.server, self.store.folder(self.run), self.run, self.fetchers) for _ in range(number)]


def curve(live: Live, numbers: list[int], seconds: float) -> None:
    """What so many viewers wait for, and what they cost; the window begins with their first pages."""
    print(f"Viewers of a live run of ArcFace on digits (500 validation images), {seconds:g} s each:\n")
    print(
        "| viewers | first page, s | a part again, s | 95 % | most | times | a picture or a newer one, s | 95 % | "
        "server, MB | of a core | kB each | training, steps a second | errors |\n|" + "---|" * 13
    )
    for number in (0, 1, *numbers, 1, 0):
        viewers = live.viewers(number)
        steps, core, _, memory = asyncio.run(watch(viewers, seconds, live.window))
        again = [seconds for viewer in viewers for seconds in viewer.reruns[1:]]
        lags = [delay for viewer in viewers for delay in viewer.delays]
        first = [viewer.first for viewer in viewers]
        print(
            f"| {number} | {spread(first, 50)} | {spread(again, 50, 95, 100)} | {len(again)} | "
            f"{spread(lags, 50, 95)} | {max(memory):.0f} | {core:.2f} | "
            f"{spread([viewer.bytes / 1e3 for viewer in viewers], 50, form='.0f')} | {steps:.0f} | "
            f"{sum(viewer.errors for viewer in viewers)} |",
            flush=True,
        )
        time.sleep(2)


def slowed(begin: Callable[[], Live], number: int, seconds: float, pairs: int) -> None:
    """How fast a training is with viewers, beside how fast it is without, in turns; a new training for each pair."""
    print(f"Training with {number} viewers and with none, {seconds:g} s each, ten seconds after they came or left:\n")
    print("| steps a second with | without | ratio | server, of a core | viewers | work instead |\n|" + "---|" * 6)
    ratios, own = [], 0.0
    for pair in range(pairs + 1):
        live, found = begin(), {}
        for many in (0, number) if pair % 2 else (number, 0):  # who is first changes from pair to pair
            share = 0.0 if many else own
            found[many] = asyncio.run(watch(live.viewers(many), seconds, live.window, settle=10, share=share))
            own = found[many][2] if many else own  # what the clients take
        looked, alone = found[number], found[0]
        live.store.stop(live.run)
        if not pair:
            continue  # the first pages load what others find loaded
        ratios.append(looked[0] / alone[0])
        print(
            f"| {looked[0]:.0f} | {alone[0]:.0f} | {ratios[-1]:.2f} | {looked[1]:.2f}, {alone[1]:.2f} | "
            f"{looked[2]:.2f} | {alone[2]:.2f} |",
            flush=True,
        )
    print(f"\nThe ratio: {spread(ratios, 50)}, {min(ratios):.2f} to {max(ratios):.2f}.")


def main() -> None:
    """Print a Markdown table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--viewers", type=int, nargs="+", default=[50])
    words.add_argument("--seconds", type=float, default=24)
    words.add_argument("--pairs", type=int, default=0)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        store = Store(home / "home")
        server = Server(Path.cwd(), home / "log", {"FACES_HOME": str(store.path), "FACES_DEVICE": "cpu"})
        print(f"{machine()}, Streamlit {version('streamlit')}; load at the start {psutil.getloadavg()[0]:.1f}\n")
        try:
            with ThreadPoolExecutor(max(asked.viewers)) as fetchers:
                begin = partial(Live, store, server, fetchers)
                if asked.pairs:
                    for number in asked.viewers:
                        slowed(begin, number, asked.seconds, asked.pairs)
                else:
                    curve(begin(), asked.viewers, asked.seconds)
        finally:
            end(server.process)


if __name__ == "__main__":
    main()
