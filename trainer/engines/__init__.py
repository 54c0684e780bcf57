"""Engines: where attempts run. An engine starts, watches and ends them; it never owns the queue."""

import threading
from pathlib import Path
from typing import Any, Protocol


class Engine(Protocol):
    """All that the supervisor asks of an engine. One that knows sets `news` when an attempt may have ended."""

    news: threading.Event

    def free(self) -> int:
        """How many more attempts may start now."""

    def start(self, folder: Path, attempt: int) -> Any:
        """Start an attempt in a run's folder; returns a handle."""

    def warm(self) -> None:
        """Get ready to start an attempt quickly; may do nothing."""

    def poll(self, handle: Any) -> int | None:
        """None while the attempt runs, then its exit code (`trainer.worker`); negative for a signal."""

    def kill(self, handle: Any) -> None:
        """End an attempt that does not stop by itself."""

    def close(self, patience: float) -> None:
        """Let all attempts stop and keep their checkpoint; end those that have not after `patience` seconds."""
