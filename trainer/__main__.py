"""The command line: `python -m trainer ...` trains, serves, lists and exports without the app."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faces.files import prove
from faces.home import home
from trainer.commands import add
from trainer.commands.data import data_words, list_data
from trainer.commands.runs import config_words, export, export_words, run_words, train_here
from trainer.commands.sweeps import sweep_words
from trainer.engines import Engine
from trainer.store import Store


def main(words: list[str] | None = None) -> int:
    """Parse a command line and carry it out; returns the exit code. A wrong value is one sentence on stderr."""
    arguments = parser().parse_args(words)
    if arguments.home:
        os.environ["FACES_HOME"] = str(Path(arguments.home).expanduser().absolute())
    try:
        return arguments.command(arguments) or 0
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def serve(arguments: argparse.Namespace) -> None:
    """Run the queue until told to leave."""
    from trainer.supervisor import serve

    if not serve(Store(), engine(arguments), arguments.idle, arguments.app):
        print(f"A trainer already serves {home()}.", file=sys.stderr)


def engine(arguments: argparse.Namespace) -> Callable[[], Engine]:
    """What makes the engine that was asked for. ValueError for a word that it does not know."""
    if arguments.engine == "ray":
        from trainer.engines.ray import RayEngine

        return lambda: RayEngine(arguments.address, arguments.slots, arguments.gpus)
    if arguments.engine != "local":
        raise ValueError(f"There is no engine {arguments.engine}; say local or ray.")
    if arguments.gpus is not None:
        raise ValueError("--gpus is for --engine ray; on this machine --slots says how many runs share the GPUs.")
    from trainer.engines.local import LocalEngine

    return lambda: LocalEngine(arguments.slots, arguments.together)


def doctor(arguments: argparse.Namespace) -> None:
    """Print what this machine has and whether Faces can use it."""
    import sqlite3

    import torch

    from trainer.database import SAFE_WAL
    from trainer.supervisor import served
    from trainer.training import best_device

    store = Store()
    states = [run.state for run in store.runs()]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"Python       {sys.version.split()[0]}")
    print(f"torch        {torch.__version__}, GPU: {gpu}, trains on: {best_device()}")
    print(f"SQLite       {sqlite3.sqlite_version}, {'WAL' if SAFE_WAL else 'rollback journal'}")
    print(f"home         {store.path}")
    prove(store.files)
    print(f"runs' files  {store.files}")
    print(f"trainer      {'serving' if served(store.path) else 'not running (the app or `runs submit` starts it)'}")
    print(
        f"runs         {len(states)}: " + ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    )
    list_data(arguments)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser("python -m trainer", description=__doc__)
    top.add_argument("--home", help="where data and runs are kept (default: FACES_HOME or the user's data folder)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = add(commands, "train", train_here)
    config_words(one)
    one.add_argument("--json", action="store_true", help="one JSON line per snapshot")

    run_words(add(commands, "runs", None, "submit, list, follow, turn, stop, resume or delete runs"))
    sweep_words(add(commands, "sweep", None, "start, list, show, stop or go on with sweeps"))
    data_words(add(commands, "data", None, "list, fetch, import or decode datasets"))

    some = add(commands, "serve", serve)
    some.add_argument(
        "--slots", type=int, help="runs at a time (default: seven per GPU, or cores less one, from two cores on two)"
    )
    some.add_argument(
        "--together", action=argparse.BooleanOptionalAction,
        help="all runs of a GPU, or of the CPU, in one process, a step of each in turn (default: on a GPU)",
    )  # fmt: skip
    some.add_argument(
        "--engine", default=os.environ.get("FACES_ENGINE", "local"),
        help="where runs train: local, on this machine, or ray, on a cluster (default: FACES_ENGINE or local)",
    )  # fmt: skip
    some.add_argument(
        "--address", default=os.environ.get("RAY_ADDRESS"),
        help="the Ray cluster that this machine is in: HOST:PORT, or auto (default: RAY_ADDRESS, or one of its own)",
    )  # fmt: skip
    some.add_argument("--gpus", type=share, help="of a GPU for each run, with ray: 0.5 lets two share one (default: 1)")
    some.add_argument("--idle", type=float, help="leave after so many seconds with nothing to do")
    some.add_argument("--app", type=int, help="stay as long as the process of this id lives")
    export_words(add(commands, "export", export))
    add(commands, "doctor", doctor)

    add(commands, "work", lambda _: internal("worker", "work"), "(for the trainer itself) carry out one attempt")
    add(commands, "nurse", lambda _: internal("worker", "nurse"), "(for the trainer itself) fork workers")
    add(commands, "crew", lambda _: internal("worker", "crew"), "(for the trainer itself) carry out attempts in turn")
    add(commands, "sketch", lambda _: internal("sketching", "sketch"), "(for the app itself) draw heads' curves")
    some = add(
        commands, "project", lambda a: internal("pictures", "project", a.projection), "(for the trainer itself) draw"
    )
    some.add_argument("projection")
    some = add(
        commands, "tune", lambda a: internal("tuning", "tune", a.sweep, a.at_once), "(for the trainer itself) search"
    )
    some.add_argument("sweep")
    some.add_argument("--at-once", type=int, default=1)
    return top


def share(text: str) -> float:
    """A share of a GPU: 0, a part of one, or whole ones."""
    if not ((value := float(text)) >= 0 and (value <= 1 or value.is_integer())):
        raise argparse.ArgumentTypeError(f"{text} GPUs cannot be given to a run; say 0, a part such as 0.5, or 1.")
    return value


def internal(module: str, function: str, *arguments: Any) -> int:
    """Run one of the trainer's own child processes."""
    import importlib

    return getattr(importlib.import_module(f"trainer.{module}"), function)(*arguments) or 0


if __name__ == "__main__":
    sys.exit(main())
