"""How a run is told on a page: its name, its state, how far it is."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from faces.datasets import find
from faces.figures import Curve, history_curve
from faces.files import read_json
from faces.heads import HEADS, scored
from faces.knobs import Choice
from trainer.config import RunConfig
from trainer.store import Run, Store

BADGES: dict[str, tuple[str, Any]] = {
    "queued": (":material/hourglass_empty:", "gray"),
    "running": (":material/play_arrow:", "blue"),
    "finished": (":material/check:", "green"),
    "failed": (":material/error:", "red"),
    "stopped": (":material/stop:", "orange"),
    "interrupted": (":material/power_off:", "orange"),
}
T = TypeVar("T")
NO_LOGITS = "No DNN accuracy: this head has no class logits."


def plain(text: str) -> str:
    """Text from outside, to be shown as it is where Markdown is read."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:-])", r"\\\1", text)


def said(name: str, value: Any) -> str:
    """A knob and its value."""
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"


def forgiving(show: Callable[..., T]) -> Callable[..., T | None]:
    """A part of a page that says what is not there (any more) instead of breaking the page."""

    @functools.wraps(show)
    def shown(*arguments: Any) -> T | None:
        try:
            return show(*arguments)
        except ValueError as error:
            st.warning(plain(str(error)), icon=":material/error:")
            return None

    return shown


def badge(state: str) -> None:
    """The state of a run as a coloured word."""
    icon, color = BADGES[state]
    st.badge("training" if state == "running" else state, icon=icon, color=color)


def title(config: RunConfig) -> str:
    """A run's head and dataset."""
    return f"{config.head} on {dataset_title(config.dataset)}"


def subtitle(config: RunConfig) -> str:
    """What sets a run apart from its siblings."""
    words = [
        *(said(name, value) for name, value in shown(config)),
        f"{config.encoder} {config.size} px",
        f"D = {config.dim}",
        "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs",
        f"seed {config.seed}",
    ]
    if config.ramp:
        words.append(f"margin ramp {config.ramp:g}")
    if config.noise:
        words.append(f"{config.noise} % wrong labels")
    if config.drop_duplicates:
        words.append("without near duplicates")
    if config.held_out:
        words.append(f"{config.held_out} classes held out")
    if config.pretrained:
        words.append("pretrained: has seen most validation images")
    return " · ".join(words)


def names(runs: Sequence[Run]) -> list[str]:
    """A name for each of these runs: its head and, where that occurs twice, what sets those runs apart."""
    settings = [vars(run.config) | dict(run.config.knobs) for run in runs]
    found: list[str] = []
    for mine in settings:
        others = [theirs for theirs in settings if theirs["head"] == mine["head"]]
        apart = [said(name, value) for name, value in mine.items() if any(one.get(name) != value for one in others)]
        name = " ".join([mine["head"], *(word for word in apart if not word.startswith("knobs "))])
        while name in found:  # the same run twice
            name += "′"
        found.append(name)
    return found


def shown(config: RunConfig) -> list[tuple[str, Any]]:
    """The knobs worth a word: numbers, and choices that are not the default."""
    known = HEADS.about(config.head).knobs if config.head in HEADS else {}
    default = {name: knob.options[0] for name, knob in known.items() if isinstance(knob, Choice)}
    return [(name, value) for name, value in config.knobs.items() if default.get(name) != value]


def accuracies(config: RunConfig, history: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """KNN accuracy over the epochs, and DNN accuracy or, where there is none, that of the nearest class mean."""
    other = ("Class mean", "ncm_accuracy") if not scored(config.head) else ("DNN", "dnn_accuracy")
    return {name: history_curve(history, metric) for name, metric in (other, ("KNN", "knn_accuracy"))}


def dataset_title(name: str) -> str:
    """A dataset's title, or its name when it is gone."""
    try:
        return find(name).title
    except ValueError:
        return f"{name} (removed)"


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
    if run.state == "queued":
        before = sum(other.id < run.id for other in store.runs(("queued",)))
        st.progress(0.0, f"Waiting; {before} before it." if before else "Next in line; the trainer is getting ready.")
    elif run.state == "running" and facts is None:
        told = read_json(store.folder(run.id).attempt(run.attempt) / "progress.json")
        st.progress(*work(told) if "doing" in told else (0.0, "Starting."))
    elif run.state == "running" and facts is not None:
        now = read_json(store.folder(run.id).attempt(run.attempt) / "progress.json")
        if "doing" in now:  # decoding, or the last look
            st.progress(*work(now))
            return
        step = max(facts["step"], now.get("step", 0))
        st.progress(step / facts["steps"], pace(run, facts, step, now.get("loss")))
    elif run.state in ("failed", "interrupted"):
        st.error(plain(run.reason), icon=":material/error:")
    elif run.state == "stopped":
        done = f" at epoch {facts['epoch']:.1f} of {run.config.epochs}" if facts else ""
        st.info(f"Stopped{done}. Resume goes on from there.", icon=":material/stop:")


def pace(run: Run, facts: dict[str, Any], step: int, loss: float | None) -> str:
    """Epoch, rate and time left of a run that trains."""
    said = f"Epoch {step / facts['steps'] * run.config.epochs:.1f} of {run.config.epochs}"
    said += f" · loss {loss:.3f}" if loss is not None else ""
    if not facts["seconds"]:
        return said
    rate = facts["step"] / facts["seconds"]
    said += f" · {rate * run.config.batch:,.0f} images/s · {duration((facts['steps'] - step) / rate)} left"
    return said + (" · stopping" if run.stop_wanted else "")


def work(told: dict[str, Any]) -> tuple[float, str]:
    """A reported piece of work as the share done and a sentence with rate and time left."""
    done, total = told.get("done", 0), told.get("total")
    scale, unit = (1e6, "MB") if told.get("unit") == "bytes" else (1, told.get("unit", ""))
    said = f"{told.get('doing', '')}: {done / scale:,.0f}" + (f" of {total / scale:,.0f}" if total else "") + f" {unit}"
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
