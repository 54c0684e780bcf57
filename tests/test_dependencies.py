"""What is installed: each package by version and hash, and an audit that never passes by looking away."""

import re

import pytest

from tests.audit import HASHES, faults, pinned
from tests.helpers import ROOT

LISTS = [ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"]


@pytest.mark.parametrize("file", LISTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_package_is_pinned_and_its_files_are_hashed(file):
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("-r ")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.]+", line)] == []
    locked = pinned(HASHES.read_text("utf-8"))
    told = {name.lower().replace("_", "-"): version for name, version in pinned(file.read_text("utf-8")).items()}
    assert {name: locked.get(name) for name in told} == told  # else the command in hashes.txt was not run again


def test_nothing_is_locked_without_a_hash_and_no_registry_is_named():
    text = HASHES.read_text("utf-8")
    blocks = re.split(r"\n(?=[\w.-]+(?:\[[\w,-]+\])?==)", text.partition("\n")[2])
    assert len(pinned(text)) > 60
    assert [block.split()[0] for block in blocks if "==" in block and "--hash=sha256:" not in block] == []
    assert "://" not in text


def test_the_readme_installs_by_hash():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv")]
    assert len(commands) == 2  # to run, and to test
    assert [line for line in commands if "-c tests/hashes.txt --require-hashes" not in line] == []


@pytest.mark.parametrize(
    ("dependencies", "said"),
    [
        ([{"name": "good", "version": "1.0", "vulns": []}], []),
        ([], ["good 1.0 was not looked up."]),
        ([{"name": "good", "skip_reason": "not found"}], ["good 1.0 was not looked up."]),
        (
            [{"name": "good", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}],
            ["good 1.0 has CVE-1; mended in 1.1."],
        ),
    ],
)
def test_an_audit_that_skips_is_no_audit(dependencies, said):
    assert faults({"dependencies": dependencies}, {"good": "1.0"}) == said
