"""The real app in a real server and a real browser: cold deep links, live training, killed servers, closed doors."""

import os
import signal
import socket
import time

import psutil
import pytest

from tests.helpers import ROOT, Server, end, until
from trainer import RunConfig
from trainer.store import Store


@pytest.fixture
def serve(tmp_path):
    """serve() starts the app on this test's home, and ends it, with its trainer, afterwards."""
    servers: list[Server] = []
    home = tmp_path / "home"
    home.mkdir()

    def start() -> Server:
        servers.append(Server(ROOT, home / "server.log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"}))
        return servers[-1]

    yield start
    for server in servers:
        end(server.process, 40)
    for line in (home / "pids").read_text().split() if (home / "pids").exists() else []:
        if psutil.pid_exists(int(line)):
            psutil.Process(int(line)).terminate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app on an empty home, for the tests that leave it alive; the first of them finds it cold."""
    home = tmp_path_factory.mktemp("app")
    server = Server(ROOT, home / "server.log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
    yield server
    end(server.process, 40)


@pytest.fixture
def page(chromium):
    """A page that remembers what went wrong in it and whom it asked."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.wrong, page.asked = [], []
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


def test_a_cold_deep_link_shows_its_page_in_its_frame_and_asks_nobody_outside(server, page):
    page.goto(f"{server.address}/compare")  # the first request that this server gets
    page.get_by_role("heading", name="Which head makes the better embeddings?").wait_for()
    for name in ("Explore a head", "Compare heads", "Runs", "Data"):
        page.get_by_role("link", name=name).wait_for()
    assert not page.get_by_text("Page not found").count()
    outside = [url for url in page.asked if not url.startswith((server.address, "data:", "blob:"))]
    assert outside == []


def test_the_server_listens_on_this_machine_only_and_refuses_other_names(server):
    listening = [c.laddr.ip for c in psutil.Process(server.process.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert set(listening) == {"127.0.0.1"}

    def greeted_as(host: str) -> str:
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            words = [
                "GET /_stcore/stream HTTP/1.1", f"Host: {host}:{server.port}", "Upgrade: websocket",
                "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
                "", "",
            ]  # fmt: skip
            line.sendall("\r\n".join(words).encode())
            return line.recv(64).decode().split()[1]

    assert greeted_as("127.0.0.1") == "101"
    assert greeted_as("attacker.example") == "403"


def test_a_first_visit_watches_a_training_move_and_its_link_opens_the_same_elsewhere(server, page, chromium):
    page.goto(server.address)
    page.get_by_text("ArcFace on Digits").wait_for()
    page.get_by_text("finished").first.wait_for(timeout=90_000)
    page.get_by_text("step 400 of 400").wait_for()
    page.get_by_text("Training time").wait_for()
    time.sleep(1)  # the page runs once more when a training has ended
    page.get_by_text("3-D", exact=True).click()
    until(lambda: "axes=3-D" in page.url)
    assert "run=" in page.url
    assert page.wrong == []

    elsewhere = chromium.new_context(viewport={"width": 390, "height": 844})
    other = elsewhere.new_page()
    other.goto(page.url)
    other.get_by_text("ArcFace on Digits").wait_for()
    assert other.get_by_role("radio", name="3-D").is_checked()
    assert other.evaluate("document.documentElement.scrollWidth") <= 390
    elsewhere.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL.")
def test_killing_the_server_loses_nothing_and_the_next_one_shows_the_run_going_on(serve, page, tmp_path):
    server = serve()
    store = Store(tmp_path / "home")
    name = store.submit(RunConfig(epochs=200, dim=16, probe=100))
    until(lambda: len(store.history(name)) > 5)
    before = store.history(name)
    mark = ["--app", str(server.process.pid)]
    trainer = [p.pid for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-2:] == mark]
    (store.path / "pids").write_text(" ".join(map(str, trainer)))  # it outlives the server; ended after the test
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    again = serve()
    page.goto(f"{again.address}/?run={name}")
    page.get_by_text("ArcFace on Digits").wait_for()
    until(lambda: store.history(name)[-1]["step"] > before[-1]["step"])
    kept = {facts["step"]: facts for facts in store.history(name)}
    assert all(kept[facts["step"]] == facts for facts in before)
    page.get_by_role("button", name="Stop").click()
    until(lambda: store.run(name).state == "stopped")


def test_the_labs_pictures_move_with_a_slider_before_it_has_come_to_rest(server, page):
    page.goto(f"{server.address}/lab?lab=ArcFace")
    words = page.locator("figcaption").nth(1)
    words.wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    followed = lambda: [url for url in page.asked if "/faces/curves?" in url]  # noqa: E731
    assert not followed()  # what the page has sent is drawn, also for the default s, which a slider rounds
    thumb = page.locator(".st-key-lab-ArcFace-m [data-testid=stSliderThumbValue]").bounding_box()
    page.mouse.move(thumb["x"] + thumb["width"] / 2, thumb["y"] + 22)
    page.mouse.down()
    for step in range(1, 6):
        before = words.inner_text()
        page.mouse.move(thumb["x"] + thumb["width"] / 2 + 8 * step, thumb["y"] + 22)
        until(lambda before=before: words.inner_text() != before, 20)
    asked = len(followed())
    page.mouse.up()
    assert asked >= 3
    assert not [wrong for wrong in page.wrong if "404" not in wrong]
