"""Many browsers on one live run: python -m tests.benchmarks.viewers [--viewers 50] [--seconds 24]

Each viewer speaks Streamlit's protocol over a WebSocket as a browser does: it runs the page, comes back whenever a
part of it wants to be drawn again, and fetches the points of every new moment. What a browser draws is not measured.
"""

import argparse
import asyncio
import re
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
    """Some seconds of training: its speed, and what the server took meanwhile."""

    def __init__(self, store: Store, run: str, server: psutil.Process):
        self.store, self.run, self.server = store, run, server
        self.began, self.step, self.cpu = time.monotonic(), self.now(), sum(server.cpu_times()[:2])

    def now(self) -> int:
        return self.store.latest([self.run])[self.run]["step"]

    def close(self) -> tuple[float, float]:
        """Steps a second, and the share of one core that the server used."""
        seconds = time.monotonic() - self.began
        return (self.now() - self.step) / seconds, (sum(self.server.cpu_times()[:2]) - self.cpu) / seconds


async def watch(viewers: list[Viewer], seconds: float, window: Window) -> tuple[float, float, list[float]]:
    """All viewers open the page within a second and look for some time; the speeds, and memory in MB once a second."""
    looks = []
    for viewer in viewers:
        looks.append(asyncio.create_task(viewer.look()))
        await asyncio.sleep(1 / len(viewers))
    memory = []
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        memory.append(window.server.memory_info().rss / 1e6)
        await asyncio.sleep(1)
    speeds = window.close()
    for task in (*looks, *(timer for viewer in viewers for timer in viewer.timers.values())):
        task.cancel()
    ended = await asyncio.gather(*looks, return_exceptions=True)
    for viewer, gone in zip(viewers, ended, strict=True):
        viewer.errors += not isinstance(gone, asyncio.CancelledError)
    return *speeds, memory


def spread(values: list[float], *percents: int, form: str = ".2f") -> str:
    """These percentiles, as cells of a table."""
    found = np.percentile(values, percents) if values else ["–"] * len(percents)
    return " | ".join(f"{value:{form}}" if values else "–" for value in found)


def main() -> None:
    """Print a Markdown table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--viewers", type=int, nargs="+", default=[50])
    words.add_argument("--seconds", type=float, default=24)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        store = Store(home / "home")
        server = Server(Path.cwd(), home / "log", {"FACES_HOME": str(store.path), "FACES_DEVICE": "cpu"})
        process = psutil.Process(server.process.pid)
        print(f"{machine()}, Streamlit {version('streamlit')}; load at the start {psutil.getloadavg()[0]:.1f}\n")
        print(f"Viewers of a live run of ArcFace on digits (500 validation images), {asked.seconds:g} s each:\n")
        print(
            "| viewers | first page, s | a part again, s | 95 % | most | times | a picture or a newer one, s | 95 % | "
            "server, MB | of a core | kB each | training, steps a second | errors |\n|" + "---|" * 13
        )
        try:
            run = store.submit(RunConfig(head="ArcFace", dataset="digits", epochs=200, batch=8), "viewers")
            until(lambda: store.latest([run]))
            until(lambda: store.latest([run])[run]["step"] > 200)
            with ThreadPoolExecutor(max(asked.viewers)) as fetchers:
                for number in (0, 1, *asked.viewers, 1, 0):
                    viewers = [Viewer(server, store.folder(run), run, fetchers) for _ in range(number)]
                    steps, core, memory = asyncio.run(watch(viewers, asked.seconds, Window(store, run, process)))
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
        finally:
            end(server.process)


if __name__ == "__main__":
    main()
