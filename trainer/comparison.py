"""Comparisons: heads trained on equal terms, and what may be said of their scores.

A ranking compares heads seed by seed: the same seed means the same start, order of images and held-out
classes, so the difference of two heads on one seed is free of what that seed does to both. Of 2 to 20 such
differences a t interval is the honest summary: a bootstrap of five numbers has too few to draw from and
comes out too narrow. The intervals of all pairs of heads hold together (Bonferroni): each is as wide as it takes
for the chance that any of them misses to stay at 5 %. All pairs, for which head is the best, and so which pairs are
told, is decided by the same scores.
"""

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faces.datasets import find
from faces.heads import HEADS
from faces.knobs import Value
from trainer.config import RunConfig
from trainer.naming import stamped
from trainer.store import Run, Store

SEVEN = ("Classification", "ArcMarginProduct", "ArcFace", "CosFace", "AdaCos", "SubCenterArcFace", "CurricularFace")
NOTE = re.compile(r"(all|\d+) heads? ")  # how the note of runs that were queued together begins
FREE = ("head", "knobs", "seed")  # what may differ in a comparison on equal terms
COSTLY = (  # what decides how long an epoch takes
    "dataset", "size", "crop", "grow", "encoder", "dim", "batch", "optimizer", "augment", "probe", "mode",
)  # fmt: skip
APART = {  # knobs of a common name that are another quantity there, or have a scale of their own
    ("Triplet", "m"), ("Circle", "m"), ("SphereFace2", "s"), ("SphereFace2", "m"),
}  # fmt: skip
LEVEL = 0.95  # of the intervals of one ranking, all together


@dataclass(frozen=True)
class Measure:
    """A number by which heads are ranked: its title, what it counts, and how a person reads it.

    A stored value times `times` is in `unit`, said with `digits` after the point.
    """

    title: str
    meaning: str
    higher: bool = True  # whether more is better
    times: float = 100.0
    unit: str = " %"
    digits: int = 1

    def said(self, value: float, sign: bool = False, unit: bool = True) -> str:
        """A stored value for people, such as 41.1 %."""
        number = f"{self.times * value:{'+' if sign else ''}.{self.digits}f}".replace("-", "−")
        return number + (self.unit if unit else "")

    def about(self, scores: Sequence[float]) -> str:
        """The mean of some stored values, with their standard deviation when there are several."""
        if not scores:
            return "–"
        more = f" ± {self.said(statistics.stdev(scores), unit=False)}" if len(scores) > 1 else ""
        return f"{self.said(statistics.fmean(scores), unit=False)}{more}{self.unit}"


UNSEEN = "on classes that no training saw"
MEASURES = {
    "knn_accuracy": Measure("KNN accuracy", "share of validation images named by a vote of 5 nearest training images"),
    "dnn_accuracy": Measure("DNN accuracy", "share whose largest inference logit, which saw no label, is right"),
    "dnn_accuracy_with_labels": Measure(
        "DNN accuracy with labels", "share whose largest training logit, which saw the label, is right"
    ),
    "ncm_accuracy": Measure("Nearest class mean", "share of validation images nearest to the mean of their own class"),
    "map_at_r": Measure("mAP@R", "precision at each hit among the R nearest images, averaged; R the class size"),
    "r_precision": Measure("R-precision", "share of own class among the R nearest images; R the class size"),
    "tar_at_far_0.1": Measure("TAR at FAR 0.1", f"pairs of one class accepted when 10 % of others are, {UNSEEN}"),
    "tar_at_far_0.01": Measure("TAR at FAR 0.01", f"pairs of one class accepted when 1 % of others are, {UNSEEN}"),
    "tar_at_far_0.001": Measure("TAR at FAR 0.001", f"pairs of one class accepted when 0.1 % of others are, {UNSEEN}"),
    "eer": Measure("Equal error rate", f"where as many pairs are wrongly refused as accepted, {UNSEEN}", higher=False),
    "rank1": Measure("Rank-1", f"share found among one image of each class, a mean over all such sets, {UNSEEN}"),
    "silhouette": Measure("Silhouette", "how much nearer own class is than the next, -1 to 1", True, 1, "", 3),
    "effective_rank": Measure("Effective rank", "how many directions the embeddings fill alike", True, 1, "", 1),
    "own_angle": Measure("Angle to own center", "mean over validation images", False, 180 / math.pi, "°"),
    "other_angle": Measure("Angle to nearest other center", "mean over validation images", True, 180 / math.pi, "°"),
    "train_own_angle": Measure("Angle to own center, training", "mean over training images", False, 180 / math.pi, "°"),
    "train_other_angle": Measure(
        "Angle to nearest other center, training", "mean over training images", True, 180 / math.pi, "°"
    ),
}  # fmt: skip


def submit_all(
    store: Store,
    knobs: Mapping[str, Value],
    budget: Mapping[str, Any],
    seeds: int = 1,
    heads: Sequence[str] = SEVEN,
    noises: Sequence[int] = (),
) -> str:
    """Queue an experiment: heads over some seeds and noise levels, all else equal; returns the note its runs share.

    A knob goes to the heads that have it (`shared`); `budget` is the rest of a RunConfig. Seed by seed, so that
    what is done at any time can be compared. Nothing is queued when one of the settings does not fit, or when who asks
    may not queue all: ValueError.
    """
    if not heads:
        raise ValueError("No head was chosen; choose one or more.")
    configs = [
        RunConfig(**{**budget, "head": head, "knobs": shared(head, knobs), "seed": seed, "noise": noise})
        for seed in range(seeds)
        for noise in noises or (budget.get("noise", 0),)
        for head in heads
    ]
    note = group_note(budget["dataset"], len(heads), seeds, budget.get("held_out", 0))
    store.submit_many(configs, note)
    return note


def group_note(dataset: str, heads: int, seeds: int = 1, held_out: int = 0) -> str:
    """The note of runs that are queued together: what, on what, when."""
    what = f"{heads} head{'s' * (heads > 1)} × {seeds} seed{'s' * (seeds > 1)}"
    what += f", {held_out} held out" if held_out else ""
    return stamped(f"{what} · {find(dataset).title}")


def shared(head: str, knobs: Mapping[str, Value]) -> dict[str, Value]:
    """Those of the knobs that mean the same to this head and whose value it takes; the others stay at its defaults."""
    own: dict[str, Value] = {}
    for name, value in knobs.items():
        if name in HEADS.about(head).knobs and (head, name) not in APART:
            try:
                own[name] = HEADS.about(head).knobs[name].check(name, value)
            except ValueError:
                continue
    return own


def expected(earlier: Iterable[Run], budget: Mapping[str, Any], count: int) -> tuple[float | None, int]:
    """How long `count` runs take, in seconds, and from how many finished runs that is told: (None, 0) from none.

    Earlier runs count that shared all that decides how long an epoch takes, scaled to the epochs asked for; as many
    run at once as did then.
    """
    alike = [
        run
        for run in earlier
        if run.state == "finished" and run.attempt == 1 and run.started and run.ended
        and all(getattr(run.config, name) == budget[name] for name in COSTLY if name in budget)
        and bool(run.config.frozen_from) == bool(budget.get("frozen_from"))
    ]  # fmt: skip
    spans = sorted((run.started, run.ended) for run in alike if run.started and run.ended)
    if not spans:
        return None, 0
    busy, until = 0.0, 0.0  # seconds in which at least one of them trained
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    epochs = sum(run.config.epochs for run in alike)
    return count * budget.get("epochs", RunConfig.epochs) * busy / epochs, len(spans)


def together(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs that were queued together, by their note, newest first; each group by seed, noise, then head."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if NOTE.match(run.note):
            groups[run.note].append(run)
    place = {head: place for place, head in enumerate([*SEVEN, *(head for head in HEADS if head not in SEVEN)])}
    return {
        note: sorted(group, key=lambda run: (run.config.seed, run.config.noise, place.get(run.config.head, 999)))
        for note, group in groups.items()
    }


def scores(runs: Iterable[Run], latest: Mapping[str, Mapping[str, Any]], metric: str) -> dict[str, dict[int, float]]:
    """A metric of each head and seed, of runs that are complete and whose knobs nobody turned; heads in `runs`' order.

    A head without the metric has no seeds. Of two runs of one head and seed the newer counts.
    """
    found: dict[str, dict[int, float]] = {run.config.head: {} for run in runs}
    for run in sorted(runs, key=lambda run: run.id):
        facts = latest.get(run.id)
        if facts is None or facts["step"] != facts["steps"] or facts["turned"]:
            continue
        value = facts["metrics"].get(metric, math.nan)
        if math.isfinite(value):
            found[run.config.head][run.config.seed] = value
    return found


def fair(runs: Sequence[Run]) -> list[Run]:
    """The runs of seeds that every head has among these runs; all of them when there is no such seed."""
    seeds: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        seeds[run.config.head].add(run.config.seed)
    common = set.intersection(*seeds.values()) if seeds else set()
    return [run for run in runs if run.config.seed in common] or list(runs)


@dataclass(frozen=True)
class Standing:
    """A head in a ranking. `scores` are in the order of the ranking's seeds.

    `gap` is the mean over seeds of this head's score less the best head's, `within` half the width of its
    interval; both are 0 for the best. `ranks` are the best and worst place that the scores leave open. Without
    a second seed there is no `sd`, `within` or `ranks`.
    """

    head: str
    scores: tuple[float, ...]
    mean: float
    sd: float | None
    gap: float
    within: float | None
    ranks: tuple[int, int] | None

    @property
    def tied(self) -> bool:
        """Whether this head cannot be told from the best one."""
        return self.within is not None and abs(self.gap) <= self.within

    @property
    def rank(self) -> str:
        """The rank, or a span such as 1–4, for people."""
        if self.ranks is None:
            return "–"
        first, last = self.ranks
        return str(first) if first == last else f"{first}–{last}"


@dataclass(frozen=True)
class Ranking:
    """Heads by one metric over the seeds that all of them share, the best mean first; `missing` have no score."""

    seeds: tuple[int, ...]
    standings: tuple[Standing, ...]
    missing: tuple[str, ...]


def ranking(runs: Iterable[Run], latest: Mapping[str, Mapping[str, Any]], metric: str) -> Ranking:
    """The heads of one experiment (one noise level) by a metric of `MEASURES`.

    Two heads are told apart when the interval of their paired differences leaves out 0. A head's rank runs from
    one more than the heads shown to be better, to the last place not taken by heads shown to be worse: 1–4 says
    that four heads may each be the best. Every pair uses the width of the intervals to the best.
    With one shared seed nothing can be told apart: no ranks, and heads keep the order of `runs`.
    """
    found = scores(runs, latest, metric)
    missing = tuple(head for head, by_seed in found.items() if not by_seed)
    given = {head: by_seed for head, by_seed in found.items() if by_seed}
    seeds = tuple(sorted(set.intersection(*map(set, given.values())))) if given else ()
    if not seeds:
        return Ranking((), (), missing)
    better = 1 if MEASURES[metric].higher else -1
    rows = {head: tuple(by_seed[seed] for seed in seeds) for head, by_seed in given.items()}
    means = {head: statistics.fmean(row) for head, row in rows.items()}
    ordered = sorted(rows, key=lambda head: (-better * means[head], head))
    if len(seeds) == 1:
        best = means[ordered[0]]
        alone = (Standing(head, row, row[0], None, row[0] - best, None, None) for head, row in rows.items())
        return Ranking(seeds, tuple(alone), missing)

    pairs = math.comb(len(rows), 2)  # any of them may be compared, and which is best is told by the same scores

    def told_apart(head: str, other: str) -> int:
        """1 when `head` is shown to be better than `other`, -1 when worse, else 0."""
        gap, within = paired(rows[head], rows[other], pairs)
        return 0 if abs(gap) <= within else better * int(math.copysign(1, gap))

    standings = []
    for head in ordered:
        against = [told_apart(head, other) for other in ordered if other != head]
        gap, within = paired(rows[head], rows[ordered[0]], pairs)
        ranks = 1 + against.count(-1), len(rows) - against.count(1)
        standings.append(Standing(head, rows[head], means[head], statistics.stdev(rows[head]), gap, within, ranks))
    return Ranking(seeds, tuple(standings), missing)


def verdict(ranked: Ranking) -> str:
    """What a ranking says, in a sentence or two."""
    heads = [standing.head for standing in ranked.standings]
    if not heads:
        return "No seed has been finished by every head yet."
    if len(ranked.seeds) == 1:
        return "One seed: no ranking. It shows one training of each head; what chance does to it, nobody can see."
    if len(heads) == 1:
        return f"Only {heads[0]} has scores; a ranking takes two heads."
    tied = [standing.head for standing in ranked.standings if standing.tied]
    if len(tied) == 1:
        return f"{heads[0]} is ahead of every other head by more than chance."
    if len(tied) == len(heads):
        hint = " Two seeds can hardly tell anything." if len(ranked.seeds) == 2 else ""
        return f"A tie: no head can be told from {heads[0]}, which has the best mean.{hint}"
    worse = "The other one is" if len(heads) - len(tied) == 1 else f"The other {len(heads) - len(tied)} are"
    return f"{', '.join(tied[:-1])} and {tied[-1]} share the lead. {worse} behind by more than chance."


def by_noise(
    runs: Sequence[Run], latest: Mapping[str, Mapping[str, Any]], metric: str
) -> dict[str, dict[int, dict[int, float]]]:
    """A metric of each head by percentage of wrong labels and seed (`scores`); heads without it are left out."""
    found: dict[str, dict[int, dict[int, float]]] = defaultdict(dict)
    for noise in sorted({run.config.noise for run in runs}):
        for head, by_seed in scores([run for run in runs if run.config.noise == noise], latest, metric).items():
            if by_seed:
                found[head][noise] = by_seed
    return dict(found)


def lead(ours: Mapping[int, Mapping[int, float]], theirs: Mapping[int, Mapping[int, float]]) -> dict[int, tuple]:
    """How far one head of `by_noise` is ahead of another at each level: `paired` over the seeds both have there.

    The intervals of all levels hold together.
    """
    both = {noise: sorted(set(ours[noise]) & set(theirs[noise])) for noise in ours if noise in theirs}
    return {
        noise: paired([ours[noise][seed] for seed in seeds], [theirs[noise][seed] for seed in seeds], len(both))
        for noise, seeds in both.items()
        if seeds
    }


def center_shares(runs: Iterable[Run], latest: Mapping[str, Mapping[str, Any]]) -> dict[int, list[float]]:
    """The share of training images that each sub-center of a class wins, largest first, by percentage of wrong labels.

    A mean over the complete runs of SubCenterArcFace; a level without any is left out.
    """
    rows: dict[int, list[list[float]]] = defaultdict(list)
    for run in runs:
        metrics = latest[run.id]["metrics"] if run.id in latest else {}
        row = [metrics[name] for place in range(1, 100) if (name := f"center_share_{place}") in metrics]
        if run.config.head == "SubCenterArcFace" and row:
            rows[run.config.noise].append(row)
    return {noise: [statistics.fmean(column) for column in zip(*rows[noise], strict=True)] for noise in sorted(rows)}


def paired(ours: Sequence[float], theirs: Sequence[float], comparisons: int = 1) -> tuple[float, float]:
    """The mean of ours - theirs, pair by pair, and half the width of its 95 % t interval.

    Of several comparisons each is widened so that all of them hold together (Bonferroni). The differences are
    taken to be normal. A single pair says nothing: infinite width.
    """
    from scipy.special import stdtrit

    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    gap = statistics.fmean(differences)
    if len(differences) < 2:
        return gap, math.inf
    reach = float(stdtrit(len(differences) - 1, 1 - (1 - LEVEL) / 2 / max(comparisons, 1)))
    return gap, reach * statistics.stdev(differences) / math.sqrt(len(differences))


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
