"""The parts of a page that are drawn again and again while something moves."""

import functools
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakSet

import streamlit as st

from pages.components.runs import forgiving

POLL = 1.0  # seconds between two looks at something that moves
CROWD = 12  # so many look that often; of more, each looks less often, so that a click need not wait for all these looks


class Watcher:
    """A session that has looked at something that moves."""


_watchers = WeakSet[Watcher]()


class Turns:
    """Lets so many threads in at a time, in the order they came. (One that leaves a `Semaphore` may be back before
    those who wait for it.)"""

    def __init__(self, free: int):
        self._free, self._waiting, self._lock = free, deque[Lock](), Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            called = Lock()
            called.acquire()
            self._waiting.append(called)
        called.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


_turns = Turns(2)  # who waits for a turn does not fight for the interpreter with those who answer the browsers


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

    _watchers.add(st.session_state.setdefault("watcher", Watcher()))
    st.fragment(part, run_every=every * max(1.0, len(_watchers) / CROWD) if moving else None)()
