"""Files that are whole or absent, also after a power cut."""

import json
import os
import secrets
from pathlib import Path
from typing import Any


def write(path: Path, content: bytes | memoryview | str, durable: bool = True) -> None:
    """Write a file durably and all at once; OSError when the disk refuses, and then it takes no room.

    One that is not `durable` is whole or absent too, but may be lost in a power cut; nobody waits for the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
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
    if hasattr(os, "O_DIRECTORY"):  # not on Windows, where a folder cannot be synced
        folder = os.open(final.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or an empty one when there is no file. ValueError for what is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
