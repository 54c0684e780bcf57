"""Where Faces keeps what it makes: datasets, runs, and the index to them."""

import os
from pathlib import Path

from platformdirs import user_data_dir


def home() -> Path:
    """The folder that holds all data and runs: `FACES_HOME`, or the platform's user data folder."""
    return Path(os.environ.get("FACES_HOME") or user_data_dir("faces", appauthor=False)).expanduser()
