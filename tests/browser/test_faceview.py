"""The picture component in a real browser on a real server."""

import io
import json

import numpy as np
import pytest
from PIL import Image

APP = """
import numpy as np
import streamlit as st
from pages.components import blocks
from trainer.folder import Points

def load_points(run, step, name):
    axes, count = map(int, name.split("-"))
    if step > 20:
        return None
    if count == 2:  # one point on the left, one on the right, at 0.9 of the half panel
        return Points(np.array([[-1, 0], [1, 0]]), np.array([0, 1]), np.zeros((0, 2)), np.zeros(0, int))
    chance = np.random.default_rng([step, ord(run[-1])])
    labels = np.arange(count) % 3
    centers = chance.normal(size=(3, axes)).astype("f4")
    points = centers[labels] + 0.3 * chance.normal(size=(count, axes)).astype("f4")
    return Points(points, labels, centers, np.arange(3))

app = st.App("router.py", routes=blocks.routes(load_points))
"""
ROUTER = """
import streamlit as st
from pages.components import blocks
from pages.components.faceview import Panel, faceview

st.set_page_config(layout="wide")
asked = {"heads": 7, "axes": 3, "count": 90} | st.query_params.to_dict()
heads, axes, count = (int(asked[name]) for name in ("heads", "axes", "count"))

@st.fragment
def picture():
    step = st.session_state.setdefault("step", 1)
    if st.button("Next"):
        step = st.session_state.step = step + 1
    if st.button("Gone"):
        step = 21
    runs = [f"01J0000000000000000000000{head}" for head in range(heads)]
    places = [blocks.address(run, step, f"{axes}-{count}") for run in runs]
    panels = [Panel(run, f"Head {run[-1]}", f"step {step}", place) for run, place in zip(runs, places)]
    classes = ["Beagle", "Dingo", "Samoyed"]
    picked = faceview(panels, classes, axes, height=480, label="Some points", key="view", on_picked=lambda: None)
    if picked:
        st.text(f"picked {picked['index']} in {picked['panel'][-1]}")

if st.toggle("Show", True):
    picture()
"""
CONTEXTS = """
window.contexts = new Set();
const plain = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  const made = window.withoutGL && kind === "webgl2" ? null : plain.call(this, kind, ...rest);
  if (made && kind.startsWith("webgl")) window.contexts.add(made);
  return made;
};
"""


@pytest.fixture(scope="module")
def address(serve):
    return serve({"app.py": APP, "router.py": ROUTER})


@pytest.fixture(scope="module")
def window(chromium):
    """One window for all tests that need nothing special: Streamlit's own scripts stay in its cache."""
    with chromium.new_context() as context:
        yield context


@pytest.fixture
def visit(chromium, window, address):
    """visit("axes=2", width=390, ...) opens the page and waits for the picture. Its console must stay silent."""
    opened, errors = [], []

    def open_page(query="", width=1300, height=900, script="", **options):
        page = (chromium.new_context(**options) if options else window).new_page()
        page.set_viewport_size({"width": width, "height": height})
        opened.append(page)
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_init_script(script + CONTEXTS)
        page.goto(f"{address}/?{query}")
        shown(page)
        return page

    open_page.errors = errors
    yield open_page
    for page in opened:
        page.close()
    assert not errors


def shown(page, step=1):
    """Wait until every panel shows the points of this step."""
    page.wait_for_function(
        """step => {
            const roots = [...document.querySelectorAll("*")].map((node) => node.shadowRoot).filter((root) => root);
            const panels = roots.flatMap((root) => [...root.querySelectorAll(".panel")]);
            return panels.length && panels.every((panel) => panel.dataset.url?.includes(`/${step}/`));
        }""",
        arg=step,
        timeout=20_000,
    )
    page.wait_for_timeout(400)  # the points travel for 300 ms


def advance(page, step):
    page.get_by_role("button", name="Next").click()
    shown(page, step)


def camera(page):
    return json.loads(page.locator(".faceview").get_attribute("data-camera"))


def pixels(view):
    return np.asarray(Image.open(io.BytesIO(view.screenshot())).convert("RGB")).astype(int)


def colourful(view):
    """How many pixels of a panel have a colour, which only points have."""
    seen = pixels(view)
    return int((seen.max(-1) - seen.min(-1) > 60).sum())


def middle(view):
    box = view.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, view, dx, dy):
    x, y = middle(view)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def test_the_camera_survives_five_updates(visit):
    page = visit("heads=2")
    home = camera(page)
    drag(page, page.locator(".view").first, 80, 30)
    before = camera(page)
    assert before != home
    for step in range(2, 7):
        advance(page, step)
        assert camera(page) == before
    assert page.evaluate("contexts.size") == 1


def test_an_update_does_not_end_a_drag(visit):
    page = visit("heads=2")
    x, y = middle(page.locator(".view").first)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=3)
    page.evaluate("[...document.querySelectorAll('button')].find((at) => at.textContent.includes('Next')).click()")
    shown(page, 2)
    before = camera(page)
    page.mouse.move(x + 90, 10)  # to where only a drag that goes on is still the picture's
    page.wait_for_timeout(100)
    assert camera(page) != before
    page.mouse.up()


def test_seven_panels_share_one_context_and_one_camera(visit):
    page = visit()
    views = page.locator(".view")
    assert views.count() == 7
    assert page.evaluate("contexts.size") == 1
    for at in range(7):
        assert colourful(views.nth(at)) > 200, f"panel {at} is blank"
    before = pixels(views.nth(6))
    drag(page, views.first, 60, 20)
    page.mouse.move(5, 5)
    page.wait_for_timeout(200)
    assert np.abs(pixels(views.nth(6)) - before).max() > 60


def test_nothing_is_drawn_while_nothing_changes(visit):
    page = visit()
    root = page.locator(".faceview")
    before = root.get_attribute("data-frames")
    page.wait_for_timeout(600)
    assert root.get_attribute("data-frames") == before


def test_hover_names_the_class_and_the_legend_isolates_one(visit):
    page = visit("heads=1&axes=2&count=2")
    view, tip = page.locator(".view"), page.locator(".tip")
    box = view.bounding_box()
    x, y = middle(view)
    right = x + 0.9 * min(box["width"], box["height"]) / 2
    page.mouse.move(right + 3, y)
    assert tip.inner_text().split("\n") == ["Dingo", "#1"]
    page.mouse.move(x, y)
    assert tip.is_hidden()
    page.get_by_role("button", name="Beagle").click()
    page.mouse.move(right + 3, y)
    assert tip.is_hidden()
    page.get_by_role("button", name="Beagle").click()
    page.mouse.move(right + 2, y)
    assert tip.is_visible()


def test_a_click_tells_python_which_point(visit):
    page = visit("heads=1&axes=2&count=2")
    view = page.locator(".view")
    box = view.bounding_box()
    x, y = middle(view)
    page.mouse.click(x - 0.9 * min(box["width"], box["height"]) / 2, y)
    page.get_by_text("picked 0 in 0").wait_for(timeout=5000)


def test_the_wheel_zooms_a_picture_in_use_and_a_double_click_resets_it(visit):
    page = visit("heads=1&axes=2")
    x, y = middle(page.locator(".view"))
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(200)
    assert camera(page)["zoom"] == 1  # the page scrolls
    page.mouse.click(x + 5, y + 100)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(200)
    assert camera(page)["zoom"] > 1.1
    page.mouse.dblclick(x, y)
    page.wait_for_timeout(800)
    assert camera(page)["zoom"] == 1
    assert camera(page)["pan"] == [0, 0]


def test_old_points_stay_when_new_ones_are_slow_or_missing(visit):
    page = visit("heads=2")
    views = page.locator(".view")
    held, before = [], colourful(views.first)
    page.route("**/2/*.bin", lambda request: held.append(request))
    page.get_by_role("button", name="Next").click()
    page.get_by_text("step 2").first.wait_for()
    page.wait_for_timeout(300)
    assert len(held) == 2
    assert colourful(views.first) > 0.9 * before > 200
    for request in held:
        request.continue_()
    shown(page, 2)
    page.get_by_role("button", name="Gone").click()
    page.get_by_text("There are no points 3-90 of step 21.").first.wait_for(timeout=5000)
    assert colourful(views.first) > 200
    assert "/2/" in page.locator(".panel").first.get_attribute("data-url")
    visit.errors[:] = [
        error for error in visit.errors if "404" not in error
    ]  # the browser's own note on the missing block


def test_a_lost_context_comes_back(visit):
    page = visit("heads=2")
    view = page.locator(".view").first
    page.evaluate("window.lose = [...contexts][0].getExtension('WEBGL_lose_context'); lose.loseContext()")
    page.wait_for_timeout(300)
    assert colourful(view) == 0
    page.evaluate("lose.restoreContext()")
    page.wait_for_timeout(500)
    assert colourful(view) > 200


def test_without_webgl_a_flat_canvas_draws(visit):
    page = visit("heads=2", script="window.withoutGL = true;")
    assert page.locator(".faceview").get_attribute("data-painter") == "canvas2d"
    assert colourful(page.locator(".view").nth(1)) > 200


def test_a_picture_that_leaves_the_page_frees_its_context(visit):
    page = visit("heads=1")
    page.get_by_text("Show", exact=True).click()
    page.locator(".faceview").wait_for(state="detached")
    page.wait_for_function("[...contexts].every((context) => context.isContextLost())", timeout=3000)
    page.get_by_text("Show", exact=True).click()
    shown(page)
    assert colourful(page.locator(".view")) > 200


def test_it_follows_the_dark_theme(visit):
    light, dark = visit("heads=1"), visit("heads=1", color_scheme="dark")
    assert [page.locator(".faceview").get_attribute("data-theme") for page in (light, dark)] == ["light", "dark"]
    assert np.median(pixels(light.locator(".view"))) > 240
    assert np.median(pixels(dark.locator(".view"))) < 40
    assert colourful(dark.locator(".view")) > 200


def test_on_a_phone_panels_stack_without_sideways_scrolling(visit):
    page = visit("heads=3", width=390, height=844)
    boxes = [page.locator(".view").nth(at).bounding_box() for at in range(3)]
    assert len({box["x"] for box in boxes}) == 1
    assert boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    scroller = page.locator('[data-testid="stMain"]')
    assert scroller.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_less_motion_means_none(visit):
    page = visit("heads=1", reduced_motion="reduce")
    root = page.locator(".faceview")
    before = int(root.get_attribute("data-frames"))
    advance(page, 2)
    assert int(root.get_attribute("data-frames")) - before <= 4
