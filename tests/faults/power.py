"""A disk in memory whose power can be cut: it then forgets what was not synced, as strictly as POSIX allows.

    python -m tests.faults.power MOUNT BEFORE AFTER --changes 200 --seed 0

Mounts, by FUSE, a disk that holds what is in the folder BEFORE. After so many changes, or at SIGTERM, the power is cut:
from that instant nothing on MOUNT answers, and AFTER/0, AFTER/1 and AFTER/2 are what may be found when it is back.

A file has its content and the content that it had when it was last synced; a folder has its names and the names that it
had when it was last synced. A synced file is lost all the same when its name was not synced, or that of a folder above
it. In AFTER/0 all that was not synced is lost. In the others chance decides, for each name of each folder, each length
of a file and each 4 KiB of it, whether it is as it is now or as it was synced; what was nothing then is zeros, and what
was cut off since is as it was. So a new file can have its name and not its content, one that was written over be old in
parts, and a rename half done. Every sync takes some milliseconds, as on a real disk, while other things go on.
"""

import argparse
import errno
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")  # where both are, mfusepy would take the older one

from mfusepy import FUSE, Operations

PAGE = 4096  # bytes that a disk writes whole or not at all
OUTCOMES = 3
SLOW = 0.005  # seconds that a sync takes at most


class Node:
    """A file (bytes) or a folder (nodes by name): what it holds now, and what it held when it was last synced."""

    def __init__(self, now: bytearray | dict[str, "Node"]):
        self.now, self.synced, self.written = now, now.copy(), time.time_ns()


def loaded(path: Path) -> Node:
    """What is in a file or a folder of a real disk, all of it synced."""
    folder = path.is_dir()
    node = Node({one.name: loaded(one) for one in path.iterdir()} if folder else bytearray(path.read_bytes()))
    node.written = path.stat().st_mtime_ns
    return node


def leave(node: Node, path: Path, lasts: Callable[[], bool]) -> None:
    """Write to a real disk what is left of a node; `lasts` says of each thing that was not synced if it is left."""
    if isinstance(node.now, dict):
        path.mkdir(parents=True)
        for name in sorted(node.now.keys() | node.synced.keys()):
            if child := (node.now if lasts() else node.synced).get(name):
                leave(child, path / name, lasts)
    else:
        left = bytearray(len(node.now if lasts() else node.synced))
        for at in range(0, len(left), PAGE):
            source = node.now if lasts() and at < len(node.now) else node.synced
            page = source[at : min(at + PAGE, len(left))]
            left[at : at + len(page)] = page
        path.write_bytes(left)
    os.utime(path, ns=(node.written, node.written))


class Disk(Operations):
    """What FUSE asks for. Changes are made one after the other, each of them whole."""

    use_ns = True

    def __init__(self, root: Node, after: Path, changes: int, draw: random.Random):
        self.root, self.after, self.changes, self.draw = root, after, changes, draw
        self.alone, self.numbers, self.opened = threading.Lock(), count(1), dict[int, Node]()

    def destroy(self, path: str) -> None:
        """The power goes: what may be left is written out, and this process is gone."""
        for number in range(OUTCOMES):
            share = self.draw.random() if number else 0.0  # of what was not synced and lasts all the same
            leave(self.root, self.after / str(number), lambda share=share: self.draw.random() < share)
        os._exit(0)

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self.alone:
            yield
            self.changes -= 1
            if self.changes == 0:
                self.destroy("/")

    def find(self, path: str | None) -> Node:
        node = self.root
        for name in PurePosixPath(path or "/removed").parts[1:]:
            if name not in node.now:
                raise OSError(errno.ENOENT, path)
            node = node.now[name]
        return node

    def names(self, path: str) -> tuple[dict[str, Node], str]:
        """The names in the folder of a path, to be changed, and its own."""
        folder = self.find(os.path.dirname(path))
        folder.written = time.time_ns()
        return folder.now, os.path.basename(path)

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_TRUNC:
            self.truncate(path, 0)
        self.opened[number := next(self.numbers)] = self.find(path)
        return number

    def release(self, path: str | None, fh: int) -> None:
        del self.opened[fh]

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        node = self.opened.get(fh or 0) or self.find(path)
        mode = stat.S_IFDIR | 0o755 if isinstance(node.now, dict) else stat.S_IFREG | 0o644
        owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        return {"st_mode": mode, "st_nlink": 1, "st_size": len(node.now), "st_mtime": node.written, **owner}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self.find(path).now]

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        return bytes(self.opened[fh].now[offset : offset + size])

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": PAGE, "f_frsize": PAGE, "f_blocks": 1 << 20, "f_bfree": 1 << 20, "f_bavail": 1 << 20}

    def mkdir(self, path: str, mode: int) -> None:
        with self.changing():
            folder, name = self.names(path)
            folder[name] = Node({})

    def create(self, path: str, mode: int) -> int:
        with self.changing():
            folder, name = self.names(path)
            folder[name] = Node(bytearray())
            return self.open(path, 0)

    def rename(self, old: str, new: str) -> None:
        with self.changing():
            (folder, name), (other, called) = self.names(old), self.names(new)
            other[called] = folder.pop(name)

    def unlink(self, path: str) -> None:
        with self.changing():
            folder, name = self.names(path)
            del folder[name]

    rmdir = unlink

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        with self.changing():
            node = self.opened[fh]
            node.now[offset : offset + len(data)] = bytes(max(0, offset - len(node.now))) + data
            node.written = time.time_ns()
            return len(data)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        with self.changing():
            node = self.find(path)
            node.now[:] = node.now[:length].ljust(length, b"\0")
            node.written = time.time_ns()

    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        time.sleep(self.draw.uniform(0, SLOW))
        with self.changing():
            node = self.opened.get(fh) or self.find(path)
            node.synced = node.now.copy()

    fsyncdir = fsync


def main() -> None:
    """Mount the disk; it is there until its power is cut."""
    asked = argparse.ArgumentParser(description=__doc__)
    for place in ("mount", "before", "after"):
        asked.add_argument(place, type=Path)
    asked.add_argument("--changes", type=int, default=0, help="0: no change cuts it")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    disk = Disk(loaded(given.before), given.after, given.changes, random.Random(given.seed))
    FUSE(disk, str(given.mount), foreground=True, hard_remove=True)


if __name__ == "__main__":
    main()
