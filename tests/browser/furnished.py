"""A home in which no page is empty: an experiment, a sweep, a pair on the circle, a run that failed."""

from pathlib import Path
from typing import NamedTuple

import pytest

from trainer import RunConfig, sweep, train
from trainer.pictures import AT_ONCE, draw
from trainer.store import Store
from trainer.sweep import Axis, Sweep
from trainer.training import not_finite

TERMS = {"epochs": 1, "batch": 256, "dim": 8, "probe": 200}
SWEEP = Sweep("ArcFace", (Axis("s", (2.0, 8.0)), Axis("m", (0.0, 0.4))), TERMS)


class Furnished(NamedTuple):
    """What there is to be asked for, by id; `run` is one of an experiment, `pair` one of two on the circle."""

    home: Path
    run: str
    failed: str
    pair: str
    sweep: str


def furnish(home: Path) -> Furnished:
    """Train what the pages show when they are full, on digits: 13 to 22 seconds on two busy cores."""
    store = Store(home)
    for head in ("ArcFace", "NormFace"):
        for seed in range(2):
            config = RunConfig(head=head, seed=seed, held_out=3, **TERMS)
            run = store.submit(config, "2 heads × 2 seeds · Digits, for a test")
    for head in ("Classification", "ArcFace"):
        pair = store.submit(RunConfig(head=head, **{**TERMS, "dim": 2}), "Circle · ArcFace · then")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_HOME", str(home))
        made = sweep.start(store, SWEEP)
    failed = store.submit(RunConfig(head="CosFace", lr=2.0, **TERMS))
    while claimed := store.claim():
        if claimed.id == failed:
            store.end(failed, claimed.attempt, "failed", not_finite(3, claimed.config.knobs, 2.0))
            continue
        folder = store.folder(claimed.id)
        folder.begin("", [str(digit) for digit in range(10)])
        for snapshot in train(claimed.config):
            folder.keep(claimed.attempt, snapshot)
            for picture in AT_ONCE:
                draw(folder, snapshot, picture)
        store.index(claimed.id, claimed.attempt)
        store.end(claimed.id, claimed.attempt, "finished")
    return Furnished(home, run, failed, pair, made)
