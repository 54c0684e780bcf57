"""The real app in a real server and a real browser: cold deep links, live training, killed servers, closed doors."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from trainer import RunConfig
from trainer.store import Store

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("app")


class Server:
    """`streamlit run app.py`, as the README starts it, on a port of its own."""

    def __init__(self, home: Path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.home, self.address = home, f"http://127.0.0.1:{self.port}"
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "server.log"
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.headless=true",
            f"--server.port={self.port}",
        ]
        environment = {**os.environ, "FACES_HOME": str(home), "FACES_DEVICE": "cpu"}
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        until(self.answers)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=1).status == 200
        except OSError:
            return False

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(40)


def until(what, patience: float = 90.0):
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


@pytest.fixture
def serve(tmp_path):
    """serve() starts the app on this test's home, and ends it, with its trainer, afterwards."""
    servers: list[Server] = []

    def start() -> Server:
        servers.append(Server(tmp_path / "home"))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.end()
    for line in (tmp_path / "home" / "pids").read_text().split() if (tmp_path / "home" / "pids").exists() else []:
        if psutil.pid_exists(int(line)):
            psutil.Process(int(line)).terminate()


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


def test_a_cold_deep_link_shows_its_page_in_its_frame_and_asks_nobody_outside(serve, page):
    server = serve()
    page.goto(f"{server.address}/compare")  # the first request that this server gets
    page.get_by_role("heading", name="Which head makes the better embeddings?").wait_for()
    for name in ("Explore a head", "Compare heads", "Runs", "Data"):
        page.get_by_role("link", name=name).wait_for()
    assert not page.get_by_text("Page not found").count()
    outside = [url for url in page.asked if not url.startswith((server.address, "data:", "blob:"))]
    assert outside == []


def test_the_server_listens_on_this_machine_only_and_refuses_other_names(serve):
    server = serve()
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


def test_a_first_visit_watches_a_training_move_and_its_link_opens_the_same_elsewhere(serve, page, chromium):
    server = serve()
    page.goto(server.address)
    page.get_by_text("ArcFace on Digits").wait_for()
    page.get_by_text("finished").first.wait_for(timeout=90_000)
    page.get_by_text("step 400").wait_for()
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
def test_killing_the_server_loses_nothing_and_the_next_one_shows_the_run_going_on(serve, page):
    server = serve()
    store = Store(server.home)
    name = store.submit(RunConfig(epochs=200, dim=16, probe=100))
    until(lambda: len(store.history(name)) > 5)
    before = store.history(name)
    mark = ["--app", str(server.process.pid)]
    trainer = [p.pid for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-2:] == mark]
    (server.home / "pids").write_text(" ".join(map(str, trainer)))  # it outlives the server; ended after the test
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
