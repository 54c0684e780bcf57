"""The margin lab's pictures, drawn in a process of their own: torch would be 490 MB in the one that serves pages.

    Sketcher().drawn({"name": "ArcFace", ...})   as faces.sketches.drawn

A JSON line goes in and one comes out. The process ends with its input, so it never outlives the one that started it.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from functools import lru_cache
from subprocess import PIPE, Popen
from threading import Lock, Timer
from typing import Any

from trainer.engines.children import child, end, tell
from trainer.memory import go_first

PATIENCE = 60.0  # seconds for an answer, torch loaded first


class Sketcher:
    """A process that draws, started when it is first asked, and once more when it has ended meanwhile."""

    def __init__(self) -> None:
        self.process: Popen | None = None
        self.turn = Lock()  # visitors wait for each other: a line that comes out answers the last that went in

    def warm(self) -> None:
        """Have torch and the heads loaded."""
        self.line({"name": "ArcFace", "classes": 10, "dim": 128, "theta": 60, "other": 90})

    def drawn(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The pictures that are asked for. Raises as `line`."""
        return json.loads(self.line(asked))

    def line(self, asked: Mapping[str, Any]) -> str:
        """The same as JSON. ValueError as the head's own, RuntimeError if the process ends twice, or says nothing."""
        with self.turn:
            line = self._answer(dict(asked)) or self._answer(dict(asked))
        if not line:
            raise RuntimeError("The process that draws these pictures ended twice; the server's log says why.")
        if line.startswith('{"refused"'):
            raise ValueError(json.loads(line)["refused"])
        return line

    def _answer(self, asked: dict[str, Any]) -> str:
        """A line from the process; none if it ended."""
        self.process = self.process or child("sketch", modest=False, stdin=PIPE, stdout=PIPE)
        assert self.process.stdout is not None
        late = Timer(PATIENCE, self.process.kill)
        late.start()
        tell(self.process, asked)
        line = self.process.stdout.readline()
        late.cancel()
        if line.endswith("\n"):
            return line
        end(self.process, 1.0)
        self.process = None
        return ""


def sketch() -> None:
    """Answer line by line, what was asked a moment ago from memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    go_first()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    from faces.sketches import drawn

    @lru_cache(64)
    def answer(line: str) -> str:
        try:
            return json.dumps(drawn(json.loads(line)), allow_nan=False)
        except Exception as error:  # what cannot be drawn ends no process that others wait for
            return json.dumps({"refused": str(error)})

    for line in sys.stdin:
        print(answer(line), file=answers, flush=True)
