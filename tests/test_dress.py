"""The style sheet is in every document that a browser opens, and in nothing else."""

import gzip
import urllib.request

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pages.components.dress import STYLE, Dress
from tests.helpers import listening

PAGE = "<html><head><title>Für alle</title></head><body>A word on &lt;/head&gt;.</body></html>"


def document(request):
    if "if-none-match" in request.headers:
        return Response(status_code=304)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(gzip.compress(PAGE.encode()), headers={"content-encoding": "gzip"}, media_type="text/html")
    return HTMLResponse(PAGE)


def in_pieces(request):
    content = PAGE.encode()
    return StreamingResponse((content[at : at + 7] for at in range(0, len(content), 7)), media_type="text/html")


def told(request):
    return PlainTextResponse("</head>" + request.headers.get("if-none-match", ""))


@pytest.fixture(scope="module")
def address():
    routes = [
        Route("/", document),
        Route("/pieces", in_pieces),
        Route("/text", told),
        Route("/media/replay.html", document),
    ]
    with listening(Starlette(routes=routes, middleware=[Middleware(Dress)])) as address:
        yield address


def fetched(address, **headers) -> bytes:
    words = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(address, headers=words), timeout=10).read()


@pytest.mark.parametrize("path", ["/", "/pieces"])
@pytest.mark.parametrize("asked", [{}, {"if_none_match": '"seen before"'}, {"accept_encoding": "gzip, br"}])
def test_a_document_has_it_at_the_end_of_its_head_whatever_the_browser_kept(address, path, asked):
    page = fetched(address + path, accept="text/html,*/*;q=0.8", **asked)
    assert page == PAGE.encode().replace(b"</head>", b"<style>" + STYLE + b"</style></head>", 1)


def test_all_else_passes_as_it_is(address):
    assert fetched(address + "/text", accept="text/html", if_none_match="x") == b"</head>"
    assert fetched(address + "/text", accept="*/*", if_none_match="x") == b"</head>x"
    assert fetched(address + "/", accept="*/*") == PAGE.encode()
    assert fetched(address + "/media/replay.html", accept="text/html") == PAGE.encode()  # what somebody takes away
