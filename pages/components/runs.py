"""How a run is told on a page: its name, its state, how far it is."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from faces.datasets import find
from faces.figures import Curve, history_curve
from faces.files import heard
from trainer.config import RunConfig
from trainer.memory import FIRST
from trainer.naming import brought, dataset_title, has_logits, names, said, shown, subtitle, title
from trainer.store import Run, Store
from trainer.telling import sentence
from trainer.tidying import cramped

__all__ = ["brought", "dataset_title", "has_logits", "names", "said", "shown", "subtitle", "title"]  # of trainer.naming

BADGES: dict[str, tuple[str, Any]] = {
    "queued": (":material/hourglass_empty:", "gray"),
    "running": (":material/play_arrow:", "blue"),
    "finished": (":material/check:", "green"),
    "failed": (":material/error:", "red"),
    "stopped": (":material/stop:", "orange"),
    "interrupted": (":material/power_off:", "orange"),
    "brought": (":material/inbox:", "violet"),
}
T = TypeVar("T")
NO_LOGITS = "No DNN accuracy: this head has no class logits."
NOT_TRAINED = "No DNN accuracy: brought embeddings come without a classifier."


ITSELF = re.compile(r"(https?://|www(?=\.)|@|:material(?=/)|^\d+(?=\.( |$)))", re.IGNORECASE)  # a link, an icon, a list


def plain(text: str) -> str:
    """Text from outside, to be shown as it is where Markdown is read, on one line and without links."""
    line = ITSELF.sub("\\1\u2060", " ".join(text.split()))  # an invisible joiner
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:&-])", r"\\\1", line)


def forgiving(show: Callable[..., T]) -> Callable[..., T | None]:
    """A part of a page that says what is not there (any more) instead of breaking the page."""

    @functools.wraps(show)
    def shown(*arguments: Any) -> T | None:
        try:
            return show(*arguments)
        except (ValueError, OSError) as error:
            st.warning(plain(sentence(error)), icon=":material/error:")
            return None

    return shown


def tried(act: Callable[..., object], *arguments: Any) -> None:
    """Do what was asked for; a refusal is told in words, not raised."""
    try:
        act(*arguments)
    except (ValueError, OSError) as error:
        st.toast(plain(sentence(error)), icon=":material/error:")


def allowed(store: Store, action: str, owner: str | None = None, able: bool = True) -> dict[str, Any]:
    """How a button is drawn that asks for this: out of reach, saying why, for who may not do it."""
    why = store.why_not(action, owner)
    return {"disabled": bool(why) or not able, **({"help": plain(why)} if why else {})}


def badge(state: str) -> None:
    """The state of a run as a coloured word."""
    icon, color = BADGES[state]
    st.badge("training" if state == "running" else state, icon=icon, color=color)


def accuracies(config: RunConfig, history: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """KNN accuracy over the epochs, and DNN accuracy or, where there is none, that of the nearest class mean."""
    other = ("Class mean", "ncm_accuracy") if not has_logits(config) else ("DNN", "dnn_accuracy")
    return {name: history_curve(history, metric) for name, metric in (other, ("KNN", "knn_accuracy"))}


def listed(words: Sequence[str]) -> str:
    """Words in a row: a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def class_names(store: Store, run: Run) -> tuple[str, ...]:
    """The classes of a run, also when its dataset has changed or gone since; of a waiting run, those of its dataset."""
    if known := store.folder(run.id).class_names:
        return known
    try:
        return find(run.config.dataset).class_names
    except ValueError:
        return ()


def progress(store: Store, run: Run, facts: dict[str, Any] | None) -> None:
    """How far a run is: a bar with rate and time left while it trains, else a sentence."""
    if run.open and run.reason == FIRST:
        st.info(plain(run.reason), icon=":material/memory:")
    if run.state == "queued":
        before = store.ahead(run.id)
        if why := cramped(store.path):
            st.warning(plain(why), icon=":material/hard_drive:")
        st.progress(0.0, f"Waiting; {before} before it." if before else first_in_line(store, run))
    elif run.state == "running" and facts is None:
        told = heard(store.folder(run.id).attempt(run.attempt) / "progress.json")
        st.progress(*work(told) if "doing" in told else (0.0, "Starting."))
    elif run.state == "running" and facts is not None:
        now = heard(store.folder(run.id).attempt(run.attempt) / "progress.json")
        if "doing" in now:  # decoding, or the last look
            st.progress(*work(now))
            return
        step = max(facts["step"], now.get("step", 0))
        st.progress(step / facts["steps"], pace(run, facts, step, now))
    elif run.state in ("failed", "interrupted"):
        st.error(plain(run.reason), icon=":material/error:")
    elif run.state == "stopped":
        done = f" at epoch {facts['epoch']:.1f} of {run.config.epochs}" if facts else ""
        why = f" {plain(run.reason)}" if facts and run.reason else ""
        st.info(f"Stopped{done}.{why} Resume goes on from there.", icon=":material/stop:")


def first_in_line(store: Store, run: Run) -> str:
    """What the run that is claimed next waits for."""
    training = store.runs(("running",))
    if any(other.alone for other in training):
        return "Next in line, when the run that trains alone has ended."
    if run.alone and training:
        return "Next in line, when no other run trains."
    return "Next in line; the trainer is getting ready."


def pace(run: Run, facts: dict[str, Any], step: int, now: Mapping[str, Any]) -> str:
    """Epoch, rate and time left of a run that trains, and where, if that is not where it should."""
    said = f"Epoch {step / facts['steps'] * run.config.epochs:.1f} of {run.config.epochs}"
    said += f" · loss {now['loss']:.3f}" if "loss" in now else ""
    said += f" · {now['where']}" if now.get("where") else ""
    if not facts["seconds"]:
        return said
    rate = facts["step"] / facts["seconds"]
    said += f" · {rate * run.config.batch:,.0f} images/s · {duration((facts['steps'] - step) / rate)} left"
    return said + (" · stopping" if run.stop_wanted else "")


def work(told: dict[str, Any]) -> tuple[float, str]:
    """A reported piece of work as the share done and a sentence with rate and time left."""
    done, total = told.get("done", 0), told.get("total")
    scale, unit = (1e6, "MB") if told.get("unit") == "bytes" else (1, told.get("unit", ""))
    of = f" of {total / scale:,.0f}" if total else ""
    said = f"{plain(told.get('doing', ''))}: {done / scale:,.0f}{of} {unit}"
    if told.get("rate"):
        said += f" · {told['rate'] / scale:,.1f} {unit}/s"
    if told.get("left") is not None:
        said += f" · {duration(told['left'])} left"
    return (min(done / total, 1.0) if total else 0.0), said


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
