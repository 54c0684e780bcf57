"""The recipes of assets/guide, as they stand there: each block of code by its page, heading and place below it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.helpers import ROOT, until

NAME = "faces.school.example"
PAGES = sorted((ROOT / "assets" / "guide").glob("*.md"))
Place = tuple[str, str, int]
taken: set[Place] = set()  # by tests, which take them as they are loaded
SUDO = 'sudo() { if [ "$1" = -u ]; then shift 2; fi; "$@"; }\n'  # nobody becomes another in a test


def blocks() -> dict[Place, str]:
    """All blocks of the guide."""
    found: dict[Place, str] = {}
    for page in PAGES:
        heading, count = "", 0
        for title, code in re.findall(r"^(?:#+ ([^\n]*)|```\w+\n(.*?)^```)$", page.read_text("utf-8"), re.M | re.S):
            heading, count = (title, 0) if title else (heading, count + 1)
            if not title:
                found[page.stem, heading, count] = code
    return found


def block(page: str, heading: str, place: int = 1) -> str:
    """One of them, which whoever asks is going to run."""
    taken.add((page, heading, place))
    return blocks()[page, heading, place]


def meant(text: str, here: Mapping[str, str]) -> str:
    """A recipe with names and ports of this test in the place of those that are written, all of which must be there."""
    for written, instead in here.items():
        assert written in text, f"{written} is not in the recipe"
        text = text.replace(written, instead)
    return text


def copied(folder: Path) -> Path:
    """A folder of Faces with its .venv, as somebody has it who follows a recipe."""
    folder.mkdir(parents=True)
    for name in ("pages", "faces", "trainer"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("assets", "tests"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".streamlit").mkdir()
    for name in ("app.py", "requirements.txt", ".streamlit/config.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def said(text: str, folder: Path, **environment: str) -> str:
    """What a recipe for a shell prints; it must succeed. What it leaves running may hold on to where it prints."""
    with tempfile.TemporaryFile("w+") as out:
        command = ["bash", "-ec", SUDO + text]
        code = subprocess.call(command, cwd=folder, env=os.environ | environment, stdout=out, stderr=out, timeout=240)
        out.seek(0)
        printed = out.read()
    assert code == 0, printed
    return printed


@contextmanager
def running(text: str, folder: Path, port: int, log: Path, name: str = NAME, **environment: str) -> Iterator[None]:
    """A recipe for a shell that ends with a server, from when this answers at a port until it has left."""
    with log.open("ab") as out:  # a pipe that says nothing is a person who has not typed
        process = subprocess.Popen(
            ["bash", "-ec", SUDO + text], cwd=folder, env=os.environ | environment, stdin=subprocess.PIPE,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: answers(process, port, name, log))
        yield
    finally:
        family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
        for one in family[:1]:
            os.killpg(one.pid, signal.SIGTERM)
        for one in family:
            one.wait(60)
        process.stdin.close()


def answers(process: subprocess.Popen, port: int, name: str, log: Path) -> bool:
    """Whether a server is there, by the name that it goes by."""
    assert process.poll() is None, log.read_text(encoding="utf-8")[-800:]
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/_stcore/health", headers={"Host": name})
    try:
        return urllib.request.urlopen(asked, timeout=1).status == 200
    except OSError:
        return False


def service(unit: str, port: int, here: Mapping[str, str]) -> str:
    """What systemd does with a unit that has a port for its name, for a shell."""
    read = ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(meant(unit, {"%i": str(port), **here}))
    told = read["Service"]
    where, command = shlex.quote(told["WorkingDirectory"]), told["ExecStart"]
    return f"cd {where}\nexec env {told['Environment']} {command}"
