"""Who is there, where a class shares the server: coming in, being known, leaving. Without a class none of it shows.

What is remembered of a person lies in Streamlit's own signed cookie, the one that `st.login` sets and `st.logout`
takes away: a class with codes sets it too (/faces/enter). So pages know people by `st.user`, and the gate knows them by
their cookie, in either kind of class. What role they have is read from the secrets anew, whenever it matters.
So many people of a class may be there at once, each with some pages, and each page has a socket.
"""

import html
import json
import time
import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import streamlit as st
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config
from streamlit.web.server.starlette.starlette_auth_routes import _set_auth_cookie
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME
from streamlit.web.server.starlette.starlette_websocket import _get_signed_cookie_with_chunks

from faces.home import home
from trainer.classroom import Classroom, derived, home_key
from trainer.rights import OWNER, Person, RefusedError

ENTER = "/faces/enter"
INSIDE = ("/faces/", "/media/", "/_stcore/upload_file/", "/_stcore/metrics")  # what only a class may ask for
OUTSIDE = ("/_stcore/", "/static/", "/component/", "/auth/", "/oauth2callback")  # what is no page
MOST = 10_000  # bytes of a filled-in form
AGAIN = 10  # seconds after which a page asks again for a place
PAGES = 10  # of one person
HOLD = 30.0  # seconds for which who was given a page, or has left one, keeps the place
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'",
}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Faces: %s</title>
<meta name="viewport" content="width=device-width"><style>
:root { color-scheme: light dark; --ink: #0c131c; --paper: #ffffff; --line: #8b95a3; --main: #2f6fb5; --on: #ffffff }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --paper: #0e1117; --main: #5aa2e6; --on: #0e1117 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 12vh auto 0;
max-width: 24rem; padding: 0 1rem } h1 { font-size: 1.6rem } label { display: block; margin-top: 1rem }
input, button { box-sizing: border-box; width: 100%%; font: inherit; padding: .5rem .7rem; border-radius: .5rem;
border: 1px solid var(--line); color: inherit; background: transparent }
button { margin-top: 1.5rem; border: 0; background: var(--main); color: var(--on) } small { display: block }
</style>%s</html>"""
FORM = """<h1>Come into the class</h1>%s<form method="post" action="%s">
<input type="hidden" name="to" value="%s">
<label>Code of the class<input name="code" type="password" autocomplete="off" required autofocus></label>
<label>Your name<input name="name" maxlength="64" autocomplete="nickname" required value="%s"></label>
<label>A word of your own<input name="word" type="password" maxlength="64" autocomplete="off" aria-describedby="why">
</label>
<small id="why">With the same name and word you are the same person next time and on any computer, and nobody else is.
Others see your name. Without a word you are known in this browser only, until you leave.</small>
<button>Come in</button></form>"""
CROWDED = "As many people are here as may be at once: %s."
FULL = """<h1>There is no place just now</h1><p>%s This page asks again every %s seconds.</p>"""

_begun: list[Classroom] = []  # the class that this process has seen last


def classroom() -> Classroom | None:
    """The class as the secrets say now, None where there is none. ValueError when they cannot be read.

    Where there was a class there is one until the server starts anew: without its secrets nobody comes in.
    """
    files = [Path(file) for file in st.get_option("secrets.files")]
    found = _classroom(tuple((file, _state(file)) for file in files))
    if found is None and _begun:
        raise ValueError("The secrets of the class are gone from this server; nobody comes in until they are back.")
    if found is not None:
        _begun[:] = [found]
    return found


def _state(file: Path) -> tuple[int, int] | None:
    """When a file was written and how long it is; None where there is none."""
    try:
        told = file.stat()
    except FileNotFoundError:
        return None
    return told.st_mtime_ns, told.st_size


@lru_cache(4)
def _classroom(files: tuple[tuple[Path, tuple[int, int] | None], ...]) -> Classroom | None:
    told: dict[str, Any] = {}
    for file, there in files:
        try:
            told |= tomllib.loads(file.read_text(encoding="utf-8")) if there else {}
        except (OSError, ValueError) as why:
            raise ValueError(f"The secrets in {file.name} cannot be read ({why}), so nobody comes in.") from why
    return Classroom.read(told)


@lru_cache(4)
def _key(path: Path) -> bytes:
    return home_key(path)


def begin() -> None:
    """Make a server ready for a class, if there is one. ValueError, before anybody comes, for wrong secrets."""
    if classroom() is None:
        return
    for option, value in {
        "server.cookieSecret": derived(_key(home()), "cookie"),  # so that a restart sends nobody away
        "client.showErrorDetails": "type",
    }.items():
        if not config.is_manually_set(option):
            config.set_option(option, value)


# ---- in pages


def person() -> Person:
    """Who looks at this page. RefusedError for nobody of the class."""
    room = classroom()
    if room is None:
        return OWNER
    found = room.person(st.user.to_dict(), _key(home()))
    if found is None:
        raise RefusedError("You have left the class, or its codes have changed; load this page anew to come in.")
    return found


def inside() -> bool:
    """Whether who looks may see pages. Who may not is told how to come in; who may finds themselves in the sidebar."""
    try:
        room = classroom()
    except ValueError as error:
        st.error(str(error), icon=":material/lock:")
        return False
    if room is None:
        return True
    found = room.person(st.user.to_dict(), _key(home()))
    if found:
        from pages.components.runs import plain

        with st.sidebar, st.container(horizontal=True, vertical_alignment="center", key="who"):
            st.caption(f"{plain(found.name)} · {found.role}", width="content")
            st.button("Leave", icon=":material/logout:", type="tertiary", on_click=st.logout)
        return True
    with st.container(key="outside"):  # of the room that assets/page.css keeps for the sidebar
        st.title("Come into the class")
        if not room.signs_in:
            st.info("Load this page anew: it asks for the code of the class.", icon=":material/lock:")
        elif st.user.get("is_logged_in"):
            st.warning("Who you signed in as is not in this class. Ask its teacher.", icon=":material/lock:")
            st.button("Sign out", on_click=st.logout)
        else:
            st.button("Sign in", type="primary", icon=":material/login:", on_click=st.login)
    return False


# ---- before pages


class Gate:
    """ASGI middleware: what a class alone may ask for is given to it alone, and a page asks for the code first.

    Who is one too many gets no socket, and no page but one that says so. Teachers always come in, and take no place.
    Nor does who has not come in, and may want to sign in; of these, as many may ask from one address as a class has.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self.inside, self.outside = Counter[str](), Counter[str]()  # sockets by tags of the class; by addresses
        self.held: dict[str, float] = {}  # places by tags, until when

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.seat(scope, receive, send)
            return
        answer = self.refusal(scope) if scope["type"] == "http" else None
        await (answer or self.app)(scope, receive, send)

    async def seat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a socket through, if there is a place for it."""
        try:
            room = classroom()
        except ValueError:  # which the page says
            room = None
        browser = HTTPConnection(scope)
        known = room.person(remembered(browser.cookies), _key(home())) if room else None
        if room is None or (known and known.role == "teacher"):
            await self.app(scope, receive, send)
            return
        if self.full(room, known, browser):
            await send({"type": "websocket.close", "code": 1013})  # before it is accepted: 403
            return
        places, mine = (self.inside, known.tag) if known else (self.outside, address(browser))
        places[mine] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            places[mine] -= 1
            if not places[mine]:
                del places[mine]
            if known:
                self.held[mine] = time.monotonic() + HOLD  # who loads a page anew is back in a moment

    def full(self, room: Classroom, known: Person | None, browser: HTTPConnection) -> str:
        """Why there is no place for one more page of this person, in a sentence; "" when there is."""
        if known is None:
            return CROWDED % room.people if self.outside[address(browser)] >= room.people else ""
        if known.role == "teacher":
            return ""
        if self.inside[known.tag] >= PAGES:
            return f"You have {PAGES} pages open here, as many as one may; close one."
        now = time.monotonic()
        self.held = {tag: until for tag, until in self.held.items() if until > now}
        there = {*self.inside, *self.held}
        return CROWDED % room.people if known.tag not in there and len(there) >= room.people else ""

    def refusal(self, scope: Scope) -> Response | None:
        """What is answered to who may not ask for this; None for who may."""
        path = scope["path"]
        guarded = path.startswith(INSIDE) and path != ENTER
        page = not guarded and path != ENTER and not path.startswith(OUTSIDE) and scope["method"] == "GET"
        if not guarded and not page:
            return None
        request = HTTPConnection(scope)
        try:
            room = classroom()
            if room is None:
                return None
            known = room.person(remembered(request.cookies), _key(home()))
        except ValueError as error:
            return PlainTextResponse(str(error), 503) if guarded else None
        document = "text/html" in request.headers.get("accept", "")
        if page and document and (known or room.signs_in) and (why := self.full(room, known, request)):
            told = FULL % (why, AGAIN)
            again = {"Retry-After": str(AGAIN), "Refresh": str(AGAIN)}
            return HTMLResponse(PAGE % ("no place", told), 503, HEADERS | again)
        if known:
            if document and known.role != "teacher":
                self.held[known.tag] = time.monotonic() + HOLD  # until its socket is there
            return None
        if guarded:
            return PlainTextResponse("This is for the class alone; come in first.", 403, {"Cache-Control": "no-store"})
        if room.signs_in or not document:
            return None
        here = quote(path + (f"?{request.url.query}" if request.url.query else ""), safe="")
        return RedirectResponse(f"{ENTER}?to={here}", 303, {"Cache-Control": "no-store"})


def remembered(cookies: dict[str, str]) -> Mapping[str, Any]:
    """What a signed cookie remembers of a person; nothing without one, or where the signature is wrong."""
    found = _get_signed_cookie_with_chunks(cookies, USER_COOKIE_NAME)
    return json.loads(found) if found else {}


def address(browser: HTTPConnection) -> str:
    """Where somebody asks from."""
    return browser.client.host if browser.client else ""


async def enter(request: Request) -> Response:
    """Ask for a code and a name, and remember who gave the right one."""
    try:
        room = classroom()
    except ValueError as error:
        return PlainTextResponse(str(error), 503)
    if room is None or room.signs_in:
        return RedirectResponse("/", 303)
    if request.method != "POST":
        return _form(request.query_params.get("to", "/"))
    origin = request.headers.get("origin", "")
    if urlsplit(origin).netloc != request.headers.get("host"):
        return PlainTextResponse("This form is filled in on this server's own page.", 403)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST:
            return PlainTextResponse("This is more than the form asks for.", 413)
    told = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    code, name, word, to = (told.get(field, "") for field in ("code", "name", "word", "to"))
    try:
        claims = room.admit(code, name, word, _key(home()), address(request))
    except ValueError as error:
        return _form(to, name, str(error))
    answer = RedirectResponse(_own(to), 303, {"Cache-Control": "no-store"})
    await _set_auth_cookie(answer, {**claims, "origin": origin, "is_logged_in": True}, {})
    return answer


def _form(to: str, name: str = "", wrong: str = "") -> Response:
    told = f'<p role="alert">{html.escape(wrong)}</p>' if wrong else ""
    form = FORM % (told, ENTER, html.escape(_own(to)), html.escape(name[:64]))
    return HTMLResponse(PAGE % ("come in", form), 403 if wrong else 200, HEADERS)


def _own(to: str) -> str:
    """An address of this server, whatever was asked for."""
    plain = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() and to.isascii()
    return to if plain else "/"


routes = [Route(ENTER, enter, methods=["GET", "POST"])]
