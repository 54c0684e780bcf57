"""What every page needs of the server it runs in: the store, and the colours of the theme that is on, the URL."""

from collections.abc import Iterable

import streamlit as st

from faces.home import home
from faces.palette import Ink, head_ink
from trainer.store import Store


@st.cache_resource(max_entries=4)
def _store(path: str) -> Store:
    from pathlib import Path

    return Store(Path(path))


def the_store() -> Store:
    """The store of this home, one per server."""
    return _store(str(home()))


def color(ink: Ink) -> str:
    """An ink as it shows on the present background."""
    return ink.dark if st.context.theme.type == "dark" else ink.light


def head_colors(heads: Iterable[str]) -> dict[str, str]:
    """The colour of each head."""
    return {head: color(head_ink(head)) for head in heads}


def remember(name: str, value: str) -> None:
    """Put a value into the URL, unless it is there: writing can undo what the browser changes at that moment."""
    if st.query_params.get(name) != value:
        st.query_params[name] = value
