"""Private by default: this machine only, no foreign page reaches in, and nothing goes out. Against the real server."""

import ast
import asyncio
import http.client
import ipaddress
import os
import subprocess
import sys

import psutil
import pytest
from websockets.exceptions import InvalidStatus

from pages.components import blocks
from tests.helpers import ROOT, Server, end, until
from tests.wire import opened
from trainer.store import Store

WATCHED = """
import os, socket
def told(act, place):
    def instead(*words, **named):
        with open(os.environ["FACES_TOLD"], "a") as file:
            file.write(repr(words[place]) + chr(10))
        return act(*words, **named)
    return instead
socket.socket.connect = told(socket.socket.connect, 1)
socket.socket.connect_ex = told(socket.socket.connect_ex, 1)
socket.getaddrinfo = told(socket.getaddrinfo, 0)
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A server on a home of its own whose processes tell whom they call, and the file they tell it to."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "sitecustomize.py").write_text(WATCHED)
    environment = {"FACES_HOME": str(folder / "home"), "PYTHONPATH": str(folder), "FACES_TOLD": str(folder / "told")}
    server = Server(ROOT, folder / "log", environment)
    try:
        yield server, folder, environment
    finally:
        end(server.process, 60)


def called(folder) -> list[str]:
    """Hosts that were called or looked up."""
    lines = (folder / "told").read_text().splitlines() if (folder / "told").exists() else []
    told = [ast.literal_eval(line) for line in lines if line != "None"]
    return [str(one[0] if isinstance(one, tuple) else one) for one in told if not str(one).startswith(("/", "\0"))]


def loopback(host: str) -> bool:
    """Whether this is the machine itself."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def test_it_listens_on_this_machine_only(watched):
    server, *_ = watched
    process = psutil.Process(server.process.pid)
    family = [process, *process.children(recursive=True)]
    listening = [one.laddr for each in family for one in each.net_connections("inet") if one.status == "LISTEN"]
    assert server.port in {address.port for address in listening}
    assert all(loopback(address.ip) for address in listening)


@pytest.mark.parametrize("path", ["/", blocks.SCRIPT, "/_stcore/health"])
def test_a_forged_host_gets_nothing(watched, path):
    server, *_ = watched
    for host, refused in (
        (f"127.0.0.1:{server.port}", False),
        ("evil.example", True),
        ("127.0.0.1.evil.example", True),
    ):
        wire = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        wire.request("GET", path, headers={"Host": host})
        answer = wire.getresponse()
        assert answer.status in ((403,) if refused else (200,)), (host, answer.status)
        assert not refused or b"<" not in answer.read()
        wire.close()


@pytest.mark.parametrize("origin", [None, "http://localhost:8501", "http://127.0.0.1"])
def test_the_servers_own_page_gets_its_socket(watched, origin):
    asyncio.run(visit(watched[0], origin))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", None),
        ("null", None),
        ("http://127.0.0.1.evil.example", None),
        (None, "evil.example"),
        ("http://evil.example", "evil.example"),
    ],
)
def test_a_foreign_page_gets_no_socket(watched, origin, host):
    server, *_ = watched
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(visit(server, origin, host))
    assert refused.value.response.status_code == 403


async def visit(server: Server, origin: str | None = None, host: str | None = None) -> None:
    """Open the first page as a browser does, until its script has ended."""
    where = {"host": "127.0.0.1", "port": server.port, "origin": origin}
    async with opened(f"{host or '127.0.0.1'}:{server.port}", **where) as page:
        async for _ in page.run():
            pass


def test_nothing_goes_out_while_a_page_is_open_and_a_training_runs(watched):
    server, folder, environment = watched
    asyncio.run(visit(server))  # the first visitor starts a training
    store = Store(folder / "home")
    until(lambda: [run for run in store.runs() if not run.open], 120)
    assert all(map(loopback, called(folder))), called(folder)
    ask = f"import socket; socket.create_connection(('127.0.0.1', {server.port})).close()"
    subprocess.run([sys.executable, "-c", ask], env=os.environ | environment, check=True)
    assert "127.0.0.1" in called(folder)  # it would have been seen
