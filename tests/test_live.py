"""Parts of a page that are drawn again and again: whose turn it is, and how often a crowd looks."""

import gc
import threading
import time
from collections.abc import Callable
from weakref import WeakSet

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.components.live import CROWD, POLL, Turns
from tests.helpers import until


def test_turns_are_taken_in_the_order_they_are_asked_for() -> None:
    turns, inside, most, order = Turns(2), set[int](), [0], list[int]()
    gates = [threading.Event() for _ in range(6)]

    def enter(number: int) -> None:
        with turns:
            inside.add(number)
            order.append(number)
            most.append(len(inside))
            gates[number].wait(30)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)  # so that each has entered or waits before the next comes
    assert order == [0, 1]
    for entered, gate in zip((3, 4, 5, 6, 6, 6), gates, strict=True):
        gate.set()
        until(lambda entered=entered: len(order) == entered)
    for thread in threads:
        thread.join(30)
    assert order == list(range(6))
    assert max(most) == 2


def test_a_turn_is_given_back_when_a_part_fails() -> None:
    turns = Turns(1)
    with pytest.raises(ValueError, match="part"), turns:
        raise ValueError("part")
    entered = threading.Event()

    def enter() -> None:
        with turns:
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert entered.wait(30)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The seconds after which parts of pages ask to be drawn again, where nobody has looked before."""
    seconds = list[float | None]()

    def fragment(part: Callable[[], None], run_every: float | None = None) -> Callable[[], None]:
        seconds.append(run_every)
        return part

    monkeypatch.setattr(st, "fragment", fragment)
    monkeypatch.setattr("pages.components.live._watchers", WeakSet())
    return seconds


def moving() -> None:
    """A page on which something moves."""
    from pages.components.live import live

    live(lambda: False, True)


def resting() -> None:
    """A page on which nothing does."""
    from pages.components.live import live

    live(lambda: True, False)


def test_the_more_look_the_less_often_each_does(asked: list[float | None]) -> None:
    sessions = [AppTest.from_function(moving).run() for _ in range(3 * CROWD)]
    assert not any(session.exception for session in sessions)
    assert asked == [POLL * max(1, number / CROWD) for number in range(1, 3 * CROWD + 1)]
    sessions[0].run()
    assert asked[-1] == 3 * POLL, "who looks again is counted once"
    del sessions[1:]
    gc.collect()
    sessions[0].run()
    assert asked[-1] == POLL, "who has gone is not counted"


def test_what_rests_is_not_looked_at_again(asked: list[float | None]) -> None:
    assert not AppTest.from_function(resting).run().exception
    assert asked == [None]
