"""The README's recipe for a class behind nginx, run as it stands there."""

import asyncio
import base64
import http.client

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from pages.components import blocks
from tests.helpers import ROOT, Server, end
from tests.proxy import MISSING, WHY, proxied, recipes

NAME = "faces.school.example"
KNOWN = {"Authorization": f"Basic {base64.b64encode(b'class:woof').decode()}"}
pytestmark = pytest.mark.skipif(MISSING, reason=WHY)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of an nginx with the recipe, in front of the app."""
    folder = tmp_path_factory.mktemp("nginx")
    (recipe,) = recipes("A class behind nginx")
    names = [f"--server.allowedHosts={name}" for name in (NAME, "127.0.0.1")]  # the second is how the test looks in
    server = Server(ROOT, folder / "log", {"FACES_HOME": str(folder / "home")}, *names)
    try:
        with proxied(folder, recipe, {"127.0.0.1:8501": f"127.0.0.1:{server.port}"}) as port:
            yield port
    finally:
        end(server.process, 60)


def answer(port: int, headers: dict[str, str], path: str = "/") -> tuple[int, bytes]:
    """What a request gets."""
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        wire.request("GET", path, headers={"Host": NAME, **headers})
        said = wire.getresponse()
        return said.status, said.read()
    finally:
        wire.close()


async def visit(port: int, headers: dict[str, str]) -> str:
    """Open the first page through nginx, until its script has ended; how it ended."""
    async with connect(
        f"ws://{NAME}/_stcore/stream", host="127.0.0.1", port=port, max_size=None, subprotocols=["streamlit"],
        origin=f"http://{NAME}", additional_headers=headers,
    ) as wire:  # fmt: skip
        message = BackMsg()
        message.rerun_script.query_string = ""
        await wire.send(message.SerializeToString())
        async for raw in wire:
            told = ForwardMsg.FromString(raw)
            if told.WhichOneof("type") == "script_finished":
                return str(told.script_finished)
    return ""


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


def test_a_foreign_page_gets_no_socket_through_nginx_either(port):
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(foreign(port))
    assert refused.value.response.status_code == 403


async def foreign(port: int) -> None:
    """What a page elsewhere could try with the password that a browser remembers."""
    place = {"host": "127.0.0.1", "port": port, "origin": "http://evil.example", "additional_headers": KNOWN}
    async with connect(f"ws://{NAME}/_stcore/stream", subprotocols=["streamlit"], **place):
        pass
