"""Two servers over one home behind the guide's nginx: one is killed, and its viewers lose nothing."""

import json
import os
import signal
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil
import pytest

from tests.helpers import ROOT, Server, end, until
from tests.proxy import MISSING, RECIPE, WHY, proxied
from tests.recipes import block, meant
from trainer import RunConfig, recorded
from trainer.store import Store

ABOVE, INSIDE = (block("class", "More than fifty viewers", place) for place in (2, 3))
LINE = "        proxy_pass http://127.0.0.1:8501;\n"  # of the recipe for one server
pytestmark = [
    pytest.mark.skipif(MISSING, reason=WHY),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL."),
]


def trainers(home) -> list[psutil.Process]:
    """The supervisors of a home."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if "serve" in (process.info["cmdline"] or []) and (process.info["environ"] or {}).get("FACES_HOME") == str(
            home
        ):
            found.append(process)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A home with runs that come with the app, two servers on it, and the address of nginx in front of them."""
    folder = tmp_path_factory.mktemp("replicas")
    store = Store(folder / "home")
    (digits,) = [file for file in recorded.files() if file.stem == "heads-on-digits"]
    runs = recorded.bring(store, digits.read_bytes())
    environment = {"FACES_HOME": str(store.path), "FACES_DEVICE": "cpu", "STREAMLIT_SERVER_COOKIE_SECRET": "of a test"}
    servers: list[Server] = []
    try:
        for at in range(2):
            servers.append(Server(ROOT, folder / f"log{at}", environment, "--server.allowedHosts=127.0.0.1"))
        ports = {f":850{at + 1}": f":{server.port}" for at, server in enumerate(servers)}
        with proxied(folder, ABOVE + meant(RECIPE, {LINE: INSIDE}), ports) as proxy:
            yield f"https://127.0.0.1:{proxy.port}", store, runs, servers
    finally:
        for server in servers:
            end(server.process, 60)
        for left in trainers(store.path):
            left.terminate()
            left.wait(30)


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, ignore_https_errors=True)
    yield context.new_page()
    context.close()


def on(page) -> int:
    """The place of the server that answered this browser last."""
    return next(int(cookie["value"]) for cookie in page.context.cookies() if cookie["name"] == "faces") - 1


def place(page) -> str:
    """The address that the page shows now."""
    return page.evaluate("location.href")


def view(page) -> dict:
    """What somebody sees of a comparison: the address, what is chosen, the picture's moment, colours and camera."""
    return {
        "address": sorted(parse_qsl(urlsplit(place(page)).query)),
        "chosen": page.locator(".stMultiSelect").last.inner_text(),
        "axes": page.get_by_role("radio", name="3-D").is_checked(),
        "panels": page.locator(".panel[data-url]").all_inner_texts(),
        "moment": page.locator(".faceview input[type=range]").input_value(),
        "colour": page.get_by_label("Colour of the points (c)").input_value(),
        "selected": page.get_by_text("2 selected").count(),
        "turned": [round(part, 2) for part in json.loads(page.locator(".faceview").get_attribute("data-camera"))["q"]],
    }


def slider(page):
    """The slider of ArcFace's m on the page that trains one head."""
    return page.get_by_role("slider", name="m ·")


def test_no_other_site_shows_faces_in_a_frame(site, page):
    for address in (site[0], "about:blank"):
        page.goto(address)
        with page.expect_event("framenavigated", lambda frame: frame.parent_frame):
            page.evaluate(
                "src => document.body.append(Object.assign(document.createElement('iframe'), {src}))", site[0]
            )
        (frame,) = page.frames[1:]
        assert frame.url.startswith(site[0]) == (address == site[0])


def test_a_viewer_of_a_killed_server_goes_on_at_the_other_with_the_same_view_and_so_does_training(site, page):
    address, store, runs, servers = site
    (supervisor,) = until(lambda: trainers(store.path))
    victim = next(at for at in range(2) if str(servers[at].process.pid) == supervisor.cmdline()[-1])
    page.context.add_cookies([{"name": "faces", "value": str(victim + 1), "url": address}])
    asked = {"source": "Chosen runs", "runs": ",".join(runs[:3]), "axes": "3-D", "at": "0.5", "colour": "right"}
    page.goto(f"{address}/compare?{urlencode({**asked, 'picked': '3_5'})}")
    page.locator(".panel[data-url]").nth(2).wait_for()
    box = page.locator(".panel").first.bounding_box()
    page.mouse.move(box["x"] + 150, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 210, box["y"] + 170, steps=3)
    page.mouse.up()
    until(lambda: "camera=" in place(page), 10)
    settings = page.context.new_page()  # somebody's settings, set and not yet trained with
    settings.goto(f"{address}/?run={runs[0]}&head=ArcFace")
    slider(settings).press("ArrowRight")
    until(lambda: "ArcFace.m=0.26" in place(settings), 10)
    run = store.submit(RunConfig(epochs=200, dim=16, probe=100))
    until(lambda: len(store.history(run)) > 3)
    before, written = view(page), store.history(run)
    for one in (page, settings):
        one.evaluate("window.here = true")  # until it is loaded anew
    assert on(page) == victim

    os.kill(servers[victim].process.pid, signal.SIGKILL)
    servers[victim].process.wait()
    until(lambda: on(page) == 1 - victim, 30)
    assert view(page) == before
    page.get_by_text("2-D", exact=True).click()  # other pictures, which come from the other server
    until(lambda: view(page)["panels"] != before["panels"], 30)
    page.get_by_text("3-D", exact=True).click()
    until(lambda: view(page) == before, 30)
    slider(settings).press("ArrowRight")
    until(lambda: "ArcFace.m=0.27" in place(settings), 20)
    assert all(one.evaluate("window.here") for one in (page, settings))
    page.reload()
    page.locator(".panel[data-url]").nth(2).wait_for()
    until(lambda: view(page) == before, 30)

    until(lambda: store.history(run)[-1]["step"] > written[-1]["step"])
    assert supervisor.is_running()  # it outlives the server that started it
    supervisor.kill()
    until(lambda: store.run(run).attempt == 2 and len(store.history(run)) > len(written))  # under the other server's
    kept = {facts["step"]: facts for facts in store.history(run)}
    assert all(kept[facts["step"]] == facts for facts in written)
    store.stop(run)
    until(lambda: store.run(run).state == "stopped")
