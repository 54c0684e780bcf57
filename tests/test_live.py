"""Parts of a page that are drawn again and again: whose turn it is, and how often a crowd looks."""

import threading
from collections.abc import Callable

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.components import live
from pages.components.live import CROWD, HERE, POLL, Turns
from tests.helpers import until


def waiting(turns: Turns) -> int:
    return len(turns._waiting)


def test_no_more_are_let_in_than_may_and_all_get_in() -> None:
    turns, inside, most = Turns(2), list[int](), list[int]()
    gates = [threading.Event() for _ in range(6)]

    def enter(number: int) -> None:
        with turns:
            inside.append(number)
            most.append(len(inside))
            gates[number].wait(30)
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(6)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        until(lambda number=number: len(inside) + waiting(turns) == number)
    for gate in gates:
        gate.set()
    for thread in threads:
        thread.join(30)
    assert len(most) == 6
    assert max(most) == 2


def test_who_leaves_and_comes_back_is_let_in_after_those_who_wait() -> None:
    turns, order = Turns(1), list[str]()

    def enter() -> None:
        with turns:
            order.append("waited")

    with turns:
        thread = threading.Thread(target=enter)
        thread.start()
        until(lambda: waiting(turns))
    with turns:
        order.append("came back")
    thread.join(30)
    assert order == ["waited", "came back"]


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


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of a server at which nobody has looked."""
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    monkeypatch.setattr(live, "_looked", {})
    return clock


@pytest.fixture
def asked(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The seconds after which parts of pages ask to be drawn again."""
    seconds = list[float | None]()

    def fragment(part: Callable[[], None], run_every: float | None = None) -> Callable[[], None]:
        seconds.append(run_every)
        return part

    monkeypatch.setattr(st, "fragment", fragment)
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
    sessions = [AppTest.from_function(moving).run() for _ in range(CROWD + 5)]
    assert not any(session.exception for session in sessions)
    assert asked[:CROWD] == [POLL] * CROWD
    late = asked[CROWD:]
    assert late == [pytest.approx(POLL * number / CROWD, rel=0.25) for number in range(CROWD + 1, CROWD + 6)]
    assert len({after * CROWD / number for number, after in enumerate(late, CROWD + 1)}) == 5, "not in step"
    sessions[0].run()
    assert asked[-1] == pytest.approx(POLL * (CROWD + 5) / CROWD, rel=0.25), "who looks again is counted once"


def test_what_rests_is_not_looked_at_again_and_nobody_waits_for_who_looks_at_it(asked: list[float | None]) -> None:
    for _ in range(CROWD + 5):
        assert not AppTest.from_function(resting).run().exception
    assert asked == [None] * (CROWD + 5)
    AppTest.from_function(moving).run()
    assert asked[-1] == POLL


def test_who_has_gone_is_not_waited_for_and_no_crowd_is_too_large(clock: Clock) -> None:
    assert [live.slowly(str(number)) for number in range(10 * CROWD)][-1] == 5
    clock.now = HERE - 1
    assert live.slowly("0") == 5
    clock.now = HERE + 1
    assert live.slowly("1") == 1


def test_a_page_takes_another_pace_when_many_have_come(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = list[tuple[Callable[[], None], float]]()
    monkeypatch.setattr(st, "fragment", lambda part, run_every: parts.append((part, run_every)) or (lambda: None))
    reruns = list[None]()
    monkeypatch.setattr(st, "rerun", lambda: reruns.append(None))
    AppTest.from_function(moving).run()
    ((part, every),) = parts
    assert every == POLL
    for number in range(CROWD):
        live.slowly(str(number))
    part()
    assert not reruns, "a few more make no difference"
    for number in range(2 * CROWD):
        live.slowly(str(number))
    part()
    assert len(reruns) == 1
