"""The inspector under the picture, in a real browser, without Streamlit around it.

Three runs show the same 60 images on a circle, two degrees apart; their embeddings are random and differ from run to
run and from step to step, so that neighbours can be compared with a search by NumPy.
"""

import numpy as np
import pytest

from faces.datasets.pictures import sheet
from pages.components import blocks
from pages.components.faceview import Panel, described
from tests.browser.stage import staged
from tests.helpers import until
from trainer.folder import Points
from trainer.inspection import inspected
from trainer.pictures import shown_facts
from trainer.snapshot import Snapshot

RUNS = [f"01J0000000000000000000000{at}" for at in range(3)]
N, STEPS = 60, (0, 40, 80)
LABELS, ROWS = np.arange(N) % 3, 500 + 7 * np.arange(N)
CLASSES = ["Beagle", "Dingo", "Samoyed"]


def snapshot(run, step):
    chance, nothing = np.random.default_rng([RUNS.index(run), step]), np.empty(0, np.float32)
    unit = lambda rows: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)  # noqa: E731
    embeddings = unit(np.eye(3, 8)[LABELS] + 0.4 * chance.normal(size=(N, 8)))
    shown = N if step else 20  # the first moment looked at fewer
    return Snapshot(
        step, 80, 1.0, 1.0, {}, {}, embeddings[:shown], LABELS[:shown], embeddings[:shown, :3].argmax(1), ROWS[:shown],
        np.eye(3, 8, dtype=np.float32), np.arange(3), nothing.reshape(0, 8), nothing.astype(int), nothing,
        nothing.reshape(0, 2), losses=chance.random(shown).astype(np.float32),
    )  # fmt: skip


def near(run, step, at):
    """The 12 nearest of an image by its embedding, as their places."""
    embeddings = snapshot(run, step).embeddings
    return [int(other) for other in np.argsort(-embeddings @ embeddings[at], kind="stable") if other != at][:12]


def load_points(run, step, name):
    angles = np.deg2rad(6 * np.arange(len(snapshot(run, step).rows)))
    points = np.stack([np.cos(angles), np.sin(angles)], 1)
    return Points(points, LABELS[: len(angles)], np.zeros((0, 2)), np.zeros(0, int))


def load_sheet(run, step, print, number):
    shades = (np.arange(N) * 4).astype(np.uint8)
    return sheet(np.tile(shades[:, None, None, None], (1, 8, 8, 3)), blocks.ACROSS, blocks.SIDE)


def load_image(run, step, print, at):
    return sheet(np.full((1, 8, 8, 1), at * 4, np.uint8), 1, blocks.LARGE)


def told(heads, images=True):
    panels = [
        Panel(
            run, f"Head {at}", "", blocks.address(run, "*", "pca-2"), steps=STEPS, total=80,
            facts=blocks.facts_address(run, "*"), inspected=blocks.inspected_address(run, "*", "*"),
            images=blocks.sheets_address(run, 80, "") if images else None,
        )
        for at, run in enumerate(RUNS[:heads])
    ]  # fmt: skip
    return described(panels, CLASSES, 2, 320, "Some points")


@pytest.fixture(scope="module")
def address():
    def data(request):
        return told(int(request.query_params.get("heads", 2)), "bare" not in request.query_params)

    loaders = (
        load_points, lambda run, step: shown_facts(snapshot(run, step), N), load_sheet, load_image,
        lambda run, step, row: inspected(snapshot(run, step), N, row),
    )  # fmt: skip
    with staged(data, *loaders) as address:
        yield address


@pytest.fixture(scope="module")
def context(chromium):
    opened = chromium.new_context(viewport={"width": 1100, "height": 900}, reduced_motion="reduce")
    yield opened
    opened.close()


@pytest.fixture
def visit(context, address):
    """visit("heads=2&picked=507") opens the picture cold. Its console must stay silent."""
    opened, errors = [], []

    def open_page(query="", width=1100):
        page = context.new_page()
        opened.append(page)
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(query if "://" in query else f"{address}/?{query}")
        page.locator(".panel").first.wait_for()
        page.wait_for_function("!document.getElementById('host').shadowRoot.querySelector('.panel:not([data-url])')")
        return page

    yield open_page
    for page in opened:
        page.close()
    assert not errors


def click(page, at):
    box = page.locator(".view").first.bounding_box()
    reach, angle = 0.9 * min(box["width"], box["height"]) / 2, np.deg2rad(6 * at)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(x + reach * np.cos(angle), y - reach * np.sin(angle))


def inspects(page, at):
    page.locator(".one h3", has_text=f"#{ROWS[at]}").wait_for()


def found(page):
    """The neighbours that the inspector shows, as places, one list per head."""
    keys = "lines => lines.map(line => [...line.children].map(tile => Number(tile.dataset.key)))"
    return [[list(ROWS).index(key) for key in line] for line in page.locator(".near").evaluate_all(keys)]


def searched(step, at, heads=2):
    return [near(run, step, at) for run in RUNS[:heads]]


def test_a_click_shows_what_each_head_makes_of_the_image_and_its_neighbours(visit):
    page = visit()
    click(page, 4)
    inspects(page, 4)
    until(lambda: found(page) == searched(80, 4), 10)
    common = set.intersection(*map(set, searched(80, 4)))
    assert f"{len(common)} of 12 neighbours in common" in page.locator(".one header").inner_text()
    assert page.locator(".tile.shared").count() == 2 * len(common)
    look = inspected(snapshot(RUNS[1], 80), N, ROWS[4])
    said = page.locator(".words").nth(1).inner_text()
    assert f"{np.rad2deg(look.own):.0f}° to its center" in said
    assert f"{np.rad2deg(look.other):.0f}° to\n{CLASSES[look.other_label]}" in said.replace(" \n", "\n")
    assert f"loss {look.loss:.2f}" in said
    assert f"{(look.labels == LABELS[4]).sum()} of 12 neighbours of its class" in said
    right = look.prediction == LABELS[4]
    assert ("named right" if right else f"taken for {CLASSES[look.prediction]}") in said
    page.wait_for_function("document.getElementById('host').shadowRoot.querySelector('.portrait').naturalWidth == 8")


def test_the_clock_takes_the_inspector_along_and_a_neighbour_can_be_inspected(visit):
    page = visit()
    click(page, 33)
    inspects(page, 33)
    page.keyboard.press("ArrowLeft")
    until(lambda: found(page) == searched(40, 33), 10)
    next_one = searched(40, 33)[1][2]
    page.locator(".near").nth(1).locator(".tile").nth(2).click()
    inspects(page, next_one)
    until(lambda: found(page) == searched(40, next_one), 10)
    page.locator(".stage").focus()
    page.keyboard.press("ArrowLeft")  # to a moment that knows the first 20 images only
    if next_one >= 20:
        page.get_by_text("Not among the 20 images shown at step 0.").first.wait_for()


def test_three_heads_tell_what_each_two_have_in_common(visit):
    page = visit(f"heads=3&picked={ROWS[10]}")  # a cold link opens it
    inspects(page, 10)
    page.locator(".near").nth(2).wait_for()
    lists = [set(one) for one in searched(80, 10, 3)]
    shown = [cell for cell in page.locator(".both").all_inner_texts() if cell]
    assert shown == [str(len(a & b)) for a in lists for b in lists if a is not b]
    everywhere = set.intersection(*lists)
    assert f"{len(everywhere)} of 12 neighbours found by all 3 heads" in page.locator(".one header").inner_text()


def test_the_keyboard_alone_opens_walks_and_closes(visit):
    page = visit()
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    page.locator(".near .tile:focus").first.wait_for()
    first = int(page.locator(".one h3").inner_text().split("#")[1])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    focused = page.locator(".tile:focus")
    at = list(ROWS).index(first)
    expected = searched(80, at)[1][1]
    assert int(focused.get_attribute("data-key")) == ROWS[expected]
    assert focused.get_attribute("aria-label").startswith(f"{CLASSES[LABELS[expected]]}, image {ROWS[expected]}, ")
    page.keyboard.press("Enter")
    inspects(page, expected)
    assert page.locator(".near .tile:focus").count() == 1
    page.get_by_role("status").filter(has_text=f"Image {ROWS[expected]}, ").wait_for(state="attached")
    page.keyboard.press("Escape")
    page.locator(".inspector").wait_for(state="hidden")
    assert page.locator(".stage:focus").count() == 1
    assert page.get_by_text("1 selected").is_hidden()


def test_a_lasso_lists_its_images_and_each_can_be_inspected_from_a_copied_link_too(visit):
    page = visit()
    page.get_by_role("button", name="Lasso").click()
    box = page.locator(".view").first.bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    for x, y in [(box["width"] - 4, 4), (box["width"] - 4, box["height"] / 2 - 3), (4, box["height"] / 2 - 3)]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    page.mouse.up()
    inside = range(1, 30)
    page.get_by_text(f"{len(inside)} selected").wait_for()
    page.locator(".grid .tile").nth(len(inside) - 1).wait_for()
    facts = shown_facts(snapshot(RUNS[0], 80), N)
    wrong = int((facts.predictions != LABELS)[1:30].sum())
    assert f"{wrong} named wrong by Head 0" in page.locator(".list").inner_text()
    keys = "tiles => tiles.map(tile => Number(tile.dataset.key))"
    listed = lambda: page.locator(".grid .tile").evaluate_all(keys)  # noqa: E731
    by_angle = sorted(inside, key=lambda at: -facts.angles[at])
    assert listed() == [ROWS[at] for at in by_angle]
    page.get_by_label("Order of the images").select_option("Largest loss first")
    page.locator(f".grid .tile[data-key='{ROWS[max(inside, key=lambda at: facts.losses[at])]}']:first-child").wait_for()
    assert listed() == [ROWS[at] for at in sorted(inside, key=lambda at: -facts.losses[at])]
    page.locator(".grid .tile").nth(5).click()
    chosen = list(ROWS).index(listed()[5])
    inspects(page, chosen)
    page.wait_for_function("key => location.search.includes(`image=${key}`)", arg=int(ROWS[chosen]))
    page = visit(page.url)
    inspects(page, chosen)
    assert page.locator(".grid .tile").count() == len(inside)
    page.locator(".grid .tile[aria-pressed=true]").focus()
    page.keyboard.press("Escape")  # the image first, then the list
    page.locator(".one").wait_for(state="hidden")
    assert page.locator(".list").is_visible()


def test_a_phone_and_a_machine_without_images_show_it_too(visit):
    page = visit(f"heads=3&bare&picked={ROWS[10]}", width=390)
    inspects(page, 10)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".portrait").count() == 0
    assert page.locator(".near .bare").first.inner_text() == f"#{ROWS[searched(80, 10)[0][0]]}"
