"""The writer: all that must last is written, in order, and an error stops it."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.writer import Writer


@settings(max_examples=100, deadline=None, derandomize=True)
@given(spares=st.lists(st.booleans(), max_size=12))
def test_while_the_disk_is_slow_only_older_spare_ones_are_dropped_and_the_order_stays(spares):
    written, begun, quick = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert quick.wait(20)

    with Writer(room=99) as writer:
        writer.hand(slow)
        assert begun.wait(20)
        done = [writer.hand(lambda at=at: written.append(at), spare) for at, spare in enumerate(spares)]
        quick.set()
    newest = max((at for at, spare in enumerate(spares) if spare), default=-1)
    assert written == [at for at, spare in enumerate(spares) if not spare or at == newest]
    assert [at for at, event in enumerate(done) if event.is_set()] == written


def test_who_brings_more_than_there_is_room_for_waits_and_a_spare_one_never_does():
    written, quick, brought = [], threading.Event(), []

    def bring(writer):
        for at in range(4):
            writer.hand(lambda at=at: written.append(at))
            brought.append(at)

    with Writer(room=2) as writer:
        begun = threading.Event()
        writer.hand(lambda: (begun.set(), quick.wait(20)))
        assert begun.wait(20)
        bringer = threading.Thread(target=bring, args=(writer,))
        bringer.start()
        bringer.join(0.3)
        for at in (10, 11):
            writer.hand(lambda at=at: written.append(at), spare=True)
        assert (brought, written) == ([0, 1], [])
        quick.set()
        bringer.join(20)
    assert sorted(written) == [0, 1, 2, 3, 11]


def test_the_first_error_is_told_and_nothing_is_written_after_it():
    written, broken = [], threading.Event()

    def full():
        assert broken.wait(20)
        raise OSError("the disk is full")

    writer = Writer().__enter__()
    writer.hand(full)
    writer.hand(lambda: written.append("behind"))
    broken.set()
    writer.thread.join(20)
    with pytest.raises(OSError, match="the disk is full"):
        writer.hand(lambda: written.append("after"))
    with pytest.raises(OSError, match="the disk is full"):
        writer.__exit__(None)
    assert written == []


def test_what_ends_a_training_is_told_rather_than_what_the_disk_said():
    written = []

    def train():
        with Writer() as writer:
            writer.hand(lambda: written.append("before"))
            writer.hand(lambda: 1 / 0)
            raise ValueError("The loss is no number.")

    with pytest.raises(ValueError, match="no number"):
        train()
    assert written == ["before"]
