"""A thousand hostile names in a real browser: each is read as it is written, and none becomes an element."""

import json

from tests.helpers import ROOT, Server, end
from tests.test_hostile import LURES, hostile_names
from trainer import RunConfig
from trainer.store import Store

APP = """
import json
import streamlit as st
from pages.components.runs import plain
for name in json.loads(open("names.json", encoding="utf-8").read()):
    with st.container(border=True):
        st.markdown(plain(name))
st.text("all are there")
"""
# What stands in each name's place: its words, and the elements that a plain one has not.
SHOWN = """() => [...document.querySelectorAll("[data-testid=stMarkdownContainer]")].map((one) => [
  one.innerText, [...one.querySelectorAll("*")].filter((part) => !part.matches("p, br")).map((part) => part.outerHTML),
])"""


def test_a_thousand_names_make_no_element_and_run_nothing(serve, chromium):
    names = hostile_names()
    address = serve({"app.py": APP, "names.json": json.dumps(names)})
    page = chromium.new_page()
    outside = []
    page.on("request", lambda request: outside.append(request.url) if "evil" in request.url else None)
    page.goto(address)
    page.get_by_text("all are there").wait_for(timeout=60_000)
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    shown = page.evaluate(SHOWN)
    made = [(name, parts) for name, (_, parts) in zip(names, shown, strict=True) if parts]
    assert not made
    assert page.evaluate("window.hacked") is None
    assert not outside
    same = lambda text: "".join(text.split()).replace("\0", "\ufffd").replace("\u2060", "")  # noqa: E731
    assert [same(words) for words, _ in shown] == [same(name) for name in names]
    page.close()


def test_hostile_notes_of_runs_are_read_as_they_are_on_the_apps_own_page(chromium, tmp_path):
    notes = [note for note in LURES[:14] if len(note) <= 64]
    store = Store(tmp_path / "home")
    for note in notes:
        store.stop(store.submit(RunConfig(), note))
    server = Server(ROOT, tmp_path / "log", {"FACES_HOME": str(store.path), "FACES_DEVICE": "cpu"})
    page = chromium.new_page()
    try:
        page.goto(f"{server.address}/runs")
        page.get_by_text("Resume").nth(9).wait_for(timeout=60_000)
        said = page.locator("main").inner_text().replace("\u2060", "")
        assert [note for note in notes[-10:] if note not in said] == []  # a page has ten runs
        assert page.evaluate("window.hacked") is None
        assert not page.locator("main img[src='x'], main a[href^=javascript], main a[href*=evil]").count()
    finally:
        page.close()
        end(server.process, 60)
