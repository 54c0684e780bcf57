"""The parts of a page that are drawn again and again while something moves."""

import functools
import random
import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

import streamlit as st
from ulid import ULID

from pages.components.runs import forgiving

POLL = 1.0  # seconds between two looks at something that moves
CROWD = 15  # sessions that can look that often on two cores (viewers.md); of more, each looks less often
HERE = 15.0  # seconds after its last look for which a session counts
_looked: dict[str, float] = {}  # when each session that follows something has looked last
_counting = Lock()


def slowly(session: str) -> float:
    """How many times as long as `POLL` this session, which follows something, waits between two looks: 1 to 5."""
    now = time.monotonic()
    with _counting:
        _looked[session] = now
        for gone in [name for name, last in _looked.items() if now - last > HERE]:
            del _looked[gone]
        return min(max(1.0, len(_looked) / CROWD), 5.0)


class Turns:
    """Lets so many threads in at a time, in the order they came.

    Who leaves a `Semaphore` may be back before those who wait for it.
    """

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

    session = st.session_state.setdefault("session", str(ULID()))
    pace = slowly(session) if moving else 1.0

    @functools.wraps(show)
    def part() -> None:
        with _turns:
            settled = forgiving(show)(*arguments)
        if moving and (settled or not 0.6 < slowly(session) / pace < 1.7):  # many have come or gone: another pace
            st.rerun()

    apart = random.uniform(0.75, 1.25) if pace > 1 else 1.0  # a class that comes together does not look in step
    st.fragment(part, run_every=every * pace * apart if moving else None)()
