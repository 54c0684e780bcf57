"""Room on the disk: the mildest goes first, nothing goes unasked, what is pinned or trains stays whole."""

import os
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_pages import opened
from trainer import RunConfig, tidying
from trainer.__main__ import main
from trainer.store import Store
from trainer.supervisor import Supervisor
from trainer.tidying import KINDS, amount, plan, remove, size, summary, taken

SIZES = {"a0001/snapshots/00000001.safetensors": 3000, "a0001/snapshots/00000002.safetensors": 3000,
         "points/tsne-2/00000001.safetensors": 500, "points/tsne-2/00000002.safetensors": 500,
         "neighbours/abc.safetensors": 200, "a0001/checkpoints/00000002-abc.safetensors": 2000}  # fmt: skip


def place(store: Store, state: str = "finished") -> str:
    """A run with files of every kind; nobody reads them here."""
    name = store.submit(RunConfig(epochs=1))
    if state != "queued":
        attempt = store.claim().attempt
        if state != "running":
            store.end(name, attempt, state)
    for file, count in SIZES.items():
        path = store.folder(name).path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(count))
    return name


@pytest.fixture
def store(faces_home) -> Store:
    return Store(faces_home)


def test_what_fits_stays(store):
    place(store)
    assert plan(store, taken(store)) == []


def test_the_mildest_goes_first_and_of_each_kind_the_oldest(store):
    old, young = place(store), place(store, "failed")
    exported = store.path / "exports" / "x" / "a.zip"
    exported.parent.mkdir(parents=True)
    exported.write_bytes(bytes(400))
    steps = [(400, "leftovers", ""), (700, "pictures", old), (700, "pictures", young), (2000, "weights", old)]
    over = 0
    for count, kind, run in steps:
        over += count
        items = plan(store, taken(store) - over)
        assert (items[-1].kind, items[-1].run, items[-1].size) == (kind, run, count)
    assert sum(item.size for item in items) == over
    assert [kind for kind, *_ in summary(items)] == ["leftovers", "pictures", "weights"]


def test_nothing_goes_before_it_is_asked_for_and_then_exactly_what_was_planned(store):
    name = place(store)
    before = taken(store)
    items = plan(store, before - 1000)
    assert taken(store) == before
    assert remove(store, items) == 2700 == before - taken(store)
    left = {file.relative_to(store.folder(name).path).as_posix() for file in store.folder(name).path.rglob("*.safe*")}
    assert left == {each for each in SIZES if "snapshots" in each or each == "points/tsne-2/00000002.safetensors"}
    assert store.run(name).state == "finished"


def test_a_run_that_goes_whole_takes_its_parts_along_and_is_told_once(store):
    name = place(store)
    (item,) = [item for item in plan(store, 0) if item.run]
    assert (item.kind, item.size) == ("run", size(store.folder(name).path))
    remove(store, plan(store, 0))
    assert store.runs() == []
    assert not store.folder(name).path.exists()


@pytest.mark.parametrize("state", ["queued", "running"])
def test_what_is_pinned_or_open_stays_whole(store, state):
    pinned, busy = place(store), place(store, state)
    store.folder(pinned).pin(True)
    remove(store, plan(store, 0))
    assert {run.id for run in store.runs()} == {pinned, busy}
    assert all(size(store.folder(name).path) >= sum(SIZES.values()) for name in (pinned, busy))
    store.folder(pinned).pin(False)
    assert {item.run for item in plan(store, 0)} == {pinned}


def test_a_run_that_was_pinned_or_resumed_after_the_look_stays(store):
    first, second = place(store, "failed"), place(store)
    items = plan(store, 0)
    store.resume(first)
    store.folder(second).pin(True)
    assert remove(store, items) == 0
    assert {run.id for run in store.runs()} == {first, second}


def test_an_upload_that_no_job_waits_for_any_more_is_left_over(store):
    gone, wanted, new = (store.keep_upload(".zip", b"zip") for _ in range(3))
    for file in (gone, wanted):
        os.utime(file, (0, time.time() - 2 * tidying.OLD))
    store.ask_data("import", "mine", str(wanted))
    item = next(tidying.candidates(store))
    assert (item.kind, item.paths) == ("leftovers", (gone,))
    assert new.exists()


def test_only_writes_that_were_cut_off_long_ago_are_leftovers(store):
    store.path.mkdir(parents=True, exist_ok=True)
    old, new = store.path / "runs" / ".a.1234.tmp", store.path / "runs" / ".b.1234.tmp"
    old.parent.mkdir(exist_ok=True)
    for file in (old, new):
        file.write_bytes(bytes(100))
    os.utime(old, (time.time() - 2 * tidying.OLD,) * 2)
    remove(store, plan(store, 0))
    assert (old.exists(), new.exists()) == (False, True)


def test_what_goes_while_it_is_being_counted_counts_nothing(store, monkeypatch):
    name = place(store)
    gone = store.folder(name).path / "a0001" / "snapshots"
    real = type(gone).iterdir
    monkeypatch.setattr(type(gone), "iterdir", lambda path: real(path / "gone" if path == gone else path))
    assert taken(store) == sum(count for file, count in SIZES.items() if "snapshots" not in file) + sum(
        size(store.folder(name).path / file) for file in ("config.json", "run.json")
    )
    assert tidying.written(gone / "gone") == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1.2), runs=st.integers(0, 4))
def test_enough_goes_and_no_more_than_the_last_item_too_much(store, tmp_path_factory, share, runs):
    store = Store(tmp_path_factory.mktemp("home"))
    for _ in range(runs):
        place(store)
    before = taken(store)
    items = plan(store, round(share * before))
    remove(store, items)
    after = taken(store)
    assert after <= max(share * before, 0) + 1
    if items and items[-1].kind != "run":
        assert after + items[-1].size > share * before - 1


def test_a_full_disk_lets_nothing_begin_and_says_so(store, monkeypatch):
    started = []
    engine = SimpleNamespace(free=lambda: not started, start=lambda *run: started.append(run), warm=lambda: None,
                             poll=lambda handle: None)  # fmt: skip
    place(store, "queued")
    monkeypatch.setattr(tidying.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e8))
    supervisor = Supervisor(store, engine)
    supervisor.tick()
    assert not started
    assert "300 MB are free" in tidying.cramped(store.path)
    app = opened("manage/runs.py")
    assert any("300 MB are free" in warning.value for warning in app.warning)
    monkeypatch.setattr(tidying.shutil, "disk_usage", lambda _: SimpleNamespace(free=9e9))
    supervisor.tick()
    assert len(started) == 1


def test_the_page_shows_what_would_go_and_lets_it_go(store):
    name = place(store)
    app = opened("manage/runs.py")
    assert "keep" not in [number.key for number in app.number_input]  # nobody has asked yet
    app.session_state["room"] = True
    app.run()
    app.number_input(key="keep").set_value(0.0).run()
    assert app.dataframe[-1].value["What would go"].tolist() == ["run"]
    assert store.run(name)
    app.button(key="let go").click().run()
    assert not app.exception
    assert store.runs() == []


def test_the_command_line_says_first_and_does_when_told(store, capsys):
    name = place(store)
    assert main(["runs", "tidy", "--keep", "0"]) == 0
    assert "Nothing was removed" in capsys.readouterr().out
    assert main(["runs", "pin", name]) == 0
    assert main(["runs", "tidy", "--keep", "0", "--yes"]) == 0
    assert store.run(name)
    assert main(["runs", "unpin", name]) == 0
    assert main(["runs", "tidy", "--keep", "0", "--yes"]) == 0
    assert store.runs() == []


def test_bytes_are_said_for_people():
    assert [amount(count) for count in (0, 2_400_000, 12_340_000_000)] == ["0 MB", "2 MB", "12.3 GB"]
    assert list(KINDS) == ["leftovers", "pictures", "weights", "run"]
