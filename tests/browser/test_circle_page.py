"""The circle in a real browser: arrows, forbidden arcs and lengths where they belong, and the page with both panels."""

import numpy as np
import pytest

from pages.components import blocks
from pages.components.faceview import Panel, described
from tests.browser.stage import WATCH, staged
from tests.browser.test_views import color, state
from tests.helpers import ROOT, Server, end
from trainer import RunConfig, train
from trainer.folder import Points
from trainer.pictures import AT_ONCE, ShownFacts, draw
from trainer.store import Store

RUNS = [f"01J0000000000000000000000{at}" for at in range(2)]
LABELS = np.arange(60) % 3
AROUND = np.array([0, 2, 4]) * np.pi / 3  # centers at 0, 120 and 240 degrees
ARCS = np.array([[50, 70], [170, 190], [299.9, 300]], "f4")  # degrees; the last one is a boundary


def load_points(run, step, name):
    angles = np.linspace(-0.2, 0.2, 60) + AROUND[LABELS]
    points, centers = (np.stack([np.cos(one), np.sin(one)], 1) for one in (angles, AROUND))
    arcs = np.radians(ARCS) if run == RUNS[1] else ARCS[:0]
    return Points(points, LABELS, centers, np.arange(3), arcs=arcs)


def load_facts(run, step):
    return ShownFacts(np.arange(60), LABELS, np.zeros(60), np.zeros(60), np.where(LABELS == 0, 10.0, 5.0))


def told(request=None):
    panels = [
        Panel(
            run, f"Head {at}", url=blocks.address(run, "*", "pca-2"), steps=(0, 10), total=10, raw=True,
            facts=blocks.facts_address(run, "*"),
        )
        for at, run in enumerate(RUNS)
    ]  # fmt: skip
    return described(panels, ["Beagle", "Dingo", "Samoyed"], 2, 400, "Two circles")


@pytest.fixture(scope="module")
def address():
    with staged(told, load_points, load_facts) as address:
        yield address


@pytest.fixture
def page(chromium, address):
    context = chromium.new_context(viewport={"width": 1000, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(address)
    page.locator(".panel[data-url]").nth(1).wait_for()
    page.wait_for_timeout(100)
    yield page
    context.close()


def at(page, panel, degrees, far):
    """The colour at a place of a panel, by its angle and its distance from the middle as a share of the circle's."""
    box, stage = page.locator(".view").nth(panel).bounding_box(), page.locator(".stage").bounding_box()
    radius = far * 0.9 / 1.08 * min(box["width"], box["height"]) / 2
    x, y = (box[side] - stage[side] + box[size] / 2 for side, size in (("x", "width"), ("y", "height")))
    return color(page, x + radius * np.cos(np.radians(degrees)), y - radius * np.sin(np.radians(degrees)))


def coloured(rgba):
    return rgba[3] > 120 and max(rgba[:3]) - min(rgba[:3]) > 40


def test_centers_are_arrows_from_the_origin_in_the_colours_of_their_classes(page):
    for panel in (0, 1):
        shafts = [at(page, panel, degrees, 0.5) for degrees in (0, 120, 240)]
        assert all(coloured(shaft) for shaft in shafts)
        assert len({tuple(shaft[:3]) for shaft in shafts}) == 3
        assert coloured(at(page, panel, 122, 0.85))  # the head is wider than the shaft
        assert not at(page, panel, 125, 0.5)[3]


def test_forbidden_arcs_are_shaded_from_the_origin_to_beyond_the_circle_and_only_there(page):
    shaded = [at(page, 1, degrees, 0.6)[3] for degrees in (52, 68, 180)]
    assert all(10 < alpha < 80 for alpha in shaded)
    assert [at(page, 1, degrees, 0.6)[3] for degrees in (40, 80, 290)] == [0, 0, 0]
    assert at(page, 1, 60, 1.055)[3] > 60  # the band along the rim
    assert not at(page, 1, 40, 1.055)[3]
    assert at(page, 1, 299.95, 0.6)[3] > 20  # a boundary without a margin is a line
    assert not at(page, 0, 60, 0.6)[3]
    page.get_by_text("Shaded, 11%: no class meets the margin here").wait_for()


def test_lengths_take_features_off_the_circle_and_the_address_remembers(page):
    assert coloured(at(page, 1, 12, 1.0))
    page.get_by_role("button", name="Lengths").click()
    page.wait_for_function("location.search.includes('lengths=1')")
    assert not coloured(at(page, 1, 126, 1.0))
    assert coloured(at(page, 1, 126, 0.5))  # Dingo's are half as long as Beagle's
    assert coloured(at(page, 1, 6, 1.0))
    page.get_by_label("Colour of the points").select_option("Feature length")
    page.get_by_text("longest of the panel").wait_for()
    page.reload()
    page.locator(".panel[data-url]").nth(1).wait_for()
    page.wait_for_timeout(200)
    assert page.get_by_role("button", name="Lengths").get_attribute("aria-pressed") == "true"
    assert state(page, "painter") == "webgl2"
    page.get_by_role("button", name="Lengths").click()
    page.wait_for_function("!location.search.includes('lengths')")


def test_without_webgl_arrows_and_arcs_are_there_too(chromium, address):
    context = chromium.new_context(viewport={"width": 1000, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.add_init_script(
        """const had = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
            return kind === "webgl2" ? null : had.call(this, kind, ...more);
        };"""
    )
    page.goto(address)
    page.locator(".panel[data-url]").nth(1).wait_for()
    page.wait_for_timeout(100)
    assert state(page, "painter") == "canvas2d"
    assert coloured(at(page, 1, 120, 0.5))
    assert 10 < at(page, 1, 65, 0.6)[3] < 80
    context.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app on a home with one finished pair."""
    home = tmp_path_factory.mktemp("app")
    store = Store(home)
    for head in ("Classification", "ArcFace"):
        name = store.submit(RunConfig(head=head, dim=2, epochs=2, probe=200), "Circle · ArcFace · then")
        run = store.claim()
        folder = store.folder(name)
        folder.begin("", [str(digit) for digit in range(10)])
        for snapshot in train(run.config):
            folder.keep(run.attempt, snapshot)
            for picture in AT_ONCE:
                draw(folder, snapshot, picture)
        store.index(name, run.attempt)
        store.end(name, run.attempt, "finished")
    server = Server(ROOT, home / "server.log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
    yield server, name
    end(server.process, 40)


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_paints_both_panels_and_fits(server, chromium, width, scheme):
    server, name = server
    context = chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{server.address}/circle?pair={name}")
    panels = page.locator(".panel[data-points]")
    panels.nth(1).wait_for(timeout=60_000)
    page.evaluate(WATCH)
    panels.nth(1).scroll_into_view_if_needed()
    assert panels.evaluate_all("all => all.map(one => one.querySelector('h2').textContent)") == [
        "Classification",
        "ArcFace",
    ]
    page.get_by_text("no class meets the margin here").wait_for()
    page.get_by_role("button", name="Lengths").click()
    page.wait_for_function("location.search.includes('lengths=1')")
    page.wait_for_timeout(500)
    assert page.evaluate("[watched > 0, blank.length]") == [True, 0]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not wrong
    context.close()
