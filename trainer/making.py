"""Slow exports: each made by a process of its own, one at a time, and kept for whoever asks again.

make(store, "onnx", [run])       begins, unless it has begun
made(store, "onnx", [run])       the file, once it is there
told(store, "onnx", [run])       how far it is, or why it failed
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from threading import Lock
from typing import Any

from faces import files
from faces.files import aside, heard, write_json
from trainer.engines.children import child
from trainer.exports import file_name
from trainer.store import Store

VERSION = 2  # of what is made; raised when an export changes
KEPT = 12  # exports on disk; the oldest go first
PATIENCE = 600.0  # seconds that one may take
_one = ThreadPoolExecutor(1, "export")  # a torch process takes half a gigabyte: the others wait
_begun: dict[Path, Future[str]] = {}  # folder -> why it failed, "" when it did not
_running: set[Popen] = set()
_guard = Lock()


def folder(store: Store, kind: str, names: Sequence[str]) -> Path:
    """Where this export of these runs, as they are now, is kept."""
    latest = store.latest(names)
    steps = [(name, latest.get(name, {}).get("step")) for name in names]
    drawn = [files.names(store.folder(name).path / "points") for name in names]
    key = json.dumps([VERSION, kind, steps, drawn])
    return store.path / "exports" / hashlib.sha256(key.encode()).hexdigest()[:16]


def made(store: Store, kind: str, names: Sequence[str]) -> Path | None:
    """The finished file, or None; a damaged one is set aside, to be made again."""
    file = folder(store, kind, names) / file_name(store, kind, names)
    try:
        known = file.stat()
    except FileNotFoundError:
        return None
    if _sound(file, known.st_mtime_ns, known.st_size):
        return file
    aside(file)
    return None


def make(store: Store, kind: str, names: Sequence[str]) -> None:
    """Begin to make it, unless it is there or on its way. One that failed is tried again."""
    store.allow("export")
    place, name = folder(store, kind, names), file_name(store, kind, names)
    with _guard:
        before = _begun.get(place)
        if (before is None or before.done()) and not (place / name).exists():
            (place / "progress.json").unlink(missing_ok=True)
            _begun[place] = _one.submit(_carry_out, store.path, kind, list(names), place / name)


def told(store: Store, kind: str, names: Sequence[str]) -> tuple[bool, str, dict[str, Any]]:
    """Whether it is on its way, why it failed if it did, and the progress that it last reported."""
    place = folder(store, kind, names)
    begun = _begun.get(place)
    if begun is None or begun.cancelled():
        return False, "", {}
    if not begun.done():
        return True, "", heard(place / "progress.json")
    return False, begun.result(), {}


def end() -> None:
    """Give up what is being made or waits to be: the app stops."""
    for waiting in _begun.values():
        waiting.cancel()
    for process in list(_running):
        process.kill()


def _carry_out(home: Path, kind: str, names: Sequence[str], file: Path) -> str:
    """Make one and wait for it; why it failed, or ""."""
    try:
        return _made(home, kind, names, file)
    except OSError as why:  # a full disk, say
        return f"It could not be made: {why}"


def _made(home: Path, kind: str, names: Sequence[str], file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    words = ["--as", kind, "--to", str(file), "--report", str(file.with_name("progress.json"))]
    process = child("--home", str(home), "export", *names, *words, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    _running.add(process)
    try:
        _, said = process.communicate(timeout=PATIENCE)
    except TimeoutExpired:
        process.kill()
        process.communicate()
        return f"It took longer than {PATIENCE / 60:.0f} minutes and was stopped."
    finally:
        _running.discard(process)
    if process.returncode == 0 and file.exists():
        write_json(file.with_name("made.json"), {"sha256": _sha256(file)})
        prune(home / "exports")
        return ""
    shutil.rmtree(file.parent, ignore_errors=True)
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"It ended early (exit {process.returncode})."


@lru_cache(KEPT)  # a page asks at every look
def _sound(file: Path, written: int, size: int) -> bool:
    """Whether an export is what was made; one of before this was noted is taken as it is."""
    return heard(file.with_name("made.json")).get("sha256") in (None, _sha256(file))


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def prune(exports: Path) -> None:
    """Keep the newest few."""
    kept = sorted(exports.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in kept[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
