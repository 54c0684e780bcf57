"""What runs are called: their heads and what sets them apart, for people and for files."""

import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from faces.datasets import find
from faces.heads import HEADS, scored
from faces.knobs import Choice
from trainer.config import RunConfig
from trainer.store import Run

BROUGHT = "brought"  # stands where the encoder's name is, of embeddings that were made elsewhere


def brought(config: RunConfig) -> bool:
    """Whether these embeddings were made elsewhere: nothing was trained here, and nothing is known of how."""
    return config.encoder == BROUGHT


def has_logits(config: RunConfig) -> bool:
    """Whether a run has class logits, and so a DNN accuracy."""
    return not brought(config) and scored(config.head)


def said(name: str, value: Any) -> str:
    """A knob and its value."""
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"


def dataset_title(name: str) -> str:
    """A dataset's title, or its name when it is gone."""
    try:
        return find(name).title
    except ValueError:
        return f"{name} (removed)"


def title(config: RunConfig) -> str:
    """A run's head and dataset."""
    return f"{config.head} on {config.dataset if brought(config) else dataset_title(config.dataset)}"


def shown(config: RunConfig) -> list[tuple[str, Any]]:
    """The knobs worth a word: numbers, and choices that are not the default."""
    known = HEADS.about(config.head).knobs if config.head in HEADS else {}
    default = {name: knob.options[0] for name, knob in known.items() if isinstance(knob, Choice)}
    return [(name, value) for name, value in config.knobs.items() if default.get(name) != value]


def subtitle(config: RunConfig) -> str:
    """What sets a run apart from its siblings."""
    if brought(config):
        return f"embeddings brought from elsewhere · D = {config.dim}"
    words = [
        *(said(name, value) for name, value in shown(config)),
        f"{config.encoder} {config.size} px",
        f"D = {config.dim}",
        "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs",
        f"seed {config.seed}",
    ]
    if config.ramp:
        words.append(f"margin ramp {config.ramp:g}")
    if config.warp:
        words.append(f"warp {config.warp:g}")
    if config.noise:
        words.append(f"{config.noise} % wrong labels")
    if config.drop_duplicates:
        words.append("without near duplicates")
    if config.held_out:
        words.append(f"{config.held_out} classes held out")
    if config.frozen_from:
        words.append(f"encoder frozen, of run …{config.frozen_from[-4:]}")
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


def stamped(words: str) -> str:
    """Words and the time, to the millisecond, that runs queued together share as their note; at most 64 characters."""
    now = time.time()
    when = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03d}"
    return f"{words[: 64 - len(when) - 3]} · {when}"


def file_stem(config: RunConfig, facts: Mapping[str, Any]) -> str:
    """A run at one of its moments as the beginning of a file's name: faces-ArcFace-digits-seed0-step400."""
    if brought(config):
        return f"faces-{plain_name(config.head)}-{plain_name(config.dataset)}-brought"
    return f"faces-{plain_name(config.head)}-{plain_name(config.dataset)}-seed{config.seed}-step{facts['step']}"


def plain_name(text: str) -> str:
    """A name as letters, digits, dots, _ and -, none of them special to any system, 48 at most."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^\w.]+", "-", plain).strip("-.")[:48] or "unnamed"
