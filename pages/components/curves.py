"""Pictures over angles that keep up with a slider: drawn by assets/curves.js, all of them as one part of the page.

Four charts of ECharts took Streamlit and the browser 220 ms a step of a slider on two cores without a GPU.
"""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.components import blocks

# The text here travels with every update, so it only fetches the module, which the browser keeps.
_LOADER = f"""
const pictures = import(new URL("{blocks.script("curves.js")}", document.baseURI));
export default async (component) => (await pictures).default(component);
"""
_mount = st.components.v2.component("curves", js=_LOADER)


def draw_curves(pictures: Sequence[dict[str, Any]], key: str) -> None:
    """Draw pictures (`faces.figures.over_angles`) side by side as far as they fit, the same number each time.

    Each has, besides, `question` above it, `words` below it, `alt` for those who cannot see it, and `file`, the name
    it is saved under.
    """
    _mount(key=key, data={"pictures": list(pictures)})
