"""Searches: Optuna suggests the points of a sweep, ask and tell, and gives up runs that are hopeless.

Nothing is kept here. What a search knows it reads from the sweep's runs, so it may end at any time and the next
process goes on where it was. A suggestion depends on the sweep's seed, on how many there have been, and on what is
told by then.
"""

import math
import statistics
import sys
import threading
import warnings

import numpy as np
import optuna
from optuna.trial import TrialState

from trainer import sweep as sweeps
from trainer.comparison import MEASURES, chance
from trainer.rights import Person
from trainer.store import Store
from trainer.sweep import PRUNED, Cell, Point, Sweep, tidy
from trainer.telling import sentence

SCORE = "knn_accuracy"  # what a search makes larger
FREELY = 6  # points drawn at random before the sampler learns, and told before any run is given up
LOOK = 0.3  # seconds between two looks at the runs


class Search:
    """A study of one sweep. `ask` gives a point, `report` and `tell` say what came of it."""

    def __init__(self, sweep: Sweep):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=FREELY, n_warmup_steps=1)
        self.sweep, self.study = sweep, optuna.create_study(direction="maximize", pruner=pruner)
        self.trials: dict[Point, optuna.Trial] = {}
        self.ended: set[Point] = set()

    def ask(self) -> Point:
        """The next point, one that has not been asked for yet where there are any left."""
        for again in range(20):
            trial = self._ask(again)
            point = self._suggested(trial)
            if point not in self.trials:
                self.trials[point] = trial
                return point
            self.study.tell(trial, state=TrialState.FAIL)
        raise ValueError("The search finds no new point between these values; widen an axis.")

    def adopt(self, point: Point) -> None:
        """Take a point that was asked for by an earlier process; nothing happens to one that is known."""
        if point not in self.trials:
            self.study.enqueue_trial(dict(zip((axis.name for axis in self.sweep.axes), point, strict=True)))
            trial = self._ask()
            self._suggested(trial)
            self.trials[point] = trial

    def report(self, point: Point, epoch: int, score: float, asked: float) -> bool:
        """Say how good a point is after an epoch, by how many images; whether it is hopeless.

        Hopeless is what Optuna would prune, being worse than half of the others, if it is so by more than chance.
        """
        trial = self.trials[point]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an epoch told twice
            trial.report(score, epoch)
        told = [other.intermediate_values for other in self.study.get_trials(False, (TrialState.COMPLETE,))]
        others = [values[epoch] for values in told if epoch in values]
        return bool(others) and trial.should_prune() and score < statistics.median(others) - chance(score, asked)

    def tell(self, point: Point, score: float | None, pruned: bool = False) -> None:
        """Say what came of a point: its score, or None when it failed or was given up. The first word counts."""
        if point not in self.ended:
            self.ended.add(point)
            state = TrialState.COMPLETE if score is not None else TrialState.PRUNED if pruned else TrialState.FAIL
            self.study.tell(self.trials[point], score, state)

    def _ask(self, again: int = 0) -> optuna.Trial:
        drawn = np.random.SeedSequence((self.sweep.seed, len(self.trials), again)).generate_state(1)[0]
        self.study.sampler = optuna.samplers.TPESampler(seed=int(drawn), n_startup_trials=FREELY)
        return self.study.ask()

    def _suggested(self, trial: optuna.Trial) -> Point:
        point: list[float] = []
        for axis in self.sweep.axes:
            low, high = axis.values[0], axis.values[-1]
            if isinstance(low, int) and isinstance(high, int):
                point.append(trial.suggest_int(axis.name, low, high, log=axis.log))
            else:
                point.append(tidy(trial.suggest_float(axis.name, low, high, log=axis.log)))
        return tuple(point)


def tune(name: str, at_once: int) -> int:
    """See a search through, `at_once` points at a time; returns the exit code. It leaves at the end of its input."""
    gone = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        gone.set()

    threading.Thread(target=listen, daemon=True).start()
    store = Store()
    search = Search(sweeps.read(store, name))
    store = store.asked_by(Person.acting(search.sweep.owner, search.sweep.minutes))
    while not gone.wait(LOOK):
        if not sweeps.searching(store, name):
            sweeps.stop(store, name)  # once more, for what was being queued while a person stopped it
            break
        try:
            if not step(store, search, max(1, at_once)):
                sweeps.end_search(store, name)
                break
        except (ValueError, OSError) as error:
            sweeps.end_search(store, name, sentence(error))
            break
    return 0


def step(store: Store, search: Search, at_once: int) -> bool:
    """One look at the runs of a search: tell, give up, and queue what comes next. False when it has come to its end.

    The first seed of a point goes ahead; the others are queued once it has come through.
    """
    sweep, cells = search.sweep, sweeps.look(store, search.sweep, SCORE)
    for cell in cells:
        search.adopt(cell.point)
        _tell(store, search, cell)
    under_way = sum(cell.point not in search.ended for cell in cells)
    more = max(0, min(at_once - under_way, sweep.trials - len(cells)))
    store.submit_many([sweep.config(search.ask(), 0) for _ in range(more)], sweep.note)
    return under_way + more > 0


def _tell(store: Store, search: Search, cell: Cell) -> None:
    if cell.point in search.ended:
        return
    first, *others = cell.parts
    hopeless = False
    for facts in store.history(first.run.id) if first.run else ():
        if "knn_accuracy" in facts["metrics"]:
            epoch, score = round(facts["epoch"]), facts["metrics"][SCORE]
            hopeless = search.report(cell.point, epoch, score, facts["metrics"]["asked"])
            said = f"{MEASURES[SCORE].said(score)} after epoch {epoch} is less than half of the others had by then, "
            said += "by more than chance."
    states = {part.state for part in cell.parts}
    if first.state == "training" and hopeless and first.run and not first.run.stop_wanted:
        store.stop(first.run.id, PRUNED + said)
    elif first.state == "done" and "none" in states:
        seeds = [part.seed for part in others if part.state == "none"]
        store.submit_many([search.sweep.config(cell.point, seed) for seed in seeds], search.sweep.note)
    elif states == {"done"}:
        search.tell(cell.point, cell.mean if cell.mean is not None and math.isfinite(cell.mean) else None)
    elif not cell.open:
        search.tell(cell.point, None, pruned="pruned" in states)
