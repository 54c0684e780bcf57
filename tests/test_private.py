"""Private by default: this machine only, no foreign page reaches in, and nothing goes out. Against the real server."""

import asyncio
import http.client
import os
import subprocess
import sys

import psutil
import pytest
from websockets.exceptions import InvalidStatus

from pages.components import blocks
from tests.helpers import ROOT, Server, end, until
from tests.watching import called, loopback, watch
from tests.wire import opened
from trainer.store import Store


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A server on a home of its own whose processes tell whom they call, and the file they tell it to."""
    folder = tmp_path_factory.mktemp("watched")
    environment = {"FACES_HOME": str(folder / "home")} | watch(folder)
    server = Server(ROOT, folder / "log", environment)
    try:
        yield server, folder, environment
    finally:
        end(server.process, 60)


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


async def walk(server: Server) -> dict[str, list[str]]:
    """Open every page of the menu, until its script has ended: the title of each, and what broke."""
    found: dict[str, list[str]] = {}
    async with opened(f"127.0.0.1:{server.port}") as page:
        paths = {one.url_pathname async for told in page.run() for one in told.navigation.app_pages}
        for path in sorted(paths):
            elements = [told.delta.new_element async for told in page.run(path=path)]
            titles = [one.heading.body for one in elements if one.heading.tag == "h1"]
            found[path] = titles + [one.exception.message for one in elements if one.HasField("exception")]
    return found


def test_nothing_goes_out_while_all_pages_are_open_and_a_training_runs(watched):
    server, folder, _ = watched
    asyncio.run(visit(server))  # the first visitor starts a training
    pages = asyncio.run(walk(server))
    assert len(pages) == len(set(map(tuple, pages.values()))) >= 10, pages
    assert all(len(told) == 1 for told in pages.values()), pages
    store = Store(folder / "home")
    until(lambda: [run for run in store.runs() if not run.open], 120)
    process = psutil.Process(server.process.pid)
    family = [process, *process.children(recursive=True)]
    assert all(loopback(one.raddr.ip) for each in family for one in each.net_connections("inet") if one.raddr)
    assert all(map(loopback, called(folder))), called(folder)


@pytest.mark.parametrize(
    "ask",
    [
        "socket.create_connection(('127.0.0.2', {port}))",
        "socket.getaddrinfo('127.0.0.2', 80)",
        "socket.gethostbyname('127.0.0.2')",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.2', 9))",
        "asyncio.run(asyncio.open_connection('127.0.0.2', {port}))",
        "_socket.socket().connect_ex(('127.0.0.2', {port}))",
    ],
)
def test_it_would_have_been_seen(watched, tmp_path, ask):
    server, *_ = watched
    command = f"import _socket, asyncio, contextlib, socket\nwith contextlib.suppress(OSError): {ask}"
    environment = os.environ | watch(tmp_path)
    subprocess.run([sys.executable, "-c", command.format(port=server.port)], env=environment, check=True)
    assert "127.0.0.2" in called(tmp_path)
