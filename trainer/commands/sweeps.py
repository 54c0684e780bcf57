"""Commands on sweeps: start one, see what has become of it, stop it, let it go on."""

import argparse
import time
from collections.abc import Callable

from faces.datasets import find
from trainer import sweep
from trainer.commands import add
from trainer.commands.runs import config_words, ensure, wished
from trainer.comparison import MEASURES
from trainer.store import Store
from trainer.sweep import Axis, Sweep

FREE = ("head", "knobs", "seed")  # of a RunConfig, said otherwise in a sweep
QUIET = ("done", "none")  # states that need no word


def start(arguments: argparse.Namespace) -> None:
    """Queue a sweep, with a trainer to see to it, and print its id."""
    store, config = Store(), wished(arguments, arguments.head)
    if find(config.dataset).counts is None:
        raise ValueError(f"{find(config.dataset).state} Get it first: `data fetch` or `data import`, or the page Data.")
    terms = {name: value for name, value in vars(config).items() if name not in FREE}
    axes = tuple(axis(words, arguments.head, config.dataset) for words in arguments.axis)
    seed = config.seed if arguments.search else 0
    made = Sweep(arguments.head, axes, terms, dict(arguments.set), arguments.seeds, arguments.search, seed)
    print(sweep.start(store, made))
    ensure(store)


def axis(words: str, head: str, dataset: str) -> Axis:
    """`s=1:16:5:factors` as an axis: from, to, steps, and steps of equal factors; or `noise=0,5,25` as its values."""
    name, _, said = words.partition("=")
    known = sweep.axes_of(head, dataset)
    if name not in known:
        raise ValueError(f"{name} can be no axis of {head}. What can: {', '.join(known)}.")
    whole = known[name].whole
    try:
        if "," in said:
            values = tuple(sorted(sweep.tidy(float(value), whole) for value in said.split(",")))
            return Axis(name, values)
        low, high, steps, *factors = said.split(":")
        begin, end = float(low), float(high)
        return Axis.spaced(name, begin, end, int(steps), factors == ["factors"], whole)
    except ValueError as why:
        hint = f"{name}=FROM:TO:STEPS, with :factors for steps of equal factors, or {name}=1,2,4"
        raise ValueError(f"{words!r} is no axis ({why}); say {hint}.") from why


def list_sweeps(arguments: argparse.Namespace) -> None:
    """Print every sweep, newest first."""
    store = Store()
    for name, made in sweep.sweeps(store).items():
        cells = sweep.look(store, made)
        done = sum(part.state == "done" for cell in cells for part in cell.parts)
        print(name, f"{made.title} on {made.dataset}  {done}/{made.count} runs done", made.note)


def show(arguments: argparse.Namespace) -> None:
    """Print a measure of every cell of a sweep as a Markdown table, mean ± standard deviation."""
    store = Store()
    made, measure = sweep.read(store, arguments.id), MEASURES[arguments.measure]
    if arguments.follow:
        while sweep.searching(store, arguments.id) or any(cell.open for cell in sweep.look(store, made)):
            ensure(store)
            time.sleep(0.5)
    cells = sweep.look(store, made, arguments.measure)

    def told(cell: sweep.Cell) -> str:
        said = [measure.about(cell.scores)] if cell.scores else []
        return " ".join(said + [cell.state] * (cell.state not in QUIET)) or "–"

    if made.trials or len(made.axes) != 2:
        print("| " + " | ".join([axis.name for axis in made.axes] + [measure.title]) + " |")
        print("|---" * (len(made.axes) + 1) + "|")
        for cell in cells:
            print("| " + " | ".join([f"{value:.4g}" for value in cell.point] + [told(cell)]) + " |")
    else:
        first, second = made.axes
        by_point = {cell.point: cell for cell in cells}
        print(f"| {second.name} ↓ {first.name} → | " + " | ".join(f"{value:.4g}" for value in first.values) + " |")
        print("|---" * (len(first.values) + 1) + "|")
        for y in reversed(second.values):
            print(f"| {y:.4g} | " + " | ".join(told(by_point[(x, y)]) for x in first.values) + " |")
    if said := sweep.verdict(cells, made, measure):
        print(f"\n{said}")
    if reason := sweep.why_ended(store, arguments.id):
        print(f"\n{reason}")


def act(what: Callable[[Store, str], object]) -> Callable[[argparse.Namespace], None]:
    """A command that does one thing to a sweep, with a trainer to see to what comes of it."""

    def command(arguments: argparse.Namespace) -> None:
        store = Store()
        what(store, arguments.id)
        ensure(store)

    return command


def sweep_words(words: argparse.ArgumentParser) -> None:
    """The actions on sweeps."""
    actions = words.add_subparsers(required=True, metavar="ACTION")
    some = add(actions, "start", start)
    config_words(some)
    some.add_argument(
        "--axis", action="append", required=True, metavar="NAME=FROM:TO:STEPS[:factors]",
        help="a knob or a term and its values; up to three times",
    )  # fmt: skip
    some.add_argument("--seeds", type=int, default=1, help="trainings of each point (default 1)")
    some.add_argument(
        "--search", type=int, default=0, metavar="N", help="let Optuna suggest N points, not the whole grid"
    )
    add(actions, "list", list_sweeps)
    some = add(actions, "show", show)
    some.add_argument("id")
    some.add_argument("--measure", choices=MEASURES, default="knn_accuracy")
    some.add_argument("--follow", action="store_true", help="wait until it has come to its end")
    add(actions, "stop", act(sweep.stop), "stop a sweep; what is done stays").add_argument("id")
    add(actions, "go-on", act(sweep.go_on), "queue what is left of a sweep").add_argument("id")
