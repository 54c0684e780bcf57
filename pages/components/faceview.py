"""The picture of several heads' embeddings, side by side under one camera.

Import it as `from pages.components.faceview import faceview`: the repository root is on sys.path for the
whole life of the server, while Streamlit adds `pages/` only during a run of the script.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from faces.palette import JUDGED, SCALE, Ink, class_ink
from pages.components import blocks
from pages.components.blocks import ACROSS, SIDE

# The text here travels with every update, so it only fetches the module, which the browser keeps.
_LOADER = f"""
const picture = import(new URL("{blocks.SCRIPT}", document.baseURI));
export default async (component) => (await picture).default(component);
"""
_mount = st.components.v2.component("faceview", js=_LOADER)


@dataclass(frozen=True)
class Panel:
    """One panel: an `id` that stays the same while its points change, words over it, and where its points are.

    `url` comes from `blocks.address`; None while there is nothing to show yet. With `steps`, the moments of the
    panel in order, of `total` steps in all, `url` and `facts` (from `blocks.facts_address`) name the step "*",
    and the viewer travels between them; without, `url` is the one block to show. `told` are words about the
    newest moment. `images` comes from `blocks.sheets_address`, and `inspected`, from `blocks.inspected_address` with
    two "*", lets a click open the inspector. `rotate` turns the points (nine numbers, the rows of a 3x3), so that
    panels can be aligned. `centers` draws the class centers.

    `raw`: the axes are those of the embeddings, which lie on the unit circle or sphere. `linear`: they are PCA's.
    `tour` is the address of the same moments on more axes, from which the viewer makes linear views; `known` that of
    training images on the axes of `url`, which `known_steps` have.
    """

    id: str
    title: str
    subtitle: str = ""
    url: str | None = None
    rotate: Sequence[float] | None = None
    centers: bool = True
    steps: Sequence[int] = ()
    total: int = 0
    facts: str | None = None
    images: str | None = None
    inspected: str | None = None
    raw: bool = False
    linear: bool = False
    tour: str | None = None
    known: str | None = None
    known_steps: Sequence[int] = ()
    told: str = ""


def faceview(
    panels: Sequence[Panel],
    classes: Sequence[str],
    axes: Literal[2, 3] = 2,
    *,
    height: int = 480,
    label: str,
    key: str,
    live: bool = False,
    on_picked: Callable[[], None] | None = None,
    on_wished: Callable[[], None] | None = None,
) -> Mapping[str, Any] | None:
    """Draw one to seven panels, and return the point that was just clicked, `{"panel": id, "index": i}`, or None.

    `height` in pixels is that of the whole picture where panels fit side by side; on a narrow screen they
    stack and it grows. `label` tells in words what the picture shows, for those who cannot see it. Camera
    and isolated classes live in the browser and survive updates as long as `key` stays the same. A click
    runs the page again only with `on_picked`; with `on_wished`, so do the keys p, t, u, 2, 3 and d, whose wish is
    then in `st.session_state[key].wished`: {"projection": "tsne"} or {"axes": 3}. `live`: more moments will come.
    The moment shown, colour, selection, inspected image and camera are kept in the URL by the browser. ValueError for
    other than 1 to 7 panels with ids of their own.
    """
    data = described(panels, classes, axes, height, label, live, on_picked is not None, on_wished is not None)
    return _mount(key=key, data=data, on_picked_change=on_picked, on_wished_change=on_wished).get("picked")


def described(
    panels: Sequence[Panel],
    classes: Sequence[str],
    axes: Literal[2, 3],
    height: int,
    label: str,
    live: bool = False,
    picks: bool = False,
    wishes: bool = False,
) -> dict[str, Any]:
    """What assets/faceview.js is told of a picture: words, colours and addresses. ValueError as `faceview`."""
    if not 1 <= len(panels) <= 7 or len({panel.id for panel in panels}) < len(panels):
        raise ValueError(f"{len(panels)} panels {[panel.id for panel in panels]} given; 1 to 7 with different ids fit.")
    return {
        "panels": [
            {
                "id": panel.id, "title": panel.title, "subtitle": panel.subtitle, "url": panel.url,
                "rotate": None if panel.rotate is None else [float(part) for part in panel.rotate],
                "centers": panel.centers, "steps": list(panel.steps), "total": panel.total, "facts": panel.facts,
                "images": panel.images, "inspected": panel.inspected, "told": panel.told, "raw": panel.raw,
                "linear": panel.linear, "tour": panel.tour, "known": panel.known,
                "known_steps": list(panel.known_steps),
            }
            for panel in panels
        ],
        "classes": [_drawn(index, name) for index, name in enumerate(classes)],
        "axes": axes, "height": height, "label": label, "live": live, "picks": picks, "wishes": wishes,
        "sheet": {"across": ACROSS, "side": SIDE},
        "scale": [_colors(ink) for ink in SCALE], "judged": {name: _colors(ink) for name, ink in JUDGED.items()},
    }  # fmt: skip


def _drawn(index: int, name: str) -> dict[str, str]:
    return {"name": name, **_colors(class_ink(index))}


def _colors(ink: Ink) -> dict[str, str]:
    return {"color_light": ink.light, "color_dark": ink.dark, "shape": ink.shape}
