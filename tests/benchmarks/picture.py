"""How fast the picture is in a browser without a GPU, and what it costs beside the same picture in Plotly.

    python -m tests.benchmarks.picture            # about two minutes; prints tests/benchmarks/results/picture.md

Headless Chromium with its software rasteriser (SwiftShader), 1440 px wide. The points are synthetic, ten blobs on
three axes, as many as the real pictures have: 3,929 validation images and 12,954 images of Imagewoof in all. Pointer
events are sent once per frame from within the page. A frame counts when the picture has drawn; the browser draws at
most 60 a second. "Script" is the time that a frame keeps the page's thread; "browser" the processor time that all of
Chromium's processes take for a frame, the drawing included, which a busy machine stretches less than it does frames.
A picture of one panel with ten points shows what a frame costs without points.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from pages.components import blocks
from pages.components.faceview import Panel, described
from tests.browser.conftest import CHROMIUM, QUIET
from tests.browser.stage import staged
from tests.browser.test_faceview import CONTEXTS
from tests.helpers import ROOT, Server, end
from trainer.folder import Points

RUNS = [f"01J0000000000000000000000{at}" for at in range(7)]
SIZES = ((1, 10), (7, 3929), (7, 12954), (1, 100_000))
STEPS = tuple(range(0, 120, 10))
SECONDS = 2.5  # that each motion lasts
WIDE = {"width": 1440, "height": 1000}
CLASSES = [f"class {at}" for at in range(10)]

COUNT = """
window.script = [];
const plain = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (act) => plain((now) => {
  const began = performance.now();
  act(now);
  if (window.counting) window.script.push(performance.now() - began);
});
window.each = plain;
"""
MOVE = """async ([kind, seconds]) => {
  const root = document.getElementById("host").shadowRoot, face = root.querySelector(".faceview");
  const view = root.querySelector(".view"), slider = root.querySelector(".time"), box = view.getBoundingClientRect();
  const send = (name, x, y) => view.dispatchEvent(new PointerEvent(name, { bubbles: true, composed: true, pointerId: 1,
    clientX: box.left + x, clientY: box.top + y, button: 0 }));
  view.setPointerCapture = () => {};
  const before = Number(face.dataset.frames), began = performance.now(), spent = [];
  window.script = [];
  window.counting = true;
  if (kind === "drag") send("pointerdown", box.width / 2, box.height / 2);
  for (let at = 0; performance.now() - began < seconds * 1000; at++) {
    await new Promise((go) => window.each(go));
    const x = box.width * (0.5 + 0.3 * Math.sin(at / 9)), y = box.height * (0.5 + 0.3 * Math.cos(at / 13));
    const start = performance.now();
    if (kind !== "scrub") send("pointermove", x, y);
    else {
      slider.value = 0.5 + 0.5 * Math.sin(at / 20);
      slider.dispatchEvent(new Event("input"));
    }
    spent.push(performance.now() - start);
  }
  window.counting = false;
  if (kind === "drag") send("pointerup", 0, 0);
  const frames = Number(face.dataset.frames) - before, passed = (performance.now() - began) / 1000;
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const rounds = spent.length, script = (sum(spent) + sum(window.script)) / rounds;
  return { frames: frames / passed, rounds: rounds / passed, script, longest: Math.max(...spent, ...window.script) };
}"""


def blobs(N: int, axes: int, seed: int) -> Points:
    """Ten blobs, as a trained head's embeddings make them, and their centers."""
    chance = np.random.default_rng(seed)
    middles, labels = np.random.default_rng(0).normal(size=(10, axes)), np.arange(N) % 10
    points = middles[labels] + 0.25 * chance.normal(size=(N, axes))
    return Points(points.astype("f4"), labels, middles.astype("f4"), np.arange(10))


def load_points(run: str, step: int, name: str) -> Points:
    """name: "3-3929" is 3,929 points on three axes."""
    axes, N = map(int, name.split("-"))
    return blobs(N, axes, 100 * int(run[-1]) + step)


def told(panels: int, N: int, axes: int = 3) -> dict[str, Any]:
    """What the picture is told."""
    shown = [
        Panel(run, f"Head {run[-1]}", url=blocks.address(run, "*", f"{axes}-{N}"), steps=STEPS, total=STEPS[-1])
        for run in RUNS[:panels]
    ]
    return described(shown, CLASSES, 3 if axes == 3 else 2, 720 if panels > 1 else 560, "Synthetic points")


def motions(browser: Browser) -> list[str]:
    """Rows of the first table."""
    rows = []
    with staged(lambda request: told(1, 10), load_points) as address:
        for panels, N in SIZES:
            page = browser.new_context(viewport=WIDE).new_page()
            page.add_init_script(COUNT)
            page.goto(address)
            page.wait_for_function("() => Boolean(window.renew)")
            began = time.perf_counter()
            page.evaluate("data => renew(data)", told(panels, N))
            page.locator(".panel[data-url]").nth(panels - 1).wait_for()
            shown = time.perf_counter() - began
            page.locator(".stage").focus()
            for _ in STEPS:  # every moment is there before time is moved
                page.keyboard.press("ArrowLeft")
                page.wait_for_timeout(250)
            for kind in ("drag", "scrub", "hover"):
                before, began = processor_time(), time.perf_counter()
                found = page.evaluate(MOVE, [kind, SECONDS])
                rate = found["rounds"] if kind == "hover" else found["frames"]
                cost = 1000 * (processor_time() - before) / max(rate * (time.perf_counter() - began), 1)
                told_as = f"| {panels} × {N:,} | {kind} | {rate:.0f} | {found['script']:.1f} | {cost:.0f} |"
                rows.append(told_as)
                print(told_as, f"shown after {shown:.2f} s", file=sys.stderr, flush=True)
                page.wait_for_timeout(300)
            page.context.close()
    return rows


def processor_time() -> float:
    """Seconds that the processes of the browser have computed so far."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in times)


APP = """
import streamlit as st
from pages.components import blocks
from tests.benchmarks.picture import load_points
app = st.App("router.py", routes=blocks.routes(load_points))
"""
ROUTER = """
import plotly.graph_objects as go
import streamlit as st
from pages.components.faceview import faceview, Panel
from pages.components import blocks
from tests.benchmarks.picture import CLASSES, RUNS, load_points

st.set_page_config(layout="wide")
kind, axes = st.query_params["kind"], int(st.query_params["axes"])
step = st.session_state.setdefault("step", 0)
if st.button("Next"):
    step = st.session_state.step = step + 10
if kind == "faceview":
    panels = [Panel(run, f"Head {run[-1]}", "", blocks.address(run, step, f"{axes}-3929")) for run in RUNS]
    faceview(panels, CLASSES, axes, height=720, label="Synthetic points", key="view")
else:
    columns = st.columns(4) + st.columns(4)
    for run, column in zip(RUNS, columns):
        found = load_points(run, step, f"{axes}-3929")
        places = dict(zip("xyz", found.points.T))
        trace = (go.Scatter3d if axes == 3 else go.Scattergl)(
            **places, mode="markers", marker={"size": 3, "color": found.labels}, name=str(step))
        column.plotly_chart(go.Figure(trace, {"height": 340, "showlegend": False}), key=f"{run}-{kind}")
"""
SHOWN = {
    "faceview": """step => {
        const roots = [...document.querySelectorAll("*")].flatMap((node) => node.shadowRoot ?? []);
        const panels = roots.flatMap((root) => [...root.querySelectorAll(".panel")]);
        return panels.length === 7 && panels.every((panel) => panel.dataset.url?.includes(`/${step}/`));
    }""",
    "plotly": """step => {
        const plots = [...document.querySelectorAll(".js-plotly-plot")];
        return plots.length === 7 && plots.every((one) => one.data?.[0].name === String(step) && one.calcdata
            && (!one._fullLayout.scene || one._fullLayout.scene._scene?.glplot));
    }""",
}


SIZE = """part => performance.getEntriesByType("resource").filter(({ name }) => name.includes(part))
    .reduce((sum, { decodedBodySize }) => sum + decodedBodySize, 0)"""


def beside_plotly(browser: Browser) -> list[str]:
    """Rows of the second table: cold page, then one new moment."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"app.py": APP, "router.py": ROUTER}.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        options = ("--server.address=127.0.0.1", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false")
        server = Server(Path(folder), Path(folder) / "log", {"PYTHONPATH": str(ROOT)}, *options)
        try:
            warm = browser.new_context(viewport=WIDE)  # the server's own imports are not what is compared
            for axes in (3, 2):
                for kind in SHOWN:
                    opened(warm.new_page(), server.address, kind, axes, 0)
            warm.close()
            for axes in (3, 2):
                for kind in SHOWN:
                    rows.append(compared(browser, server.address, kind, axes))
                    print(rows[-1], file=sys.stderr, flush=True)
        finally:
            end(server.process)
    return rows


def opened(page: Page, address: str, kind: str, axes: int, step: int) -> float:
    began = time.perf_counter()
    page.goto(f"{address}/?kind={kind}&axes={axes}")
    return drawn(page, kind, step, began)


def drawn(page: Page, kind: str, step: int, began: float) -> float:
    """Seconds until all seven panels show this step, and two frames more."""
    page.wait_for_function(SHOWN[kind], arg=step, timeout=180_000)
    page.evaluate("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
    return time.perf_counter() - began


def compared(browser: Browser, address: str, kind: str, axes: int) -> str:
    context = browser.new_context(viewport=WIDE)
    page, told = context.new_page(), [0]
    page.add_init_script(CONTEXTS)

    def heard(frame: Any) -> None:
        told[0] += len(frame if isinstance(frame, bytes) else frame.encode())

    def size(part: str) -> int:
        return page.evaluate(SIZE, part)

    page.on("websocket", lambda socket: socket.on("framereceived", heard))
    shown = opened(page, address, kind, axes, 0)
    page.wait_for_timeout(300)
    first, script = told[0] + size("/faces/points/"), size("faceview") + size("lotly")
    began = time.perf_counter()
    page.get_by_role("button", name="Next").click()
    again = drawn(page, kind, 10, began)
    page.wait_for_timeout(300)
    more, contexts = told[0] + size("/faces/points/") - first, page.evaluate("contexts.size")
    context.close()
    name = "this picture" if kind == "faceview" else f"Plotly {'Scatter3d' if axes == 3 else 'Scattergl'}"
    return (
        f"| {name}, {axes}-D | {first / 1e3:,.0f} | {script / 1e3:,.0f} | {shown:.2f} "
        f"| {more / 1e3:,.0f} | {again:.2f} | {contexts} |"
    )


def payload() -> list[str]:
    """Rows of the third table."""
    return [
        f"| {N:,} | {axes} | {len(blocks.points_block(blobs(N, axes, 0))) / 1e3:.1f} |"
        for N in (3929, 12954)
        for axes in (2, 3, 8)
    ]


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        parts = [act(browser) for act in (motions, beside_plotly)]
        version = browser.version
        browser.close()
    load = f", load {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else ""
    print(f"Chromium {version}, SwiftShader, {os.cpu_count()} cores{load}, {time.strftime('%Y-%m-%d')}\n")
    print("| points | motion | frames a second | script, ms a frame | browser, CPU ms a frame |\n|---|---|---|---|---|")
    print("\n".join(parts[0]))
    print("\n| 7 × 3,929 | data, kB | script, kB | shown after, s | next moment, kB | shown after, s | contexts |")
    print("|---|---|---|---|---|---|---|\n" + "\n".join(parts[1]))
    print("\n| points | axes | kB a panel and moment |\n|---|---|---|\n" + "\n".join(payload()))


if __name__ == "__main__":
    main()
