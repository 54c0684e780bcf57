"""Every kind of file that a home holds, cut and with a bit turned: never shown, said in a sentence or made again."""

import io
import json
import re
import shutil
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from faces import files
from faces.datasets import find, own
from faces.datasets.base import silent
from faces.seals import whole
from trainer import RunConfig, frozen, making, recorded, sweep, train
from trainer.pictures import draw, kept_neighbours
from trainer.reindex import mend
from trainer.snapshot import Snapshot
from trainer.store import Store

FOREIGN = re.compile(r"sql|traceback|exception|unterminated|expecting|header|utf-8|[\n\[\]{}]|Error", re.IGNORECASE)
SETTINGS = {"epochs": 1, "batch": 256, "dim": 2, "probe": 100}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A home with one of everything: its store and the one run in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_HOME", str(tmp_path_factory.mktemp("damaged")))
        store = Store()
        name = store.submit(RunConfig(**SETTINGS), "a note")
        store.claim()
        folder, moment = store.folder(name), next(iter(train(RunConfig(**SETTINGS))))
        moment = replace(moment, steps=moment.step)  # the first and last
        folder.begin("a print", find("digits").class_names)
        folder.wish({"m": 0.25})
        folder.keep(1, moment)
        folder.keep_checkpoint(1, moment.step, moment.to_bytes())
        draw(folder, moment, "pca-2")
        store.index(name, 1)
        store.end(name, 1, "finished")
        own.import_zip(images(), "animals").prepare(32)
        yield store, name


def images():
    """Twelve small pictures of two classes in a zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(12):
            picture, noise = io.BytesIO(), np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(picture, "png")
            archive.writestr(f"{'cats' if number % 2 else 'dogs'}/{number}.png", picture.getvalue())
    return content.getvalue()


# ---- how each kind is read, and how many cuts and flips of it; fewer where a look does real work ---------------------


def snapshot(store, name, patch):
    (file,) = store.folder(name).moments().values()
    return file, lambda: plain(store.snapshot(name, 0)), 200


def moment(store, name, patch):
    """The same file, as it is read without the database: by projectors, and to rebuild it."""
    (file,) = store.folder(name).moments().values()
    return file, lambda: plain(Snapshot.read(file)), 200


def plain(shown):
    return repr(shown.facts) + "".join(repr(getattr(shown, one).tolist()) for one in ("embeddings", "labels", "rows"))


def checkpoint(store, name, patch):
    (file,) = store.folder(name).path.glob("a0001/checkpoints/*")
    return file, store.folder(name).checkpoint, 200


def points(store, name, patch):
    folder = store.folder(name)
    shown = lambda: repr([array.tolist() for array in folder.points("pca-2", 0) or ()])  # noqa: E731
    return folder.points_file("pca-2", 0), shown, 200


def neighbours(store, name, patch):
    folder = store.folder(name)
    some = store.snapshot(name, 0).embeddings[:30]
    show = lambda: repr([array.tolist() for array in kept_neighbours(folder, some)(5)])  # noqa: E731
    show()
    return next(folder.path.glob("neighbours/*.safetensors")), show, 200


def features(store, name, patch):
    folder = store.folder(name)
    patch.setattr(frozen, "source", lambda config: folder)
    patch.setattr(frozen, "embedded", lambda *given: torch.arange(24.0).reshape(6, 4))
    show = lambda: repr(frozen.features(None, None, "cpu", silent).tolist())  # noqa: E731
    show()
    return folder.path / "features.safetensors", show, 200


def settings(store, name, patch):
    folder = store.folder(name)
    return folder.path / "config.json", lambda: folder.config.to_json(), 200


def told(store, name, patch):
    file = store.folder(name).path / "run.json"
    return file, lambda: repr(files.read_json(file)), 200


def data(store, name, patch):
    folder = store.folder(name)
    return folder.path / "data.json", lambda: repr((folder.print, folder.class_names)), 200


def wishes(store, name, patch):
    folder = store.folder(name)
    return folder.path / "wishes.json", lambda: repr(folder.wishes), 200


def a_sweep(store, name, patch):
    made = sweep.Sweep("CosFace", (sweep.Axis("m", (0.1, 0.2)),))
    known = "01J00000000000000000000000"
    file = sweep.folder(store, known) / "sweep.json"
    files.write_json(file, json.loads(made.to_json()))
    return file, lambda: [sweep.read(store, known).to_json(), *sweep.sweeps(store)], 200


def progress(store, name, patch):
    file = store.folder(name).attempt(1) / "progress.json"
    files.write_json(file, {"step": 3, "steps": 9, "loss": 0.5}, durable=False)
    return file, lambda: repr(files.heard(file)), 200


def an_export(store, name, patch):
    file = making.folder(store, "onnx", [name]) / "a.onnx"
    files.write(file, bytes(range(256)) * 9)
    files.write_json(file.with_name("made.json"), {"sha256": making._sha256(file)})
    patch.setattr(making, "file_name", lambda *given: "a.onnx")
    return file, lambda: (found := making.made(store, "onnx", [name])) and found.read_bytes(), 200


def a_recorded_run(store, name, patch):
    """Opened in a home where it is not: slow."""
    file = store.path / "recorded.zip"
    files.write(file, recorded.record(store, [name], "recorded"))

    def show():
        other = Store(store.path / "other")
        try:
            recorded.bring(other, file.read_bytes())
            return plain(other.snapshot(name, 0))
        finally:
            files.clear(other.path)

    return file, show, 12


def facts_of_a_set(store, name, patch):
    animals = find("animals")
    show = lambda: repr((animals.class_names, animals.print, animals.skipped))  # noqa: E731
    return animals.folder / "source.json", show, 200


def rows_of_a_set(store, name, patch):
    animals = find("animals")
    show = lambda: repr([array.tolist() for array in (animals.load(32).labels, animals.load(32).val)])  # noqa: E731
    return next(animals.folder.glob("rows-*")), show, 200


def duplicates(store, name, patch):
    animals = find("animals")
    return next(animals.folder.glob("duplicates-*")), lambda: repr(animals.found()), 200


def decoded(store, name, patch):
    """What a training is given: it prepares the images first, which decodes them again."""
    animals = find("animals")

    def show():
        animals.prepare(32)
        return animals.load(32).pixels.tobytes()

    return next(animals.folder.glob("32px-*.npy")), show, 20


def what_is_said_of_the_decoded(store, name, patch):
    file, show, count = decoded(store, name, patch)
    return file.with_suffix(".json"), show, count


def originals(store, name, patch):
    """As they are decoded."""
    animals = find("animals")
    array, show, count = decoded(store, name, patch)

    def again():
        array.unlink(missing_ok=True)
        return show()

    return next(animals.folder.glob("originals-*")), again, count


def database(store, name, patch):
    """As the trainer looks at it when it starts. Most bytes of so small a one are room that is left."""

    def show():
        fresh = Store(store.path)
        fresh.check()
        return repr([(run.id, run.config.to_json(), run.state, fresh.history(run.id)) for run in fresh.runs()])

    return store.path / "meta.db", show, 100


KINDS = [  # the slow ones first
    decoded, what_is_said_of_the_decoded, originals, database, a_recorded_run,
    snapshot, moment, checkpoint, points, neighbours, features, settings, told, data, wishes, a_sweep, progress,
    an_export, facts_of_a_set, rows_of_a_set, duplicates,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_damaged_is_never_shown_and_is_said_in_a_sentence(kind, kept, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda handle: None)  # the disk is not what is tested
    file, show, count = kind(*kept, monkeypatch)
    content, right, refused = file.read_bytes(), show(), 0
    nothing = (None, "[]", "{}") if kind is not database else ()
    try:
        for damaged in (*cuts(content, count), *flips(content, count)):
            file.write_bytes(damaged)
            shown = attempted(show)
            refused += shown != right
            assert shown in (right, "refused", *nothing) or not damaged
    finally:
        file.write_bytes(content)
    assert show() == right
    assert refused > count / 2 or kind in REBUILT


REBUILT = (neighbours, features, decoded, what_is_said_of_the_decoded, originals, database)


def cuts(whole, count):
    return [whole[: len(whole) * number // count] for number in range(count)]


def flips(whole, count):
    for number in range(count):
        at = len(whole) * (2 * number + 1) // (2 * count)
        yield whole[:at] + bytes([whole[at] ^ (1 << number % 8)]) + whole[at + 1 :]


def attempted(show):
    """What is shown, or "refused" when it is refused in a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return show()
    except (ValueError, OSError) as why:
        said = str(why)
        assert (said[-1:], FOREIGN.findall(said)) == (".", []), said
        return "refused"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_torn_list_of_runs_is_rebuilt_when_the_trainer_starts(share, kept, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("FACES_HOME", str(tmp_path / "home"))
    store, name = kept
    shutil.copytree(store.path, tmp_path / "home")
    file = tmp_path / "home" / "meta.db"
    page, looking = Store(), Store()
    before = [(run.id, run.config, run.state, run.note) for run in page.runs()]
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    mend(Store())
    for one in (page, looking):  # with the torn file still open
        assert [(run.id, run.config, run.state, run.note) for run in one.runs()] == before
        assert one.snapshot(name, 0).step == 0
    assert (not share) or "is rebuilt from the runs' own files" in capfd.readouterr().err
    assert (not share) or file.with_name("meta.db.damaged").exists()


def test_what_was_written_before_there_were_seals_is_read(tmp_path):
    (tmp_path / "told.json").write_text(json.dumps({"a": 1}))
    assert files.read_json(tmp_path / "told.json") == {"a": 1}
    assert RunConfig.from_json(RunConfig().to_json()) == RunConfig()
    content = save({"rows": np.arange(3)})
    assert whole(content, "It") == content
