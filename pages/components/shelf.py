"""What makes answers leave at once: a first visit asks for a hundred small scripts of Streamlit's.

Streamlit opens, measures and reads each of them in a thread of its own, and so many hand-overs between threads take a
busy server half a second. And it binds its socket in a way that lets small answers wait.
"""

import os
import re
import socket
from contextlib import suppress
from mimetypes import guess_type
from pathlib import Path

import psutil
import streamlit as st
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

NAMES = re.compile(r"/static/(?:js|css|media)/[\w-][\w.-]*")  # no folder further down, and none further up
LARGEST = 300_000  # bytes; what is larger is better sent piece by piece
STATIC = Path(st.__file__).parent / "static"
PARTIAL = {b"if-modified-since", b"if-none-match", b"range"}  # what asks for less than all
HEADERS = {"Cache-Control": "public, immutable, max-age=31536000"}  # as Streamlit has it: the names tell the contents


class Shelf:
    """ASGI middleware: answers for the small ones of these files. All else passes as it is."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (plain(scope) or self.app)(scope, receive, send)


def plain(scope: Scope) -> Response | None:
    """The whole of a small file that is asked for as it is; None for any other question."""
    if scope["type"] != "http" or scope["method"] != "GET" or not NAMES.fullmatch(scope["path"]):
        return None
    if any(name in PARTIAL for name, _ in scope["headers"]):
        return None
    file = STATIC / scope["path"][1:]
    try:
        if file.stat().st_size > LARGEST:
            return None
        return Response(file.read_bytes(), media_type=guess_type(file.name)[0], headers=HEADERS)
    except OSError:  # Streamlit says what is to be said
        return None


def send_at_once() -> None:
    """Let small answers leave at once: what is accepted from here on has TCP_NODELAY, as asyncio's own servers give it.

    It forgets those whose socket was bound before (github.com/Kludex/uvicorn/issues/3149), as Streamlit's is; without,
    the body of an answer waits until the browser has confirmed its headers, which on Linux takes 40 ms.
    """
    with suppress(psutil.Error, OSError):  # then they wait, as before
        for bound in psutil.Process().net_connections("tcp"):
            if bound.status == psutil.CONN_LISTEN and bound.fd >= 0:
                with socket.socket(fileno=os.dup(bound.fd)) as listening:
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
