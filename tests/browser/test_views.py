"""What the picture shows beside points: a grand tour, margin cones, training images, axes; and what it withstands.

Seven runs of 60 images in three classes lie on eight axes, the first the widest, and drift from step to step. One
page serves all tests; `renew` gives each a picture of its own.
"""

import json
from collections import Counter

import numpy as np
import pytest

from pages.components import blocks
from pages.components.faceview import Panel, described
from tests.browser.stage import WATCH, staged
from tests.browser.test_faceview import CONTEXTS
from trainer.folder import Points
from trainer.pictures import ShownFacts

RUNS = [f"01J0000000000000000000000{at}" for at in range(7)]
STEPS = tuple(range(0, 210, 10))
LABELS = np.arange(60) % 3
NONE = np.zeros(0, "f4")
asked: Counter[str] = Counter()


def embedded(run, step):
    chance = np.random.default_rng(RUNS.index(run))
    middles = np.array([[3, 0, 0], [-2, 2, 0], [-1, -2, 2]]) @ np.eye(3, 8)
    return middles[LABELS] + np.linspace(0.6, 0.1, 8) * chance.normal(size=(60, 8)) + 0.01 * step


def load_points(run, step, name):
    asked[name] += 1
    points = embedded(run, step)
    spread = points.var(0).sum(keepdims=True)
    if name == "raw":  # three centers on the circle, at 0, 120 and 240 degrees
        angles = np.arange(60) * 0.01 + LABELS * 2 * np.pi / 3
        around = np.array([0, 2, 4]) * np.pi / 3
        points, centers = (np.stack([np.cos(one), np.sin(one)], 1) for one in (angles, around))
        return Points(points, LABELS, centers, np.arange(3), NONE, spread, np.array([0.8, 0.8, 0], "f4"))
    if name == "pca-8":
        return Points(points, LABELS, points[:3], np.arange(3), NONE, spread) if asked[name] > 3 else ""
    if name.endswith(".known"):
        return Points(points[:30, :2] + 0.1, LABELS[:30], points[:0, :2], LABELS[:0])
    axes = int(name[-1])
    return Points(points[:, :axes], LABELS, points[:3, :axes], np.arange(3), np.array([0.9, 0.8], "f4"), spread)


def load_facts(run, step):
    predictions = LABELS.copy()
    predictions[0] = 1
    return ShownFacts(np.arange(60) + 100, predictions, np.linspace(0, 1.5, 60), np.full(60, np.nan))


def told(heads=1, axes=2, name="", steps=STEPS, live=False, **more):
    panels = [
        Panel(
            run, f"Head {at}", url=blocks.address(run, "*", name or f"pca-{axes}"), steps=steps, total=200,
            facts=blocks.facts_address(run, "*"), **more,
        )
        for at, run in enumerate(RUNS[:heads])
    ]  # fmt: skip
    return described(panels, ["Beagle", "Dingo", "Samoyed"], axes, 360, "Some points", live, wishes=True)


def touring(heads=1, axes=2):
    data = told(heads, axes, linear=True)
    for panel, run in zip(data["panels"], RUNS, strict=False):
        panel["tour"] = blocks.address(run, "*", "pca-8")
    return data


@pytest.fixture(scope="module")
def address():
    with staged(lambda request: told(), load_points, load_facts) as address:
        yield address


@pytest.fixture(scope="module")
def window(chromium, address):
    """The one page, of which nothing may complain."""
    context = chromium.new_context(viewport={"width": 1000, "height": 800})
    page, errors = context.new_page(), []
    page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(CONTEXTS)
    page.goto(address)
    page.locator(".panel[data-url]").wait_for()
    yield page
    context.close()
    assert not errors


@pytest.fixture
def page(window):
    window.emulate_media(reduced_motion="no-preference")
    return window


def show(page, data, query=""):
    """A new picture, at this address of the page, once all of its panels show points."""
    page.evaluate(
        """([data, query]) => {
            window.watching = null; // what WATCH has counted is about another picture
            history.replaceState(null, "", "/?" + query);
            renew(data);
        }""",
        [data, query],
    )
    page.locator(".panel[data-url]").nth(len(data["panels"]) - 1).wait_for()
    page.wait_for_timeout(100)


def state(page, name):
    return page.locator(".faceview").get_attribute(f"data-{name}")


def drag(page, dx=60):
    box = page.locator(".view").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + 20, steps=3)
    page.mouse.up()


def axis_words(page):
    return page.locator(".axis:visible").all_inner_texts()


def color(page, x, y):
    """The colour of a place of the canvas, in CSS pixels from its corner, right after a frame."""
    return page.evaluate(
        """([x, y]) => new Promise((found) => {
            const root = document.getElementById("host").shadowRoot, canvas = root.querySelector("canvas");
            const small = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
            const watch = new MutationObserver(() => {
                watch.disconnect();
                const pen = small.getContext("2d"), scale = canvas.width / canvas.clientWidth;
                pen.drawImage(canvas, Math.round(x * scale), Math.round(y * scale), 1, 1, 0, 0, 1, 1);
                found([...pen.getImageData(0, 0, 1, 1).data]);
            });
            watch.observe(root.querySelector(".faceview"), { attributeFilter: ["data-frames"] });
            root.querySelector(".stage").dispatchEvent(new KeyboardEvent("keydown", { key: "0" }));
        })""",
        [x, y],
    )


def test_the_camera_survives_twenty_live_updates_and_no_panel_is_blank_meanwhile(page):
    show(page, told(7, 3, steps=STEPS[:1], live=True))
    drag(page)
    page.wait_for_timeout(100)
    before = state(page, "camera")
    page.evaluate(WATCH)
    for count in range(2, 22):
        page.evaluate("data => show(data)", told(7, 3, steps=STEPS[:count], live=True))
        page.wait_for_timeout(40)
    page.locator(".panel[data-url*='/200/']").nth(6).wait_for()
    page.wait_for_timeout(400)
    assert state(page, "camera") == before
    assert page.evaluate("watched") > 5
    assert page.evaluate("[blank, lost]") == [[], 0]
    assert page.evaluate("[...contexts].filter((one) => !one.isContextLost()).length") == 1


def test_a_lost_context_comes_back_with_points_cones_and_training_images(page):
    show(page, told(name="raw", raw=True))
    page.evaluate("window.lose = [...contexts].at(-1).getExtension('WEBGL_lose_context'); lose.loseContext()")
    page.wait_for_timeout(100)
    page.evaluate(WATCH)
    page.evaluate("lose.restoreContext()")
    page.wait_for_timeout(400)
    assert page.evaluate("watched") >= 1
    assert page.evaluate("blank.filter(([frame]) => frame === watched - 1)") == []


def test_the_tour_asks_for_its_axes_when_it_begins_and_waits_until_they_are_computed(page):
    asked.clear()
    show(page, touring(2))
    assert asked["pca-8"] == 0
    page.get_by_role("button", name="Tour", exact=True).click()
    page.get_by_text("Computing the leading axes").first.wait_for()
    page.locator(".panel[data-url*='pca-8']").nth(1).wait_for()
    assert asked["pca-8"] > 3  # "not yet" at first
    first = int(state(page, "frames"))
    page.wait_for_function("first => host.shadowRoot.querySelector('.faceview').dataset.frames > first + 2", arg=first)
    drag(page)  # halts it
    page.wait_for_timeout(500)
    rest = int(state(page, "frames"))
    page.wait_for_timeout(300)
    assert int(state(page, "frames")) == rest
    page.wait_for_function("location.search.includes('tour=')")
    page.locator(".stage").press("Escape")
    page.locator(".panel[data-url*='pca-2']").nth(1).wait_for()


def test_a_tour_is_the_same_at_the_same_second_for_everybody(page):
    seen = set()
    for second in (40, 40, 41):
        show(page, touring(axes=3), f"tour={second}")
        page.locator(".panel[data-url*='pca-8']").wait_for()
        page.wait_for_timeout(400)
        seen.add(tuple(axis_words(page)))
    assert len(seen) == 2
    assert "A tour of the leading axes." in page.locator("canvas").get_attribute("aria-label")


def test_where_nothing_may_move_by_itself_a_tour_goes_on_by_one_stride_a_click(page):
    page.emulate_media(reduced_motion="reduce")
    show(page, touring())
    button = page.get_by_role("button", name="Tour", exact=True)
    button.click()
    page.locator(".panel[data-url*='pca-8']").wait_for()
    page.wait_for_timeout(200)
    rest, words = int(state(page, "frames")), axis_words(page)
    page.wait_for_timeout(300)
    assert int(state(page, "frames")) == rest
    button.click()
    page.wait_for_timeout(200)
    assert axis_words(page) != words


def test_axes_say_which_they_are_and_how_much_of_the_variance_they_show(page):
    points = embedded(RUNS[0], 200)
    shares = points.var(0) / points.var(0).sum() * 100
    show(page, told(linear=True))
    page.wait_for_timeout(100)
    assert axis_words(page) == [f"axis 1 · {shares[0]:.0f} % →", f"↑ axis 2 · {shares[1]:.0f} %"]
    show(page, told())  # a picture whose axes mean nothing
    assert axis_words(page) == []


def test_a_class_shown_alone_has_its_margin_cone_on_the_circle(page):
    show(page, told(name="raw", raw=True))
    box, stage = page.locator(".view").bounding_box(), page.locator(".stage").bounding_box()
    radius = 0.9 * min(box["width"], box["height"]) / 2
    x, y = (box[side] - stage[side] + box[size] / 2 for side, size in (("x", "width"), ("y", "height")))
    inside = x + 0.5 * radius * np.cos(-0.7), y - 0.5 * radius * np.sin(-0.7)
    outside = x + 0.5 * radius * np.cos(-0.9), y - 0.5 * radius * np.sin(-0.9)
    assert color(page, *inside)[3] == 0
    page.get_by_role("button", name="Beagle").click()
    page.get_by_text("Margin met within 46° of the center").wait_for()
    assert color(page, *inside)[3] > 20
    assert color(page, *outside)[3] == 0
    page.get_by_role("button", name="Samoyed").click()
    page.get_by_text("The margin cannot be met").wait_for()


def test_training_images_are_asked_for_only_when_their_colour_is_chosen(page):
    show(page, told())
    assert "Training or validation" not in page.locator(".tools option:not([disabled])").all_inner_texts()
    asked.clear()
    known = blocks.address(RUNS[0], "*", "pca-2.known")
    show(page, told(known=known, known_steps=[200]))
    assert asked["pca-2.known"] == 0
    page.get_by_label("Colour of the points").select_option("Training or validation")
    page.wait_for_timeout(500)
    assert asked["pca-2.known"] == 1
    assert "beside 30 training images" in page.locator("canvas").get_attribute("aria-label")
    page.locator(".stage").press("ArrowLeft")
    page.get_by_text("Training images were not embedded at this moment").wait_for()
    assert asked["pca-2.known"] == 1


def test_everything_can_be_reached_without_a_pointer(page):
    show(page, touring(2))
    tools = page.locator("#host button:visible, #host select:visible, #host input:visible").count()
    page.locator(".stage").focus()
    reached = set()
    for _ in range(tools):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("""() => {
                const root = document.getElementById("host").shadowRoot;
                return [...root.querySelectorAll("button, select, input")].indexOf(root.activeElement);
            }""")
        )
    assert len(reached - {-1}) == tools
    page.locator(".stage").focus()
    for key in ("n", "n", "Enter"):
        page.keyboard.press(key)
    assert "#101" in page.locator(".tip").inner_text()
    page.get_by_text("1 selected").wait_for()
    page.keyboard.press("c")
    assert page.get_by_label("Colour of the points").input_value() == "right"
    page.keyboard.press("g")
    page.locator(".panel[data-url*='pca-8']").nth(1).wait_for()


def test_a_link_opened_cold_restores_view_moment_colour_selection_and_camera(page):
    camera = "0.1_0.2_0.3_0.927_1.7_0.1_-0.2"
    show(page, told(2, 3), f"at=0.5&colour=angle&picked=105_107&camera={camera}&alone={RUNS[1]}")
    page.locator(".panel[data-url*='/100/']").nth(1).wait_for()
    assert page.locator(".panel:visible").count() == 1
    assert page.get_by_label("Colour of the points").input_value() == "angle"
    page.get_by_text("2 selected").wait_for()
    seen = json.loads(state(page, "camera"))
    assert (seen["zoom"], seen["pan"]) == (1.7, [0.1, -0.2])
    assert seen["q"] == pytest.approx([0.1, 0.2, 0.3, 0.927], abs=2e-3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_tools_are_large_enough_and_nothing_overflows(chromium, address, scheme):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.locator(".panel[data-url]").wait_for()
    show(page, touring(3, 3), "colour=angle&picked=100_101")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [one.bounding_box() for one in page.locator(".tool:visible, .time:visible, .panel").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 30 for box in boxes)
    context.close()


def test_a_block_of_an_older_faces_that_the_browser_kept_can_still_be_read(page):
    block = blocks.points_block(load_points(RUNS[0], 0, "pca-2")._replace(quality=np.array([0.9, 0.8], "f4")))
    older = b"FV02" + block[4:16] + block[20 : -4 * 6]  # no arcs, two numbers, and no cones
    read = page.evaluate(
        """async ([script, bytes]) => {
            const { decode } = await import(new URL("faceview/points.js", new URL(script, location.origin)));
            const { n, m, quality, cones, spread } = decode(Uint8Array.from(bytes).buffer);
            return [n, m, quality.map((part) => Math.round(part * 100)), cones, spread ?? null];
        }""",
        [blocks.SCRIPT, list(older)],
    )
    assert read == [60, 3, [90, 80], None, None]
