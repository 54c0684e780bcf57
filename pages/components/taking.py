"""Taking it away: one menu of exports for a run or for runs that are compared."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.components.live import POLL
from pages.components.runs import allowed, forgiving, plain, work
from pages.components.session import the_store
from trainer import making
from trainer.exports import EXPORTS, file_name, refusal, take
from trainer.store import Run

MEDIA = {
    ".zip": "application/zip", ".py": "text/x-python", ".html": "text/html", ".onnx": "application/octet-stream",
    ".safetensors": "application/octet-stream",
}  # fmt: skip
LARGE = 4_000_000  # numbers that a page may write out by itself
PICTURES = "A picture as it is on the screen: **PNG** and **SVG**, under the picture itself."
WIDTH = 420  # pixels of the menu, less where the screen is narrower


def taking(runs: Sequence[Run], key: str, drawn: Sequence[Run] = ()) -> None:
    """A button that opens the menu. `drawn` are those of the runs that are in the picture: a replay shows these."""
    box = st.popover("Take it away", icon=":material/download:", key=f"taking {key}", on_change="rerun")
    if box.open:
        with box, st.container(width=WIDTH):
            _menu(list(runs), list(drawn or runs), key)


def _menu(runs: list[Run], drawn: list[Run], key: str) -> None:
    store = the_store()
    latest = store.latest([run.id for run in runs])
    begun = [run for run in runs if run.id in latest]
    if not begun:
        st.caption("There is something to take away after the first snapshot.")
        return
    titles = {export.title: kind for kind, export in EXPORTS.items()}
    title = st.selectbox("As", list(titles), key=f"as {key}")
    kind = titles.get(title or "", "zip")
    export = EXPORTS[kind]
    chosen = [run for run in (drawn if export.joint else begun) if run.id in latest]
    refused = {run.id: why for run in chosen if (why := refusal(store, kind, [run]))}
    chosen = [run for run in chosen if run.id not in refused]
    names = [run.id for run in chosen]
    st.caption(export.meaning)
    if refused:
        st.info(" ".join(plain(why) for why in dict.fromkeys(refused.values())), icon=":material/block:")
    if not chosen:
        return
    if len(chosen) > 1:
        st.caption(
            f"{len(chosen)} runs" + (", those in the picture." if export.joint else ", each with its own files.")
        )
    elif any(run.open for run in chosen):
        st.caption("As it is at its newest moment; the run goes on.")
    if export.slow or large(chosen):
        _slow(kind, names, key)
    else:
        name = file_name(store, kind, names)
        st.download_button(
            "Download", lambda: take(store, kind, names)[1], name, _media(name), key=f"take {kind} {key}",
            type="primary", icon=":material/download:", on_click="ignore", width="stretch",
        )  # fmt: skip
        st.caption(f"`{name}`")
    if kind == "zip":
        st.caption(PICTURES)


def large(runs: Sequence[Run]) -> bool:
    """Whether tables of these would keep everybody waiting."""
    latest = the_store().latest([run.id for run in runs])
    counts = {run.id: latest.get(run.id, {"metrics": {}})["metrics"] for run in runs}
    images = {name: found.get("asked", 0) + found.get("known", 0) for name, found in counts.items()}
    return sum(images[run.id] * run.config.dim for run in runs) > LARGE


def _slow(kind: str, names: list[str], key: str) -> None:
    """Begin, wait for and hand over what a process of its own makes."""
    store = the_store()
    moving = making.told(store, kind, names)[0]

    @forgiving
    def part() -> None:
        busy, why, told = making.told(store, kind, names)
        if busy:
            st.progress(*(work(told) if "doing" in told else (0.0, "Getting ready; others go on meanwhile.")))
            return
        if moving:
            st.rerun()
        if file := making.made(store, kind, names):
            st.download_button(
                f"Download, {file.stat().st_size / 1e6:.1f} MB", file.read_bytes, file.name, _media(file.name),
                key=f"take {kind} {key}", type="primary", icon=":material/download:", on_click="ignore",
                width="stretch",
            )  # fmt: skip
            st.caption(f"`{file.name}`")
            return
        if why:
            st.error(plain(why), icon=":material/error:")
        may = allowed(store, "export")
        if st.button("Prepare", key=f"make {kind} {key}", icon=":material/hourglass_top:", width="stretch", **may):
            making.make(store, kind, names)
            st.rerun()

    st.fragment(part, run_every=POLL if moving else None)()


def _media(name: str) -> Any:
    return MEDIA.get(f".{name.rpartition('.')[2]}", "application/octet-stream")
