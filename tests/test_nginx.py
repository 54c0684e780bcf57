"""The README's recipe for a class behind nginx, run as it stands there."""

import asyncio
import base64
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from pages.components import blocks
from tests.helpers import ROOT, Server, end
from tests.proxy import MISSING, WHY, proxied, recipes
from tests.wire import opened

NAME = "faces.school.example"
KNOWN = {"Authorization": f"Basic {base64.b64encode(b'class:woof').decode()}"}
pytestmark = pytest.mark.skipif(MISSING, reason=WHY)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of an nginx with the recipe, in front of the app."""
    (recipe,) = recipes("A class behind nginx")
    with behind(tmp_path_factory.mktemp("nginx"), recipe) as port:
        yield port


@pytest.fixture(scope="module")
def class_port(tmp_path_factory):
    """The same for a class that comes in by codes, which needs no password before them."""
    folder = tmp_path_factory.mktemp("class")
    (folder / "secrets.toml").write_text('[class]\nstudent = "woof woof"\n')
    (recipe,) = recipes("A class behind nginx")
    open_to_all = recipe.replace('auth_basic "Faces";', "auth_basic off;")
    with behind(folder, open_to_all, f"--secrets.files={folder / 'secrets.toml'}") as port:
        yield port


@contextmanager
def behind(folder: Path, recipe: str, *options: str) -> Iterator[int]:
    """The port of an nginx with a recipe, in front of an app of its own."""
    names = [f"--server.allowedHosts={name}" for name in (NAME, "127.0.0.1")]  # the second is how the test looks in
    server = Server(ROOT, folder / "log", {"FACES_HOME": str(folder / "home")}, *names, *options)
    try:
        with proxied(folder, recipe, {"127.0.0.1:8501": f"127.0.0.1:{server.port}"}) as port:
            yield port
    finally:
        end(server.process, 60)


def answer(port: int, headers: dict[str, str], path: str = "/") -> tuple[int, bytes]:
    """What a request gets."""
    status, body, _ = request(port, headers, path)
    return status, body


def request(port: int, headers: dict[str, str], path: str, form: str = "") -> tuple[int, bytes, dict[str, str]]:
    """The same with the cookies that it gives; a form is posted."""
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        wire.request("POST" if form else "GET", path, form, {"Host": NAME, **kind, **headers})
        said = wire.getresponse()
        given = [line.partition(";")[0].partition("=") for line in said.headers.get_all("set-cookie") or ()]
        return said.status, said.read(), {name: value for name, _, value in given}
    finally:
        wire.close()


async def visit(port: int, headers: dict[str, str], *token: str) -> str:
    """Open the first page through nginx, until its script has ended; how it ended, after what it said."""
    said, how = "", {"host": "127.0.0.1", "port": port, "origin": f"http://{NAME}", "additional_headers": headers}
    async with opened(NAME, *token, **how) as page:
        async for told in page.run():
            said += str(told) if token else ""
    return said + str(told.script_finished)


@pytest.mark.parametrize("path", ["/", blocks.SCRIPT, "/_stcore/health"])
def test_only_who_knows_the_password_gets_in(port, path):
    assert answer(port, {}, path)[0] == 401
    wrong = {"Authorization": f"Basic {base64.b64encode(b'class:meow').decode()}"}
    assert answer(port, wrong, path)[0] == 401
    status, body = answer(port, KNOWN, path)
    assert status == 200
    assert body


def test_a_page_lives_through_nginx_and_not_without_the_password(port):
    assert asyncio.run(visit(port, KNOWN)) == "0"  # FINISHED_SUCCESSFULLY
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(visit(port, {}))
    assert refused.value.response.status_code == 401


def test_a_class_comes_in_by_its_code_through_nginx(class_port):
    status, _, token = request(class_port, {}, "/_stcore/health")
    assert status == 200
    assert answer(class_port, {}, "/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin")[0] == 403
    form = "code=woof+woof&name=Ada&word=engine&to=/"
    status, _, cookies = request(class_port, {"Origin": f"http://{NAME}"}, "/faces/enter", form)
    assert status == 303
    known = {"Cookie": "; ".join(f"{name}={value}" for name, value in (token | cookies).items())}
    assert answer(class_port, known, "/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin")[0] == 404
    said = asyncio.run(visit(class_port, known, token["_streamlit_xsrf"]))
    assert "Ada" in said
    assert "What does this head do" in said
    nobody = asyncio.run(visit(class_port, {"Cookie": f"_streamlit_xsrf={token['_streamlit_xsrf']}"}, *token.values()))
    assert "What does this head do" not in nobody


def test_a_foreign_page_gets_no_socket_through_nginx_either(port):
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(foreign(port))
    assert refused.value.response.status_code == 403


async def foreign(port: int) -> None:
    """What a page elsewhere could try with the password that a browser remembers."""
    place = {"host": "127.0.0.1", "port": port, "origin": "http://evil.example", "additional_headers": KNOWN}
    async with opened(NAME, **place):
        pass
