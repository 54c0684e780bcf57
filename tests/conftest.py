"""What all tests share: a home of their own, small settings, and no network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["FACES_DEVICE"] = os.environ.get("FACES_DEVICE", "cpu")
SHARED = Path(__file__).parents[2] / "shared"  # vectors and photographs that do not belong to the project


@pytest.fixture
def faces_home(tmp_path, monkeypatch):
    """An empty home."""
    monkeypatch.setenv("FACES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
