"""A step of a slider in the margin lab: python -m tests.benchmarks.lab

In a browser without a GPU, which paints as it does by itself and once more by the rasteriser that is there for WebGL:
from the key that moves the slider until the new pictures are in the page, and until the frame with them has been
painted. On the server: from the new value to all messages sent, of the page run as a whole, where a browser
has only the fragment run. Besides: what the process that draws takes, in seconds until it can, and in megabytes.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright
from streamlit.testing.v1 import AppTest

from tests.browser.conftest import CHROMIUM, PLAIN, QUIET
from tests.helpers import ROOT, Server, end
from trainer.engines.children import end as end_child
from trainer.sketching import Sketcher

STEPS = 20
HEADS_TIMED = {"ArcFace": "m", "CosFace": "m", "UnitedMargin": "m2", "AdaFace": "m", "CurricularFace": "t"}
PAINTERS = {"as the browser does": ["--no-sandbox"], "by WebGL's software rasteriser": QUIET}
KEYS = (time.process_time, time.perf_counter)


def loading() -> str:
    """What the process that draws takes."""
    began, one = time.perf_counter(), Sketcher()
    one.warm()
    took = time.perf_counter() - began
    assert one.process is not None
    own, here = (psutil.Process(pid).memory_info().rss / 2**20 for pid in (one.process.pid, os.getpid()))
    end_child(one.process, 5.0)
    return f"The process that draws: ready after {took:.1f} s, {own:.0f} MB; the one that asks {here:.0f} MB."


def steps(app: AppTest, head: str, knob: str) -> str:
    """Twenty steps of one slider."""
    app.selectbox(key="lab").select(head).run()
    slider = f"lab.{head}.{knob}"
    times: list[list[float]] = [[], []]
    for step in range(STEPS):
        app.slider(key=slider).set_value(0.2 + 0.01 * step)
        began = [clock() for clock in KEYS]
        app.run()
        for clock, start, kept in zip(KEYS, began, times, strict=True):
            kept.append(1000 * (clock() - start))
        assert not app.exception
    cpu, wall = (f"{statistics.median(each):.0f} ({max(each):.0f})" for each in times)
    return f"{head}: {cpu} ms CPU, {wall} ms"


# Resolves to [new words in the page, their frame painted], in milliseconds since the key went down.
STEP = """() => new Promise((done) => {
  let began;
  const root = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")].map((one) => one.shadowRoot)
    .find((one) => one?.querySelector("figcaption"));
  const words = () => [...root.querySelectorAll("figcaption")].map((one) => one.textContent).join();
  const before = words();
  addEventListener("keydown", () => { began = performance.now(); }, { once: true, capture: true });
  const watch = new MutationObserver(() => {
    if (words() === before) return;
    watch.disconnect();
    const there = performance.now() - began;
    requestAnimationFrame(() => setTimeout(() => done([there, performance.now() - began])));
  });
  watch.observe(root, { subtree: true, childList: true, characterData: true });
})"""


def watched(page: Any, head: str, knob: str, address: str) -> str:
    """The same slider, moved by its arrow key and watched."""
    page.goto(f"{address}/lab?lab={head}")
    slider = page.locator(f".st-key-lab-{head}-{knob} input[type=range]")
    page.locator("figcaption").first.wait_for()
    page.wait_for_timeout(3000)
    slider.focus()
    times = []
    for _ in range(STEPS):
        step = page.evaluate_handle(f"() => {{ window.step = ({STEP})(); }}")
        step.dispose()
        page.keyboard.press("ArrowRight")
        times.append(page.evaluate("window.step"))
        page.wait_for_timeout(300)
    told = []
    for each in zip(*times, strict=True):
        first, middle, last = statistics.quantiles(each, n=4)
        told.append(f"{middle:.0f} ({first:.0f} to {last:.0f})")
    return f"| {head} | {' | '.join(told)} |"


def browser() -> None:
    """Print what a browser on this machine takes."""
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        server = Server(ROOT, Path(home) / "server.log", {"FACES_HOME": home}, *PLAIN)
        try:
            for painter, words in PAINTERS.items():
                chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=words)
                page = chromium.new_page(viewport={"width": 1440, "height": 1000})
                print(f"| painted {painter}: a step of | in the page, ms | painted, ms |\n|---|---|---|")
                for head, knob in HEADS_TIMED.items():
                    print(watched(page, head, knob, server.address), flush=True)
                print(f"\nHeadless Chromium {chromium.version} without a GPU, 1440 px.\n")
                chromium.close()
        finally:
            end(server.process)


if __name__ == "__main__":
    load, ready = psutil.getloadavg()[0], loading()
    from tests.benchmarks.keeping import machine  # loads torch

    print(f"{machine()}; load {load:.1f}. Median (middle half) of {STEPS} steps.\n")
    browser()
    print(f"\nOn the server, median (most) of {STEPS} steps. {ready}\n")
    with tempfile.TemporaryDirectory() as home:
        os.environ["FACES_HOME"] = home
        app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60).run()
        app.switch_page(str(ROOT / "pages" / "learn" / "lab.py")).run()
        for head, knob in HEADS_TIMED.items():
            print(f"- {steps(app, head, knob)}")
