"""Where Faces keeps what it makes: datasets, runs, and the index to them."""

import os
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from faces.files import place


def home() -> Path:
    """The folder that holds all data and runs: `FACES_HOME`, or the platform's user data folder."""
    return Path(os.environ.get("FACES_HOME") or user_data_dir("faces", appauthor=False)).expanduser()


def runs(at: Path) -> Any:
    """Where the folders of a home's runs are: in it, or where `FACES_FILES` says, such as s3://bucket/faces.

    ValueError, in one sentence, for a `FACES_FILES` that cannot be.
    """
    url = os.environ.get("FACES_FILES")
    return place(url) if url else at / "runs"
