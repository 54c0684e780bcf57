"""Files that are whole or absent, also after a power cut, on a disk of this machine or on object storage.

Functions here take a `Path`, or what `place` makes of a URL that fsspec knows, such as s3://bucket/faces: a path of
universal_pathlib, an extra that is imported for such a URL only. There a file is one object and a write is one PUT,
which others see whole or not at all; nothing is renamed, locked or cached, and a folder is there while something is in
it. What keeps such a place from being read or written is an OSError with a sentence.
"""

import math
import os
import secrets
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from faces.seals import from_json, to_json

PACE = 2.0  # seconds between two looks at a file elsewhere, or two words written there, while work goes on
DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"}
_known: dict[tuple[str, int], Any] = {}  # by URL and process: connections survive no fork


@runtime_checkable
class Elsewhere(Protocol):
    """A path of universal_pathlib, on a filesystem of fsspec that calls it `path`."""

    @property
    def fs(self) -> Any: ...

    @property
    def path(self) -> str: ...


Place = Path | Elsewhere


def place(text: str) -> Any:
    """The path that a text or a URL names: a Path where it is on a disk, also for file:///mnt/faces.

    ValueError, in one sentence, for a URL that is none and for one whose library is not installed.
    """
    kind, sign, _ = text.partition("://")
    if not sign:
        return Path(text).expanduser()
    if kind == "file":
        if urlsplit(text).netloc not in ("", "localhost"):
            raise ValueError(f"{text} names another machine; a folder here has three strokes: file:///mnt/faces.")
        return Path(url2pathname(urlsplit(text).path))
    if (key := (text, os.getpid())) not in _known:
        needed = " ".join(["universal-pathlib", *filter(None, [DRIVERS.get(kind)])])
        command = f"uv pip install --python {sys.prefix} {needed}"
        try:
            from upath import UPath

            url = text if text.endswith("://") else text.rstrip("/")
            made = UPath(url, use_listings_cache=False)  # others write there too
            _ = made.fs
            if kind in DRIVERS and not urlsplit(text).netloc:
                raise ValueError("it names no bucket")
        except ImportError as error:
            said = f"{kind}:// needs a library that is not installed ({first(error)}); this installs it: {command}"
            raise ValueError(said) from None
        except ValueError as error:
            raise ValueError(f"{text} is no place for files: {first(error)}. One is like s3://bucket/faces.") from error
        _known[key] = made
    return _known[key]


@contextmanager
def reaching(path: Elsewhere) -> Iterator[None]:
    """OSError, in one sentence, for whatever keeps a place from being reached; FileNotFoundError stays what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # each library has its own
        raise ConnectionError(f"{path} cannot be reached: {first(error)}.") from error


def first(error: BaseException) -> str:
    """The first line of what an error says, without a full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__


def write(path: Place, content: bytes | memoryview | str, durable: bool = True) -> None:
    """Write a file durably and all at once; OSError when the disk refuses, and then it takes no room.

    For one that is not `durable` nobody waits for the disk: others find it whole or not at all, but a power cut may
    leave it torn, so it is read by `heard`.
    """
    content = content.encode() if isinstance(content, str) else content
    if not isinstance(path, Path):
        try:
            with reaching(path):
                path.fs.pipe_file(path.path, bytes(content))
        except FileNotFoundError as error:  # the bucket
            raise ConnectionError(f"{path} cannot be written: {first(error)}.") from error
        return
    make(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        if durable:
            commit(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def commit(part: Path, final: Path) -> None:
    """Give a finished file its name, durably."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, final)
    sync(final.parent)


def sync(place: Place) -> None:
    """Have the names in a folder of a disk last, whoever gave them: what is in it is there after a power cut."""
    if isinstance(place, Path) and hasattr(os, "O_DIRECTORY"):  # not on Windows, where a folder cannot be synced
        folder = os.open(place, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def make(folder: Path) -> None:
    """Make a folder, and those above it that are missing, durably; nothing when it is there."""
    missing = takewhile(lambda one: not one.is_dir(), (folder, *folder.parents))
    for one in reversed(list(missing)):
        one.mkdir(exist_ok=True)
        sync(one.parent)


def read(path: Place) -> bytes:
    """A file's content, elsewhere in one GET. FileNotFoundError when there is none."""
    if isinstance(path, Path):
        return path.read_bytes()
    with reaching(path):
        return path.fs.cat_file(path.path)


def write_json(path: Place, values: Mapping[str, Any], durable: bool = True) -> None:
    """Write a JSON object with a seal, as `write` does."""
    write(path, to_json(values), durable)


def read_json(path: Place) -> dict[str, Any]:
    """The JSON object in a file, or an empty one when there is no file. DamagedError for what is not as written."""
    try:
        return from_json(read(path), path)
    except FileNotFoundError:
        return {}


def heard(path: Place) -> dict[str, Any]:
    """The JSON object in a file, or an empty one when there is no file, or one that a power cut has torn."""
    try:
        return read_json(path)
    except ValueError:
        return {}


def aside(*files: Any) -> None:
    """Give damaged files a name under which nobody reads them; elsewhere, or where that cannot be, they stay."""
    for file in files:
        if isinstance(file, Path):
            with suppress(OSError):
                os.replace(file, file.with_name(f"{file.name}.damaged"))


def there(path: Place) -> bool:
    """Whether there is such a file, or a folder with something in it."""
    if isinstance(path, Path):
        return path.exists()
    with reaching(path):
        return path.fs.exists(path.path)


def written(path: Place) -> float:
    """When a file was last written, in seconds since 1970. FileNotFoundError when there is none."""
    if isinstance(path, Path):
        return path.stat().st_mtime
    with reaching(path):
        return path.fs.modified(path.path).timestamp()


def sizes(folder: Elsewhere) -> dict[str, int]:
    """All files below a folder elsewhere, by their place in it, with their bytes; a thousand for each request."""
    with reaching(folder), suppress(FileNotFoundError):
        found = folder.fs.find(folder.path, detail=True)
        inside = {name.removeprefix(folder.path).lstrip("/"): told.get("size") or 0 for name, told in found.items()}
        return {name: size for name, size in inside.items() if name and not name.endswith("/")}
    return {}


def matches(name: str, pattern: str) -> bool:
    """Whether a file's place in a folder is as the pattern says, which has a part for each of its parts."""
    return name.count("/") == pattern.count("/") and PurePosixPath(name).match(pattern)


def matching(folder: Any, pattern: str) -> list[Any]:
    """The files below a folder whose place in it is as the pattern says, in order; none without the folder."""
    if isinstance(folder, Path):
        return sorted(folder.glob(pattern))
    return [folder / name for name in sorted(sizes(folder)) if matches(name, pattern)]


def names(folder: Place) -> list[str]:
    """The names of what is in a folder, in order; none without the folder."""
    if isinstance(folder, Path):
        return sorted(path.name for path in folder.glob("*"))
    with reaching(folder), suppress(FileNotFoundError):
        return sorted(PurePosixPath(name).name for name in folder.fs.ls(folder.path, detail=False))
    return []


def remove(*files: Place) -> None:
    """Remove files of one folder, those that are there."""
    far = [file for file in files if not isinstance(file, Path)]
    for file in files:
        if isinstance(file, Path):
            file.unlink(missing_ok=True)
    if far:
        with reaching(far[0]):
            try:
                far[0].fs.rm([file.path for file in far])
            except FileNotFoundError:  # of one; the others may be there still
                for file in far:
                    with suppress(FileNotFoundError):
                        file.fs.rm(file.path)


def clear(folder: Place) -> None:
    """Remove a folder with all that is in it, if it is there; of one on a disk, as much as can be removed."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with reaching(folder), suppress(FileNotFoundError):
        folder.fs.rm(folder.path, recursive=True)


def prove(folder: Place) -> None:
    """Write and remove a word in a folder elsewhere. OSError, in one sentence, when that cannot be.

    ValueError for memory://, which other processes cannot see.
    """
    if isinstance(folder, Path):
        return
    if str(folder).startswith("memory://"):
        raise ValueError(
            f"{folder} is seen by one process only, so no worker finds a run there; say s3://bucket/faces."
        )
    word: Any = folder
    write(word / "proof", "Faces can write here.")
    remove(word / "proof")


def lock(file: Place, home: Path) -> FileLock:
    """Keeps processes from doing the same work twice. For a file elsewhere those of this home, by a lock in it.

    What is written there must be sound without it.
    """
    if isinstance(file, Path):
        return FileLock(file)
    locks = home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{zlib.crc32(str(file).encode()) % 64}.lock")


class Pace:
    """Says whether it is time: every so many seconds, and at least `PACE` apart where a path is elsewhere."""

    def __init__(self, path: Place, every: float | int = 0):
        self.every, self.last = every if isinstance(path, Path) else max(every, PACE), -math.inf

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.every:
            return False
        self.last = now
        return True


def watch(path: Place) -> Callable[[], bool]:
    """Tells whether a file is there, each time it is asked; one that is elsewhere is looked for at a `Pace`."""
    if isinstance(path, Path):
        return path.exists
    due, seen = Pace(path), False

    def look() -> bool:
        nonlocal seen
        if due():
            with suppress(ConnectionError):  # what was known stays until the place is back
                seen = there(path)
        return seen

    return look
