"""From a snapshot written to its points on the screen: python -m tests.benchmarks.on_screen [--dataset digits]

The app, its trainer and one browser on Explore's picture of a run that trains, all on this machine. A moment counts
from the time at which its snapshot's file was written until the first frame that draws its points: between these two
the trainer has told the store, the page has heard of it, and the browser has fetched the points and begun to move.
Moments that the page went past, because the next was there already, are counted apart. Imagewoof is looked for in
FACES_HOME, digits need nothing.
"""

import argparse
import os
import re
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from tests.benchmarks.keeping import machine
from tests.browser.conftest import CHROMIUM, QUIET
from tests.helpers import ROOT, Server, end, until
from trainer import RunConfig
from trainer.folder import RunFolder
from trainer.store import Store

# Keeps in `shown` the address of each block of points with the milliseconds since 1970 of its first frame.
SEE = """() => {
  const roots = [...document.querySelectorAll("*")].flatMap((node) => node.shadowRoot ?? []);
  const root = roots.map((one) => one.querySelector(".faceview")).find(Boolean);
  const panel = root.querySelector(".panel[data-url]"), shown = window.shown = [];
  let last = panel.dataset.url;
  new MutationObserver(() => {
    if (panel.dataset.url === last) return;
    last = panel.dataset.url;
    shown.push([last, Date.now()]);
  }).observe(root, { attributeFilter: ["data-frames"] });
}"""


def watched(server: Server, folder: RunFolder, run: str, axes: str, seconds: float) -> str:
    """A line of the table: the moments of a run while it trains, in a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(f"{server.address}/explore?run={run}&axes={axes}")
        page.locator(".panel[data-url]").first.wait_for(timeout=60_000)
        page.locator(".stage").scroll_into_view_if_needed()
        page.wait_for_timeout(3000)
        page.evaluate(SEE)
        began = time.time()
        page.wait_for_timeout(1000 * seconds)
        shown = {
            int(match[1]): at / 1000 for url, at in page.evaluate("shown") if (match := re.search(r"/(\d+)/", url))
        }
        browser.close()
    written = {step: file.stat().st_mtime for step, file in folder.moments().items()}
    waits = [at - written[step] for step, at in shown.items()]
    made = sum(began <= at <= began + seconds for at in written.values())
    low, middle, high = statistics.quantiles(waits, n=4)
    return (
        f"| {axes} | {middle:.2f} ({low:.2f} to {high:.2f}) | {sorted(waits)[int(0.95 * len(waits))]:.2f} | "
        f"{max(waits):.2f} | {len(waits)} of {made} |"
    )


def main() -> None:
    """Print a Markdown table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--dataset", default="digits")
    words.add_argument("--probe", type=int, default=500, help="points in the picture")
    words.add_argument("--seconds", type=float, default=60)
    asked = words.parse_args()
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as made:
        home = Path(os.environ.get("FACES_HOME", made) if asked.dataset != "digits" else made)
        store = Store(home)
        server = Server(ROOT, Path(made) / "log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
        what = f"{asked.dataset}, {asked.probe} points; load at the start {load:.1f}"
        print(f"{machine()}, Streamlit {version('streamlit')}; {what}\n")
        print("| axes | written until on the screen, s | 95 % | most | moments shown |\n|---|---|---|---|---|")
        try:
            for axes in ("2-D", "3-D"):
                config = RunConfig(head="ArcFace", dataset=asked.dataset, epochs=200, probe=asked.probe)
                run = store.submit(config, f"on screen, {axes}")
                try:
                    until(lambda run=run: store.latest([run]), 120)
                    print(watched(server, store.folder(run), run, axes, asked.seconds), flush=True)
                    assert store.run(run).state == "running", "it ended too soon"
                finally:
                    store.stop(run)
        finally:
            end(server.process, 60)


if __name__ == "__main__":
    main()
