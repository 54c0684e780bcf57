"""A thousand hostile names in a real browser: each is read as it is written, and none becomes an element."""

import json
import re

import numpy as np

from faces.datasets.own import clean_name, import_zip
from tests.helpers import ROOT, Server, end
from tests.test_hostile import LURES, hostile_names
from tests.test_own_images import picture, zipped
from trainer import RunConfig
from trainer.brought import bring
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


def test_names_of_sets_classes_and_embeddings_are_read_as_they_are_on_every_page(chromium, tmp_path, monkeypatch):
    names = ("www.evil.example", "x __b__ y", "1. z")  # what the door lets in, and Markdown would still read
    assert [clean_name(name) for name in names] == list(names)
    home = tmp_path / "home"
    monkeypatch.setenv("FACES_HOME", str(home))
    images = {f"{name}/{n}.png": picture(n) for name in names for n in range(5)} | {"=1+1.png": picture()}
    import_zip(zipped(images), names[0]).prepare(64)
    labels = np.array(names)[np.arange(30) % 3]
    np.savez(tmp_path / "a.npz", embeddings=np.random.default_rng(0).normal(size=(30, 4)), labels=labels)
    runs = [bring(Store(home), tmp_path / "a.npz", *pair) for pair in (names[:2], names[1::-1])]
    server = Server(ROOT, tmp_path / "log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
    page, outside = chromium.new_page(), []
    page.on("request", lambda request: outside.append(request.url) if "evil" in request.url else None)
    page.set_default_timeout(60_000)
    html = "all => all.map((one) => one.outerHTML)"
    try:
        for path, shown in {
            f"?run={runs[0]}": names[:2], f"compare?source=Chosen+runs&runs={','.join(runs)}": names[:2],
            "runs": names[:2], "data": names, "scoreboard": (), "tune?tuneview=All+runs": (), "which": (),
        }.items():  # fmt: skip
            page.goto(f"{server.address}/{path}")
            page.locator("h1").first.wait_for()
            page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
            page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
            page.locator("main details:not([open]) > summary").evaluate_all("all => all.forEach((one) => one.click())")
            page.wait_for_timeout(2000)
            said = page.locator("main").inner_text().replace("\u2060", "")
            assert [name for name in shown if name not in said] == [], path
            made = page.locator("main").locator("a[href*=evil], ol").evaluate_all(html)
            made += page.locator("main").get_by_text(re.compile("^b$")).evaluate_all(html)
            assert made == [], path
            assert not page.locator("[data-testid=stException]").count(), path
        assert not outside
    finally:
        page.close()
        end(server.process, 60)
