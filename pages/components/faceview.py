"""The picture of several heads' embeddings, side by side under one camera.

Import it as `from pages.components.faceview import faceview`: the repository root is on sys.path for the
whole life of the server, while Streamlit adds `pages/` only during a run of the script.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from faces.palette import class_ink
from pages.components import blocks

# The text here travels with every update, so it only fetches the module, which the browser keeps.
_LOADER = f"""
const picture = import(new URL("{blocks.SCRIPT}", document.baseURI));
export default async (component) => (await picture).default(component);
"""
_mount = st.components.v2.component("faceview", js=_LOADER)


@dataclass(frozen=True)
class Panel:
    """One panel: an `id` that stays the same while its points change, words over it, and where its points are.

    `url` comes from `blocks.address`; None while there is nothing to show yet. `rotate` turns the points
    (nine numbers, the rows of a 3x3), so that panels can be aligned. `centers` draws the class centers.
    """

    id: str
    title: str
    subtitle: str = ""
    url: str | None = None
    rotate: Sequence[float] | None = None
    centers: bool = True


def faceview(
    panels: Sequence[Panel],
    classes: Sequence[str],
    axes: Literal[2, 3] = 2,
    *,
    height: int = 480,
    label: str,
    key: str,
    on_picked: Callable[[], None] | None = None,
) -> Mapping[str, Any] | None:
    """Draw one to seven panels, and return the point that was just clicked, `{"panel": id, "index": i}`, or None.

    `height` in pixels is that of the whole picture where panels fit side by side; on a narrow screen they
    stack and it grows. `label` tells in words what the picture shows, for those who cannot see it. Camera
    and isolated classes live in the browser and survive updates as long as `key` stays the same. A click
    runs the page again only with `on_picked`. ValueError for other than 1 to 7 panels with ids of their own.
    """
    if not 1 <= len(panels) <= 7 or len({panel.id for panel in panels}) < len(panels):
        raise ValueError(f"{len(panels)} panels {[panel.id for panel in panels]} given; 1 to 7 with different ids fit.")
    data = {
        "panels": [
            {
                "id": panel.id, "title": panel.title, "subtitle": panel.subtitle, "url": panel.url,
                "rotate": None if panel.rotate is None else [float(part) for part in panel.rotate],
                "centers": panel.centers,
            }
            for panel in panels
        ],
        "classes": [_drawn(index, name) for index, name in enumerate(classes)],
        "axes": axes, "height": height, "label": label, "picks": on_picked is not None,
    }  # fmt: skip
    return _mount(key=key, data=data, on_picked_change=on_picked).get("picked")


def _drawn(index: int, name: str) -> dict[str, str]:
    ink = class_ink(index)
    return {"name": name, "color_light": ink.light, "color_dark": ink.dark, "shape": ink.shape}
