"""The parts of a page that are drawn again and again while something moves."""

import functools
from collections.abc import Callable
from threading import Semaphore
from typing import Any

import streamlit as st

from pages.components.runs import forgiving

POLL = 1.0  # seconds between two looks at something that moves
_turns = Semaphore(2)  # who waits for a turn does not fight for the interpreter with those who answer the browsers


def live(show: Callable[..., bool | None], moving: bool, *arguments: Any, every: float = POLL) -> None:
    """Draw a part of the page, and again every so many seconds when something in it moves.

    `show(*arguments)` returns True when the whole page is to be drawn anew: the last time when all has come to
    rest, which ends the looking.
    """

    @functools.wraps(show)
    def part() -> None:
        with _turns:
            settled = forgiving(show)(*arguments)
        if settled and moving:
            st.rerun()

    st.fragment(part, run_every=every if moving else None)()
