"""A real server and a real browser. `FACES_CHROMIUM` names the browser if it is not /usr/bin/chromium."""

import os
from pathlib import Path

import pytest

from tests.helpers import ROOT, Server, end

CHROMIUM = os.environ.get("FACES_CHROMIUM", "/usr/bin/chromium")
QUIET = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PLAIN = (  # what the app's own settings would say
    "--server.address=127.0.0.1", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false",
)  # fmt: skip


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
    servers: list[Server] = []

    def start(files: dict[str, str], **environment: str) -> str:
        folder = tmp_path_factory.mktemp("app")
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        servers.append(Server(folder, folder / "server.log", {"PYTHONPATH": str(ROOT), **environment}, *PLAIN))
        return servers[-1].address

    yield start
    for server in servers:
        end(server.process)
