"""From the command to the first page in a browser: python -m tests.benchmarks.start [--times 5]

The server is started anew each time, on a home in which runs are kept; packages are on the disk and have been used
before. Told are the seconds until it answers and until the browser shows the page's heading and its picture. The
browser is open before and paints as it does by itself where there is no GPU.
"""

import argparse
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from tests.benchmarks.keeping import machine
from tests.browser.conftest import CHROMIUM
from tests.helpers import ROOT, Server, end, until
from trainer import RunConfig
from trainer.store import Store


def main() -> None:
    """Print Markdown."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--times", type=int, default=5)
    asked = words.parse_args()
    print(f"{machine()}, Streamlit {version('streamlit')}; load at the start {psutil.getloadavg()[0]:.1f}\n")
    seen: dict[str, list[float]] = {"answers": [], "heading": [], "picture": []}
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        store = Store(Path(home))
        store.submit(RunConfig(epochs=1))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for time_of in range(asked.times + 1):
            began = time.perf_counter()
            server = Server(ROOT, store.path / "log", {"FACES_HOME": home, "FACES_DEVICE": "cpu"})
            marks = [time.perf_counter()]
            context = browser.new_context()
            page = context.new_page()
            page.goto(server.address)
            for place in ("h1", ".panel[data-points]"):
                page.locator(place).first.wait_for(timeout=60_000)
                marks.append(time.perf_counter())
            context.close()
            until(lambda: not [run for run in store.runs() if run.open], 60)
            end(server.process, 60)
            if time_of:  # the first has trained
                for name, mark in zip(seen, marks, strict=True):
                    seen[name].append(mark - began)
        browser.close()
    for name, times in seen.items():
        print(f"- {name}: {statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f})")


if __name__ == "__main__":
    main()
