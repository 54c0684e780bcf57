"""Commands on runs: train here and now, or submit, follow, turn and take away those that the app shows."""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faces.datasets import find
from faces.encoders import ENCODERS
from faces.files import write
from faces.heads import HEADS, scored
from faces.knobs import Value
from trainer import tidying
from trainer.commands import add
from trainer.comparison import group_note
from trainer.config import TERMS, RunConfig
from trainer.presets import PRESETS
from trainer.store import Store
from trainer.telling import show, teller


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
        drop_duplicates=arguments.drop_duplicates, frozen_from=arguments.frozen_from, **(terms | chosen),
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


def submit(arguments: argparse.Namespace) -> None:
    """Queue runs, with a trainer to see to them, and print their ids."""
    store, configs = Store(), [wished(arguments, head) for head in heads(arguments.head)]
    data = find(configs[0].dataset)
    if data.counts is None:
        raise ValueError(f"{data.state} Get it first: `data fetch` or `data import`, or the page Data.")
    note = arguments.note or (group_note(configs[0].dataset, len(configs)) if configs[1:] else "")
    for name, config in zip(store.submit_many(configs, note), configs, strict=True):
        print(name, config.head, flush=True)
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


def reindex_runs(_: argparse.Namespace) -> None:
    """Enter runs whose files are here and that the database has lost, and print their ids."""
    from trainer.reindex import reindex

    print(*reindex(Store(), show), sep="\n")


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


def tidy(arguments: argparse.Namespace) -> None:
    """Say what would have to go so that runs and exports take at most so much, and let it go with --yes."""
    store = Store()
    items = tidying.plan(store, round(arguments.keep * 1e9))
    print(f"Runs and exports take {tidying.amount(tidying.taken(store))}.")
    for kind, count, size, lost in tidying.summary(items):
        print(f"{kind:10s} {count:6,}  {tidying.amount(size):>8s}  lost: {lost}")
    if items and not arguments.yes:
        print("Nothing was removed. Say --yes to let these go; `runs pin ID` keeps a run whole.")
    elif items:
        print(f"{tidying.amount(tidying.remove(store, items))} were removed.")


def pin(store: Store, name: str) -> None:
    """Keep a run."""
    store.folder(name).pin(True)


def unpin(store: Store, name: str) -> None:
    """Keep it no longer."""
    store.folder(name).pin(False)


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
    """Write runs as files: a zip of everything, tables, projector files, weights, ONNX, a replay, or the code."""
    from trainer.exports import files, take

    *names, last = arguments.id
    to = arguments.to
    if not to and names and not re.fullmatch("[0-9A-Z]{26}", last):
        to = last  # `export RUN FILE`
    else:
        names.append(last)
    path, progress = Path(to or ".").expanduser(), teller(Path(arguments.report)) if arguments.report else show
    if not path.suffix or path.is_dir():
        for name, content in files(Store(), arguments.kind, names, progress).items():
            write(path / name, content)
            print(path / name)
        return
    name, content = take(Store(), arguments.kind, names, progress)
    if name.endswith(".zip") and path.suffix != ".zip":
        raise ValueError(f"{arguments.kind} has several files here, so {path.name} must be a folder or end with .zip.")
    write(path, content)


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


AS = "zip (default), csv, parquet, tsv, safetensors, onnx, html, code, or another that trainer/exports has"
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
    words.add_argument(
        "--frozen-from", default="", metavar="RUN", help="keep the encoder of this finished run as it is"
    )
    words.add_argument("--no-augment", action="store_true", help="show the images as they are")
    for name, term in TERMS.items():
        kind = str if isinstance(term.start(2), str) else int if isinstance(term.start(2), int) else float
        words.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{term.meaning} (default {term.start(2)})")


def export_words(words: argparse.ArgumentParser) -> None:
    """What is exported, as what, to where."""
    words.add_argument("id", nargs="+", metavar="RUN", help="ids; a last word that is none is where to, as with --to")
    words.add_argument("--as", dest="kind", default="zip", help=AS)
    words.add_argument("--to", help="a folder, or a file; several files make a .zip (default: this folder)")
    words.add_argument("--report", help="a file to write progress to, as JSON")


def run_words(words: argparse.ArgumentParser) -> None:
    """The actions on runs."""
    actions = words.add_subparsers(required=True, metavar="ACTION")
    some = add(actions, "submit", submit)
    config_words(some)
    some.add_argument("--note", default="", help="a word to find these runs by")
    add(actions, "list", list_runs).add_argument("--json", action="store_true")
    some = add(actions, "record", record_runs)
    some.add_argument("file")
    some.add_argument("id", nargs="+")
    some.add_argument("--note", default="recorded", help="what the runs are called together")
    some.add_argument("--last", type=int, help="validation images kept of the last snapshot (default: all)")
    some.add_argument("--known", type=int, default=1000, help="training images kept of it")
    add(actions, "bring", bring_runs).add_argument("file")
    add(actions, "reindex", reindex_runs)
    some = add(actions, "follow", follow)
    some.add_argument("id", nargs="*")
    some.add_argument("--json", action="store_true")
    some = add(actions, "turn", turn)
    some.add_argument("id")
    some.add_argument("--set", **PAIR, required=True)
    some = add(actions, "tidy", tidy)
    some.add_argument("--keep", type=float, default=tidying.KEEP / 1e9, help="gigabytes (default: %(default)g)")
    some.add_argument("--yes", action="store_true", help="let them go")
    add(actions, "pin", each(pin), "keep runs when old ones are let go").add_argument("id", nargs="+")
    add(actions, "unpin", each(unpin), "keep them no longer").add_argument("id", nargs="+")
    add(actions, "stop", each(Store.stop), "stop runs, keeping what they have").add_argument("id", nargs="+")
    add(actions, "resume", each(resume), "go on with stopped or failed runs").add_argument("id", nargs="+")
    add(actions, "delete", each(Store.delete), "remove runs and their files").add_argument("id", nargs="+")
