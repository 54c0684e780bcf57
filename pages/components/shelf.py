"""What makes answers leave at once: a first visit asks for a hundred small scripts of Streamlit's.

Streamlit opens, measures and reads each of them in a thread of its own, and so many hand-overs between threads take a
busy server a while. And it binds its socket in a way that lets small answers wait.
"""

import os
import socket
from contextlib import suppress
from mimetypes import guess_type
from pathlib import Path

import psutil
import streamlit as st
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

STATIC = Path(st.__file__).parent / "static"
LARGEST = 300_000  # bytes; what is larger is better sent piece by piece
SMALL = {  # by address; no other name leads anywhere
    f"/{file.relative_to(STATIC).as_posix()}": file
    for folder in ("js", "css", "media")
    for file in sorted((STATIC / "static" / folder).glob("*"))
    if file.is_file() and file.stat().st_size <= LARGEST
}
PARTS = {b"if-modified-since", b"if-none-match", b"range"}  # headers that ask for less than all
HEADERS = {"Cache-Control": "public, immutable, max-age=31536000"}  # as Streamlit has it: the names tell the contents


class Shelf:
    """ASGI middleware: answers for the small ones of these files. All else passes as it is."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (small_file(scope) or self.app)(scope, receive, send)


def small_file(scope: Scope) -> Response | None:
    """The whole of a small file that is asked for as it is; None for any other question."""
    if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in SMALL:
        return None
    if any(name in PARTS for name, _ in scope["headers"]):
        return None
    file = SMALL[scope["path"]]
    with suppress(OSError):  # gone: Streamlit says what is to be said
        return Response(file.read_bytes(), media_type=guess_type(file.name)[0] or "text/plain", headers=HEADERS)
    return None


def send_at_once() -> None:
    """Let small answers leave at once: who connects from here on has TCP_NODELAY, as asyncio's own servers give it.

    It forgets those whose socket was bound before (github.com/Kludex/uvicorn/issues/3149), as Streamlit's is; without,
    the body of an answer waits until the browser has confirmed its headers, which on Linux takes 40 ms. Not on
    Windows, where a process cannot name its sockets.
    """
    with suppress(Exception):  # whatever it is, answers then wait as before, and the app starts
        for bound in psutil.Process().net_connections("tcp"):
            if bound.status == psutil.CONN_LISTEN and bound.fd >= 0:
                with socket.socket(fileno=os.dup(bound.fd)) as listening:
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
