"""What a process tells of its work: progress, in a file or on the screen, and why it failed, in a sentence."""

import dataclasses
import errno
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from faces.datasets import Progressed
from faces.files import Pace, write_json
from trainer.memory import SMALLER, starved

FULL = "The disk is full; make room, or let old runs go on the page Runs, and resume."
REFUSED = {  # what a disk says that takes no more
    errno.ENOSPC: FULL,
    getattr(errno, "EDQUOT", errno.ENOSPC): FULL,
    errno.EROFS: "Nothing can be kept: the folder of runs cannot be written to.",
}


def teller(file: Path, every: float = 0.3) -> Callable[[Progressed], None]:
    """A progress callback that writes to a file what is done, the rate, and the time left in seconds."""
    began, told, doing, first = 0.0, -math.inf, "", 0
    every = Pace(file, every).every

    def tell(progressed: Progressed) -> None:
        nonlocal began, told, doing, first
        now = time.monotonic()
        if progressed.doing != doing:
            began, told, doing, first = now, -math.inf, progressed.doing, progressed.done
        total = progressed.total
        if now - told < every and progressed.done != total:
            return
        told = now
        waits = progressed.unit == "s"
        rate = (progressed.done - first) / (now - began) if now - began > 0.2 and not waits else 0.0
        left = (total - progressed.done) / rate if total and rate else None
        write_json(file, {**dataclasses.asdict(progressed), "rate": rate, "left": left}, durable=False)

    return tell


def mover(file: Path, where: str = "", every: float = 0.5) -> Callable[[int, int, float], None]:
    """Writes step, loss and where it trains to a file now and then, so that a page moves between two snapshots."""
    due = Pace(file, every)

    def move(step: int, steps: int, loss: float) -> None:
        if due():
            write_json(file, {"step": step, "steps": steps, "loss": loss, "where": where}, durable=False)

    return move


def sentence(error: BaseException) -> str:
    """What went wrong, in one sentence for the run's card; the traceback is in its log."""
    name = type(error).__name__
    if starved(error):
        return f"The device ran out of memory; {SMALLER}"
    if isinstance(error, OSError) and error.errno in REFUSED:
        return REFUSED[error.errno]
    said = " ".join(str(error).split())[:300]
    plain = isinstance(error, (ValueError, ConnectionError)) or name == "TrainingError"
    return said if plain and said else f"It broke with {name}: {said or 'no further word'}"


def show(progressed: Progressed) -> None:
    """One line of progress on stderr, written over itself."""
    total = f"/{progressed.total:,}" if progressed.total else ""
    end = "\n" if progressed.done == progressed.total else "\r"
    print(
        f"\x1b[2K{progressed.doing}: {progressed.done:,}{total} {progressed.unit}", end=end, file=sys.stderr, flush=True
    )
