"""Real processes for tests: the app's server, the trainer, and waiting for what they do."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import uvicorn

ROOT = Path(__file__).parents[1]
T = TypeVar("T")


def until(what: Callable[[], T], patience: float = 90.0) -> T:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def end(process: subprocess.Popen, patience: float = 30.0) -> None:
    """Ask a process to leave and wait until it has, unless it has already."""
    if process.poll() is None:
        process.terminate()
        process.wait(patience)


def trainer(*words: str, home: Path, **pipes) -> subprocess.Popen:
    """`python -m trainer ...` on a CPU; its words come through pipes unless `pipes` says otherwise."""
    command = [sys.executable, "-m", "trainer", "--home", str(home), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
    return subprocess.Popen(command, cwd=ROOT, text=True, env={**os.environ, "FACES_DEVICE": "cpu"}, **pipes)


def workers(supervisor: subprocess.Popen) -> list[psutil.Process]:
    """The processes that train: forked by the nursery, or the supervisor's own. One that has just ended is none."""
    return [child for child in relatives(supervisor) if trains(child)]


def relatives(supervisor: subprocess.Popen) -> list[psutil.Process]:
    """The children of a supervisor and theirs; none once it has ended."""
    try:
        return psutil.Process(supervisor.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def trains(process: psutil.Process) -> bool:
    """Whether this one does the work itself. False for one that is gone or a zombie."""
    try:
        return bool({"nurse", "work"} & set(process.cmdline())) and not process.children()
    except psutil.NoSuchProcess:
        return False


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address of an ASGI app that is served by a thread of this process."""
    config = uvicorn.Config(app, port=0, log_level="error")
    server, socket = uvicorn.Server(config), config.bind_socket()
    serving = threading.Thread(target=server.run, args=([socket],))
    serving.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        serving.join(10)


class Server:
    """`streamlit run app.py` in a folder, on a port of its own; it answers once this is made."""

    def __init__(self, folder: Path, log: Path, environment: dict[str, str], *options: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{self.port}", log
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", *options]
        command += [f"--server.port={self.port}"]
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=out, stderr=out)
        try:
            until(self.answers)
        except AssertionError:
            end(self.process)
            raise

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-800:]
        try:
            return urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=1).status == 200
        except OSError:
            return False
