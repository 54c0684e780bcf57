"""Time travel, colours and selection in the picture: its module in a real browser, without Streamlit around it.

Three runs of 6 images lie on a circle, two points of each class, and turn by 0.1 radian from step to step.
"""

import io
import json

import numpy as np
import pytest
from PIL import Image

from faces.datasets.pictures import sheet
from pages.components import blocks
from pages.components.faceview import Panel, described
from tests.browser.stage import staged
from tests.helpers import until
from trainer.folder import Points
from trainer.pictures import ShownFacts

RUNS = [f"01J0000000000000000000000{at}" for at in range(3)]
STEPS = (0, 10, 20, 40, 80)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def load_points(run, step, name):
    if step not in STEPS:
        return None
    angles = np.arange(6) * np.pi / 3 + STEPS.index(step) * 0.1
    points = np.stack([np.cos(angles), np.sin(angles)], 1)
    return Points(points, LABELS, np.zeros((0, 2)), np.zeros(0, int), np.array([0.9, 0.8], "f4"))


def load_facts(run, step):
    """Run 0 names all right, run 1 takes the first for class 1, run 2 shows the same images the other way round."""
    predictions = LABELS.copy()
    predictions[0] = 1 if run == RUNS[1] else 0
    rows = np.array([100, 7, 8, 9, 10, 11])
    return ShownFacts(rows[:: -1 if run == RUNS[2] else 1], predictions, np.linspace(0, 1.5, 6), np.full(6, np.nan))


def load_sheet(run, step, print, number):
    shades = np.arange(6, dtype=np.uint8) * 40
    return sheet(np.tile(shades[:, None, None, None], (1, 8, 8, 3)), blocks.ACROSS, blocks.SIDE)


def panels(heads, steps=STEPS):
    return [
        Panel(
            run, f"Head {at}", "waiting", blocks.address(run, "*", "pca-2"), steps=steps, total=80,
            facts=blocks.facts_address(run, "*"), images=blocks.sheets_address(run, 0, ""),
        )
        for at, run in enumerate(RUNS[:heads])
    ]  # fmt: skip


def told(heads=2, steps=STEPS, live=False):
    return described(panels(heads, steps), ["Beagle", "Dingo", "Samoyed"], 2, 320, "Some points", live, wishes=True)


@pytest.fixture(scope="module")
def address():
    """A small server of the routes that the app has, and of one page with the picture."""

    def data(request):
        return told(int(request.query_params.get("heads", 2)))

    with staged(data, load_points, load_facts, load_sheet) as address:
        yield address


@pytest.fixture
def visit(chromium, address):
    """visit("heads=2", width=390, ...) opens the picture. Its console must stay silent."""
    opened, errors = [], []

    def open_page(query="", width=1000, **options):
        context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        page = context.new_page()
        opened.append(context)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/?{query}" if "://" not in query else query)
        page.locator(".panel[data-url]").nth(page.locator(".panel").count() - 1).wait_for()
        return page

    yield open_page
    for context in opened:
        context.close()
    assert not errors


def steps(page):
    return [text.split(" ·")[0] for text in page.locator("header p").all_inner_texts()]


def at(page, step, heads=2):
    """Wait until all panels show this step."""
    page.wait_for_function(
        """([step, heads]) => [...document.getElementById("host").shadowRoot.querySelectorAll(".panel")]
            .filter((panel) => panel.dataset.url?.includes(`/${step}/`)).length === heads""",
        arg=[step, heads],
    )


def place(page, index, step, panel=0):
    """Where a point lies on the screen."""
    box = page.locator(".view").nth(panel).bounding_box()
    angle = index * np.pi / 3 + STEPS.index(step) * 0.1
    reach = 0.9 * min(box["width"], box["height"]) / 2
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return middle[0] + reach * np.cos(angle), middle[1] - reach * np.sin(angle)


def settled(page):
    page.wait_for_timeout(450)  # points travel for up to 300 ms; the address is written 250 ms later


def pixel(page, x, y):
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return np.array(image.getpixel((round(x), round(y)))).astype(int)


def test_scrubbing_asks_for_blocks_only_and_each_only_once(visit):
    page = visit()
    at(page, 80)
    assert page.locator("output").inner_text() == "step 80 of 80"
    page.locator(".stage").focus()
    for step in (40, 20, 10, 0):
        page.keyboard.press("ArrowLeft")
        at(page, step)
    asked = len(page.asked)
    for step in (10, 20, 40, 80):
        page.keyboard.press("ArrowRight")
        at(page, step)
    assert len(page.asked) == asked == len(set(page.asked))
    assert all("/faces/" in url for url in page.asked[1:])


def test_a_moment_between_two_shows_each_panels_newest_before_it(visit):
    page = visit()
    page.evaluate("data => show(data)", told() | {"panels": [told()["panels"][0], told(steps=[0, 80])["panels"][1]]})
    page.locator(".time").fill("0.6")
    page.wait_for_function(
        "document.getElementById('host').shadowRoot.querySelector('header p').textContent.includes('40')"
    )
    assert steps(page) == ["step 40", "step 0"]


def test_play_goes_from_the_first_moment_to_the_last_and_stops(visit):
    page = visit()
    at(page, 80)
    page.get_by_label("Speed").select_option("4×")
    page.get_by_label("Play (space)").click()
    at(page, 20)
    at(page, 80)
    page.get_by_label("Play (space)").wait_for()
    assert page.get_by_label("Pause (space)").count() == 0


def test_live_follows_new_moments_and_a_look_back_stays(visit):
    page = visit()
    page.evaluate("data => show(data)", told(steps=STEPS[:3], live=True))
    at(page, 20)
    page.evaluate("data => show(data)", told(steps=STEPS[:4], live=True))
    at(page, 40)
    page.locator(".stage").focus()
    page.keyboard.press("ArrowLeft")
    at(page, 20)
    page.evaluate("data => show(data)", told(live=True))
    settled(page)
    assert steps(page) == ["step 20", "step 20"]
    page.get_by_role("button", name="Live").click()
    at(page, 80)


def test_hover_shows_image_class_prediction_and_angle(visit):
    page = visit()
    at(page, 80)
    settled(page)
    page.mouse.move(*place(page, 0, 80, panel=1))
    tip = page.locator(".tip")
    assert tip.inner_text().split("\n") == ["Beagle", "#100", "✗ taken for Dingo", "0° to its center"]
    box = tip.locator(".thumb").bounding_box()
    assert box["width"] == 72
    page.mouse.move(*place(page, 5, 80))
    assert "✓ named right" in tip.inner_text()
    box = tip.locator(".thumb").bounding_box()
    until(lambda: (pixel(page, box["x"] + 36, box["y"] + 36) == 200).all(), 10)  # once its sheet is there


def test_right_in_a_and_wrong_in_b_have_a_colour_of_their_own(visit):
    page = visit()
    at(page, 80)
    settled(page)
    where = place(page, 0, 80), place(page, 3, 80)
    beagle, other = (pixel(page, *one) for one in where)
    assert np.abs(beagle - other).max() < 12  # one class
    page.get_by_label("Colour of the points").select_option("Right in A, wrong in B")
    page.mouse.move(5, 5)
    settled(page)
    only, both = (pixel(page, *one) for one in where)
    assert np.abs(only - both).max() > 60
    assert "right in A only" in page.locator(".key").inner_text()


@pytest.mark.parametrize("mode", ["right", "angle", "loss", "moved"])
def test_every_colour_draws_and_says_what_it_means(visit, mode):
    page = visit(f"colour={mode}")
    settled(page)
    assert page.locator(".key").inner_text()
    assert page.get_by_label("Colour of the points").input_value() == mode


def test_a_selected_point_is_the_same_image_in_all_panels_and_at_all_times(visit):
    page = visit("heads=3")
    at(page, 80, 3)
    settled(page)
    page.mouse.click(*place(page, 0, 80))
    page.get_by_text("1 selected").wait_for()
    page.locator(".stage").focus()
    page.keyboard.press("ArrowLeft")
    at(page, 40, 3)
    settled(page)
    assert page.locator(".faceview").get_attribute("data-trails") == "1"
    page.mouse.move(*place(page, 5, 40, panel=2))  # the last there is the first here
    assert "#100" in page.locator(".tip").inner_text()
    assert page.get_by_text("1 selected").count() == 1
    page.keyboard.press("Escape")
    assert page.get_by_text("1 selected").is_hidden()


def test_a_lasso_selects_what_lies_inside(visit):
    page = visit()
    at(page, 80)
    settled(page)
    page.get_by_role("button", name="Lasso").click()
    box = page.locator(".view").first.bounding_box()
    corners = [(4, 4), (box["width"] - 4, 4), (box["width"] - 4, box["height"] / 2), (4, box["height"] / 2)]
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    for x, y in corners:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    page.mouse.up()
    above = sum(np.sin(np.arange(6) * np.pi / 3 + 0.4) > 0)
    page.get_by_text(f"{above} selected").wait_for()


def test_a_copied_link_gives_the_same_picture(visit):
    page = visit()
    at(page, 80)
    settled(page)
    page.mouse.click(*place(page, 1, 80))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    page.get_by_label("Colour of the points").select_option("Angle to own center")
    at(page, 40)
    page.wait_for_function("location.search.includes('camera') && location.search.includes('colour=angle')")
    again = visit(page.url)
    at(again, 40)
    assert again.get_by_label("Colour of the points").input_value() == "angle"
    assert again.get_by_text("1 selected").count() == 1
    settled(again)
    cameras = [json.loads(one.locator(".faceview").get_attribute("data-camera")) for one in (page, again)]
    assert cameras[0]["zoom"] == pytest.approx(cameras[1]["zoom"], abs=2e-3)
    assert cameras[0]["zoom"] > 1.1


def test_keys_move_time_choose_a_panel_and_wish_for_another_picture(visit):
    page = visit()
    at(page, 80)
    page.locator(".stage").focus()
    page.keyboard.press("Home")
    at(page, 0)
    page.keyboard.press("2")
    assert page.locator(".panel:visible").count() == 1
    page.keyboard.press("2")
    assert page.locator(".panel:visible").count() == 2
    page.keyboard.press("u")
    page.keyboard.press("d")
    assert page.evaluate("said") == [["wished", {"projection": "umap"}], ["wished", {"axes": 3}]]
    page.keyboard.press("Space")
    page.get_by_label("Pause (space)").wait_for()


def test_the_picture_says_what_it_shows_in_words(visit):
    page = visit()
    at(page, 80)
    page.wait_for_timeout(500)
    said = page.locator("canvas").get_attribute("aria-label")
    assert "step 80 of 80" in said
    assert "Head 1: 1 of 6 images wrong, half of them within 52° of their own center." in said


def test_tools_fit_on_a_phone(visit):
    page = visit("heads=3", width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_picture_without_facts_and_tracks_has_neither_clock_nor_their_colours(visit):
    page = visit()
    bare = [panel | {"facts": None, "images": None, "steps": [], "url": panel["url"].replace("*", "10")}
            for panel in told()["panels"]]  # fmt: skip
    page.evaluate("data => show(data)", told() | {"panels": bare})
    at(page, 10)
    assert page.locator(".clock").is_hidden()
    assert page.locator(".tools option:not([disabled])").first.inner_text() == "Colour: class"
    page.mouse.move(*place(page, 1, 10))
    assert page.locator(".thumb").count() == 0
