"""Comparisons: heads trained on equal terms, and what may be said of their scores."""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from faces.datasets import find
from faces.heads import HEADS
from faces.knobs import Value, Values, settle
from trainer.config import RunConfig
from trainer.store import Run, Store

SEVEN = ("Classification", "ArcMarginProduct", "ArcFace", "CosFace", "AdaCos", "SubCenterArcFace", "CurricularFace")
NOTE = "all heads"  # how the note of runs that were queued together begins
FREE = ("head", "knobs", "seed")  # what may differ in a comparison on equal terms


def submit_all(store: Store, knobs: Values, budget: Mapping[str, Any], seeds: int = 1) -> str:
    """Queue the article's seven heads over some seeds, all else equal; returns the note they share.

    A knob goes to the heads that have it; `budget` is the rest of a RunConfig.
    """
    note = f"{NOTE} · {find(budget['dataset']).title} · {time.strftime('%Y-%m-%d %H:%M:%S')}"
    for seed in range(seeds):
        for head, own in shared(knobs, len(find(budget["dataset"]).class_names)).items():
            store.submit(RunConfig(head=head, knobs=own, seed=seed, **budget), note)
    return note


def shared(knobs: Values, classes: int) -> dict[str, dict[str, Value]]:
    """All knobs of each of the seven heads, given some that those take which have them."""
    of_heads = {head: HEADS.about(head).knobs for head in SEVEN}
    return {
        head: settle(own, {name: value for name, value in knobs.items() if name in own}, classes)
        for head, own in of_heads.items()
    }


def together(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that were queued together, by their note, newest first; each group by seed, then head."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.note.startswith(NOTE):
            groups[run.note].append(run)
    place = {head: place for place, head in enumerate(SEVEN)}
    return {
        note: sorted(group, key=lambda run: (run.config.seed, place.get(run.config.head, 99)))
        for note, group in groups.items()
    }


def unequal(runs: Sequence[Run]) -> list[str]:
    """The settings, other than head, knobs and seed, in which these runs differ."""
    names = [name for name in vars(runs[0].config) if name not in FREE]
    return [name for name in names if len({getattr(run.config, name) for run in runs}) > 1]


def alike(runs: Sequence[Run]) -> list[str]:
    """The newest run that has not failed and those on equal terms with it, newest first, by id."""
    good = [run for run in runs if run.state != "failed"]
    return [run.id for run in good if not unequal([good[0], run])]


def siblings(runs: Iterable[Run], latest: Mapping[str, Mapping[str, Any]]) -> list[list[Run]]:
    """Runs that differ in nothing but their seed, together. One whose knobs a person has turned stands apart.

    `latest` are the facts of each run's newest snapshot.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        alike = {name: value for name, value in vars(run.config).items() if name != "seed"}
        turned = latest[run.id]["turned"] if run.id in latest else []
        groups[repr((alike, turned))].append(run)
    return list(groups.values())


def spread(scores: Sequence[float]) -> str:
    """The mean of some shares in per cent, with their standard deviation when there are several."""
    if not scores:
        return "–"
    more = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{100 * statistics.fmean(scores):.1f}{more} %"


def chance(score: float, count: float) -> float:
    """How far two equally good models' shares of right answers among `count` images lie apart in 95 of 100 cases.

    The normal approximation for two independent shares: 1.96 * sqrt(2 p (1 - p) / n).
    """
    return 1.96 * math.sqrt(2 * score * (1 - score) / count)
