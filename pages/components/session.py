"""What every page needs of the server it runs in: the store, the colours of the theme and charts in them, the URL."""

import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from faces import figures
from faces.home import home
from faces.palette import DARK, LIGHT, Ink, Paper, head_ink
from pages.components.who import person

if TYPE_CHECKING:
    from trainer.store import Store

_opening = threading.Lock()
drawn = threading.Event()  # set once this server has drawn a page for somebody


@lru_cache(4)  # asked for many times a page: Streamlit's own cache takes a tenth of a millisecond each time
def _store(path: Path) -> "Store":
    from trainer.store import Store  # and SQLAlchemy, slow to load, for which nobody who opens the app need wait

    return Store(path)


def opened(path: Path | None = None) -> "Store":
    """The store of a home, this one's unless another is named, asked by the owner; one per server."""
    with _opening:
        return _store(path or home())


def the_store() -> "Store":
    """The store of this home, asked by who looks at the page."""
    return opened().asked_by(person)


def paper() -> Paper:
    """What charts are drawn on and with, in the theme that is on."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def color(ink: Ink) -> str:
    """An ink as it shows on the present background."""
    return ink.dark if paper() is DARK else ink.light


def echart(option: dict[str, Any], **how: Any) -> Any:
    """`st.echarts_chart` with words that can be read."""
    return st.echarts_chart(figures.inked(option, paper()), **how)


def plot(figure: Any, **how: Any) -> Any:
    """`st.plotly_chart` with words that can be read."""
    return st.plotly_chart(figures.inked(figure, paper()), **how)


def head_colors(heads: Iterable[str]) -> dict[str, str]:
    """The colour of each head."""
    return {head: color(head_ink(head)) for head in heads}


def remember(name: str, value: str) -> None:
    """Put a value into the URL, unless it is there: writing can undo what the browser changes at that moment."""
    if st.query_params.get(name) != value:
        st.query_params[name] = value
