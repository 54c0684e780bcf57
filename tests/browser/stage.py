"""The picture's module on a page of its own, served by the app's routes, without Streamlit around it."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Route

from pages.components import blocks
from tests.helpers import listening

# show(data) as Streamlit does it; renew(data) does so with a picture that is new, as after a reload.
PAGE = """<!doctype html><link rel=icon href="data:,"><meta name=viewport content="width=device-width">
<style>body { margin: 8px } @media (prefers-color-scheme: dark) { body { background: #0e1117; color: #fafafa;
--st-background-color: #0e1117; --st-text-color: #fafafa } }</style><div id=host></div><script type=module>
import faceview from "%s";
window.said = [];
const setTriggerValue = (name, value) => said.push([name, value]);
let parentElement, end;
window.show = (data) => { end = faceview({ parentElement, data, setTriggerValue }); };
window.renew = (data) => {
  const old = document.getElementById("host"), host = document.createElement("div");
  host.id = "host";
  old.replaceWith(host);
  end?.();
  parentElement = host.attachShadow({ mode: "open" });
  show(data);
};
renew(%s);
</script>"""

# Adds to `blank` the panels that show no point right after a frame was drawn, and counts frames in `watched`. A
# picture that took the place of another is watched when this is asked for again.
WATCH = """() => {
  const roots = [...document.querySelectorAll("*")].flatMap((node) => node.shadowRoot ?? []);
  const root = roots.map((one) => one.querySelector(".faceview")).find(Boolean), canvas = root.querySelector("canvas");
  const small = document.createElement("canvas"), pen = small.getContext("2d", { willReadFrequently: true });
  if (window.watching === canvas) return;
  if (!window.watching) Object.assign(window, { blank: [], watched: 0, lost: 0 });
  window.watching = canvas;
  canvas.addEventListener("webglcontextlost", () => window.lost++);
  new MutationObserver(() => {
    if (!canvas.isConnected) return;
    Object.assign(small, { width: canvas.width, height: canvas.height });
    pen.drawImage(canvas, 0, 0);
    const scale = canvas.width / canvas.clientWidth, origin = canvas.getBoundingClientRect();
    for (const panel of root.querySelectorAll(".panel[data-points]:not([hidden])")) {
      const box = panel.querySelector(".view").getBoundingClientRect();
      const place = [box.left - origin.left, box.top - origin.top, box.width, box.height];
      const { data } = pen.getImageData(...place.map((one) => Math.round(one * scale)));
      let coloured = 0;
      for (let at = 0; at < data.length; at += 4) {
        const rgb = [data[at], data[at + 1], data[at + 2]];
        if (data[at + 3] > 60 && Math.max(...rgb) - Math.min(...rgb) > 40) coloured++;
      }
      if (coloured < 60) window.blank.push([window.watched, panel.dataset.panel, coloured]);
    }
    window.watched++;
  }).observe(root, { attributeFilter: ["data-frames"] });
}"""


@contextmanager
def staged(
    data: Callable[[Request], dict[str, Any]], *loaders: Callable, more: Sequence[BaseRoute] = ()
) -> Iterator[str]:
    """The address of a server that has `blocks.routes(*loaders)`, and at / the picture that `data` describes."""

    def page(request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE % (blocks.SCRIPT, json.dumps(data(request))))

    with listening(Starlette(routes=[Route("/", page), *more, *blocks.routes(*loaders)])) as address:
        yield address
