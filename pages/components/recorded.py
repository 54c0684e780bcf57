"""Recorded runs that come with the app: opened with one click, where nothing can or need be trained."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import streamlit as st

from faces.datasets.base import Progressed
from pages.components.runs import allowed, tried, work
from pages.components.session import the_store
from trainer import recorded
from trainer.comparison import NOTE


def offer() -> None:
    """A button for each file of recorded runs that is not open here yet, of those that compare heads."""
    store = the_store()
    files = [
        file
        for file in recorded.files()
        if any(NOTE.match(run.note) for run, _ in recorded.told(file).values())
        and not all(store.known(name) for name in recorded.names(file))
    ]
    if not files:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Or open runs that were recorded elsewhere, without training:", width="content")
        for file in files:
            label = file.stem.replace("-", " ").capitalize()
            st.button(
                label, key=f"open {file.stem}", icon=":material/movie:", on_click=tried, args=(_open, file.stem),
                **allowed(store, "open"),
            )  # fmt: skip


def needed(query: Mapping[str, str]) -> Path | None:
    """The file of recorded runs to be opened before a link with this query shows what it should, or None."""
    store = the_store()
    asked = {query.get("run", ""), *query.get("runs", "").split(",")}
    for file in recorded.files():
        told = recorded.told(file)
        names = told if query.get("group") in {run.note for run, _ in told.values()} else asked & set(told)
        if not all(store.known(name) for name in names):
            return file
    return None


def _open(stem: str) -> None:
    names = open_file(next(file for file in recorded.files() if file.stem == stem))
    st.session_state.update(together=the_store().run(names[0]).note, source="Trained together")


def open_file(file: Path) -> list[str]:
    """Open recorded runs, with a bar that tells how far it is, and return their ids."""
    bar = st.progress(0.0)
    began = time.monotonic()

    def tell(told: Progressed) -> None:
        rate = told.done / max(time.monotonic() - began, 0.01)
        left = ((told.total or 0) - told.done) / rate if rate else None
        bar.progress(*work({**asdict(told), "rate": rate, "left": left}))

    return recorded.bring(the_store(), file.read_bytes(), tell)
