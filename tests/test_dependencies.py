"""What is installed: each package by version and hash, and an audit that never passes by looking away."""

import re
import sys

import pytest

from tests import audit
from tests.audit import CLUSTER, HASHES, LOCKS, faults, pinned
from tests.helpers import ROOT

LISTS = {"requirements.txt": HASHES, "tests/requirements.txt": HASHES, "tests/requirements-cluster.txt": CLUSTER}


@pytest.mark.parametrize(("name", "lock"), LISTS.items())
def test_every_package_is_pinned_and_its_files_are_hashed(name, lock):
    file = ROOT / name
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("-r ")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.]+", line)] == []
    told, locked = (pinned(text.read_text("utf-8")) for text in (file, lock))
    assert len(told) == len(lines)
    assert set(told) <= set(locked)  # else the command in the file with the hashes was not run again


@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: file.name)
def test_nothing_is_locked_without_a_hash_and_no_registry_is_named(lock):
    text = lock.read_text("utf-8")
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
    assert faults(dependencies, [("good", "1.0")]) == said


AUDITOR = """
import json, sys
from pathlib import Path
from packaging.requirements import Requirement

lines = [Requirement(line) for line in Path(sys.argv[sys.argv.index("-r") + 1]).read_text("utf-8").splitlines()]
here = [(each.name, str(each.specifier)[2:]) for each in lines if each.marker is None or each.marker.evaluate()]
if len(dict(here)) < len(here):
    sys.exit("a package has duplicate requirements")
holes = {"2.0": [{"id": "CVE-1", "fix_versions": ["3.0"]}]}
told = [{"name": name, "version": version, "vulns": holes.get(version, [])} for name, version in here]
print(json.dumps({"dependencies": told}))
"""


@pytest.mark.parametrize(
    ("locked", "said"),
    [
        ("good==1.0\n", "Nothing known, and everything was looked up."),
        ("good==1.0 ; sys_platform == 'elsewhere'\n", "Nothing known, and everything was looked up."),
        ("good==2.0 ; sys_platform == 'elsewhere'\n", "good 2.0 has CVE-1; mended in 3.0."),
        ("good==1.0\ngood==2.0 ; sys_platform == 'elsewhere'\n", "good 2.0 has CVE-1; mended in 3.0."),
        ("good==1.0\ngood==2.0\n", "good 2.0 has CVE-1; mended in 3.0."),
    ],
)
def test_packages_for_other_machines_and_second_versions_are_audited(locked, said, tmp_path, monkeypatch, capsys):
    """The auditor here obeys markers and refuses two versions of a name, as pip-audit does."""
    (tmp_path / "hashes.txt").write_text(locked, "utf-8")
    monkeypatch.setattr(audit, "LOCKS", [tmp_path / "hashes.txt"])
    monkeypatch.setattr(audit, "AUDIT", [sys.executable, "-c", AUDITOR])
    assert audit.main() == ("CVE" in said)
    assert capsys.readouterr().out == f"{said}\n"


def test_a_version_that_was_looked_up_says_nothing_of_another():
    told = [{"name": "good", "version": "1.0", "vulns": []}]
    assert faults(told, [("good", "1.0"), ("good", "2.0")]) == ["good 2.0 was not looked up."]
