"""What this browser keeps for a person: a few records under a name, in the browser and nowhere else.

The server forgets them with the session. A browser that keeps nothing (some private windows) starts anew each time.
"""

from collections.abc import Mapping
from typing import Any

import streamlit as st

Records = dict[str, dict[str, Any]]

# Tells the server only what it does not know: an answer runs the page again, and undoes what its address was just
# changed to.
_KEEP = """
export default ({ data: [{ name, mine, forget }], setStateValue }) => {
  const read = () => { try { return JSON.parse(localStorage.getItem(name)) ?? {}; } catch { return {}; } };
  const before = forget ? {} : read(), both = { ...before };
  for (const [key, record] of Object.entries(mine)) both[key] = { ...before[key], ...record };
  try { localStorage.setItem(name, JSON.stringify(both)); } catch { /* a browser that keeps nothing */ }
  const unknown = ([key, record]) => Object.keys(record ?? {}).some((word) => !(word in (mine[key] ?? {})));
  if (Object.entries(both).some(unknown)) setStateValue("found", both);
};
"""
_mount = st.components.v2.component("kept", js=_KEEP)


def kept(name: str) -> Records:
    """The records kept under this name, by their keys. Empty at first, until the browser has answered.

    Call it once in every run of a page. What another window has kept since is added.
    """
    told = {"name": f"faces {name}", "mine": _mine(name), "forget": st.session_state.pop(f"forget {name}", False)}
    _mount(key=f"keeping {name}", data=[told], on_found_change=lambda: _add(name))
    return _mine(name)


def keep(name: str, key: str, record: Mapping[str, Any]) -> None:
    """Add to the record under this key."""
    mine = _mine(name)
    st.session_state[f"kept {name}"] = {**mine, key: {**mine.get(key, {}), **record}}


def forget(name: str) -> None:
    """Keep nothing any more under this name."""
    st.session_state[f"kept {name}"] = {}
    st.session_state[f"forget {name}"] = True


def _mine(name: str) -> Records:
    return st.session_state.get(f"kept {name}", {})


def _add(name: str) -> None:
    """Take over what the browser knew of; what was said in this session stands."""
    found = st.session_state[f"keeping {name}"].get("found")
    for key, record in found.items() if isinstance(found, dict) else ():
        if isinstance(record, dict):
            keep(name, key, {**record, **_mine(name).get(key, {})})
