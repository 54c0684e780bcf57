"""Whether memory ran out: as an error tells it, or as the system counts the processes that it ended for want of it.

And how much of it a process may take for what is not trusted.
"""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

KINDS = {"MemoryError", "OutOfMemoryError"}  # Python's and NumPy's, and torch's on a GPU
WORDS = ("out of memory", "allocate memory", "bad_alloc", "bad allocation", "_alloc_failed")  # torch's, in lower case
SMALLER = "try a smaller batch, image size or encoder."
FIRST = "It ran out of memory; it is tried once more, alone."
SECOND = f"The device ran out of memory, also with no other run beside; {SMALLER}"
GROUPS = Path("/sys/fs/cgroup")


def starved(error: BaseException) -> bool:
    """Whether an error means that there was no memory left, on the device or on the machine."""
    if KINDS & {kind.__name__ for kind in type(error).__mro__}:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)


def system_kills() -> int:
    """How many processes the system has ended for want of memory; 0 where nobody counts them.

    Counted are those of this process's memory group, where Linux counts by group, else those of the whole machine.
    """
    for file in (*counts(), Path("/proc/vmstat")):
        with suppress(OSError):
            if found := re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE):
                return int(found[1])
    return 0


def go_first() -> None:
    """Have Linux end this process rather than the app or the supervisor when the machine's memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # as if it had half of the memory more


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """While this is open, the process may take so many bytes beyond those it has. ValueError when it asks for more.

    It is Linux that refuses them; nothing is limited elsewhere.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (before, most) if limit != resource.RLIM_INFINITY]
    limit = min([psutil.Process().memory_info().data + more, *limits])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    try:
        yield
    except MemoryError as why:
        raise ValueError(f"It would take more than {more >> 20:,} MB of memory, so it is refused.") from why
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def counts() -> Iterator[Path]:
    """Where Linux may count for the memory group of this process: control groups of version 2, or 1."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kind, group = line.split(":", 2)
            if not kind:
                yield GROUPS / group.lstrip("/") / "memory.events"
            elif "memory" in kind.split(","):
                yield GROUPS / kind / group.lstrip("/") / "memory.oom_control"
                yield GROUPS / kind / "memory.oom_control"  # in a container, whose group is mounted there
