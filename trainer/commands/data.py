"""Commands on datasets: list, fetch, import, decode, remove."""

import argparse
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from faces.datasets import Progress, available, find, own
from faces.datasets.imagewoof import ARCHIVES, Imagewoof
from faces.files import heard, write_json
from trainer.commands import add
from trainer.memory import at_most
from trainer.telling import sentence, show, teller

MOST_MEMORY = 384 << 20  # for an import: 50,000 files take up to 130 MB, the largest images 200 MB


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
    with at_most(MOST_MEMORY):
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


def bring_embeddings(arguments: argparse.Namespace, progress: Progress) -> str:
    """Bring embeddings with labels (CSV, NPZ, Parquet) as a run of their own, to look at and to compare."""
    from trainer.brought import bring, counted
    from trainer.rights import Person
    from trainer.store import Store

    store = Store(by=Person.acting(arguments.owner))
    name = bring(store, Path(arguments.path).expanduser(), arguments.name, arguments.on, arguments.label, progress)
    metrics = store.history(name)[-1]["metrics"]
    said = f"KNN accuracy {metrics['knn_accuracy']:.1%}. {counted(metrics)}"
    return f"{arguments.name} on {arguments.on} is run {name}. {said}"


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

        def listen() -> None:
            sys.stdin.read()
            os._exit(75)

        threading.Thread(target=listen, daemon=True).start()
        report = Path(arguments.report)
        try:
            said = act(arguments, teller(report))
        except Exception as error:
            write_json(report, {**heard(report), "reason": sentence(error)})
            return 4
        write_json(report, {**heard(report), "said": said})
        return 0

    return command


def data_words(words: argparse.ArgumentParser) -> None:
    """The actions on datasets. Names go in before options, so that a page can hand them over as they are."""
    actions = words.add_subparsers(required=True, metavar="ACTION")
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
    some = add(actions, "embeddings", data_job(bring_embeddings), (bring_embeddings.__doc__ or "").split("\n")[0])
    some.add_argument("name", help="what made them, such as CLIP")
    some.add_argument("path", help="a .csv, .npz or .parquet file")
    some.add_argument("--on", default="embeddings", help="what they are of; a dataset here, if the rows are its images")
    some.add_argument("--label", default="", help="the column of labels (default: class, label, target or y)")
    some.add_argument("--owner", default="", help="whose run it becomes, in a class")
    some.add_argument("--report", help="a file to write progress to, as JSON")
    add(actions, "remove", remove_data).add_argument("name")
