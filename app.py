"""Starts Faces: `streamlit run app.py`. The pages are in pages/router.py; the trainer runs beside them.

The store is not loaded here but beside the server, while the browser loads Streamlit's scripts.
"""

import asyncio
import gc
import pkgutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from subprocess import Popen
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from pages.components.shelf import Shelf, send_at_once

send_at_once()  # before all else is loaded: the socket is there, and browsers may be waiting for it

from faces.home import home, runs
from pages import components
from pages.components import blocks, curves, session, shown, who
from pages.components.door import Door
from pages.components.dress import Dress
from trainer import service

WATCH = 2.0  # seconds between two looks whether the trainer is there
PATIENCE = 10.0  # seconds in which the first page has the machine for itself
CALM = 1.5  # of these, once the server has drawn it, for the browser to show it


def preload() -> None:
    """Load what pages are going to load, and take all of it out of the garbage collector's sight for good."""
    for part in pkgutil.iter_modules(components.__path__, f"{components.__name__}."):
        import_module(part.name)
    for name in ("pandas", "pyarrow", "plotly.graph_objects"):  # Streamlit's, at the first table and chart
        import_module(name)
    gc.collect()
    gc.freeze()


async def opened() -> None:
    """Wait until the first page is shown, which needs neither the trainer nor what other pages load; not for long.

    Nor any longer once something waits for the trainer.
    """
    store = await asyncio.to_thread(lambda: import_module("trainer.store").Store(home()))
    until, calm = time.monotonic() + PATIENCE, False
    while time.monotonic() < until and not await asyncio.to_thread(service.needed, store):
        if session.drawn.is_set() and not calm:
            until, calm = time.monotonic() + CALM, True
        await asyncio.sleep(0.25)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Start the trainer with the app and stop it with the app; runs it had to stop go on at the next start."""
    started: list[Popen] = []

    async def watch() -> None:
        await opened()
        tasks.append(asyncio.create_task(asyncio.to_thread(preload)))
        while True:
            if not started or started[-1].poll() is not None:
                with suppress(OSError):  # a full disk, say: tried again
                    new = await asyncio.to_thread(service.ensure, home(), True)
                    started.extend([new] if new else [])
            await asyncio.sleep(WATCH)

    tasks = [asyncio.create_task(watch())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if making := sys.modules.get("trainer.making"):  # loaded with the pages
            making.end()
        for process in started[-1:]:
            await asyncio.to_thread(service.end, process)


who.begin()
runs(home())  # ValueError, before anybody comes, for a FACES_FILES that cannot be
app = st.App(
    "pages/router.py",
    lifespan=lifespan,
    middleware=[
        Middleware(Door, hosts=st.get_option("server.allowedHosts")),
        Middleware(who.Gate),
        Middleware(Dress),
        Middleware(Shelf),
    ],
    routes=[
        *who.routes,
        *curves.routes,
        *blocks.routes(shown.load_points, shown.load_facts, shown.load_sheet, shown.load_image, shown.load_inspected),
    ],
)
