"""The door of the server: only who calls it by a name that it goes by comes in.

A page elsewhere can make a browser call this machine under a name of its own (DNS rebinding), or open a socket to it.
Streamlit refuses both for its socket, but asks a server outside for this machine's address before it refuses a foreign
origin, and leaves all else open. Names are those of the option `server.allowedHosts`; without any, all are known.
"""

from fnmatch import fnmatch
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Door:
    """ASGI middleware: 403 for a request or a socket whose Host, or whose Origin if it has one, is not known."""

    def __init__(self, app: ASGIApp, hosts: list[str]):
        self.app, self.hosts = app, [host.lower() for host in hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not self.hosts:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        called = [f"//{host}" for host in headers.getlist("host")] or [""]
        if all(map(self.known, called + headers.getlist("origin"))):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        else:
            refusal = PlainTextResponse(f"This server answers to {' and '.join(self.hosts)} only.", 403)
            await refusal(scope, receive, send)

    def known(self, address: str) -> bool:
        """Whether an address names this server: a name among ours, or of a pattern such as *.school.example."""
        try:
            name = urlsplit(address).hostname or ""
        except ValueError:
            return False
        return any(fnmatch(name, host) for host in self.hosts)
