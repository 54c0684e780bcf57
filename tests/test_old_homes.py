"""Homes that every release left, made by its own code (tests/homes/make.py says how the next is added), opened here."""

import dataclasses
import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from faces.heads import HEADS
from tests.test_pages import opened
from trainer import RunConfig
from trainer.reindex import reindex
from trainer.store import REVISION, Store
from trainer.worker import FINISHED, run_attempt

HOMES = sorted((Path(__file__).parent / "homes").glob("*.zip"))
LATER = {  # settings and knobs that 0.1.0 did not have, as they change nothing
    "schedule": "cosine", "crop": 0, "frozen_from": "", "drop_duplicates": False, "held_out": 0, "ramp": 0.0,
    "warp": 0.0, "area": 1.0, "grow": 0.0, "threads": 1, "mode": "deterministic", "start": "apart",
}  # fmt: skip
KEPT = ("id", "config", "state", "attempt", "created", "started", "ended", "note")


def rows(file: Path, query: str) -> list[dict]:
    """What a database holds, read without Faces."""
    with closing(sqlite3.connect(file)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(query)]


def dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as db:
        return list(db.iterdump())


@pytest.fixture(params=HOMES, ids=lambda home: home.stem)
def store(request, faces_home) -> Store:
    with zipfile.ZipFile(request.param) as packed:
        packed.extractall(faces_home)
    return Store(faces_home)


def test_an_old_home_has_all_its_runs_and_moments(store):
    before = rows(store.path / "meta.db", f"SELECT {', '.join(KEPT)} FROM runs ORDER BY id DESC")
    told = rows(store.path / "meta.db", "SELECT run, step, facts FROM snapshots")
    runs = store.runs()
    assert sorted(run.state for run in runs) == ["finished", "finished", "queued", "stopped"]
    known = [{name: getattr(run, name) for name in KEPT if name != "config"} for run in runs]
    assert known == [{name: row[name] for name in KEPT if name != "config"} for row in before]
    assert not any(run.owner or run.alone for run in runs)
    assert not store.jobs()
    assert sum(len(store.history(run.id)) for run in runs) == len(told)
    for row in told:
        assert json.loads(row["facts"]) in store.history(row["run"])
        snapshot = store.snapshot(row["run"], row["step"])
        assert snapshot.facts == json.loads(row["facts"])
        assert len(snapshot.embeddings) == len(snapshot.labels) == snapshot.metrics["asked"]


def test_settings_that_came_later_are_as_where_there_was_no_such_thing(store):
    for run in store.runs():
        said, now = json.loads(run.settings), dataclasses.asdict(run.config)
        knobs = HEADS[run.config.head](8, 10, **run.config.knobs).knob_values()
        assert said.pop("version") == 1
        assert said.items() <= now.items()
        assert said["knobs"].items() <= knobs.items()
        later = {name: value for name, value in (now | knobs).items() if name not in said | said["knobs"]}
        assert later.items() <= LATER.items()
        assert store.folder(run.id).config == run.config


def test_pages_show_what_is_in_an_old_home(store):
    for run in store.runs():
        app = opened(run=run.id)
        assert not app.exception
        assert not app.error
        if run.state == "finished":
            knn = store.history(run.id)[-1]["metrics"]["knn_accuracy"]
            assert f"{knn:.1%}" in {metric.value for metric in app.metric}
    circle = next(run.id for run in store.runs() if run.config.dim == 2)
    app = opened(run=circle, projection="t-SNE")
    assert not app.exception
    assert "tsne" not in store.waiting()["wanted"]  # what was drawn then is shown
    for page in ("explore/compare.py", "manage/runs.py"):
        assert not opened(page).exception


def test_what_waits_in_an_old_home_and_what_was_stopped_train_to_their_end(store):
    (stopped,) = store.runs(("stopped",))
    store.resume(stopped.id)
    before = store.history(stopped.id)
    while run := store.claim():
        assert run_attempt(store.folder(run.id), run.attempt) == FINISHED, store.folder(run.id).log(run.attempt)
        store.index(run.id, run.attempt)
        store.end(run.id, run.attempt, "finished")
    assert {run.state for run in store.runs()} == {"finished"}
    after = store.history(stopped.id)
    assert after[: len(before)] == before
    assert min(facts["step"] for facts in after[len(before) :]) > before[-1]["step"] > 0
    assert after[-1]["step"] == after[-1]["steps"]
    assert after[-1]["turned"] == before[-1]["turned"] == [[before[1]["step"] - 1, "m", 0.3]]
    assert after[-1]["metrics"]["knn_accuracy"] > 0.98


def test_an_old_home_that_lost_its_database_gets_it_back_from_its_files(store, monkeypatch):
    before = {run.id: (run, store.history(run.id)) for run in store.runs()}
    store._writer.dispose()
    store._reader.dispose()
    for file in store.path.glob("meta.db*"):
        file.unlink()
    new = Store(store.path)
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    assert reindex(new) == sorted(before)
    for name, (old, history) in before.items():
        run = new.run(name)
        assert (run.config, run.attempt, new.history(name)) == (old.config, old.attempt, history)
        assert run.state == ("stopped" if old.state == "queued" else old.state)
        noted = (new.folder(name).path / "run.json").exists()  # since 0.4.0
        assert run.note == (old.note if noted else "")


def test_the_database_of_an_old_home_is_kept_beside_the_new_one(store):
    before = dump(store.path / "meta.db")
    ((revision,),) = (row.values() for row in rows(store.path / "meta.db", "SELECT version_num FROM alembic_version"))
    assert store.runs()
    copies = sorted(store.path.glob("meta.db.*"))
    assert [copy.name for copy in copies] == [f"meta.db.{revision}"] * (revision != REVISION)
    store.submit(RunConfig())
    assert Store(store.path).count() == 5
    for copy in copies:
        assert dump(copy) == before


def test_a_new_home_has_no_copy(tmp_path):
    Store(tmp_path).submit(RunConfig())
    Store(tmp_path).runs()
    assert not list(tmp_path.glob("meta.db.*"))


@pytest.mark.parametrize("breaks", ["alembic.op.add_column", "trainer.store.write"])
def test_an_old_home_that_cannot_be_brought_up_to_date_stays_as_it_was(store, monkeypatch, breaks):
    before = dump(store.path / "meta.db")

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(breaks, full)
        with pytest.raises(OSError, match="space"):
            store.runs()
    assert dump(store.path / "meta.db") == before
    assert len(store.runs()) == 4
