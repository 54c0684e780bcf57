"""WCAG 2 A and AA as far as axe-core can tell, on every page with a finished run: no serious finding."""

import pytest

from tests.helpers import ROOT, Server, end
from trainer import RunConfig
from trainer.store import Store
from trainer.training import train

PAGES = ("", "compare", "scoreboard", "tune", "which", "lessons?lesson=3", "lab", "circle?ramp=true", "runs", "data")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The app with two heads that have been trained once."""
    home = tmp_path_factory.mktemp("accessible")
    store = Store(home)
    for head in ("ArcFace", "Classification"):
        store.submit(RunConfig(head=head, epochs=1, batch=256, dim=8), "2 heads × 1 seed · Digits, for a test")
    while run := store.claim():
        for snapshot in train(run.config):
            store.folder(run.id).keep(run.attempt, snapshot)
        store.index(run.id, run.attempt)
        store.end(run.id, run.attempt, "finished")
    server = Server(ROOT, home / "log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
    yield server.address
    end(server.process, 40)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_finding(chromium, served, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, color_scheme=scheme)
    page, found = context.new_page(), []
    for path in PAGES:
        page.goto(f"{served}/{path}")
        page.locator("h1").first.wait_for()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        page.wait_for_timeout(1000)
        for one in axe.run(page).response["violations"]:
            places = [node["html"] for node in one["nodes"] if not streamlits(one["id"], node["html"])]
            if one["impact"] in ("serious", "critical") and places:
                found.append((path, one["id"], places[:3]))
    context.close()
    assert not found


def streamlits(rule: str, place: str) -> bool:
    """Whether a finding is in Streamlit's own menu, which an app cannot change."""
    return (rule == "list" and "stSidebarNavItems" in place) or (rule == "listitem" and place.startswith("<li class="))
