"""What is taken away, in a real browser: a replay alone on a disk, saved pictures, and the menu that offers them."""

import contextlib
import io
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError

from pages.components import blocks
from pages.components.faceview import Panel, described
from tests.browser.stage import staged
from tests.helpers import ROOT, Server, end, until
from tests.test_exports import train
from trainer.exports import take
from trainer.exports.replay import bundled
from trainer.folder import Points
from trainer.store import Store

SVG = "{http://www.w3.org/2000/svg}"
RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
COUNT = 90


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    home = tmp_path_factory.mktemp("taking")
    store = Store(home)
    runs = [train(store, head="CosFace", epochs=3), train(store, head="ArcFace", epochs=3)]
    return home, store, runs


@pytest.fixture(scope="module")
def replay(taken, tmp_path_factory):
    _, store, runs = taken
    file = tmp_path_factory.mktemp("elsewhere") / take(store, "html", runs)[0]
    file.write_bytes(take(store, "html", runs)[1])
    return file


@pytest.fixture
def page(chromium):
    """A page without any network, that remembers what went wrong in it and whom it asked."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page = context.new_page()
    page.wrong, page.asked = [], []
    page.on("console", lambda said: page.wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


def test_a_replay_plays_from_a_disk_and_asks_nobody(replay, page):
    page.goto(replay.as_uri())
    panels = page.locator(".panel[data-points='100'], .panel[data-points='500']")
    until(lambda: panels.count() == 2)
    assert page.locator("h2").all_text_contents() == ["CosFace", "ArcFace"]
    slider = page.get_by_label("Place in training")
    assert page.locator("output").text_content() == "step 60 of 60"
    page.get_by_label("One moment back (←)").click()
    until(lambda: page.locator("output").text_content() != "step 60 of 60")
    shown = int(page.locator("output").text_content().split()[1])  # a slow machine keeps moments within epochs too
    until(lambda: max(int(text.split()[1]) for text in page.locator("header p").all_text_contents()) == shown)
    page.get_by_role("button", name="Play (space)").click()
    until(lambda: page.locator("output").text_content() == "step 60 of 60")
    assert slider.input_value() == "1"
    page.get_by_label("Colour of the points").select_option("right")
    page.get_by_role("button", name="PCA 3-D").click()
    until(lambda: page.evaluate("document.querySelector('nav button[aria-pressed=true]').textContent") == "PCA 3-D")
    outside = [url for url in page.asked if not url.startswith(("data:", "blob:", replay.as_uri()))]
    assert outside == []
    assert page.wrong == []
    assert "http://" not in replay.read_text().replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in replay.read_text()
    assert page.get_by_role("button", name="cloud").count() == 0


def test_a_click_in_a_replay_shows_the_image_and_its_neighbours(replay, page):
    page.goto(replay.as_uri())
    until(lambda: page.locator(".panel[data-points]").count() == 2)
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    page.get_by_text("neighbours in common").wait_for()
    assert page.locator(".near .thumb").count() == 24
    assert "data:image/webp" in page.locator(".near .thumb").first.evaluate("one => one.style.backgroundImage")
    page.get_by_label("One moment back (←)").click()
    page.get_by_text("This file does not hold that moment.").first.wait_for()  # the last one only
    assert page.wrong == []


def test_a_replay_forbids_the_browser_to_ask_anybody(replay, page):
    page.goto(replay.as_uri())
    said = page.evaluate("fetch('https://example.org/').then(() => 'answered', () => 'refused')")
    assert said == "refused"
    assert any("Content Security Policy" in word for word in page.wrong)


def test_a_replay_follows_the_theme_and_fits_a_phone(replay, chromium):
    for scheme in ("light", "dark"):
        context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        page = context.new_page()
        page.goto(replay.as_uri())
        until(lambda page=page: page.locator(".panel[data-points]").count() == 2)
        assert page.locator(".faceview").get_attribute("data-theme") == scheme
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        context.close()


def test_class_names_cannot_leave_the_data_of_a_replay(taken, page, tmp_path):
    from trainer.brought import bring

    _, store, _ = taken
    labels = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", embeddings=np.random.default_rng(0).normal(size=(40, 4)), labels=labels)
    run = bring(store, tmp_path / "a.npz", "Own", "things")
    folder = store.folder(run)
    (folder.path / "data.json").write_text(
        '{"print": "x", "class_names": ["</script><script>evil=1</script>", "b&amp;"]}'
    )
    content = take(store, "html", [run])[1]
    (tmp_path / "own.html").write_bytes(content)
    page.goto((tmp_path / "own.html").as_uri())
    page.get_by_role("button", name="</script><script>evil=1</script>").wait_for()
    assert page.evaluate("window.evil") is None
    page.get_by_text("none", exact=True).wait_for()  # no DNN accuracy is made up
    assert page.wrong == []


def test_the_modules_are_joined_with_nothing_left_to_fetch():
    script = bundled()
    assert "import.meta" not in script
    assert "\nimport " not in script
    assert "\nexport " not in script


# ---- saved pictures


def load_points(run: str, step: int, name: str) -> Points:
    rng, axes = np.random.default_rng(0), int(name[-1])
    labels = np.arange(COUNT) % 3
    middles = rng.normal(size=(3, axes))
    points = (middles[labels] + 0.2 * rng.normal(size=(COUNT, axes))).astype(np.float32)
    return Points(points, labels, middles.astype(np.float32), np.arange(3))


def picture(request):
    name = request.query_params.get("name", "pca-2")
    shown = [
        Panel(f"{at}", head, url=blocks.address(RUN, 0, name), linear=True)
        for at, head in enumerate(["CosFace & <more>", "ArcFace"])
    ]
    axes = int(name[-1])
    return described(shown, ["Beagle", "Dingo", "<Samoyed>"], axes, 320, "Some points & more", file="faces-two-pca")


@pytest.fixture(scope="module")
def address():
    with staged(picture, load_points) as address:
        yield address


def saved(page, kind: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.get_by_role("button", name=kind, exact=True).click()
    return download.value.suggested_filename, download.value.path().read_bytes()


@pytest.fixture
def stage(chromium, address):
    """A page with the picture in it, on a name and a theme of one's choice."""
    contexts = []

    def show(name: str, scheme: str = "light"):
        contexts.append(chromium.new_context(viewport={"width": 900, "height": 700}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.goto(f"{address}/?name={name}")
        until(lambda: page.locator(f".panel[data-points='{COUNT}']").count() == 2)
        time.sleep(0.3)
        return page

    yield show
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["pca-2", "pca-3"])
def test_an_svg_has_every_point_title_and_class_as_vectors(stage, name):
    file, content = saved(stage(name), "SVG")
    assert file.startswith("faces-two-pca")
    assert file.endswith(".svg")
    drawing = ET.fromstring(content)
    shapes = [use.get("href") for use in drawing.iter(f"{SVG}use")]
    assert shapes.count("#circle") == 2 * COUNT + 3  # points, and the legend's three
    assert shapes.count("#diamond") >= 6  # centers, each with its rim
    words = [text.text for text in drawing.iter(f"{SVG}text")]
    assert {"CosFace & <more>", "ArcFace", "Beagle", "Dingo", "<Samoyed>"} <= set(words)
    assert any("Some points & more" in word for word in words)
    assert not list(drawing.iter(f"{SVG}image"))
    inks = {use.get("fill") for use in drawing.iter(f"{SVG}use")}
    assert {"#3f90da", "#ed9e10", "#bd1f01"} <= inks  # what every program reads


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_png_is_sharp_and_shows_what_the_screen_does(stage, scheme):
    page = stage("pca-2", scheme)
    before = page.locator("canvas").first.bounding_box()
    frames = page.locator(".faceview").get_attribute("data-frames")
    file, content = saved(page, "PNG")
    assert file.endswith(".png")
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert image.shape[1] > 2.5 * before["width"]
    assert (image[2, 2] > 200).all() == (scheme == "light")
    coloured = (image.max(2) - image.min(2)) > 60
    left, right = np.array_split(coloured, 2, axis=1)
    assert left.sum() > 2000
    assert right.sum() > 2000
    ink = np.abs(image - image[2, 2]).sum(2) > 60
    assert ink[: image.shape[0] // 8].any()  # the legend
    assert page.locator("canvas").first.bounding_box() == before  # the screen is as it was
    assert int(page.locator(".faceview").get_attribute("data-frames")) > int(frames)


def test_what_colours_mean_is_saved_too(replay, page):
    page.goto(replay.as_uri())
    until(lambda: page.locator(".panel[data-points]").count() == 2)
    page.get_by_label("Colour of the points").select_option("angle")
    time.sleep(0.5)
    _, content = saved(page, "SVG")
    drawing = ET.fromstring(content)
    words = [text.text for text in drawing.iter(f"{SVG}text")]
    assert {"Angle to own center:", "own center at 0°", "90° or more"} <= set(words)
    assert len(list(drawing.iter(f"{SVG}stop"))) == 5


# ---- the menu


def offered(page, title: str) -> bool:
    """Choose an export; False when the menu was just being drawn anew."""
    page.get_by_label("As", exact=True).last.click()
    option = page.get_by_role("option", name=title)
    with contextlib.suppress(TimeoutError):
        option.click(timeout=2000)
        return True
    return False


def test_the_menu_prepares_a_replay_and_hands_it_over(taken, chromium):
    home, *_ = taken
    server = Server(ROOT, home / "server.log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
    try:
        page = chromium.new_context(viewport={"width": 1200, "height": 1200}).new_page()
        page.goto(f"{server.address}/runs")
        page.get_by_role("button", name="Take it away").last.click()
        file, content = saved(page, "Download")
        assert file == "faces-CosFace-digits-seed0-step60.zip"
        assert content.startswith(b"PK")
        until(lambda: offered(page, "Replay (HTML)"))
        page.get_by_role("button", name="Prepare").click()
        ready = page.get_by_role("button", name="Download, ")
        ready.wait_for(timeout=60_000)
        with page.expect_download() as download:
            ready.click()
        assert download.value.suggested_filename == "faces-CosFace-digits-seed0-step60.html"
        assert download.value.path().read_bytes().startswith(b"<!doctype html>")
        page.context.close()
    finally:
        end(server.process, 40)
