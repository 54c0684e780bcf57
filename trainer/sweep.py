"""Sweeps: one head over ranges of its settings as one action, by a grid or searched for by Optuna.

A sweep is a file, `sweeps/<id>/sweep.json` in the home. What has become of it is read from the runs: a part of it
is done when a finished run has exactly its settings, whoever queued that run, so nothing is trained twice and a
sweep goes on where it was. A search (`trainer.tuning`) is under way while the file `sweeps/<id>/search` is there.
"""

import itertools
import json
import math
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ulid import ULID

from faces import feasibility
from faces.datasets import find
from faces.files import Place, aside, there, write, write_json
from faces.heads import HEADS
from faces.knobs import Knob, Number, Value, fixed_scale, scale_bound, settle
from faces.seals import DamagedError, from_json
from trainer.comparison import COSTLY, Measure, expected, paired
from trainer.config import TERMS, RunConfig
from trainer.engines.local import cores, gpus
from trainer.naming import stamped
from trainer.rights import Person, RefusedError
from trainer.store import OPEN, Run, Store

Point = tuple[Number, ...]  # a value for each axis

MOST = 500  # runs of one sweep
RECENT = 300  # finished runs that the time is told from
PRUNED = "Pruned: "  # how the reason of a run that a search has given up begins
SHARED = ("lr", "weight_decay", "dim", "batch", "epochs")  # terms that can be an axis, beside the head's knobs
USUAL: dict[str, tuple[float, float, bool]] = {  # low, high, by equal factors
    "s": (1.0, 16.0, True), "m": (0.0, 0.6, False), "m2": (0.0, 0.6, False), "m3": (0.0, 0.4, False),
    "m1": (1.0, 2.0, False), "k": (1, 5, False), "lr": (0.0125, 0.2, True), "weight_decay": (5e-5, 5e-3, True),
    "dim": (2, 128, True), "batch": (32, 256, True), "epochs": (2, 10, False),
}  # fmt: skip
PROBABILITY = 0.99  # of the true class, that CosFace's bound for s is drawn for

# What the rule for the time stands on: image side, and images a second, trained or looked at, of finished runs on one
# core of a shared server (torch 2.15, one thread, float32, 2026-11).
IMAGES = {
    "ConvNet": (8, 8000.0), "ConvNetSlim": (8, 12000.0), "ResNet9": (64, 650.0), "ResNet9Wide": (64, 200.0),
    "ResNet18": (64, 80.0), "ResNet9Deep": (128, 27.0),
}  # fmt: skip
START, FROZEN = 1.2, 0.8  # seconds of a run besides its training images, and of a run on a frozen encoder


def axes_of(head: str, dataset: str) -> dict[str, Knob]:
    """What can be an axis: the head's own numbers, terms of the training, label noise where the dataset has some."""
    knobs = {name: knob for name, knob in HEADS.about(head).knobs.items() if isinstance(knob, Knob)}
    terms = {name: term for name in SHARED if isinstance(term := TERMS[name], Knob)}
    levels = find(dataset).noise
    noise = {"noise": Knob(0, 0, max(levels), "wrong training labels, %", live=False)} if len(levels) > 1 else {}
    return knobs | terms | noise


def usual(name: str, knob: Knob) -> tuple[Number, Number, bool]:
    """A range worth a first look: low, high, and whether its steps are equal factors."""
    low, high, log = USUAL.get(name, (knob.low, knob.high, False))
    kind = int if knob.whole else float
    return kind(max(low, knob.low)), kind(min(high, knob.high)), log


@dataclass(frozen=True)
class Axis:
    """A setting and its values, rising; a search looks anywhere between the first and the last."""

    name: str
    values: Point
    log: bool = False

    @classmethod
    def spaced(cls, name: str, low: Number, high: Number, steps: int, log: bool = False, whole: bool = False) -> "Axis":
        """Evenly spaced values, or by equal factors. Those of a whole number that fall together count once."""
        if not low < high:
            raise ValueError(f"{name} goes from {low:g} to {high:g}; the end must be larger than the beginning.")
        if log and low <= 0:
            raise ValueError(f"{name} cannot go from {low:g} by equal factors; begin above 0, or take equal steps.")
        if steps < 2:
            raise ValueError(f"{name} needs 2 steps or more, not {steps}.")
        values = np.geomspace(low, high, steps) if log else np.linspace(low, high, steps)
        return cls(name, tuple(dict.fromkeys(tidy(value, whole) for value in values)), log)

    def place(self, value: float) -> float | None:
        """Where a value lies, the first of the axis' values at 0, the second at 1; None half a step outside."""
        at = np.log(self.values) if self.log else np.asarray(self.values, float)
        if self.log and value <= 0:
            return None
        here = math.log(value) if self.log else float(value)
        begin, end = at[0] - (at[1] - at[0]) / 2, at[-1] + (at[-1] - at[-2]) / 2
        if not begin <= here <= end:
            return None
        if here <= at[0] or here >= at[-1]:
            edge, step, first = (at[0], at[1] - at[0], 0) if here <= at[0] else (at[-1], at[-1] - at[-2], len(at) - 1)
            return float(first + (here - edge) / step)
        return float(np.interp(here, at, np.arange(len(at))))


def tidy(value: float, whole: bool = False) -> Number:
    """A value as it is said and trained: four significant digits, so that equal values are equal settings."""
    return round(value) if whole else float(f"{value:.4g}")


@dataclass(frozen=True)
class Sweep:
    """A head, one to three axes, and everything that stays the same.

    `terms` are the rest of a RunConfig, without seed; `knobs` the head's that are no axis. Every point is trained
    with seeds 0, 1, ... `trials` 0 is the whole grid, else so many points that Optuna suggests, beginning with
    `seed`. `note` is what its runs are called, `owner` whose it is in a class, `minutes` how long its runs train at a
    stretch (0: any). ValueError, in one sentence, for what cannot be.
    """

    head: str
    axes: tuple[Axis, ...]
    terms: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Value] = field(default_factory=dict)
    seeds: int = 1
    trials: int = 0
    seed: int = 0
    note: str = ""
    owner: str = ""
    minutes: int = 0

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        known = axes_of(self.head, self.dataset)
        if not 1 <= len(names) <= 3 or len(set(names)) < len(names):
            raise ValueError(f"A sweep has one to three different axes, not {names}.")
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{unknown[0]} can be no axis of {self.head}. What can: {', '.join(known)}.")
        for axis in self.axes:
            if len(axis.values) < 2:
                raise ValueError(f"{axis.name} needs two values or more, not {list(axis.values)}.")
            if self.trials and axis.name == "noise":
                raise ValueError("A search would choose no label noise at all; take another axis, or a grid.")
        if self.count > MOST:
            raise ValueError(
                f"{self.count} runs are too many for one sweep; take fewer steps or seeds, {MOST} at most."
            )
        if self.seeds < 1:
            raise ValueError(f"A sweep trains every point with 1 seed or more, not {self.seeds}.")
        for point in self.checked:
            self.config(point, 0)

    @property
    def checked(self) -> list[Point]:
        """The points that must be able to be: all of a grid, the corners of what is searched."""
        corners = itertools.product(*(axis.values[:: len(axis.values) - 1] for axis in self.axes))
        return list(corners) if self.trials else self.points

    @property
    def dataset(self) -> str:
        return str(self.terms.get("dataset", RunConfig.dataset))

    @property
    def points(self) -> list[Point]:
        """The points of the grid, those of the first axis next to each other."""
        return [point[::-1] for point in itertools.product(*(axis.values for axis in self.axes[::-1]))]

    @property
    def count(self) -> int:
        """How many runs it takes, at most."""
        return (self.trials or math.prod(len(axis.values) for axis in self.axes)) * self.seeds

    def config(self, point: Point, seed: int) -> RunConfig:
        """The settings of one run."""
        at = dict(zip((axis.name for axis in self.axes), point, strict=True))
        own = HEADS.about(self.head).knobs
        knobs = {**self.knobs, **{name: value for name, value in at.items() if name in own}}
        terms = {**self.terms, **{name: value for name, value in at.items() if name not in own}}
        return RunConfig(**{**terms, "head": self.head, "knobs": knobs, "seed": seed})

    def point(self, config: RunConfig) -> Point:
        """Where a run of this sweep lies."""
        return tuple(
            config.knobs[axis.name] if axis.name in config.knobs else getattr(config, axis.name) for axis in self.axes
        )

    @property
    def title(self) -> str:
        """Head and axes, for people."""
        return f"{self.head}, {' × '.join(axis.name for axis in self.axes)}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, name: object = "A sweep") -> "Sweep":
        """The inverse of `to_json`; readable also when its dataset has gone since. DamagedError for no such text."""
        values = from_json(text, name)
        values["axes"] = tuple(Axis(one["name"], tuple(one["values"]), one["log"]) for one in values["axes"])
        record = object.__new__(cls)  # checked when it was made
        for name, value in values.items():
            object.__setattr__(record, name, value)
        return record

    def __hash__(self) -> int:
        return hash(self.to_json())


# ---- what has become of it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One seed of a cell: its run, if there is one, and what became of it.

    `state` is none, waiting, training, done, failed, pruned or stopped.
    """

    seed: int
    state: str = "none"
    run: Run | None = None
    score: float | None = None

    @property
    def reason(self) -> str:
        return self.run.reason.removeprefix(PRUNED) if self.run else ""


ORDER = ("failed", "training", "waiting", "pruned", "stopped", "none", "done")  # what a cell shows of its parts


@dataclass(frozen=True)
class Cell:
    """One point of a sweep with all its seeds."""

    point: Point
    parts: tuple[Part, ...]

    @property
    def state(self) -> str:
        """The one of its parts' states that is to be noticed first; a failure hides behind nothing."""
        return min((part.state for part in self.parts), key=ORDER.index)

    @property
    def scores(self) -> list[float]:
        return [part.score for part in self.parts if part.score is not None]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def sd(self) -> float | None:
        """The standard deviation over seeds; None of fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def open(self) -> bool:
        return any(part.state in ("waiting", "training") for part in self.parts)


@lru_cache(32)
def _plan(sweep: Sweep) -> dict[RunConfig, tuple[Point, int]]:
    return {sweep.config(point, seed): (point, seed) for seed in range(sweep.seeds) for point in sweep.points}


def look(store: Store, sweep: Sweep, metric: str = "knn_accuracy") -> list[Cell]:
    """Every cell of a grid; of a search those points that have been suggested, in that order.

    Of several runs with the same settings a finished one counts before one that trains, waits, or ended otherwise.
    A finished run whose knobs a person has turned does not count.
    """
    runs = store.trained(sweep.head, sweep.dataset, sweep.note if sweep.trials else "")
    if sweep.trials:
        runs = runs[::-1]
        found = {run.config: (sweep.point(run.config), run.config.seed) for run in runs}
        points = list(dict.fromkeys(point for point, _ in found.values()))
    else:
        plan = _plan(sweep)
        runs = [run for run in runs if run.config in plan]
        found, points = plan, sweep.points
    latest = store.latest([run.id for run in runs])
    parts: dict[tuple[Point, int], Part] = {}
    for run in runs:
        part = _part(run, latest.get(run.id), metric)
        if not sweep.trials and part.state == "pruned":  # what a search gave up, a grid still wants
            part = replace(part, state="stopped")
        here = found[run.config]
        before = parts.get(here)
        if part.state != "none" and (before is None or _counts(part) > _counts(before)):
            parts[here] = part
    return [Cell(point, tuple(parts.get((point, seed), Part(seed)) for seed in range(sweep.seeds))) for point in points]


def _part(run: Run, facts: Mapping[str, Any] | None, metric: str) -> Part:
    seed = run.config.seed
    if run.state == "finished":
        whole = facts is not None and facts["step"] == facts["steps"] and not facts["turned"]
        score = facts["metrics"].get(metric) if whole and facts else None
        return Part(seed, "done", run, score) if whole else Part(seed)
    states = {"queued": "waiting", "running": "training", "failed": "failed"}
    pruned = run.state == "stopped" and run.reason.startswith(PRUNED)
    return Part(seed, "pruned" if pruned else states.get(run.state, "stopped"), run)


def _counts(part: Part) -> tuple[int, str]:
    order = ("stopped", "pruned", "failed", "waiting", "training", "done")
    return order.index(part.state), part.run.id if part.run else ""


def ranked(cells: Sequence[Cell], made: Sweep, measure: Measure) -> list[Cell]:
    """The cells whose seeds are all done, the best mean first."""
    whole = [cell for cell in cells if cell.state == "done" and len(cell.scores) == made.seeds]
    return sorted(whole, key=lambda cell: (cell.mean or 0.0) * (-1 if measure.higher else 1))


def verdict(cells: Sequence[Cell], made: Sweep, measure: Measure) -> str:
    """Which cell has the best mean, and how many others chance alone may have put behind it, in a sentence or two.

    Only cells whose seeds are all done take part.
    """
    whole = ranked(cells, made, measure)
    if not whole:
        return ""
    best = whole[0]
    said = f"Best mean so far: {spelled(made, best.point)}, {measure.about(best.scores)}."
    if made.seeds == 1:
        return f"{said} One seed: what chance does to it, nobody can see."
    pairs = math.comb(len(whole), 2)  # any of them might have been the best
    others = [paired(best.scores, cell.scores, pairs) for cell in whole if cell is not best]
    tied = sum(abs(gap) <= within for gap, within in others)
    if not tied:
        return f"{said} Every other point is behind by more than chance."
    hint = " Two seeds can hardly tell anything." if made.seeds == 2 else ""
    if tied == len(others):
        return f"{said} None of the other {tied} can be told from it by {made.seeds} seeds.{hint}"
    return f"{said} {tied} of the other {len(others)} cannot be told from it by {made.seeds} seeds.{hint}"


def spelled(made: Sweep, point: Point) -> str:
    """A point for people, such as s = 4, m = 0.2."""
    return ", ".join(f"{axis.name} = {value:.4g}" for axis, value in zip(made.axes, point, strict=True))


# ---- what it costs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What is left to train: `runs` of them, beside those `done` already and those that wait or train (`open`).

    `seconds` is None where nobody can say. `earlier` is the number of finished runs that it is told from; 0: a rule.
    """

    runs: int
    done: int
    open: int
    seconds: float | None
    earlier: int


def cost(store: Store, sweep: Sweep) -> Cost:
    """What a sweep would take now, on this machine; for a search at most, since pruned runs take less.

    From finished runs that cost as much and were trained here; where there are none, from a rule: training images at
    the speed of one core of a shared server, for as many runs at once as this machine trains. A GPU has no such rule.
    ValueError for a frozen encoder that cannot serve.
    """
    _check_frozen(store, sweep)
    states: Counter[str] = Counter()
    left: list[RunConfig] = []
    if sweep.trials:
        left = [sweep.config(sweep.points[0], seed) for seed in range(sweep.seeds) for _ in range(sweep.trials)]
    else:
        for cell in look(store, sweep):
            for part in cell.parts:
                states[part.state] += 1
                left += [sweep.config(cell.point, part.seed)] if part.state in ("none", "stopped") else []
    groups: dict[tuple, list[RunConfig]] = defaultdict(list)
    for config in left:
        groups[(*(getattr(config, name) for name in COSTLY), config.epochs, config.frozen_from)].append(config)
    here = [
        run
        for run in store.runs(("finished",), slice(0, RECENT))
        if run.config.dataset == sweep.dataset and _trained_here(store, run)
    ]
    seconds, counts = 0.0, list[int]()
    for alike in groups.values():
        told, earlier = expected(here, vars(alike[0]), len(alike))
        told = told if told is not None else ruled(alike[0], len(alike))
        if told is None:
            return Cost(len(left), states["done"], states["waiting"] + states["training"], None, 0)
        seconds, counts = seconds + told, [*counts, earlier]
    earlier = sum(counts) if all(counts) else 0
    return Cost(len(left), states["done"], states["waiting"] + states["training"], seconds, earlier)


def ruled(config: RunConfig, count: int) -> float | None:
    """Seconds that so many runs take by rule of thumb; None where the rule knows nothing."""
    counts = find(config.dataset).counts
    if not _at_once() or counts is None or config.encoder not in IMAGES:
        return None
    side, rate = IMAGES[config.encoder]
    area = ((config.crop or config.size) / side) ** 2
    each = FROZEN if config.frozen_from else START + (counts[0] * config.epochs + sum(counts)) * area / rate
    return count * each / _at_once()


@lru_cache(1)
def _at_once() -> int:
    """How many runs train at once on CPU cores; 0 where GPUs do the work."""
    return 0 if gpus() else max(1, cores() - 1)


def _check_frozen(store: Store, sweep: Sweep) -> None:
    """Refuse what every run of some seed would fail with: its encoder has seen the classes that it holds out."""
    if name := str(sweep.terms.get("frozen_from", "")):
        classes, seen = len(find(sweep.dataset).class_names), store.run(name).config
        for seed in range(sweep.seeds):
            if set(sweep.config(sweep.points[0], seed).unseen(classes)) - set(seen.unseen(classes)):
                raise ValueError(
                    f"The frozen encoder has seen classes that seed {seed} holds out; hold out none, or freeze the "
                    "encoder of a run that held out the same."
                )


def _trained_here(store: Store, run: Run) -> bool:
    """Whether a worker of this home trained it; recorded runs were brought in."""
    log = store.folder(run.id).attempt(run.attempt) / "log.txt"
    return log.exists() if isinstance(log, Path) else _logged(log)


@lru_cache(10_000)
def _logged(log: Place) -> bool:
    """Asked of a far place once: a run that is asked about has ended, and gets no log any more."""
    return there(log)


# ---- start, stop, go on ---------------------------------------------------------------------------------


def folder(store: Store, name: str) -> Path:
    """Where a sweep lies. ValueError when the id is none."""
    try:
        return store.path / "sweeps" / str(ULID.from_str(name))
    except ValueError as why:
        raise ValueError("A sweep is named by 26 letters and digits; this is no sweep id.") from why


def sweeps(store: Store) -> dict[str, Sweep]:
    """All sweeps, newest first; a damaged one is set aside."""
    found = {}
    for file in sorted((store.path / "sweeps").glob("*/sweep.json"), reverse=True):
        try:
            found[file.parent.name] = Sweep.from_json(file.read_bytes(), file)
        except DamagedError:
            aside(file)
    return found


def read(store: Store, name: str) -> Sweep:
    """One sweep; ValueError when there is none of that id, or when it is damaged."""
    file = folder(store, name) / "sweep.json"
    try:
        return Sweep.from_json(file.read_bytes(), file)
    except FileNotFoundError as why:
        raise ValueError("There is no sweep of this id here; it may have been deleted.") from why


def start(store: Store, sweep: Sweep) -> str:
    """Keep a sweep, queue what is left of it, and return its id. ValueError for a frozen encoder that cannot serve.

    RefusedError, and nothing kept, for one that is more than who asks may have, and for a second search at once.
    """
    _check_frozen(store, sweep)
    store.allow("submit")
    if limits := store.by.limits:
        limits.room("sweep", 0, sweep.count)
        for point in sweep.checked:
            limits.check(sweep.config(point, 0))
    told = {"note": stamped(f"Sweep · {sweep.title}"), "owner": store.by.owner, "minutes": store.by.minutes}
    sweep = Sweep(**{**vars(sweep), **told})
    _afford(store, sweep)
    name = str(ULID())
    write_json(folder(store, name) / "sweep.json", json.loads(sweep.to_json()))
    go_on(store, name)
    return name


def go_on(store: Store, name: str) -> int:
    """Queue all of a sweep that is not done, not under way and has not failed or been pruned; returns how many runs.

    A stopped run goes on from its last checkpoint. A search goes on with the points it has not tried. New runs are
    of whom the sweep is, whoever asks.
    """
    sweep = read(store, name)
    store.allow("resume", sweep.owner)
    if not store.by.owns(sweep.owner):
        store = store.asked_by(Person.acting(sweep.owner, sweep.minutes))
    left = _afford(store, sweep, name)
    for _, run in left:
        if run:
            store.resume(run.id)
    store.submit_many([config for config, run in left if not run], sweep.note)
    if sweep.trials:
        (folder(store, name) / "reason.txt").unlink(missing_ok=True)
        write(folder(store, name) / "search", "")
    return len(left)


def _afford(store: Store, sweep: Sweep, name: str = "") -> list[tuple[RunConfig, Run | None]]:
    """What is to be queued of a sweep now, each with the run that is to go on, if there is one.

    RefusedError when who asks may not have that, or not so many runs as a search may yet come to, or has another
    search under way. `name` is the id of the sweep, if it has one.
    """
    cells = look(store, sweep)
    if not sweep.trials:
        left = _left(sweep, cells)
        store.afford([config for config, _ in left], sum(run is None for _, run in left))
        return left
    if store.by.limits:
        for other, made in sweeps(store).items():
            if other != name and store.by.owns(made.owner) and searching(store, other):
                raise RefusedError("A search of yours is under way; stop it or wait for its end, or ask a teacher.")
    stopped = [part.run for cell in cells for part in cell.parts if part.state == "stopped" and part.run]
    ahead = [cell for cell in cells if cell.parts[0].state not in ("failed", "pruned")]  # whose other seeds may follow
    more = (sweep.trials - len(cells)) * sweep.seeds + sum(part.run is None for cell in ahead for part in cell.parts)
    store.afford([run.config for run in stopped], more)
    return [(run.config, run) for run in stopped]


def _left(sweep: Sweep, cells: Sequence[Cell]) -> list[tuple[RunConfig, Run | None]]:
    """What is left of a grid, each with the run that is to go on, if there is one."""
    left: list[tuple[RunConfig, Run | None]] = []
    for seed in range(sweep.seeds):  # so that the map is whole before the second seed begins
        for cell in cells:
            part = cell.parts[seed]
            if part.state in ("none", "stopped"):
                own = part.run if part.run and part.run.note == sweep.note else None  # what others stopped stays theirs
                left.append((sweep.config(cell.point, seed), own))
    return left


def try_again(store: Store, name: str) -> None:
    """Queue the failed runs of a sweep once more, as far as they are of who asks."""
    sweep = read(store, name)
    store.allow("resume", sweep.owner)
    for cell in look(store, sweep):
        for part in cell.parts:
            if part.state == "failed" and part.run and not store.why_not("resume", part.run.owner):
                store.resume(part.run.id)


def stop(store: Store, name: str) -> None:
    """Stop a sweep: the search, and every run that it queued. What is done stays."""
    sweep = read(store, name)
    store.allow("stop", sweep.owner)
    end_search(store, name)
    for run in store.runs(OPEN, note=sweep.note):
        store.stop(run.id)


def forget(store: Store, name: str) -> None:
    """Remove a sweep that is not under way; its runs stay."""
    store.allow("delete", read(store, name).owner)
    stop(store, name)
    shutil.rmtree(folder(store, name), ignore_errors=True)


def searching(store: Store, name: str) -> bool:
    """Whether a search is under way, or waits to be."""
    return (folder(store, name) / "search").exists()


def searches(store: Store) -> list[str]:
    """The searches that are under way or wait, oldest first."""
    return sorted(file.parent.name for file in (store.path / "sweeps").glob("*/search"))


def end_search(store: Store, name: str, reason: str = "") -> None:
    """Record that a search has come to its end, or why it broke."""
    if reason:
        write(folder(store, name) / "reason.txt", reason)
    (folder(store, name) / "search").unlink(missing_ok=True)


def why_ended(store: Store, name: str) -> str:
    """Why a search broke; empty when it did not."""
    with suppress(FileNotFoundError):
        return (folder(store, name) / "reason.txt").read_text(encoding="utf-8")
    return ""


# ---- what is drawn on the map ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """A line over two axes: its values along the first and along the second one, and what it says."""

    name: str
    words: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]


FINE = 33  # places along an axis at which a limit is looked for


@lru_cache(32)
def marks(sweep: Sweep) -> list[Mark]:
    """The default s, CosFace's lower bound for it, and the largest margins that fit, as lines over the first two axes.

    What lies outside the axes is there too; a sweep without s or a margin has fewer lines, one of one axis only such
    as stand across it.
    """
    first, second = (*sweep.axes, None)[:2]
    if first is None:
        return []
    knobs, classes = _fixed(sweep)
    ends = (first, second) if second else (first, Axis("", (0.0, 1.0)))
    found: list[Mark] = []

    def across(axis: int, value: float, name: str, words: str) -> None:
        other = ends[1 - axis].values
        line, rest = (value, value), (float(other[0]), float(other[-1]))
        found.append(Mark(name, words, *((line, rest) if axis == 0 else (rest, line))))

    for place, axis in enumerate(ends):
        knob = HEADS.about(sweep.head).knobs.get(axis.name)
        if axis.name == "s" and isinstance(knob, Knob):
            if knob.default is fixed_scale:
                across(place, fixed_scale(classes), "default s", f"√2·ln(C − 1) = {fixed_scale(classes):.2f}")
            bound = scale_bound(classes, PROBABILITY)
            words = f"with s below {bound:.2f} not all classes can have a probability of {PROBABILITY} at once"
            across(place, bound, "CosFace's bound", words)
    found += _limits(sweep, ends, knobs, classes)
    return found


def _fixed(sweep: Sweep) -> tuple[dict[str, Value], int]:
    classes = len(find(sweep.dataset).class_names) - int(sweep.terms.get("held_out", 0))
    return settle(HEADS.about(sweep.head).knobs, sweep.knobs, classes), classes


def _limits(sweep: Sweep, ends: Sequence[Axis], knobs: Mapping[str, Value], classes: int) -> list[Mark]:
    """The largest value of a margin that is an axis, along the other axis: of the second axis if both are margins."""

    def largest(name: str, other: str, value: float) -> float | None:
        changed = {**knobs, **({other: value} if other in knobs else {})}
        dim = round(value) if other == "dim" else int(sweep.terms.get("dim", RunConfig.dim))
        with suppress(ValueError):
            cases = feasibility.limits(HEADS.about(sweep.head), changed, classes, dim).values()
            return min((limit.largest[name] for limit in cases if name in limit.largest), default=None)
        return None

    for mine, theirs in ((1, 0), (0, 1)):
        axis, other = ends[mine], ends[theirs]
        spaced = np.geomspace if other.log else np.linspace
        places = [float(value) for value in spaced(other.values[0], other.values[-1], FINE)]
        few = [largest(axis.name, other.name, at) for at in (places[0], places[FINE // 2], places[-1])]
        if None in few or not axis.name:
            continue
        if max(few) - min(few) < 1e-6:  # type: ignore[type-var, operator]
            places = [places[0], places[-1]]
        most = tuple(largest(axis.name, other.name, at) or 0.0 for at in places)
        span = f"{min(most):.2f}" + (f" to {max(most):.2f}" if max(most) - min(most) >= 0.01 else "")
        words = f"more than {span} cannot be met by all {classes} classes at once"
        return [Mark(f"largest {axis.name}", words, *((most, tuple(places)) if mine == 0 else (tuple(places), most)))]
    return []


# ---- all runs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One thing that all runs are told by: its name, what sort it is, and a value for each run that has it."""

    name: str
    measure: bool
    values: tuple[Value | None, ...]

    @property
    def words(self) -> bool:
        return any(isinstance(value, str) for value in self.values)


TOLD = ("knn_accuracy", "dnn_accuracy", "map_at_r", "tar_at_far_0.01")  # measures of the parallel coordinates
SETTINGS = ("encoder", "size", *SHARED, "noise", "held_out", "seed")


def columns(runs: Sequence[Run], latest: Mapping[str, Mapping[str, Any]]) -> list[Column]:
    """What sets these runs apart, head first, then its knobs, then terms; and the measures, KNN accuracy last."""
    settings = {"head": [run.config.head for run in runs]}
    heads = {run.config.head: run.config.knobs for run in runs}
    own = (HEADS.about(head).knobs if head in HEADS else knobs for head, knobs in heads.items())
    for name in dict.fromkeys(name for knobs in own for name in knobs):
        settings[name] = [run.config.knobs.get(name) for run in runs]
    settings |= {name: [getattr(run.config, name) for run in runs] for name in SETTINGS}
    settings["encoder weights"] = ["frozen" if run.config.frozen_from else "trained" for run in runs]
    varied = [Column(name, False, tuple(values)) for name, values in settings.items() if len({*values} - {None}) > 1]
    metrics = [latest[run.id]["metrics"] for run in runs]
    scores = [Column(name, True, tuple(one.get(name) for one in metrics)) for name in reversed(TOLD)]
    return varied + [column for column in scores if any(value is not None for value in column.values)]


def complete(runs: Iterable[Run], latest: Mapping[str, Mapping[str, Any]]) -> list[Run]:
    """The runs that came to their end with the settings they were given."""
    pairs = [(run, latest[run.id]) for run in runs if run.id in latest]
    return [run for run, facts in pairs if facts["step"] == facts["steps"] and not facts["turned"]]


def front(points: Iterable[tuple[float, float]]) -> list[int]:
    """The places of those points that no other one beats in both numbers, in order of the first number.

    More is better. Of equal points all are in it.
    """
    rows = list(points)
    return sorted(
        (
            place
            for place, (x, y) in enumerate(rows)
            if not any(a >= x and b >= y and (a > x or b > y) for a, b in rows)
        ),
        key=lambda place: rows[place],
    )
