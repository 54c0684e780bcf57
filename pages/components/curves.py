"""Pictures over angles that keep up with a slider: drawn by assets/curves.js, all of them as one part of the page.

Four charts of ECharts took Streamlit and the browser 220 ms a step of a slider on two cores without a GPU. Streamlit
runs the page when a slider has come to rest; the pictures need not wait for that: the browser asks for them at
`ADDRESS` while it moves, and what the page then sends is what is there already.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import streamlit as st
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pages.components import blocks
from trainer.sketching import Sketcher

ADDRESS = f"{blocks.ROOT}/curves"
CLASSES, DIMS = (2, 1000), (2, 512)  # the least and the most that can be asked about
sketcher = Sketcher()

# The text here travels with every update, so it only fetches the module, which the browser keeps.
_LOADER = f"""
const pictures = import(new URL("{blocks.script("curves.js")}", document.baseURI));
export default async ({{ data: [data], ...component }}) => (await pictures).default({{ ...component, data }});
"""
_mount = st.components.v2.component("curves", js=_LOADER)


@dataclass(frozen=True)
class Followed:
    """What was asked of `faces.sketches.drawn`, and which sliders say what in it: keys of widgets by their way there.

    Followed({"name": "CosFace", "knobs": {"m": 0.2}, ...}, {"lab.CosFace.m": ("knobs", "m")})
    """

    asked: Mapping[str, Any]
    sliders: Mapping[str, Sequence[str]]


def draw_curves(pictures: Sequence[dict[str, Any]], key: str, followed: Followed | None = None) -> None:
    """Draw pictures (`faces.figures.over_angles`) side by side as far as they fit, the same number each time.

    Each has, besides, `question` above it, `words` below it, `alt` for those who cannot see it, and `file`, the name
    it is saved under. Those that are `followed` move with their sliders at once.
    """
    data: dict[str, Any] = {"pictures": list(pictures)}
    if followed:
        data["followed"] = {
            **asdict(followed), "address": ADDRESS,
            "sliders": {class_of(widget): list(way) for widget, way in followed.sliders.items()},
        }  # fmt: skip
    _mount(key=key, data=[data])  # as in faceview.py


def class_of(key: str) -> str:
    """The CSS class that Streamlit gives the widget of this key."""
    return "st-key-" + re.sub(r"[^a-zA-Z0-9_-]", "-", key)


async def answer(request: Request) -> Response:
    """The pictures for where sliders are now: ?asked= what `faces.sketches.drawn` is asked, as JSON."""
    try:
        asked = json.loads(request.query_params.get("asked", ""))
        for name, (least, most) in {"classes": CLASSES, "dim": DIMS}.items():
            if not isinstance(asked, dict) or type(asked.get(name)) is not int or not least <= asked[name] <= most:
                raise ValueError(f"Say {name} as a whole number from {least} to {most}.")
        line = await to_thread.run_sync(sketcher.line, asked, limiter=few())
    except (ValueError, RuntimeError) as error:
        said = f"These pictures cannot be drawn: {error}".encode(errors="replace")
        return PlainTextResponse(said, 404 if isinstance(error, ValueError) else 503)
    return Response(line, media_type="application/json", headers={"Cache-Control": "no-store"})


@lru_cache(1)
def few() -> CapacityLimiter:
    """One process draws, one after the other: those who wait for it must not hold all threads of the server."""
    return CapacityLimiter(2)


routes = [Route(ADDRESS, answer)]
