"""A real server and a real browser. `FACES_CHROMIUM` names the browser if it is not /usr/bin/chromium."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("FACES_CHROMIUM", "/usr/bin/chromium")
QUIET = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")  # not longer: while Playwright is on, no other test of the process can use asyncio.run
def chromium():
    """The browser, one for the tests of a file; skipped where there is none."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"No browser at {CHROMIUM}; FACES_CHROMIUM can name one.")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
    yield browser
    browser.close()
    playwright.stop()


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """serve({"app.py": text, ...}) starts `streamlit run app.py` on these files and returns its address."""
    servers: list[subprocess.Popen] = []

    def start(files: dict[str, str], **environment: str) -> str:
        folder = tmp_path_factory.mktemp("app")
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        return start_server(folder, servers, {"PYTHONPATH": str(ROOT), **environment})

    yield start
    for server in servers:
        server.terminate()
        server.wait(10)


def start_server(folder: Path, servers: list[subprocess.Popen], environment: dict[str, str]) -> str:
    """Start the app in this folder on a free port of this machine, add it to `servers`, wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "server.port": port, "server.address": "127.0.0.1", "server.headless": "true",
        "browser.gatherUsageStats": "false", "server.fileWatcherType": "none",
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app.py",
        *(f"--{name}={is_}" for name, is_ in options.items()),
    ]
    log = folder / "server.log"
    with log.open("wb") as out:
        servers.append(subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=out, stderr=out))
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while time.monotonic() < end and servers[-1].poll() is None:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
        except OSError:
            time.sleep(0.1)
        else:
            return address
    raise RuntimeError(f"The server did not start: {log.read_text(encoding='utf-8')[-800:]}")
