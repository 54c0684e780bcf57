"""Recorded runs that come with the app: opened with one click, where nothing can or need be trained."""

import time
from dataclasses import asdict

import streamlit as st

from faces.datasets.base import Progressed
from pages.components.runs import work
from pages.components.session import the_store
from trainer import recorded


def offer() -> None:
    """A button for each file of recorded runs that is not open here yet."""
    store = the_store()
    files = [file for file in recorded.files() if not all(store.known(name) for name in recorded.names(file))]
    if not files:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Or open runs that were recorded elsewhere, without training:", width="content")
        for file in files:
            label = file.stem.replace("-", " ").capitalize()
            st.button(label, key=f"open {file.stem}", icon=":material/movie:", on_click=_open, args=(file.stem,))


def _open(stem: str) -> None:
    store = the_store()
    file = next(file for file in recorded.files() if file.stem == stem)
    bar = st.progress(0.0)
    began = time.monotonic()

    def tell(told: Progressed) -> None:
        rate = told.done / max(time.monotonic() - began, 0.01)
        left = ((told.total or 0) - told.done) / rate if rate else None
        bar.progress(*work({**asdict(told), "rate": rate, "left": left}))

    names = recorded.bring(store, file.read_bytes(), tell)
    st.session_state.update(together=store.run(names[0]).note, source="Trained together")
