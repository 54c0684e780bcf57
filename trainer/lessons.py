"""The numbers that lessons may ask for: of the heads' formulas, and of the recorded runs that come with Faces.

`WORDS` is handed to `faces.lessons`. Recorded runs are named by their file in assets/runs, and are read from it
without being opened. Angles are in degrees.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from faces import feasibility
from faces.datasets import find
from faces.heads import HEADS
from faces.knobs import Value, fixed_scale, settle
from trainer import comparison, recorded
from trainer.comparison import MEASURES
from trainer.pictures import measured
from trainer.store import Run

KEPT = ("trust", "knn", "knn_before", "variance", "knn_shuffled")  # what `measured` says of a picture, in its order


def place(file: str) -> Path:
    """Where recorded runs lie. Unknown name: ValueError."""
    places = {path.stem: path for path in recorded.files()}
    if file not in places:
        raise ValueError(f"There are no recorded runs {file!r}. There are: {', '.join(places)}.")
    return places[file]


@lru_cache
def runs(file: str, noise: int = 0) -> tuple[list[Run], dict[str, dict[str, Any]]]:
    """The runs of a file of recorded runs at one percentage of wrong labels, and what each says at its end."""
    found = {name: one for name, one in recorded.told(place(file)).items() if one[0].config.noise == noise}
    return [run for run, _ in found.values()], {name: history[-1] for name, (_, history) in found.items()}


def of_head(file: str, head: str, noise: int = 0, **knobs: Value) -> list[Run]:
    """The runs of one head, by seed; with `knobs` those that had these. ValueError when there is none."""
    found = [
        run
        for run in runs(file, noise)[0]
        if run.config.head == head and all(run.config.knobs.get(name) == value for name, value in knobs.items())
    ]
    if not found:
        raise ValueError(f"The recorded runs {file!r} have none of {head} with {knobs or 'any knobs'}, noise {noise}.")
    return sorted(found, key=lambda run: run.config.seed)


def values(file: str, head: str, metric: str, noise: int = 0, **knobs: Value) -> list[float]:
    """A metric of one head at the end of training, seed by seed. ValueError when it was not measured."""
    latest = runs(file, noise)[1]
    found = [latest[run.id]["metrics"].get(metric) for run in of_head(file, head, noise, **knobs)]
    if any(value is None for value in found):
        raise ValueError(f"{metric!r} was not measured in {head} of {file!r}.")
    return [float(value) for value in found]


def score(file: str, head: str, metric: str, noise: int = 0, **knobs: Value) -> str:
    """A metric with its standard deviation over the seeds, as people read it, such as 44.8 ± 0.2 %."""
    if metric not in MEASURES:
        raise ValueError(f"{metric!r} is no measure. There are: {', '.join(MEASURES)}.")
    return MEASURES[metric].about(values(file, head, metric, noise, **knobs))


def mean(file: str, head: str, metric: str, noise: int = 0, **knobs: Value) -> float:
    """A metric, a mean over the seeds."""
    return fmean(values(file, head, metric, noise, **knobs))


def lowest(file: str, head: str, metric: str, noise: int = 0, **knobs: Value) -> float:
    """A metric of the seed where it is lowest."""
    return min(values(file, head, metric, noise, **knobs))


def highest(file: str, head: str, metric: str, noise: int = 0, **knobs: Value) -> float:
    """A metric of the seed where it is highest."""
    return max(values(file, head, metric, noise, **knobs))


def at_epoch(file: str, head: str, metric: str, epoch: int) -> float:
    """A metric of seed 0 at the end of an epoch; 0 is the start."""
    (run, *_) = of_head(file, head)
    history = recorded.told(place(file))[run.id][1]
    found = [facts["metrics"][metric] for facts in history if facts["epoch"] == epoch and metric in facts["metrics"]]
    if not found:
        raise ValueError(f"{metric!r} of {head} at epoch {epoch} is not among the recorded runs {file!r}.")
    return float(found[0])


def ranked(file: str, metric: str, *heads: str) -> comparison.Ranking:
    """The recorded heads, or some of them, by a metric."""
    found, latest = runs(file)
    return comparison.ranking([run for run in found if run.config.head in (heads or HEADS)], latest, metric)


def rank(file: str, head: str, metric: str) -> str:
    """The ranks that chance leaves open to a head, such as 1–4."""
    found = next((one.rank for one in ranked(file, metric).standings if one.head == head), "")
    if not found:
        raise ValueError(f"{head} has no {metric!r} in {file!r}.")
    return found


def verdict(file: str, metric: str, *heads: str) -> str:
    """What the ranking of recorded heads by a metric says, in a sentence or two."""
    return comparison.verdict(ranked(file, metric, *heads))


def terms(file: str) -> str:
    """What all runs of a file have in common, in words."""
    found, latest = runs(file)
    config = found[0].config
    seeds = {run.config.seed for run in found}
    asked = max(int(facts["metrics"]["asked"]) for facts in latest.values())
    start = "ImageNet weights" if config.pretrained else "random weights"
    return (
        f"{find(config.dataset).title}, {asked:,} validation images, {config.size} px, {config.encoder} from {start}, "
        f"D = {config.dim}, {config.epochs} epochs, {len(seeds)} seeds"
    )


def variance(file: str, head: str, components: int) -> str:
    """The share of the variance that the first principal components explain, with its spread over the seeds."""
    return comparison.spread(shares_of(file, head, components))


def shares_of(file: str, head: str, components: int) -> list[float]:
    """The same, seed by seed."""
    arrays = (recorded.last_arrays(place(file), run.id) for run in of_head(file, head))
    return [float(one["variance"][:components].sum()) for one in arrays]


def explained(file: str, head: str, components: int) -> float:
    """The same as a number, a mean over the seeds."""
    return fmean(shares_of(file, head, components))


def kept(file: str, head: str, picture: str, what: str) -> float:
    """What a recorded picture of seed 0 keeps (`trainer.pictures.measured`), or how many points it shows."""
    path, name = place(file), run(file, head)
    drawn, last = recorded.last_arrays(path, name, f"points/{picture}"), recorded.last_arrays(path, name)
    points, labels = drawn["points"], drawn["labels"]
    told = dict(zip(KEPT, measured(last["embeddings"][: len(points)].astype(np.float32), points, labels), strict=True))
    told["points"] = len(points)
    if what not in told:
        raise ValueError(f"{what!r} is not known of a picture. It tells: {', '.join(told)}.")
    return float(told[what])


def share(file: str, center: int, noise: int) -> float:
    """The share of training images that a sub-center wins, 1 the one that wins most."""
    found, latest = runs(file, noise)
    return comparison.center_shares(found, latest)[noise][center - 1]


def lead(file: str, head: str, other: str, metric: str, noise: int = 0) -> str:
    """The 95 % interval of how far one head is ahead of another, seed by seed."""
    gap, within = comparison.paired(values(file, head, metric, noise), values(file, other, metric, noise))
    low, high = (MEASURES[metric].said(gap + side * within, sign=True, unit=False) for side in (-1, 1))
    return f"{low} to {high}"


def count(file: str) -> int:
    """How many seeds there are."""
    return len({run.config.seed for run in runs(file)[0]})


def run(file: str, head: str, seed: int = 0, **knobs: Value) -> str:
    """The id of a recorded run."""
    found = next((one.id for one in of_head(file, head, 0, **knobs) if one.config.seed == seed), "")
    if not found:
        raise ValueError(f"The recorded runs {file!r} have no seed {seed} of {head}.")
    return found


def group(file: str) -> str:
    """What the runs of a file are called together."""
    return runs(file)[0][0].note


def best_probability(C: int, s: float, spread: bool = True) -> float:
    """The largest probability of the true class, without a margin, for a sample on its center.

    The other centers lie as far off as C can from each other, or, without `spread`, at right angles.
    """
    return math.exp(-feasibility.loss_of(float(s), C / (C - 1) if spread else 1.0, C))


def probability(C: int, s: float, theta: float, m: float = 0.0) -> float:
    """The probability of the own class at an angle, all other centers at right angles; m is added to the angle."""
    return math.exp(-feasibility.loss_of(float(s), math.cos(math.radians(theta) + m), C))


def half(C: int, s: float, m: float = 0.0) -> float:
    """The angle at which that probability is one half."""
    return math.degrees(math.acos(math.log(C - 1) / s) - m)


def cosface_for(m: float, theta: float) -> float:
    """The margin on the cosine that asks for as much at this angle as m radians on the angle."""
    angle = math.radians(theta)
    return math.cos(angle) - math.cos(angle + m)


def band(m: float, theta: float) -> float:
    """How much farther off the other class must be for the own one to win under CosFace's margin on the cosine."""
    return math.degrees(math.acos(max(-1.0, math.cos(math.radians(theta)) - m))) - theta


def apart(C: int, D: int) -> float:
    """The largest angle that C centers in D dimensions can all keep from each other, at best."""
    return math.degrees(feasibility.spacing(C, D).angle)


def largest(head: str, C: int, D: int) -> float:
    """The largest m that C classes in D dimensions can meet, the head's other knobs at their defaults."""
    about = HEADS.about(head)
    return feasibility.limits(about, settle(about.knobs, {}, C), C, D)[""].largest["m"]


def pull(C: int, s: float, theta: float) -> float:
    """How hard a softmax without a margin turns a sample to its center: (1 - p) s sin(theta), per radian."""
    return (1 - probability(C, s, theta)) * s * math.sin(math.radians(theta))


def push(t: float, theta: float, other: float, s: float, m: float = 0.25, C: int = 10) -> float:
    """How hard a hard wrong class turns a sample off it in CurricularFace, per radian: p_j s (t + 2 cos) sin.

    At angles theta to the own class and `other` to the hard one, the rest at right angles.
    """
    near = math.cos(math.radians(other))
    return share_of(s * near * (t + near), theta, s, m, C) * s * (t + 2 * near) * math.sin(math.radians(other))


def push_of_arcface(theta: float, other: float, s: float, m: float = 0.25, C: int = 10) -> float:
    """The same in ArcFace: p_j s sin."""
    near = math.cos(math.radians(other))
    return share_of(s * near, theta, s, m, C) * s * math.sin(math.radians(other))


def share_of(logit: float, theta: float, s: float, m: float, C: int) -> float:
    """The probability of a wrong class with this logit."""
    own = math.exp(s * math.cos(math.radians(theta) + m))
    return math.exp(logit) / (own + math.exp(logit) + C - 2)


FUNCTIONS: Sequence[Callable] = (
    score, mean, lowest, highest, at_epoch, rank, verdict, terms, variance, explained, kept, share, lead, count, run,
    group, best_probability, probability, half, cosface_for, band, apart, largest, pull, push, push_of_arcface,
    fixed_scale, comparison.chance,
)  # fmt: skip
MATHS: Sequence[Callable] = (math.cos, math.sin, math.acos, math.exp, math.log, math.sqrt, math.radians, math.degrees)
WORDS = {function.__name__: function for function in (*FUNCTIONS, *MATHS)}
