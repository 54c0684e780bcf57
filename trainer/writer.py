"""A thread that writes while a training goes on, so that a slow disk does not hold it up."""

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Self

ROOM = 4  # writes that may wait before whoever brings another waits too: they hold memory


class Write(NamedTuple):
    """Something to write, whether the next of its like may take its place, and whether it is written."""

    act: Callable[[], object]
    spare: bool
    done: threading.Event


class Writer:
    """Does what it is handed in that order, in one thread; a context, which is left when all is written.

    The first write that fails is the last: what waits behind it is dropped, and `hand`, or leaving, raises its error.
    """

    def __init__(self, room: int = ROOM):
        self.room, self.waiting, self.changed = room, deque[Write](), threading.Condition()
        self.error: Exception | None = None
        self.leaving = False
        self.thread = threading.Thread(target=self._work, daemon=True)

    def hand(self, act: Callable[[], object], spare: bool = False) -> threading.Event:
        """Have something written; the event is set once it is. Waits while there is no room.

        A `spare` one does not wait: the spare one before it, if it is not under way yet, is dropped for it.
        """
        write = Write(act, spare, threading.Event())
        with self.changed:
            if spare:
                self.waiting = deque(other for other in self.waiting if not other.spare)
            else:
                self.changed.wait_for(lambda: self.error or sum(not one.spare for one in self.waiting) < self.room)
            if self.error:
                raise self.error
            self.waiting.append(write)
            self.changed.notify_all()
        return write.done

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.leaving)
                if not self.waiting:
                    return
                write = self.waiting.popleft()
                self.changed.notify_all()
            try:
                write.act()
            except Exception as error:
                with self.changed:
                    self.error = error
                    self.waiting.clear()
                    self.changed.notify_all()
                return
            write.done.set()
            del write  # which may hold much memory

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.changed:
            self.leaving = True
            self.changed.notify_all()
        self.thread.join()
        if self.error and kind is None:
            raise self.error
