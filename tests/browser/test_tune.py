"""The map of a sweep in a real browser: it fills while runs train, a click opens a cell, two are compared."""

import pytest

from tests.helpers import ROOT, Server, end, until
from trainer import sweep
from trainer.store import Store
from trainer.sweep import Axis, Sweep

TINY = Sweep(
    "ArcFace", (Axis("s", (2.0, 8.0)), Axis("m", (0.0, 0.4))), {"epochs": 1, "dim": 16, "batch": 256, "probe": 100}
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The app, and a sweep that its trainer has just begun."""
    home = tmp_path_factory.mktemp("tune") / "home"
    store = Store(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_HOME", str(home))
        name = sweep.start(store, TINY)
    server = Server(ROOT, home / "server.log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
    yield server.address, name, store
    end(server.process, 40)


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    yield page
    context.close()


def told(page) -> str:
    """What the map says to a screen reader."""
    return page.locator("[aria-label^='KNN accuracy over']").first.get_attribute("aria-label") or ""


def click(page, column: float, row: float) -> None:
    """Click the map at a share of its width and height."""
    box = page.locator("canvas").first.bounding_box()
    page.mouse.click(box["x"] + column * box["width"], box["y"] + row * box["height"])


def test_the_map_fills_while_runs_train_and_keeps_its_canvas(tuned, page):
    address, name, store = tuned
    page.goto(f"{address}/tune?map={name}")
    page.locator("canvas").first.wait_for()
    page.evaluate("window.first = document.querySelector('canvas')")
    until(lambda: "in 4 of 4 points" in told(page))
    page.get_by_text("4 of 4 runs are done").wait_for()
    assert page.evaluate("window.first === document.querySelector('canvas')")
    assert [cell.state for cell in sweep.look(store, TINY)] == ["done"] * 4
    assert page.wrong == []


def test_a_click_opens_a_cell_in_the_live_view(tuned, page):
    address, name, store = tuned
    page.goto(f"{address}/tune?map={name}")
    until(lambda: "in 4 of 4 points" in told(page))
    click(page, 0.3, 0.3)
    page.get_by_text("s = 2, m = 0.4").first.wait_for()
    page.locator(".faceview .panel[data-points]").wait_for()  # beneath the map at once
    page.get_by_role("button", name="Seed 0 in the live view").click()
    page.get_by_role("heading", name="What does this head do to the embeddings?").wait_for()
    run = next(cell.parts[0].run.id for cell in sweep.look(store, TINY) if cell.point == (2.0, 0.4))
    until(lambda: f"run={run}" in page.url)


@pytest.mark.parametrize("keys", ["Shift", ""])
def test_two_clicked_cells_are_compared_with_shift_or_without(tuned, page, keys):
    address, name, store = tuned
    page.goto(f"{address}/tune?map={name}")
    until(lambda: "in 4 of 4 points" in told(page))
    click(page, 0.3, 0.3)
    page.get_by_text("s = 2, m = 0.4").first.wait_for()
    if keys:
        page.keyboard.down(keys)
    click(page, 0.7, 0.5)
    if keys:
        page.keyboard.up(keys)
    until(lambda: page.locator(".faceview .panel[data-points]").count() == 2)
    page.get_by_role("button", name="Compare both side by side").click()
    page.get_by_role("heading", name="Which head makes the better embeddings?").wait_for()
    points = {(2.0, 0.4), (8.0, 0.0)}
    runs = {cell.parts[0].run.id for cell in sweep.look(store, TINY) if cell.point in points}
    until(lambda: all(run in page.url for run in runs))


def test_a_phone_shows_the_whole_map(tuned, chromium):
    address, name, _ = tuned
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{address}/tune?map={name}")
    page.locator("canvas").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
