"""Every page for everybody: WCAG 2 A and AA as far as axe-core can tell, and each control within reach of the keys.

The home is full (`furnished`): a ranking, a map, pairs and failures are on the screen, and boxes are opened.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe

from faces import lessons
from tests.browser.furnished import furnish
from tests.helpers import ROOT, Server, end
from tests.watching import called, loopback, watch

LESSON = 3
DONE = {lessons.read(file, at).file: {"guess": 0, "check": 0} for at, file in enumerate(lessons.files(), 1)}


def inspect(page):
    """Open an image of the picture, and the boxes around it."""
    page.locator(".panel[data-points]").first.wait_for()
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    page.locator(".near .tile").first.wait_for()
    for box in ("All measures", "Encoder, epochs, seed"):
        page.get_by_text(box).click()
    page.get_by_text("Learning rate").wait_for()


def choose_cells(page):
    """Choose two cells of the map, without a pointer."""
    page.get_by_label("Choose cells").focus()
    for key in ("Enter", "ArrowDown", "ArrowDown", "Enter", "Enter", "Escape"):
        page.keyboard.press(key)
    page.locator(".panel[data-points]").nth(1).wait_for()


def open_card(page):
    """Open what a card of a run holds."""
    page.get_by_text("Curves, settings, log").nth(1).click()
    page.get_by_text("Metrics as CSV").wait_for()
    page.get_by_text("Take it away").nth(1).click()
    page.get_by_role("button", name="Download", exact=True).wait_for()


class Place(NamedTuple):
    """A page as it is looked at: its address, a selector that is there when it is, and what is opened on it."""

    path: str
    there: str = ""
    then: Callable = lambda page: None


def places(full) -> dict[str, Place]:
    """Where to look, in a full home."""
    picture, chart, plot = ".panel[data-points]", "canvas", ".stPlotlyChart svg"
    return {
        "explore": Place(f"?run={full.run}", picture, inspect),
        "failed": Place(f"?run={full.failed}", "text=no finite number"),
        "gone": Place("?run=gone", "text=no run of this id"),
        "compare": Place("compare", picture),
        "scoreboard": Place("scoreboard", plot),
        "verification": Place("scoreboard?view=Verification", plot),
        "map": Place(f"tune?map={full.sweep}", chart, choose_cells),
        "all runs": Place("tune?tuneview=All+runs", chart),
        "front": Place("tune?tuneview=Pareto+front", chart),
        "which": Place("which", "text=The whole ranking"),
        "lessons": Place("lessons", "text=lessons done"),
        **{
            step: Place(f"lessons?lesson={LESSON}&step={step}", f".st-key-card-{step}")
            for step in ("Predict", "Try", "Explain", "Check")
        },
        "teacher": Place("lab?teach=choose", ".form"),
        "lab": Place("lab", "figcaption"),
        "circle": Place(f"circle?pair={full.pair}", picture),
        "runs": Place("runs", "text=stopped or failed", open_card),
        "data": Place("data", "text=Your own embeddings"),
    }


FEWER = ("explore", "compare", "scoreboard", "map", "all runs", "which", "Explain", "circle", "runs")
KEYS = {  # controls that the Tab key must reach, by how their names begin
    "explore": ("Dataset", "Head", "s ·", "Train", "PCA", "2-D", "Settings", "Play", "Colour", "Take it away"),
    "compare": ("Train heads", "Trained together", "Seed 0", "PCA", "Play", "Take it away"),
    "scoreboard": ("Train heads", "Trained together", "Ranking", "Measure", "Explain these numbers"),
    "map": ("Set up a sweep", "Map", "Sweep", "Measure", "Forget", "Choose cells"),
    "which": ("Find similar images", "Your classes C", "Dimensions D", "Answers from", "The whole ranking"),
    "lessons": ("1 ·", "11 ·", "Worksheet", "For teachers"),
    "Predict": ("All lessons", "1 Predict", "2 Try", "Next"),
    "lab": ("Head", "Classes C", "s ·", "m ·", "θ ·", "θ₂ ·", "What fits here"),
    "circle": ("Circle", "Head", "m ·", "Margin ramp", "Train both", "Play", "Lengths"),
    "runs": ("all", "Open", "Resume", "Delete", "Curves"),
    "data": ("Samples", "Name for the set", "Upload", "What made them"),
}

# The element that has the focus, within components too: its name, whether it can be seen, and whether it looks
# otherwise than without the focus, in itself or in the four around it. Null at the end of the page.
FOCUSED = """async () => {
  const soon = () => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)));
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  if (!at || at === document.body) return null;
  const around = [];
  for (let one = at; one && around.length < 5; one = one.parentElement ?? one.getRootNode().host) around.push(one);
  const ways = ["outline", "outlineStyle", "boxShadow", "borderColor", "backgroundColor", "textDecoration"];
  const look = () => around.flatMap((one) => ["", "::before", "::after"].map((part) => {
    const style = getComputedStyle(one, part || null);
    return ways.map((way) => style[way]).join();
  })).join();
  const labels = [...(at.labels ?? [])].map((one) => one.innerText).join();
  await soon();
  const seen = at.checkVisibility({ opacityProperty: true, visibilityProperty: true }), focused = look();
  at.blur();
  await soon();
  const marked = focused !== look();
  at.focus({ focusVisible: true, preventScroll: true });
  const name = (at.getAttribute("aria-label") || labels || at.innerText || at.title || at.tagName).trim();
  const icon = /^[a-z_]{4,} /;
  const cell = at.matches("canvas *"), told = name.replace(/\\s+/g, " ").replace(icon, "");
  return { name: told, seen: seen || cell, marked: marked || cell || at.matches("main, canvas") };
}"""  # a table draws its cells and its own mark; all of the page that scrolls needs none


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The app on a full home, and what is in it."""
    found = furnish(tmp_path_factory.mktemp("accessible"))
    environment = {"FACES_HOME": str(found.home), "FACES_DEVICE": "cpu"} | watch(found.home)
    server = Server(ROOT, found.home / "log", environment)
    yield server.address, found
    end(server.process, 40)


@pytest.fixture(scope="module")
def visit(chromium, full):
    """visit(place, ...) opens it in a window of this size and scheme, for one who has done all lessons."""
    contexts = {}

    def opened(place, width=1440, scheme="light"):
        if (width, scheme) not in contexts:
            context = chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
            context.add_init_script(f"localStorage.setItem('faces lessons', {json.dumps(json.dumps(DONE))})")
            contexts[width, scheme] = context
        page = contexts[width, scheme].new_page()
        page.set_default_timeout(60_000)
        page.asked = []
        for kind in ("request", "websocket"):
            page.on(kind, lambda asked: page.asked.append(asked.url))
        page.goto(f"{full[0]}/{place.path}")
        page.locator("h1").first.wait_for()
        page.locator(place.there or "h1").first.wait_for()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")  # all parts have been fetched
        return page

    yield opened
    for context in contexts.values():
        context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light")])
def test_no_page_has_a_finding_or_asks_anybody_outside(visit, full, width, scheme):
    found, own = [], (full[0], full[0].replace("http", "ws", 1), "data:", "blob:")
    for name, place in places(full[1]).items():
        if (width, scheme) != (1440, "light") and name not in FEWER:
            continue
        page = visit(place, width, scheme)
        place.then(page)
        page.wait_for_timeout(300)
        for one in Axe().run(page).response["violations"]:
            spots = [node["html"] for node in one["nodes"] if not streamlits(one["id"], node["html"])]
            if one["impact"] != "minor" and spots:
                found.append((name, one["id"], spots[:3]))
        if page.locator("[data-testid=stException]").count():
            found.append((name, "broken", page.locator("[data-testid=stException]").all_inner_texts()))
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append((name, "wider than the screen", []))
        if outside := [url for url in page.asked if not url.startswith(own)]:
            found.append((name, "asks outside", outside))
        page.close()
    assert not found
    assert all(map(loopback, called(full[1].home)))  # the server and the trainer ask nobody either


# Adds up in `moved` how far what can be read has moved by itself (layout-shift of the Layout Instability API).
MOVED = """window.moved = 0;
new PerformanceObserver((list) => {
  for (const { value, hadRecentInput } of list.getEntries())
    if (!hadRecentInput && document.querySelector("h1")) moved += value;
}).observe({ type: "layout-shift", buffered: true });"""


@pytest.mark.parametrize(("name", "width"), [
    ("explore", 1440), ("compare", 1440), ("lab", 1440), ("compare", 390), ("which", 390), ("circle", 390),
])  # fmt: skip
def test_nothing_moves_while_a_page_loads_for_the_first_time(chromium, full, name, width):
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page, place = context.new_page(), places(full[1])[name]
    page.set_default_timeout(60_000)
    page.add_init_script(MOVED)
    page.goto(f"{full[0]}/{place.path}")
    page.locator(place.there).first.wait_for()
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    page.wait_for_timeout(500)
    assert page.evaluate("moved") < 0.1  # what is called good
    context.close()


def streamlits(rule: str, place: str) -> bool:
    """Whether a finding is in Streamlit's own menu, which an app cannot change."""
    return (rule == "list" and "stSidebarNavItems" in place) or (rule == "listitem" and place.startswith("<li class="))


@pytest.mark.parametrize("name", KEYS)
def test_the_tab_key_reaches_every_control_shows_where_it_is_and_leaves_the_page(visit, full, name):
    page = visit(places(full[1])[name])
    page.wait_for_timeout(1000)
    page.add_style_tag(content="* { transition: none !important; animation: none !important }")
    reached = []
    for _ in range(150):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at is None:
            break
        reached.append(at)
    assert at is None, f"still at {reached[-1]['name']}"
    names = [one["name"] for one in reached]
    assert [key for key in KEYS[name] if not any(one.startswith(key) for one in names)] == []
    assert [one["name"] for one in reached if not (one["seen"] and one["marked"])] == []
