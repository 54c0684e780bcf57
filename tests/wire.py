"""A page's socket, spoken as a browser speaks it, without one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect


class Page:
    """A page that is open."""

    def __init__(self, socket: ClientConnection):
        self.socket = socket

    async def run(self, pressed: str = "", path: str = "") -> AsyncIterator[ForwardMsg]:
        """Run the script of the page at a path, with a button pressed if one's id is given; all that is said of it."""
        message = BackMsg()
        message.rerun_script.query_string = ""
        message.rerun_script.page_name = path
        if pressed:
            message.rerun_script.widget_states.widgets.add(id=pressed, trigger_value=True)
        await self.socket.send(message.SerializeToString())
        async for raw in self.socket:
            told = ForwardMsg.FromString(raw)
            yield told
            if told.WhichOneof("type") == "script_finished":
                return
        raise AssertionError("the server hung up")


@asynccontextmanager
async def opened(server: str, /, *token: str, **how: Any) -> AsyncIterator[Page]:
    """The first page of a server, HOST:PORT, with Streamlit's token if there is one; `how` is for `connect`."""
    address = f"{'wss' if 'ssl' in how else 'ws'}://{server}/_stcore/stream"
    async with connect(address, max_size=None, subprotocols=["streamlit", *token], **how) as socket:
        yield Page(socket)
