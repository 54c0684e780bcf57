"""The picture of several heads' embeddings, side by side under one camera.

Import it as `from pages.components.faceview import faceview`: the repository root is on sys.path for the
whole life of the server, while Streamlit adds `pages/` only during a run of the script.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from pages.components import blocks
from trainer.scene import Panel, described

__all__ = ["Panel", "described", "faceview"]

# The text here travels with every update, so it only fetches the module, which the browser keeps.
_LOADER = f"""
const picture = import(new URL("{blocks.SCRIPT}", document.baseURI));
export default async ({{ data: [data], ...component }}) => (await picture).default({{ ...component, data }});
"""
_mount = st.components.v2.component("faceview", js=_LOADER)


def faceview(
    panels: Sequence[Panel],
    classes: Sequence[str],
    axes: Literal[2, 3] = 2,
    *,
    height: int = 480,
    label: str,
    key: str,
    live: bool = False,
    file: str = "faces",
    on_picked: Callable[[], None] | None = None,
    on_wished: Callable[[], None] | None = None,
) -> Mapping[str, Any] | None:
    """Draw one to seven panels, and return the point that was just clicked, `{"panel": id, "index": i}`, or None.

    `height` in pixels is that of the whole picture where panels fit side by side; on a narrow screen they
    stack and it grows. `label` tells in words what the picture shows, for those who cannot see it. Camera
    and isolated classes live in the browser and survive updates as long as `key` stays the same. A click
    runs the page again only with `on_picked`; with `on_wished`, so do the keys p, t, u, 2, 3 and d, whose wish is
    then in `st.session_state[key].wished`: {"projection": "tsne"} or {"axes": 3}. `live`: more moments will come.
    `file` is how the names of saved pictures begin.
    The moment shown, colour, selection, inspected image and camera are kept in the URL by the browser. ValueError for
    other than 1 to 7 panels with ids of their own.
    """
    # In a list below: of a dict Streamlit looks at each part for a table, with pandas, which is slow to load.
    data = described(panels, classes, axes, height, label, live, on_picked is not None, on_wished is not None, file)
    with st.container(key=f"place of {key}"):  # has a least height, so that nothing moves when the picture has loaded
        return _mount(key=key, data=[data], on_picked_change=on_picked, on_wished_change=on_wished).get("picked")
