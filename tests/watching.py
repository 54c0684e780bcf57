"""Whom processes call: every address and name that Python hands to the system, in a process and in all it starts."""

import ast
import ipaddress
from pathlib import Path

WATCHED = """
import os, sys
CALLS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
         "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}
def hear(event, words):
    if event in CALLS:
        with open(os.environ["FACES_TOLD"], "a") as file:
            file.write(repr(words[CALLS[event]]) + chr(10))
sys.addaudithook(hear)
"""


def watch(folder: Path) -> dict[str, str]:
    """The environment of processes that tell whom they call, to a file in this folder."""
    (folder / "sitecustomize.py").write_text(WATCHED)
    return {"PYTHONPATH": str(folder), "FACES_TOLD": str(folder / "told")}


def called(folder: Path) -> list[str]:
    """Hosts that were called or looked up."""
    lines = (folder / "told").read_text().splitlines() if (folder / "told").exists() else []
    told = [ast.literal_eval(line) for line in lines if line not in ("None", "b''", "''")]
    hosts = [one[0] if isinstance(one, tuple) else one for one in told]
    hosts = [one.decode() if isinstance(one, bytes) else str(one) for one in hosts]
    return [one for one in hosts if not one.startswith(("/", "\0"))]


def loopback(host: str) -> bool:
    """Whether this is the machine itself."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback
