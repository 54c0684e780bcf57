"""The command line: `python -m trainer ...` trains, serves, lists and exports without the app."""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faces.datasets import Progress, Progressed, available, find, own
from faces.datasets.imagewoof import ARCHIVES, Imagewoof
from faces.encoders import ENCODERS
from faces.heads import HEADS, scored
from faces.home import home
from faces.knobs import Value
from trainer.comparison import group_note
from trainer.config import TERMS, RunConfig
from trainer.folder import write
from trainer.presets import PRESETS
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


# ---- train: here and now, nothing kept -------------------------------------------------------------


def train_here(arguments: argparse.Namespace) -> None:
    """Train in this process and print a line per snapshot."""
    from trainer.training import train

    for head in heads(arguments.head):
        config = wished(arguments, head)
        find(config.dataset).prepare(config.size, show)
        for snapshot in train(config):
            tell(arguments.json, head, snapshot.facts)


def wished(arguments: argparse.Namespace, head: str) -> RunConfig:
    """The settings that a command line asks for. Knobs that this head does not have are left out for `--head all`."""
    terms = PRESETS[arguments.preset].terms if arguments.preset else {}
    terms = terms | {name: value for name in TERMS if (value := getattr(arguments, name)) is not None}
    chosen = {name: value for name in ("dataset", "size", "encoder", "noise") if (value := getattr(arguments, name))}
    knobs = dict(arguments.set)
    if arguments.head != head:
        knobs = {name: value for name, value in knobs.items() if name in HEADS.about(head).knobs}
    return RunConfig(
        head=head, knobs=knobs, pretrained=arguments.pretrained, augment=not arguments.no_augment,
        drop_duplicates=arguments.drop_duplicates, **(terms | chosen),
    )  # fmt: skip


def heads(wish: str) -> list[str]:
    """One head, several with commas between, or all of them."""
    return list(HEADS) if wish == "all" else wish.split(",")


def tell(as_json: bool, head: str, facts: dict[str, Any]) -> None:
    """Print what a snapshot says, as a JSON line or for people."""
    if as_json:
        print(json.dumps({"head": head, **facts}), flush=True)
        return
    said = (
        f"{head:17s} epoch {facts['epoch']:6.2f}  step {facts['step']:5d}/{facts['steps']}  {facts['seconds']:7.1f} s"
    )
    print("  ".join([said, *scores(head, facts["metrics"])]), flush=True)


TOLD = (
    ("loss", "loss", ".3f"),
    ("DNN", "dnn_accuracy", ".1%"),
    ("KNN", "knn_accuracy", ".1%"),
    ("mean", "ncm_accuracy", ".1%"),
)


def scores(head: str, metrics: Mapping[str, float]) -> list[str]:
    """The scores that a snapshot has, and a word for the one that a head without class logits lacks."""
    none = [] if scored(head) else ["no DNN accuracy (no class logits)"]
    return [f"{name} {metrics[key]:{form}}" for name, key, form in TOLD if key in metrics] + none


# ---- runs: the ones that the app shows -------------------------------------------------------------


def submit(arguments: argparse.Namespace) -> None:
    """Queue runs, with a trainer to see to them, and print their ids."""
    store, configs = Store(), [wished(arguments, head) for head in heads(arguments.head)]
    data = find(configs[0].dataset)
    if data.counts is None:
        raise ValueError(f"{data.state} Get it first: `data fetch` or `data import`, or the page Data.")
    note = arguments.note or (group_note(configs[0].dataset, len(configs)) if configs[1:] else "")
    for config in configs:
        print(store.submit(config, note), config.head, flush=True)
    ensure(store)


def list_runs(arguments: argparse.Namespace) -> None:
    """Print every run, newest first."""
    store = Store()
    runs = store.runs()
    latest = store.latest([run.id for run in runs])
    for run in runs:
        facts = latest.get(run.id)
        if arguments.json:
            config = json.loads(run.config.to_json())
            print(
                json.dumps({"id": run.id, "state": run.state, "reason": run.reason, "config": config, "latest": facts})
            )
            continue
        done = f"{facts['step']}/{facts['steps']}" if facts else "-"
        said = scores(run.config.head, facts["metrics"]) if facts else []
        print(run.id, f"{run.state:11s} {run.config.head:17s} {run.config.dataset:12s} {done:>11s}", *said, run.reason)


def record_runs(arguments: argparse.Namespace) -> None:
    """Write finished runs into one small file, without images or weights, that opens elsewhere."""
    from trainer.recorded import record

    write(Path(arguments.file), record(Store(), arguments.id, arguments.note, arguments.last, arguments.known))


def bring_runs(arguments: argparse.Namespace) -> None:
    """Open recorded runs in this home and print their ids."""
    from trainer.recorded import bring

    print(*bring(Store(), Path(arguments.file).read_bytes()), sep="\n")


def follow(arguments: argparse.Namespace) -> int:
    """Print the snapshots of runs (all open ones by default) as they come, until all have ended."""
    store = Store()
    names = arguments.id or [run.id for run in store.runs() if run.open]
    told = dict.fromkeys(names, -1)
    while True:
        runs = [store.run(name) for name in names]
        for run in runs:
            for facts in store.history(run.id):
                if facts["step"] > told[run.id]:
                    tell(arguments.json, run.config.head, facts)
                    told[run.id] = facts["step"]
        if not any(run.open for run in runs):
            break
        ensure(store)
        time.sleep(0.3)
    for run in runs:
        if run.state != "finished":
            print(f"{run.id} {run.state}: {run.reason}", file=sys.stderr)
    return int(any(run.state == "failed" for run in runs))


def each(act: Callable[[Store, str], None]) -> Callable[[argparse.Namespace], None]:
    """A command that does one thing to each of the named runs."""

    def command(arguments: argparse.Namespace) -> None:
        store = Store()
        for name in arguments.id:
            store.run(name)
            act(store, name)

    return command


def turn(arguments: argparse.Namespace) -> None:
    """Turn knobs of a run that trains."""
    Store().turn(arguments.id, **dict(arguments.set))


def resume(store: Store, name: str) -> None:
    """Queue a run again and see that somebody serves."""
    store.resume(name)
    ensure(store)


def ensure(store: Store) -> None:
    """Start a supervisor, which leaves when it has had nothing to do for a while, unless there is one."""
    from trainer.service import ensure

    ensure(store.path)


def export(arguments: argparse.Namespace) -> None:
    """Write a run as a zip: settings, metrics, embeddings, weights."""
    from trainer.export import export

    Path(arguments.file).write_bytes(export(Store(), arguments.id))


# ---- data ------------------------------------------------------------------------------------------


def list_data(arguments: argparse.Namespace) -> None:
    """Print the datasets and what is here of each."""
    for data in available().values():
        decoded = [f"{size} px" for size in sorted(data.sizes) if data.ready(size)]
        print(f"{data.name:14s} {data.title:16s} {data.state} Decoded: {', '.join(decoded) or 'nothing'}.")


def fetch_data(arguments: argparse.Namespace, progress: Progress) -> str:
    """Download a dataset's archive, resuming an earlier try, and decode it."""
    data = find(arguments.name)
    if not isinstance(data, Imagewoof):
        raise ValueError(f"{data.title} is not downloaded. {Imagewoof.name} is.")
    data.download(arguments.archive, progress)
    return prepare_data(arguments, progress)


def import_data(arguments: argparse.Namespace, progress: Progress) -> str:
    """Import Imagewoof archives or folders, or your own images (a folder or zip) under a new name; decode them."""
    if arguments.name == Imagewoof.name:
        Imagewoof().import_from(*arguments.path, progress=progress)
        return prepare_data(arguments, progress)
    if len(arguments.path) != 1:
        raise ValueError(f"{len(arguments.path)} paths were given; your own images come as one folder or one zip.")
    (path,) = (Path(path).expanduser() for path in arguments.path)
    if not path.exists():
        raise ValueError(f"{path} does not exist. Give a folder with one folder of images per class, or a zip of it.")
    take = own.import_folder if path.is_dir() else own.import_zip
    imported = take(path, arguments.name, progress)
    arguments.name = imported.name
    left_out = "".join(f"\n{file}: {why}" for file, why in imported.skipped[:50])
    said = prepare_data(arguments, progress)
    return said + (f" Left out: {len(imported.skipped)} files.{left_out}" if imported.skipped else "")


def prepare_data(arguments: argparse.Namespace, progress: Progress) -> str:
    """Decode a dataset at one image size."""
    data = find(arguments.name)
    data.prepare(arguments.size or data.sizes[0], progress)
    return f"{data.title}: {data.state}"


def remove_data(arguments: argparse.Namespace) -> None:
    """Remove a set of your own images."""
    own.remove(arguments.name)


def data_job(act: Callable[[argparse.Namespace, Progress], str]) -> Callable[[argparse.Namespace], int]:
    """A data command whose progress goes to the screen, or to the file that `--report` names.

    With a report, the end of the input ends the work: nobody is left who wants to know.
    """

    def command(arguments: argparse.Namespace) -> int:
        if not arguments.report:
            print(act(arguments, show))
            return 0
        from trainer.folder import read_json, write
        from trainer.worker import sentence, teller

        def listen() -> None:
            sys.stdin.read()
            os._exit(75)

        threading.Thread(target=listen, daemon=True).start()
        report = Path(arguments.report)
        try:
            said = act(arguments, teller(report))
        except Exception as error:
            write(report, json.dumps({**read_json(report), "reason": sentence(error)}))
            return 4
        write(report, json.dumps({**read_json(report), "said": said}))
        return 0

    return command


def show(progressed: Progressed) -> None:
    """One line of progress on stderr, written over itself."""
    total = f"/{progressed.total:,}" if progressed.total else ""
    end = "\n" if progressed.done == progressed.total else "\r"
    print(
        f"\x1b[2K{progressed.doing}: {progressed.done:,}{total} {progressed.unit}", end=end, file=sys.stderr, flush=True
    )


# ---- serve, doctor ---------------------------------------------------------------------------------


def serve(arguments: argparse.Namespace) -> None:
    """Run the queue until told to leave."""
    from trainer.supervisor import serve

    if not serve(Store(), arguments.slots, arguments.idle, arguments.app):
        print(f"A trainer already serves {home()}.", file=sys.stderr)


def doctor(arguments: argparse.Namespace) -> None:
    """Print what this machine has and whether Faces can use it."""
    import sqlite3

    import torch

    from trainer.store import SAFE_WAL
    from trainer.supervisor import served
    from trainer.training import best_device

    store = Store()
    states = [run.state for run in store.runs()]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"Python       {sys.version.split()[0]}")
    print(f"torch        {torch.__version__}, GPU: {gpu}, trains on: {best_device()}")
    print(f"SQLite       {sqlite3.sqlite_version}, {'WAL' if SAFE_WAL else 'rollback journal'}")
    print(f"home         {store.path}")
    print(f"trainer      {'serving' if served(store.path) else 'not running (the app or `runs submit` starts it)'}")
    print(
        f"runs         {len(states)}: " + ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    )
    list_data(arguments)


# ---- the words -------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser("python -m trainer", description=__doc__)
    top.add_argument("--home", help="where data and runs are kept (default: FACES_HOME or the user's data folder)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = add(commands, "train", train_here)
    config_words(one)
    one.add_argument("--json", action="store_true", help="one JSON line per snapshot")

    runs = add(commands, "runs", None, "submit, list, follow, turn, stop, resume or delete runs").add_subparsers(
        required=True, metavar="ACTION"
    )
    some = add(runs, "submit", submit)
    config_words(some)
    some.add_argument("--note", default="", help="a word to find these runs by")
    add(runs, "list", list_runs).add_argument("--json", action="store_true")
    some = add(runs, "record", record_runs)
    some.add_argument("file")
    some.add_argument("id", nargs="+")
    some.add_argument("--note", default="recorded", help="what the runs are called together")
    some.add_argument("--last", type=int, help="validation images kept of the last snapshot (default: all)")
    some.add_argument("--known", type=int, default=1000, help="training images kept of it")
    add(runs, "bring", bring_runs).add_argument("file")
    some = add(runs, "follow", follow)
    some.add_argument("id", nargs="*")
    some.add_argument("--json", action="store_true")
    some = add(runs, "turn", turn)
    some.add_argument("id")
    some.add_argument("--set", **PAIR, required=True)
    add(runs, "stop", each(Store.stop), "stop runs, keeping what they have").add_argument("id", nargs="+")
    add(runs, "resume", each(resume), "go on with stopped or failed runs").add_argument("id", nargs="+")
    add(runs, "delete", each(Store.delete), "remove runs and their files").add_argument("id", nargs="+")

    data_words(
        add(commands, "data", None, "list, fetch, import or decode datasets").add_subparsers(
            required=True, metavar="ACTION"
        )
    )

    some = add(commands, "serve", serve)
    some.add_argument("--slots", type=int, help="runs at a time (default: one per GPU, or cores less one)")
    some.add_argument("--idle", type=float, help="leave after so many seconds with nothing to do")
    some.add_argument("--app", type=int, help="stay as long as the process of this id lives")
    some = add(commands, "export", export)
    some.add_argument("id")
    some.add_argument("file")
    add(commands, "doctor", doctor)

    add(commands, "work", lambda _: internal("worker", "work"), "(for the trainer itself) carry out one attempt")
    add(commands, "nurse", lambda _: internal("worker", "nurse"), "(for the trainer itself) fork workers")
    some = add(
        commands, "project", lambda a: internal("pictures", "project", a.projection), "(for the trainer itself) draw"
    )
    some.add_argument("projection")
    return top


def internal(module: str, function: str, *arguments: str) -> int:
    """Run one of the trainer's own child processes."""
    import importlib

    return getattr(importlib.import_module(f"trainer.{module}"), function)(*arguments) or 0


def add(commands: Any, name: str, command: Callable | None, help: str = "") -> argparse.ArgumentParser:
    """A subcommand; its help is the first line of the function that carries it out."""
    said = help or (command.__doc__ or "").split("\n")[0]
    new = commands.add_parser(name, help=said, description=said)
    if command:
        new.set_defaults(command=command)
    return new


def pair(text: str) -> tuple[str, Value]:
    """`m=0.3` as a name and a number; anything that is no number stays a word."""
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE, such as m=0.3")
    try:
        number = float(value)
    except ValueError:
        return name, value
    return name, int(number) if number.is_integer() else number


PAIR: dict[str, Any] = {"type": pair, "action": "append", "default": [], "metavar": "KNOB=VALUE"}


def config_words(words: argparse.ArgumentParser) -> None:
    """The options that make a RunConfig."""
    words.add_argument("--head", default="ArcFace", help=f"one of {', '.join(HEADS)}; several with commas; or all")
    words.add_argument("--dataset", help="digits, imagewoof, or a set of your own (default digits)")
    words.add_argument("--preset", choices=PRESETS, help="settings to start from; other options change them")
    words.add_argument("--set", **PAIR, help="a knob of the head, such as s=16 or m=0.3; may be given again")
    words.add_argument("--size", type=int, help="image size in pixels")
    words.add_argument("--encoder", help=f"one of {', '.join(ENCODERS)}")
    words.add_argument("--noise", type=int, help="per cent of wrong training labels, where the dataset has such lists")
    words.add_argument(
        "--drop-duplicates", action="store_true", help="leave out training images that nearly equal a validation image"
    )
    words.add_argument("--pretrained", action="store_true", help="start ResNet18 from ImageNet weights")
    words.add_argument("--no-augment", action="store_true", help="show the images as they are")
    for name, term in TERMS.items():
        kind = str if isinstance(term.start(2), str) else int if isinstance(term.start(2), int) else float
        words.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{term.meaning} (default {term.start(2)})")


def data_words(actions: Any) -> None:
    """The actions on datasets. Names go in before options, so that a page can hand them over as they are."""
    add(actions, "list", list_data)
    for name, act in (("fetch", fetch_data), ("import", import_data), ("prepare", prepare_data)):
        some = add(actions, name, data_job(act), (act.__doc__ or "").split("\n")[0])
        some.add_argument("name", help="imagewoof, or a name for your own images")
        if name == "import":
            some.add_argument("path", nargs="+")
        if name == "fetch":
            some.add_argument("--archive", default="160 px", choices=ARCHIVES, help="which one to download")
        some.add_argument("--size", type=int, help="image size to decode at, in pixels")
        some.add_argument("--report", help="a file to write progress to, as JSON")
    add(actions, "remove", remove_data).add_argument("name")


if __name__ == "__main__":
    sys.exit(main())
