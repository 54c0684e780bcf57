"""Do seven panels ever go blank while seven trainings run? python -m tests.benchmarks.live_panels [SECONDS]

Starts the app on a home of its own and a trainer that takes seven runs at once, which is more than a small machine
would choose, trains seven heads on digits, opens them on the page Compare heads in 3-D when all have points, and looks
at every frame that is drawn for two minutes (or SECONDS), while the camera is turned now and then. Prints the frames
it saw, panels that had points and were blank, lost contexts and errors of the console, and how many runs still trained
at the end; fails when there was a blank panel, a lost context, an error or no frame, or fewer than seven had points.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser.conftest import CHROMIUM, QUIET
from tests.browser.stage import WATCH
from tests.helpers import ROOT, Server, end, trainer, until
from trainer import RunConfig
from trainer.store import Store

HEADS = ("Classification", "ArcMarginProduct", "CosFace", "ArcFace", "AdaCos", "SubCenterArcFace", "CurricularFace")


def main(seconds: float) -> int:
    """Watch; 1 when something went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        runs = [store.submit(RunConfig(head=head, dim=16, epochs=100)) for head in HEADS]
        with open(Path(folder) / "trainer.log", "w") as log:
            training = trainer("serve", "--slots", str(len(runs)), home=Path(folder), stdout=log, stderr=log)
        server = None
        try:
            server = Server(ROOT, Path(folder) / "log", {"FACES_HOME": folder, "FACES_DEVICE": "cpu"})
            until(lambda: len(store.latest(runs)) == len(runs), 180)
            failed = watch(f"{server.address}/compare?source=Chosen+runs&runs={','.join(runs)}&axes=3-D", seconds)
            print("still training at the end:", sum(store.run(run).open for run in runs))
            return failed
        finally:
            if server:
                end(server.process, 60)
            end(training, 60)


def watch(address: str, seconds: float) -> int:
    """Look at every frame of this page's picture."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" and ours(said) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.locator(".panel[data-points]").first.wait_for(timeout=60_000)
        page.wait_for_timeout(2000)
        page.locator(".stage").scroll_into_view_if_needed()  # out of sight it draws nothing
        page.evaluate(WATCH)
        box, moments, began = page.locator(".view").first.bounding_box(), set(), time.monotonic()
        assert box is not None
        while time.monotonic() - began < seconds:
            page.mouse.move(box["x"] + 60, box["y"] + 60)
            page.mouse.down()
            page.mouse.move(box["x"] + 110, box["y"] + 80, steps=5)
            page.mouse.up()
            page.wait_for_timeout(2000)
            page.evaluate(WATCH)
            moments |= {one.get_attribute("data-url") for one in page.locator(".panel[data-url]").all()}
        drawn = [panel for panel in page.locator(".panel").all() if panel.get_attribute("data-points")]
        found = {
            "seconds": round(seconds), "panels with points": len(drawn), "moments shown": len(moments),
            "frames": page.evaluate("watched"), "lost contexts": page.evaluate("lost"),
            "blank": page.evaluate("blank"), "errors": errors,
        }  # fmt: skip
        browser.close()
    print(json.dumps(found, indent=1))
    return int(
        bool(found["blank"] or found["lost contexts"] or errors or not found["frames"] or len(drawn) < len(HEADS))
    )


def ours(said: Any) -> bool:
    """Whether a word of the console is about the page; Streamlit itself looks for its health under a sub-page first."""
    return "_stcore" not in said.location.get("url", "")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 120))
