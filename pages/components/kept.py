"""What this browser keeps for a person: a few words under a name, in the browser and nowhere else.

The server forgets it with the session. A browser that keeps nothing (some private windows) starts anew each time.
"""

from collections.abc import Mapping
from typing import Any

import streamlit as st

_KEEP = """
export default ({ data: { name, mine, forget }, setStateValue }) => {
  const read = () => { try { return JSON.parse(localStorage.getItem(name)) ?? {}; } catch { return {}; } };
  const before = forget ? {} : read(), both = { ...before };
  for (const [key, value] of Object.entries(mine ?? {})) both[key] = { ...before[key], ...value };
  try { localStorage.setItem(name, JSON.stringify(both)); } catch { /* a browser that keeps nothing */ }
  if (JSON.stringify(both) !== JSON.stringify(mine ?? {})) setStateValue("found", both);
};
"""
_mount = st.components.v2.component("kept", js=_KEEP)


def kept(name: str) -> dict[str, dict[str, Any]]:
    """What is kept under this name: records by their keys. Empty at first, until the browser has answered.

    Call it once in every run of a page. What another window has kept since is added to it. A browser that has nothing
    to add stays silent: its answer would run the page again, and undo what the address was just changed to.
    """
    mine = st.session_state.get(_place(name))
    told = {"name": f"faces {name}", "mine": mine, "forget": st.session_state.pop(_place(name) + " forget", False)}
    found = _mount(key=f"keeping {name}", data=told, on_found_change=lambda: None).get("found")
    if found is not None:
        mine = {key: {**value, **(mine or {}).get(key, {})} for key, value in {**(mine or {}), **found}.items()}
        st.session_state[_place(name)] = mine
    return mine or {}


def keep(name: str, key: str, record: Mapping[str, Any]) -> None:
    """Add to the record under this key."""
    mine = st.session_state.get(_place(name)) or {}
    st.session_state[_place(name)] = {**mine, key: {**mine.get(key, {}), **record}}


def forget(name: str) -> None:
    """Keep nothing any more under this name."""
    st.session_state[_place(name)] = {}
    st.session_state[_place(name) + " forget"] = True


def _place(name: str) -> str:
    return f"kept {name}"
