"""Streamlit's scripts as the shelf gives them out, and answers that leave at once."""

import os
import socket
from http.client import HTTPConnection
from urllib.parse import urlsplit

import psutil
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from streamlit.web.server.starlette.starlette_static_routes import create_streamlit_static_handler

from pages.components.shelf import LARGEST, SMALL, STATIC, Shelf, send_at_once, small_file
from tests.helpers import listening

FILES = sorted(
    file for name in ("js", "css", "media") for file in (STATIC / "static" / name).iterdir() if file.stat().st_size
)


def address(file):
    return "/" + file.relative_to(STATIC).as_posix()


def get(path, headers=(), method="GET"):
    """The shelf's own answer, or None."""
    return small_file({"type": "http", "method": method, "path": path, "headers": list(headers)})


@pytest.fixture(scope="module")
def both():
    """Servers of the same files with the shelf, and without."""
    streamlits = [Mount("/", create_streamlit_static_handler(str(STATIC), None))]
    with (
        listening(Starlette(routes=streamlits, middleware=[Middleware(Shelf)])) as shelf,
        listening(Starlette(routes=streamlits)) as bare,
    ):
        yield shelf, bare


def asked(server, path, method="GET", **headers):
    to = HTTPConnection(urlsplit(server).netloc, timeout=30)
    to.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = to.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def test_most_scripts_are_on_the_shelf_and_each_is_whole():
    assert len(SMALL) > 0.8 * len(FILES) > 80
    for file in FILES:
        found = get(address(file))
        assert (found.body == file.read_bytes()) if file.stat().st_size <= LARGEST else (found is None)


@pytest.mark.parametrize("kind", ["js", "css", "woff2"])
def test_an_answer_has_the_content_and_the_keeping_of_streamlits(both, kind):
    file = next(file for file in SMALL.values() if file.suffix == f".{kind}")
    (status, body, headers), (wanted, theirs, usual) = (asked(server, address(file)) for server in both)
    assert (status, body) == (wanted, theirs) == (200, file.read_bytes())
    for name in ("content-type", "cache-control", "content-length"):
        assert headers[name] == usual[name]


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/static/js/none.js", "GET", {}),
        ("/static/index.html", "GET", {}),
        ("/", "GET", {}),
        ("/static/js/..", "GET", {}),
        ("/static/js/../../index.html", "GET", {}),
        ("/static/js/%2e%2e/%2e%2e/index.html", "GET", {}),
        (next(iter(SMALL)), "HEAD", {}),
        (next(iter(SMALL)), "POST", {}),
        (next(iter(SMALL)), "GET", {"Range": "bytes=0-9"}),
        (address(max(FILES, key=lambda file: file.stat().st_size)), "GET", {}),
    ],
)
def test_all_else_is_left_to_streamlit(both, path, method, headers):
    shelf, bare = (asked(server, path, method, **headers) for server in both)
    assert shelf[:2] == bare[:2]
    assert {**shelf[2], "date": ""} == {**bare[2], "date": ""}


@pytest.mark.parametrize(
    "name", ["../../index.html", "../css/{css}", "../../../__init__.py", "{js}/", "/{js}", "./{js}"]
)
def test_no_other_name_leads_to_a_file_that_is_there(name):
    css, js = (next((STATIC / "static" / kind).iterdir()).name for kind in ("css", "js"))
    path = f"/static/js/{name.format(css=css, js=js)}"
    assert (STATIC / path[1:]).exists()
    assert get(path) is None


def accepted(listener):
    """A connection that it accepts, as the server has it."""
    with socket.create_connection(listener.getsockname()):
        return listener.accept()[0]


def held_back(connection):
    with connection:
        return not connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(os.name == "nt", reason="there a process cannot name its sockets")
def test_who_connects_to_a_bound_socket_is_answered_at_once():
    with socket.socket(socket.AF_INET) as listener:  # as Streamlit binds its own
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert held_back(accepted(listener))
        send_at_once()
        assert not held_back(accepted(listener))


def test_the_app_starts_where_its_sockets_cannot_be_seen(monkeypatch):
    monkeypatch.setattr(psutil.Process, "net_connections", lambda *asked: 1 / 0)
    send_at_once()
