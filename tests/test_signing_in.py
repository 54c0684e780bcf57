"""Coming into a class through the real server: by a code, and by `st.login` at an OpenID provider on this machine."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests.helpers import ROOT, Server, end
from tests.provider import CLIENT, SECRET, Provider, provided
from tests.wire import opened
from trainer import RunConfig
from trainer.store import Store

CODES = '[class]\nteacher = "chalk and board"\nstudent = "woof woof"\n'
SIGNED = """
[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "a secret of this test, long enough"
client_id = "%s"
client_secret = "%s"
server_metadata_url = "%s/.well-known/openid-configuration"
[class]
teachers = ["tea@school.example"]
students = ["@school.example"]
"""
ADA = {"sub": "1815", "name": "Ada Lovelace", "email": "ada@school.example", "email_verified": True}
HTML = {"accept": "text/html"}


def started(folder, secrets: str) -> Server:
    """The app in a home of its own, with these secrets."""
    (folder / "secrets.toml").write_text(secrets)
    return Server(
        ROOT, folder / "log", {"FACES_HOME": str(folder / "home")}, f"--secrets.files={folder / 'secrets.toml'}"
    )


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A class with codes, and its folder."""
    folder = tmp_path_factory.mktemp("coded")
    server = started(folder, CODES)
    yield server, folder
    end(server.process, 60)


@pytest.fixture(scope="module")
def school(tmp_path_factory) -> Iterator[tuple[Server, Provider]]:
    """A class that signs in, and its provider."""
    folder = tmp_path_factory.mktemp("school")
    with provided() as provider:
        server = started(folder, SIGNED % (CLIENT, SECRET, provider.address))
        yield server, provider
        end(server.process, 60)


def browser(server: Server) -> httpx.Client:
    """Cookies and redirects, as a browser has them."""
    return httpx.Client(base_url=server.address, follow_redirects=True, timeout=30)


def seen(client: httpx.Client, press: str = "", token: str = "", **how) -> tuple[str, str]:
    """All that the first page says, and where it sends the browser once the button of this name is pressed.

    `how` is for a socket that finds its server in another way than by its address.
    """
    client.get("/_stcore/health")  # which gives a token
    return asyncio.run(_seen(client, press, token or client.cookies["_streamlit_xsrf"], how))


async def _seen(client: httpx.Client, press: str, token: str, how: dict) -> tuple[str, str]:
    cookies = "; ".join(f"{cookie.name}={cookie.value or ''}" for cookie in client.cookies.jar)
    site, said, buttons = str(client.base_url).rstrip("/"), "", {"": ""}
    host = site.partition("://")[2]
    async with opened(host, token, origin=site, additional_headers={"Cookie": cookies}, **how) as page:
        for pressed in ["", press] if press else [""]:
            async for told in page.run(buttons[pressed]):
                if told.WhichOneof("type") == "auth_redirect":
                    return said, told.auth_redirect.url
                if told.WhichOneof("type") == "delta":
                    said += str(told)
                    if told.delta.new_element.WhichOneof("type") == "button":
                        buttons[told.delta.new_element.button.label] = told.delta.new_element.button.id
    return said, ""


def come_in(client: httpx.Client, code: str, name: str = "Ada") -> httpx.Response:
    """Fill in the form."""
    told = {"code": code, "name": name, "word": "engine", "to": "/compare"}
    return client.post("/faces/enter", data=told, headers={"origin": str(client.base_url).rstrip("/")})


def test_who_has_no_code_sees_nothing_and_who_has_sees_their_name_until_they_leave(coded):
    server, folder = coded
    run = Store(folder / "home").submit(RunConfig())
    client = browser(server)
    assert "Come into the class" in client.get("/compare?runs=x", headers=HTML).text
    assert "Load this page anew" in seen(client)[0]
    assert client.get(f"/faces/facts/{run}/0.bin").status_code == 403
    assert come_in(client, "meow meow").status_code == 403
    assert "Load this page anew" in seen(client)[0]
    assert come_in(client, "woof woof").url.path == "/compare"
    said, _ = seen(client)
    assert "Ada" in said
    assert "student" in said
    assert "What does this head do" in said
    assert client.get(f"/faces/facts/{run}/0.bin").status_code == 404  # through the gate; there is none yet
    _, leave = seen(client, "Leave")
    client.get(leave)
    assert "Load this page anew" in seen(client)[0]
    assert client.get(f"/faces/facts/{run}/0.bin").status_code == 403


def test_a_cookie_without_the_pages_own_token_is_nobody(coded):
    """Another site's page can open a socket with the cookie, if at all, but does not know the token."""
    client = browser(coded[0])
    come_in(client, "woof woof")
    assert "Ada" in seen(client)[0]
    other = browser(coded[0])
    seen(other)
    assert "Load this page anew" in seen(client, token=other.cookies["_streamlit_xsrf"])[0]


def test_a_restart_sends_nobody_away_and_a_new_code_does(coded):
    server, folder = coded
    client = browser(server)
    come_in(client, "woof woof", "Bob")
    again = started(folder, CODES)
    try:
        with browser(again) as other:
            cookie = client.cookies["_streamlit_user"]
            other.cookies.set("_streamlit_user", cookie, domain="127.0.0.1")
            assert other.get("/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin").status_code == 404
            (folder / "secrets.toml").write_text(CODES.replace("woof woof", "meow meow"))
            assert other.get("/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin").status_code == 403
    finally:
        (folder / "secrets.toml").write_text(CODES)
        end(again.process, 60)


def test_a_server_with_broken_secrets_does_not_begin(tmp_path):
    with pytest.raises(AssertionError, match="knows no 'studnet'"):
        end(started(tmp_path, '[class]\nstudnet = "woof woof"\n').process)


def test_who_signs_in_at_the_provider_is_known_by_name_until_they_sign_out(school):
    server, provider = school
    provider.user = ADA
    client = browser(server)
    said, place = seen(client, "Sign in")
    assert "What does this head do" not in said
    assert place.startswith("/auth/login?provider=")
    before = client.get("/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin")
    landed = client.get(place)
    assert [answer.url.path for answer in landed.history] == ["/auth/login", "/authorize", "/oauth2callback"]
    assert landed.url.path == "/"
    said, _ = seen(client)
    assert "Ada Lovelace" in said
    assert "student" in said
    assert "What does this head do" in said
    assert before.status_code == 403
    assert client.get("/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin").status_code == 404
    _, leave = seen(client, "Leave")
    client.get(leave)
    assert provider.left == 1
    assert "Sign in" in seen(client)[0]
    assert client.get("/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin").status_code == 403


@pytest.mark.parametrize(
    ("user", "role"),
    [
        ({"email": "tea@school.example", "email_verified": True}, "teacher"),
        ({"email": "tea@school.example", "email_verified": False}, ""),
        ({"email": "tea@school.example"}, ""),
        ({"email": "eve@else.example", "email_verified": True}, ""),
    ],
)
def test_the_role_goes_by_the_verified_address(school, user, role):
    server, provider = school
    provider.user = {"sub": "7", "name": "Some One", **user}
    client = browser(server)
    client.get(seen(client, "Sign in")[1])
    said, _ = seen(client)
    assert ("not in this class" in said) == (not role)
    assert (f"Some One · {role}" in said.encode().decode("unicode_escape").encode("latin-1").decode()) == bool(role)


def test_a_token_of_another_signs_in_nobody(school):
    server, provider = school
    provider.user, provider.forged = ADA, True
    try:
        client = browser(server)
        client.get(seen(client, "Sign in")[1])
        assert "Sign in" in seen(client)[0]
        assert "_streamlit_user" not in client.cookies
    finally:
        provider.forged = False


def test_codes_open_no_door_where_people_sign_in(school):
    server, _ = school
    client = browser(server)
    come_in(client, "woof woof")
    assert "_streamlit_user" not in client.cookies


def test_wrong_codes_are_counted_for_each_address_that_the_proxy_tells(coded):
    client = browser(coded[0])
    told = {"code": "meow meow", "name": "Eve"}
    site = {"origin": str(client.base_url).rstrip("/")}
    for _ in range(10):
        answer = client.post("/faces/enter", data=told, headers=site | {"x-forwarded-for": "192.0.2.1"})
    assert "no code of this class" in answer.text
    told["code"] = "woof woof"
    there = client.post("/faces/enter", data=told, headers=site | {"x-forwarded-for": "192.0.2.1"})
    assert "Too many wrong codes" in there.text
    elsewhere = client.post("/faces/enter", data=told, headers=site | {"x-forwarded-for": "192.0.2.2"})
    assert elsewhere.status_code == 200
