"""The store: guarded states, wishes, and an index that the files can rebuild."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from faces.files import write
from trainer import RunConfig, train
from trainer.folder import Points
from trainer.reindex import reindex
from trainer.store import Store

SHORT = {"epochs": 1, "batch": 256, "dim": 8, "probe": 100}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def edges(store: Store, name: str) -> str:
    return store.run(name).state


def test_a_submitted_run_waits_with_its_settings(store):
    config = RunConfig(head="CosFace", knobs={"m": 0.4})
    run = store.run(store.submit(config, "a note"))
    assert (run.state, run.config, run.note, run.attempt) == ("queued", config, "a note", 0)
    assert store.folder(run.id).config == config


def test_a_run_of_several_threads_is_claimed_when_no_other_trains_and_then_no_other_is(store):
    first, several, last = (store.submit(RunConfig(threads=number)) for number in (1, 2, 1))
    assert [store.claim().id, store.claim()] == [first, None]
    store.end(first, 1, "finished")
    assert [store.claim().id, store.claim()] == [several, None]
    store.stop(several)
    store.end(several, 1, "stopped")
    assert store.claim().id == last
    store.resume(several)
    assert store.claim() is None


def test_runs_are_claimed_oldest_first_and_once(store):
    names = [store.submit(RunConfig(seed=seed)) for seed in range(3)]
    assert [store.claim().id for _ in names] == names
    assert store.claim() is None


def test_a_waiting_run_stops_at_once_and_a_training_one_is_asked_to(store):
    waiting, training = store.submit(RunConfig()), None
    store.stop(waiting)
    assert edges(store, waiting) == "stopped"
    training = store.submit(RunConfig())
    store.claim()
    store.stop(training)
    assert store.run(training).stop_wanted
    assert store.waiting()["stops"] == [training]


def test_a_stopped_run_can_be_resumed_and_a_finished_one_cannot(store):
    name = store.submit(RunConfig())
    store.stop(name)
    store.resume(name)
    assert edges(store, name) == "queued"
    attempt = store.claim().attempt
    store.end(name, attempt, "finished")
    with pytest.raises(ValueError, match="finished; there is nothing left"):
        store.resume(name)
    assert edges(store, name) == "finished"


@pytest.mark.parametrize("act", ["stop", "resume", "delete"])
def test_a_run_that_is_not_there_is_named_as_such(store, act):
    with pytest.raises(ValueError, match="no run of this id"):
        getattr(store, act)("0" * 26)


def test_an_attempt_that_is_over_changes_nothing(store):
    name = store.submit(RunConfig())
    first = store.claim().attempt
    store.end(name, first, "interrupted")
    store.retry(name)
    second = store.claim().attempt
    assert second == first + 1
    assert not store.end(name, first, "failed", "too late")
    assert edges(store, name) == "running"


def test_a_run_that_gets_nowhere_is_given_up_after_three_attempts(store):
    name = store.submit(RunConfig())
    for _ in range(3):
        store.end(name, store.claim().attempt, "interrupted", "killed by signal 9")
        store.retry(name)
    assert edges(store, name) == "failed"
    assert "3 attempts" in store.run(name).reason


def test_a_training_run_is_not_deleted_and_an_ended_one_goes_with_its_files(store):
    name = store.submit(RunConfig())
    attempt = store.claim().attempt
    with pytest.raises(ValueError, match="stop it before"):
        store.delete(name)
    store.end(name, attempt, "stopped")
    store.delete(name)
    assert not store.folder(name).path.exists()
    with pytest.raises(ValueError, match="no run"):
        store.run(name)


@pytest.mark.parametrize("name", ["", "..", "../../x", "0" * 27, "01ARZ3NDEKTSV4RRFFQ69G5FA/", "é" * 26])
def test_what_is_no_run_id_reaches_no_file(store, name):
    with pytest.raises(ValueError, match="no run id"):
        store.folder(name)


def test_knobs_turn_while_a_run_is_open_and_are_checked_at_the_door(store):
    name = store.submit(RunConfig(head="SubCenterArcFace"))
    store.turn(name, m=0.4)
    store.turn(name, s=8)
    assert store.folder(name).wishes == {"m": 0.4, "s": 8.0}
    for wrong, said in (({"k": 2}, r"cannot turn \['k'\]"), ({"m": 99}, "m = 99"), ({"q": 1}, r"cannot turn \['q'\]")):
        with pytest.raises(ValueError, match=said):
            store.turn(name, **wrong)
    store.stop(name)
    with pytest.raises(ValueError, match="stopped"):
        store.turn(name, m=0.1)


def test_snapshots_are_indexed_once_and_read_back(store):
    name = store.submit(RunConfig(**SHORT))
    attempt = store.claim().attempt
    *_, last = train(store.run(name).config)
    store.folder(name).keep(attempt, last)
    assert store.index(name, attempt) == last.step
    assert store.index(name, attempt) == last.step
    assert [facts["step"] for facts in store.history(name)] == [last.step]
    assert store.latest([name])[name] == last.facts
    assert np.array_equal(store.snapshot(name, last.step).embeddings, last.embeddings)


def test_a_damaged_snapshot_is_refused_not_shown(store):
    name = store.submit(RunConfig(**SHORT))
    attempt = store.claim().attempt
    snapshot = next(iter(train(store.run(name).config)))
    store.folder(name).keep(attempt, snapshot)
    store.index(name, attempt)
    ((_, file),) = store.folder(name).snapshots(attempt)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        store.snapshot(name, 0)


def test_a_whole_snapshot_of_another_moment_is_refused_not_shown(store):
    name = store.submit(RunConfig(**SHORT))
    attempt = store.claim().attempt
    for snapshot in train(store.run(name).config):
        store.folder(name).keep(attempt, snapshot)
    store.index(name, attempt)
    (_, first), *_, (last, file) = store.folder(name).snapshots(attempt)
    file.write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match="damaged"):
        store.snapshot(name, last)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(store):
    folder = store.folder(store.submit(RunConfig()))
    for step, content in ((1, b"one"), (2, b"two"), (3, b"three")):
        folder.keep_checkpoint(1, step, content)
    files = sorted(folder.path.glob("a0001/checkpoints/*"))
    assert len(files) == 2
    assert folder.checkpoint() == b"three"
    files[-1].write_bytes(b"thr")
    assert folder.checkpoint() == b"two"


def test_a_run_does_not_go_on_with_other_images(store):
    folder = store.folder(store.submit(RunConfig()))
    folder.begin("a print", ["cat", "dog"])
    folder.begin("a print", ["cat", "dog"])
    assert folder.class_names == ("cat", "dog")
    with pytest.raises(ValueError, match="have changed since this run began"):
        folder.begin("another print", ["cat", "dog"])


def test_only_the_two_newest_checkpoints_of_a_run_are_kept(store):
    folder = store.folder(store.submit(RunConfig()))
    for attempt, step in [(1, 10), (1, 20), (1, 30), (2, 40), (2, 50)]:
        folder.keep_checkpoint(attempt, step, f"{step}".encode())
    assert sorted(file.name[:8] for file in folder.path.glob("a*/checkpoints/*")) == ["00000040", "00000050"]
    assert folder.checkpoint() == b"50"


def test_what_a_dead_supervisor_left_is_indexed_and_goes_on(store):
    stopped, going = store.submit(RunConfig(**SHORT)), store.submit(RunConfig(**SHORT))
    snapshot = next(iter(train(RunConfig(**SHORT))))
    for _ in range(2):
        run = store.claim()
        store.folder(run.id).keep(run.attempt, snapshot)
    store.stop(stopped)
    Store(store.path).recover()
    assert (edges(store, stopped), edges(store, going)) == ("stopped", "queued")
    assert len(store.history(going)) == 1


def test_a_lost_database_is_rebuilt_from_the_files(store, monkeypatch):
    moments = list(train(RunConfig(**SHORT)))
    ends = ("finished", "failed", "stopped")
    for number, state in enumerate((*ends, "stopped")):
        name = store.submit(RunConfig(**SHORT, seed=number), f"note {number}")
        if number == 3:
            store.stop(name)  # before it began
            continue
        first = store.claim().attempt
        store.folder(name).keep(first, moments[0])
        store.index(name, first)
        store.end(name, first, "interrupted")
        store.retry(name)
        second, folder = store.claim().attempt, store.folder(name)
        for moment in moments if state == "finished" else moments[:-1]:
            folder.keep(second, moment)
        if state == "failed":
            write(folder.attempt(second) / "reason.txt", "The loss is no number any more.")
        store.index(name, second)
        store.end(name, second, state, "The loss is no number any more." if state == "failed" else "")
    before = {run.id: (run, store.history(run.id)) for run in store.runs()}
    write(store.files / "no run" / "a file", "")
    store._writer.dispose()
    store._reader.dispose()
    for file in store.path.glob("meta.db*"):
        file.unlink()

    new = Store(store.path)
    assert reindex(new) == []  # all may still be being submitted
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    assert reindex(new) == sorted(before)
    assert reindex(new) == []
    for name, (old, history) in before.items():
        run = new.run(name)
        same = ("config", "state", "attempt", "note", "created")
        assert [getattr(run, field) for field in same] == [getattr(old, field) for field in same]
        assert run.reason == (old.reason if old.attempt else "Found again from its files; resume it to go on.")
        assert new.history(name) == history
        for facts in history:
            new.snapshot(name, facts["step"])


def rebuilt(store: Store) -> Store:
    """The store that the files alone give."""
    store._writer.dispose()
    store._reader.dispose()
    for file in store.path.glob("meta.db*"):
        file.unlink()
    new = Store(store.path)
    reindex(new)
    return new


def test_runs_that_are_queued_together_are_claimed_in_order_each_with_a_folder_of_its_own(store):
    configs = [RunConfig(seed=seed, threads=1 + seed % 2) for seed in range(30)]
    before, names, after = store.submit(RunConfig()), store.submit_many(configs, "a note"), store.submit(RunConfig())
    assert sorted({before, *names, after}) == [before, *names, after]
    assert [(run.config, run.note, run.alone) for run in store.runs(note="a note")] == [
        (config, "a note", config.threads > 1) for config in reversed(configs)
    ]
    for name in (before, *names, after):
        run = store.claim()
        assert (run.id, run.attempt, run.config) == (name, 1, store.folder(name).config)
        store.end(name, 1, "finished")
    assert store.submit_many([]) == []


@pytest.mark.parametrize("refusing", ["_note", "together"])
def test_many_runs_are_queued_or_none(store, monkeypatch, refusing):
    kept = store.submit(RunConfig())
    with monkeypatch.context() as patch:
        patch.setattr(f"trainer.store.{refusing}", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            store.submit_many([RunConfig(seed=seed) for seed in range(300)])
    assert [run.id for run in store.runs()] == [kept]
    assert {file.parent.name for file in store.files.rglob("*") if file.is_file()} == {kept}


def test_runs_that_were_queued_together_are_rebuilt_from_the_files_but_those_that_were_deleted(store, monkeypatch):
    names = store.submit_many([RunConfig(seed=seed) for seed in range(300)], "a note")
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    assert reindex(store) == []
    begun, *_, last = names
    store.claim()
    store.end(begun, 1, "stopped")
    gone = names[10:20]
    for name in gone:
        store.stop(name)
        store.delete(name)
    store.turn(last, s=9.0)
    before = {run.id: run for run in store.runs()}
    monkeypatch.setattr("trainer.reindex.YOUNG", 60.0)
    assert rebuilt(store).runs() == []  # all may still be being submitted
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    new = rebuilt(store)
    assert [run.id for run in new.runs()] == list(before) == sorted(set(names) - set(gone), reverse=True)
    for run in new.runs():
        same = ("config", "note", "created", "owner")
        assert [getattr(run, field) for field in same] == [getattr(before[run.id], field) for field in same]
        assert run.state == "stopped"
    new.resume(last)
    assert new.claim().id == last
    assert new.folder(last).wishes == {"s": 9.0}


def test_what_tells_of_runs_queued_together_goes_when_each_has_begun_or_is_deleted(store):
    names = store.submit_many([RunConfig(seed=seed) for seed in range(3)])
    store.claim()
    store.delete(names[1])
    store.recover()
    assert len(list(store.files.glob("queued/*"))) == 1  # the last one has no other
    for _ in range(2):
        store.claim()
    store.recover()
    assert list(store.files.glob("queued/*")) == []


def claimed(path: Path) -> list[str]:
    """All that one process gets of a queue."""
    store, names = Store(path), []
    while run := store.claim():
        names.append(run.id)
        time.sleep(0.01)  # as who starts it; SQLite's lock is not fair, and who never rests may keep it
    return names


def test_two_processes_claim_each_run_once_and_in_order(store):
    names = store.submit_many([RunConfig(seed=seed) for seed in range(100)])
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        first, second = pool.map(claimed, [store.path] * 2)
    assert sorted(first + second) == names
    assert (first, second) == (sorted(first), sorted(second))


def test_a_picture_is_wanted_once_taken_once_and_forgotten_when_there(store):
    name = store.submit(RunConfig())
    assert store.want(name, 5, "tsne-2") == ""
    store.want(name, 5, "tsne-2")
    assert store.waiting()["wanted"] == {"tsne"}
    assert store.next_wanted("umap") is None
    assert store.next_wanted("tsne")["step"] == 5
    assert store.next_wanted("tsne") is None
    store.end_wanted(name, 5, "tsne-2", "no luck")
    assert store.want(name, 5, "tsne-2") == "no luck"


def test_points_survive_their_file(store):
    folder = store.folder(store.submit(RunConfig()))
    points = Points(np.ones((4, 2), np.float32), np.arange(4), np.zeros((2, 2), np.float32), np.arange(2))
    folder.keep_points("pca-2", 7, points)
    assert all(np.array_equal(a, b) for a, b in zip(folder.points("pca-2", 7), points, strict=True))
    assert folder.points("pca-2", 8) is None
    assert folder.drawn("pca-2") == [7]


def test_points_of_an_older_faces_have_no_quality(store):
    folder = store.folder(store.submit(RunConfig()))
    points = Points(np.ones((4, 2), np.float32), np.arange(4), np.zeros((0, 2), np.float32), np.arange(0))
    folder.keep_points("pca-2", 7, points)
    file = folder.points_file("pca-2", 7)
    file.write_bytes(save({name: array for name, array in load(file.read_bytes()).items() if name != "quality"}))
    assert folder.points("pca-2", 7).quality.size == 0
    assert np.array_equal(folder.points("pca-2", 7).points, points.points)


def test_a_write_is_whole_or_absent(tmp_path, monkeypatch):
    write(tmp_path / "a", "old")
    monkeypatch.setattr("faces.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which file is synced by /proc, which is Linux's")
def test_what_was_written_survives_a_power_cut(tmp_path, monkeypatch):
    """A disk that keeps of a file what was synced, and of a folder the names that it had when it was synced."""
    synced, named, kept = {}, {}, {}

    def fsync(handle: int) -> None:
        at = Path(f"/proc/self/fd/{handle}").resolve()
        if at.is_dir():
            kept.update({path: content for path, content in named.items() if path.parent == at})
        else:
            synced[at] = at.read_bytes()

    def replace(old: Path, new: Path) -> None:
        Path(old).rename(new)
        named[Path(new)] = synced.get(Path(old), b"")

    monkeypatch.setattr("faces.files.os.fsync", fsync)
    monkeypatch.setattr("faces.files.os.replace", replace)
    write(tmp_path / "a", "all of it")
    assert kept == {tmp_path / "a": b"all of it"}


def test_the_tables_are_those_of_the_migrations(store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from trainer.tables import tables

    store.runs()
    with store._writer.connect() as db:
        assert compare_metadata(MigrationContext.configure(db), tables) == []


def test_a_snapshot_that_cannot_be_read_is_left_out_and_stops_nothing(store):
    name = store.submit(RunConfig(**SHORT))
    attempt = store.claim().attempt
    snapshots = list(train(store.run(name).config))
    for snapshot in snapshots:
        store.folder(name).keep(attempt, snapshot)
    (_, first), *_ = store.folder(name).snapshots(attempt)
    first.write_bytes(first.read_bytes()[:100])
    store.recover()
    assert [facts["step"] for facts in store.history(name)] == [snapshot.step for snapshot in snapshots[1:]]
    assert edges(store, name) == "queued"


def test_writes_and_wishes_of_several_threads_do_not_meet(store):
    from concurrent.futures import ThreadPoolExecutor

    name = store.submit(RunConfig(head="ArcFace"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda turn: store.turn(name, **turn), [{"m": 0.4}, {"s": 9.0}] * 20))
    assert store.folder(name).wishes == {"m": 0.4, "s": 9.0}


def test_of_many_first_visitors_one_starts_a_training(store):
    from concurrent.futures import ThreadPoolExecutor

    store.runs()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.submit_first(RunConfig(), "first visit"), range(4)))
    assert len(store.runs()) == 1


def test_the_same_data_job_is_queued_once_while_it_is_open(store):
    first = store.ask_data("fetch", "imagewoof")
    assert store.ask_data("fetch", "imagewoof") == first
    store.end_job(first, "failed", "no network")
    assert store.ask_data("fetch", "imagewoof") != first


def test_a_run_whose_knobs_were_turned_is_not_averaged_with_untouched_ones(store):
    from trainer.comparison import alike, siblings, unequal

    runs = [store.run(store.submit(RunConfig(seed=seed))) for seed in range(3)]
    facts = {run.id: {"turned": []} for run in runs}
    assert [len(group) for group in siblings(runs, facts)] == [3]
    facts[runs[0].id] = {"turned": [[3, "m", 0.4]]}
    assert sorted(len(group) for group in siblings(runs, facts)) == [1, 2]
    longer = store.run(store.submit(RunConfig(epochs=9)))
    assert unequal([runs[0], longer]) == ["epochs"]
    assert longer.id not in alike([*runs, longer])


@pytest.mark.parametrize(
    ("address", "said"),
    [("mysql://host/faces", "of the kind mysql; what works is postgresql"), ("faces", "is no address such as")],
)
def test_an_address_that_cannot_be_is_told_in_one_sentence(tmp_path, monkeypatch, address, said):
    monkeypatch.setenv("FACES_STORE", address)
    with pytest.raises(ValueError, match=said):
        Store(tmp_path).runs()
