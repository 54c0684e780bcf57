"""A step of a slider in the margin lab, on the server: python -m tests.benchmarks.lab

Time from the new value to all messages sent, of the page run as a whole, where a browser has only the fragment run
(all but the title). CPU time and wall time in milliseconds, median and worst of 20 steps, for some heads. Besides: what
loading torch takes, in seconds and megabytes, and how long it holds up another thread of the process at most.

2026-11-22, two quiet cores, one thread, torch 2.15: 58 ms a step of ArcFace on the server (15 of them the test's own).
In headless Chromium on the same machine 250 to 270 ms from the key to the new numbers (medians of 20, least 167): React
and ECharts keep the page's thread for 220 of them. Earlier, at load 5: 50 to 71 ms CPU and 75 to 143 ms a step by head;
torch 7.6 s, 498 MB, 0.57 s.
"""

import os
import resource
import statistics
import tempfile
import threading
import time

from streamlit.testing.v1 import AppTest

from faces.heads import HEADS
from tests.helpers import ROOT

STEPS = 20
HEADS_TIMED = {"ArcFace": "m", "CosFace": "m", "UnitedMargin": "m2", "AdaFace": "m", "CurricularFace": "t"}
KEYS = (time.process_time, time.perf_counter)


def loading() -> str:
    """What importing torch by way of a head takes."""
    gaps, ready = [0.0], threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not ready.wait(0.005):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    other = threading.Thread(target=tick)
    before, began = megabytes(), time.perf_counter()
    other.start()
    HEADS["ArcFace"]
    took = time.perf_counter() - began
    ready.set()
    other.join()
    return f"torch: {took:.1f} s, {megabytes() - before:.0f} MB, other threads held up for {max(gaps):.2f} s at most"


def megabytes() -> float:
    """The most memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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


if __name__ == "__main__":
    print(loading())
    with tempfile.TemporaryDirectory() as home:
        os.environ["FACES_HOME"] = home
        app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60).run()
        app.switch_page(str(ROOT / "pages" / "learn" / "lab.py")).run()
        for head, knob in HEADS_TIMED.items():
            print(steps(app, head, knob))
