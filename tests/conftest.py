"""What all tests share: a home of their own, small settings, and no network."""

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["FACES_DEVICE"] = os.environ.get("FACES_DEVICE", "cpu")
settings.register_profile("busy", deadline=None)  # a busy machine is no broken promise
settings.register_profile("finding", deadline=None, phases=(Phase.generate,))  # that a promise breaks, not how
settings.load_profile(os.environ.get("FACES_PROFILE", "busy"))
SHARED = Path(__file__).parents[2] / "shared"  # vectors and photographs that do not belong to the project


@pytest.fixture
def faces_home(tmp_path, monkeypatch):
    """An empty home."""
    monkeypatch.setenv("FACES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def pytest_addoption(parser):
    """How many processes test_kills.py kills."""
    parser.addoption("--kills", type=int, default=200, help="how many processes test_kills.py kills, a multiple of 200")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Real processes and browsers first: they take longest. Tests of a file share its browser and its server.

    A browser on a busy machine may miss its moment: such a test is tried once more, and the report names it.
    """
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
            item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=lambda item: ("test_serving" not in item.nodeid, "browser" not in item.nodeid))


def pytest_terminal_summary(terminalreporter):
    """Say why a test was tried once more."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"once more: {report.nodeid}")
        terminalreporter.line(report.longreprtext[-2000:])
