"""The style sheet of all pages, which must be there before Streamlit draws the first part of one.

What a page's script says of its looks comes when the first parts have been drawn without it, and then they move. So
`assets/page.css` goes to the end of the head of the one document that all pages are.
"""

from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STYLE = (Path(__file__).parents[2] / "assets" / "page.css").read_bytes()
HEAD = b"</head>"  # its end
PARTIAL = {b"accept-encoding", b"if-modified-since", b"if-none-match", b"range"}  # what asks for less than all, plainly


class Dress:
    """ASGI middleware: the style sheet goes into each document that a browser opens. All else passes as it is.

    Also a document that somebody takes away, which Streamlit keeps under media/.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or "/media/" in scope["path"]
            or "text/html" not in Headers(scope=scope).get("accept", "")
        ):
            await self.app(scope, receive, send)
            return
        scope = {**scope, "headers": [one for one in scope["headers"] if one[0] not in PARTIAL]}
        await self.app(scope, receive, Dressed(send))


class Dressed:
    """Where an answer goes: a document is held back until it is whole."""

    def __init__(self, send: Send):
        self.send, self.start, self.body = send, None, b""

    start: Message | None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                await self.send(message)
            else:
                self.start = message
        elif self.start is None:
            await self.send(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                page = self.body.replace(HEAD, b"<style>%b</style>%b" % (STYLE, HEAD), 1)
                MutableHeaders(raw=self.start["headers"])["content-length"] = str(len(page))
                await self.send(self.start)
                await self.send({**message, "body": page})
