"""Advice: what finished runs say to a practitioner's question, and how far chance may have said it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faces.heads import HEADS, scored
from trainer.comparison import MEASURES, Ranking, Standing, paired, ranking, together, unequal
from trainer.store import Run

PURPOSES = {  # what a person wants, and the measure that tells whether it is reached
    "Find similar images": "knn_accuracy",
    "Name images of known classes": "dnn_accuracy",
    "Recognise classes never trained on": "tar_at_far_0.01",
}
PLAIN = ("NormFace", "ArcMarginProduct")  # cosines without a margin: what a margin is judged against


@dataclass(frozen=True)
class Experiment:
    """Heads trained on equal terms with true labels over two seeds or more, ranked by one measure."""

    note: str
    runs: tuple[Run, ...]
    ranked: Ranking

    @property
    def leaders(self) -> list[str]:
        """The head with the best mean, and those that cannot be told from it."""
        return [one.head for one in self.ranked.standings if one.tied or one is self.ranked.standings[0]]


def experiments(runs: Iterable[Run], latest: Mapping[str, Mapping[str, Any]], metric: str) -> list[Experiment]:
    """What can answer by this measure, the one of most heads first, of these the one of most seeds, then the newest.

    Not those on unequal terms, with wrong labels, from pretrained weights, of one head, or of one shared seed.
    """
    found = []
    for note, group in together(runs).items():
        group = [run for run in group if run.config.noise == 0 and not run.config.pretrained]
        if not group or unequal(group):
            continue
        ranked = ranking(group, latest, metric)
        if len(ranked.seeds) > 1 and len(ranked.standings) > 1:
            found.append(Experiment(note, tuple(group), ranked))
    return sorted(found, key=lambda one: (-len(one.ranked.standings), -len(one.ranked.seeds)))


def plainest(heads: Sequence[str]) -> str:
    """Of heads that do equally well, the one with the fewest knobs to choose; of these the oldest."""
    return min(heads, key=lambda head: (len(HEADS.about(head).knobs), HEADS.about(head).born))


@dataclass(frozen=True)
class Duel:
    """The best of some heads against the best of others: the difference of their means, half its interval's width."""

    ours: Standing
    theirs: Standing
    gap: float
    within: float

    @property
    def told_apart(self) -> bool:
        return abs(self.gap) > self.within


def duel(ranked: Ranking, ours: Iterable[str], theirs: Iterable[str]) -> Duel | None:
    """None when one side has no head here. The interval allows for having picked the best of each (Bonferroni)."""
    sides = [[one for one in ranked.standings if one.head in names] for names in (set(ours), set(theirs))]
    if not all(sides):
        return None
    left, right = (side[0] for side in sides)  # standings come best first
    gap, within = paired(left.scores, right.scores, len(sides[0]) * len(sides[1]))
    return Duel(left, right, gap, within)


def margins(ranked: Ranking) -> list[str]:
    """The heads with a margin, as far as their knobs tell."""
    names = {"m", "m1", "m2", "m3"}
    return [one.head for one in ranked.standings if scored(one.head) and names & set(knobs(one.head))]


def knobs(head: str) -> Iterable[str]:
    """The names of a head's knobs; none of a head that is gone."""
    return HEADS.about(head).knobs if head in HEADS else ()


def said(found: Duel, metric: str) -> str:
    """A duel in a sentence."""
    measure = MEASURES[metric]
    ahead = (found.gap > 0) == measure.higher
    low, high = (measure.said(found.gap + side * found.within, sign=True, unit=False) for side in (-1, 1))
    gap = measure.said(found.gap, sign=True, unit=False) + (" points" if measure.unit == " %" else measure.unit)
    word = "is ahead of" if ahead else "is behind"
    if not found.told_apart:
        word = "cannot be told from"
    return f"{found.ours.head} {word} {found.theirs.head}: {gap} [{low}, {high}]."
