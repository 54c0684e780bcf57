"""Starts Faces: `streamlit run app.py`. The pages are in pages/router.py; the trainer runs beside them."""

import asyncio
import gc
import importlib
import pkgutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from subprocess import Popen
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from faces.home import home, runs
from pages import components
from pages.components import blocks, curves, session, shown, who
from pages.components.door import Door
from pages.components.dress import Dress
from trainer import service
from trainer.store import Store

WATCH = 2.0  # seconds between two looks whether the trainer is there
PATIENCE = 10.0  # seconds in which the first page has the machine for itself


def preload() -> None:
    """Load what pages are going to load, and take all of it out of the garbage collector's sight for good."""
    for part in pkgutil.iter_modules(components.__path__, f"{components.__name__}."):
        importlib.import_module(part.name)
    for name in ("pandas", "pyarrow", "plotly.graph_objects"):  # Streamlit's, at the first table and chart
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


async def opened() -> None:
    """Wait until the first page is drawn, which needs neither the trainer nor what other pages load; not for long.

    Nor any longer once something waits for the trainer.
    """
    store, until = Store(home()), time.monotonic() + PATIENCE
    while not session.drawn.is_set() and time.monotonic() < until:
        if await asyncio.to_thread(service.needed, store):
            return
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
            with suppress(asyncio.CancelledError):
                await task
        if making := sys.modules.get("trainer.making"):  # loaded with the pages
            making.end()
        for process in started[-1:]:
            await asyncio.to_thread(service.end, process)


who.begin()
runs(home())  # ValueError, before anybody comes, for a FACES_FILES that cannot be
app = st.App(
    "pages/router.py",
    lifespan=lifespan,
    middleware=[Middleware(Door, hosts=st.get_option("server.allowedHosts")), Middleware(who.Gate), Middleware(Dress)],
    routes=[
        *who.routes,
        *curves.routes,
        *blocks.routes(shown.load_points, shown.load_facts, shown.load_sheet, shown.load_image, shown.load_inspected),
    ],
)
