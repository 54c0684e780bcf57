"""Rights: who may do what to whose things, how much of it, and that no way into the store leads past it."""

import ast
import itertools
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faces.files import read_json
from tests.helpers import ROOT
from trainer import RunConfig, sweep, tidying
from trainer.comparison import submit_all
from trainer.reindex import reindex
from trainer.rights import ACTIONS, OWNER, ROLES, WRITES, Limits, Pace, Person, RefusedError, authorize, called, refusal
from trainer.store import Store
from trainer.sweep import Axis, Sweep

FEW = Limits(queued=3, kept=5, sweep=8, epochs=5, size=64, probe=500, upload=1, uploads=2, minutes=9)
ADA, BOB = (Person(name, "student", f"{name.lower()}{name.lower()}", FEW) for name in ("Ada", "Bob"))
EYE = Person("Eye", "viewer", "eyeeye", FEW)
TEACHER = Person("Tea", "teacher", "teatea")
PEOPLE = {"student": ADA, "viewer": EYE, "teacher": TEACHER, "owner": OWNER}

# action: what a student may do to own things and to those of others; what a viewer may
TABLE = {
    "look": (True, True, True),
    "submit": (True, False, False),
    "turn": (True, False, False),
    "stop": (True, False, False),
    "resume": (True, False, False),
    "delete": (True, False, False),
    "pin": (True, False, False),
    "pause": (True, False, False),
    "export": (True, True, False),
    "open": (True, True, False),
    "bring": (True, False, False),
    "decode": (True, True, False),
    "path": (False, False, False),
    "fetch": (False, False, False),
    "remove": (False, False, False),
    "tidy": (False, False, False),
}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "home")
    store.pace = Pace(WRITES.most, WRITES.seconds)  # else all tests of a minute count as one
    return store


def test_every_action_has_its_row_and_every_role_its_person():
    assert list(TABLE) == list(ACTIONS)
    assert {*PEOPLE} == {*ROLES, "owner"}


@pytest.mark.parametrize(("action", "role"), itertools.product(ACTIONS, PEOPLE))
def test_who_may_do_what_to_whose(action, role):
    person = PEOPLE[role]
    own, other, viewer = TABLE[action]
    wanted = {"student": (own, other), "viewer": (viewer, viewer)}.get(role, (True, True))
    for owner, may in zip((person.owner, BOB.owner), wanted, strict=True):
        assert (refusal(person, action, owner) == "") == may
        if may:
            authorize(person, action, owner)
        else:
            with pytest.raises(RefusedError, match=r"^[A-Z][^.]*\b(students|teachers?)\b[^.]*\.$") as refused:
                authorize(person, action, owner)
            assert isinstance(refused.value, PermissionError)
            assert isinstance(refused.value, ValueError)


def test_a_name_is_no_right():
    namesake = Person(ADA.name, "student", "another", FEW)
    assert refusal(namesake, "delete", ADA.owner) == (
        "Students delete their own runs only, and this is Ada's; ask a teacher."
    )
    assert refusal(ADA, "delete", "") == "Students delete their own runs only, and this is not yours; ask a teacher."
    assert called(ADA.owner) == "Ada"
    assert called("") == ""
    assert not OWNER.owns("")


def test_what_is_no_action_or_no_role_is_no_right():
    with pytest.raises(KeyError):
        authorize(ADA, "everything")
    with pytest.raises(KeyError):
        authorize(Person("Eve", "headmaster", "eve"), "look")


WISHES = {  # the store's own, each with what a call of it may look like
    "submit": lambda store, run: store.submit(RunConfig()),
    "submit_many": lambda store, run: store.submit_many([RunConfig(), RunConfig(seed=1)]),
    "submit_first": lambda store, run: store.submit_first(RunConfig(), ""),
    "turn": lambda store, run: store.turn(run, m=0.1),
    "stop": lambda store, run: store.stop(run),
    "resume": lambda store, run: store.resume(run),
    "delete": lambda store, run: store.delete(run),
    "pin": lambda store, run: store.pin(run, True),
    "pause": lambda store, run: store.pause(run, "tsne-2", True),
    "keep_upload": lambda store, run: store.keep_upload(".zip", b""),
    "ask_data": lambda store, run: store.ask_data("import", "mine", "/etc/passwd"),
    "ask_with_upload": lambda store, run: store.ask_with_upload("import", "mine", ".zip", b""),
    "stop_job": lambda store, run: store.stop_job("0" * 26),
}
READS = {
    "known", "runs", "trained", "count", "ahead", "run", "folder", "history", "latest", "snapshot_file", "snapshot",
    "want", "jobs", "job_file", "uploads", "by", "asked_by", "allow", "why_not", "afford", "pace", "files",
}  # fmt: skip
TRAINERS = {
    "enter", "waiting", "claim", "index", "end", "retry", "next_wanted", "end_wanted", "claim_job", "end_job",
    "recover", "writing", "reading", "lay_ballast", "try_alone", "check", "set_aside",
}  # fmt: skip


def test_every_way_into_the_store_is_known_to_this_test():
    assert {name for name in vars(Store) if not name.startswith("_")} == {*WISHES, *READS, *TRAINERS}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("person", [EYE, BOB], ids=["viewer", "another student"])
def test_no_wish_passes_who_may_not(store, wish, person):
    if wish != "submit_first":  # which asks only whether there is none
        run = store.asked_by(ADA).submit(RunConfig())
        job = store.asked_by(TEACHER).ask_data("fetch", "imagewoof")
        before = everything(store)
    else:
        run, job, before = "", "", []
    if person is BOB and wish in ("submit", "submit_many", "submit_first", "keep_upload", "ask_with_upload"):
        return  # new things are one's own
    act = (lambda store, _: store.stop_job(job)) if wish == "stop_job" else WISHES[wish]
    with pytest.raises(RefusedError):
        act(store.asked_by(person), run)
    assert everything(store) == before


def everything(store: Store) -> list:
    """All rows and all files of a home."""
    store.runs()
    with sqlite3.connect(store.path / "meta.db") as db:
        rows = [(name, db.execute(f"SELECT * FROM {name}").fetchall()) for name in ("runs", "jobs", "wanted", "audit")]
    files = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file() and file.suffix != ".lock"}
    found = [*rows, *((str(file), content) for file, content in sorted(files.items()) if "meta.db" not in file.name)]
    return found if any(row for _, row in found) else []


SWEEP = Sweep("ArcFace", (Axis("s", (2.0, 8.0)), Axis("m", (0.1, 0.2))), {"epochs": 1})
BEYOND = {  # wishes outside the store's own methods
    "a sweep": lambda store, name: sweep.start(store, SWEEP),
    "stopping a sweep": sweep.stop,
    "going on with a sweep": sweep.go_on,
    "trying a sweep again": sweep.try_again,
    "forgetting a sweep": sweep.forget,
    "an experiment": lambda store, name: submit_all(store, {}, {"dataset": "digits"}),
    "tidying": lambda store, name: tidying.remove(store, []),
}


@pytest.mark.parametrize("wish", BEYOND)
def test_no_wish_beyond_the_store_passes_either(store, wish):
    name = sweep.start(store.asked_by(TEACHER), SWEEP)
    before = everything(store)
    for person in (EYE, BOB):
        if person is BOB and wish in ("a sweep", "an experiment"):  # new things
            continue
        with pytest.raises(RefusedError):
            BEYOND[wish](store.asked_by(person), name)
        assert everything(store) == before


def test_a_sweep_belongs_to_who_began_it_and_so_do_its_runs(store):
    two = Sweep("ArcFace", (Axis("s", (2.0, 8.0)),), {"epochs": 1})
    name = sweep.start(store.asked_by(ADA), two)
    assert {run.owner for run in store.runs()} == {ADA.owner} == {sweep.read(store, name).owner}
    sweep.stop(store.asked_by(ADA), name)
    assert {run.state for run in store.runs()} == {"stopped"}
    assert sweep.go_on(store.asked_by(ADA), name) == 2
    sweep.stop(store.asked_by(TEACHER), name)
    sweep.forget(store.asked_by(ADA), name)
    assert sweep.sweeps(store) == {}


def test_what_a_teacher_goes_on_with_stays_the_students(store):
    two, ada = Sweep("ArcFace", (Axis("s", (2.0, 8.0)),), {"epochs": 1}), store.asked_by(ADA)
    name = sweep.start(ada, two)
    sweep.stop(ada, name)
    ada.delete(store.runs()[0].id)
    assert sweep.go_on(store.asked_by(TEACHER), name) == 2
    assert {(run.owner, run.minutes) for run in store.runs()} == {(ADA.owner, FEW.minutes)}
    sweep.stop(ada, name)
    assert [run.state for run in store.runs()] == ["stopped", "stopped"]
    of_house = sweep.start(store, replace(two, knobs={"m": 0.2}))
    sweep.stop(store, of_house)
    store.delete(store.runs(note=sweep.read(store, of_house).note)[0].id)
    assert sweep.go_on(store.asked_by(TEACHER), of_house) == 2
    assert {run.owner for run in store.runs(("queued",))} == {""}
    called_otherwise = store.asked_by(replace(ADA, name="Augusta", limits=replace(FEW, queued=1)))
    with pytest.raises(RefusedError, match="1 runs that wait"):  # a new name lifts no limit
        sweep.go_on(called_otherwise, name)


def test_a_search_goes_on_in_the_name_of_who_began_it(store, monkeypatch):
    from trainer import tuning

    monkeypatch.setenv("FACES_HOME", str(store.path))
    name = sweep.start(store.asked_by(ADA), Sweep("ArcFace", (Axis("s", (2.0, 8.0)),), {"epochs": 1}, trials=5))
    monkeypatch.setattr("sys.stdin", open("/dev/null") if Path("/dev/null").exists() else None)  # noqa: SIM115
    monkeypatch.setattr(tuning.threading.Event, "wait", lambda self, *_: len(store.runs()) >= 2)
    tuning.tune(name, 4)
    assert {(run.owner, run.minutes) for run in store.runs()} == {(ADA.owner, FEW.minutes)}
    with pytest.raises(RefusedError, match="8 runs in one sweep here, not 9"):
        sweep.start(store.asked_by(ADA), Sweep("ArcFace", (Axis("s", (2.0, 8.0)),), {"epochs": 1}, trials=9))


def test_a_search_finds_room_for_all_its_runs(store):
    def made(trials: int, seeds: int = 1) -> Sweep:
        return Sweep("ArcFace", (Axis("s", (2.0, 8.0)),), {"epochs": 1}, seeds=seeds, trials=trials)

    ada = store.asked_by(ADA)
    ada.stop(ada.submit(RunConfig()))
    with pytest.raises(RefusedError, match="may have 5 runs here, and you have 1; delete some"):
        sweep.start(ada, made(5))
    assert sweep.sweeps(store) == {}
    name = sweep.start(ada, made(2, seeds=2))
    with pytest.raises(RefusedError, match="A search of yours is under way"):
        sweep.start(ada, made(1))
    of_bob = sweep.start(store.asked_by(BOB), made(5))
    assert {*sweep.sweeps(store)} == {name, of_bob}
    first = store.asked_by(Person.acting(ADA.owner)).submit(made(2).config((3.0,), 0), sweep.read(store, name).note)
    sweep.stop(ada, name)
    ada.submit(RunConfig(seed=1))
    with pytest.raises(RefusedError, match="may have 5 runs here, and you have 3; delete some"):
        sweep.go_on(ada, name)
    assert (store.run(first).state, sweep.searching(store, name)) == ("stopped", False)
    store.resume(first)
    store.stop(first, sweep.PRUNED)  # the other seed of this point will not follow
    assert sweep.go_on(ada, name) == 0
    assert sweep.searching(store, name)
    sweep.stop(ada, name)
    other = sweep.start(ada, made(2))
    with pytest.raises(RefusedError, match="A search of yours is under way"):
        sweep.go_on(ada, name)
    assert sweep.go_on(ada, other) == 0  # which is under way itself
    sweep.go_on(store.asked_by(TEACHER), name)
    assert {*sweep.searches(store)} == {name, other, of_bob}


# ---- how much


def test_a_student_has_so_many_runs_under_way_and_no_more(store):
    ada = store.asked_by(ADA)
    runs = [ada.submit(RunConfig(seed=seed)) for seed in range(3)]
    with pytest.raises(RefusedError, match="may have 3 runs that wait or train here, and you have 3; wait until"):
        ada.submit(RunConfig(seed=3))
    assert {path.name for path in (store.path / "runs").iterdir()} == {*runs}
    store.asked_by(BOB).submit(RunConfig())
    store.asked_by(TEACHER).submit(RunConfig())
    ada.stop(runs[0])
    last = ada.submit(RunConfig(seed=3))
    with pytest.raises(RefusedError, match="3 runs that wait"):
        ada.resume(runs[0])
    assert store.run(runs[0]).state == "stopped"
    ada.stop(last)
    ada.resume(runs[0])
    ada.stop(runs[0])
    ada.submit(RunConfig(seed=4))
    ada.stop(runs[1])
    with pytest.raises(RefusedError, match="may have 5 runs here, and you have 5; delete some"):
        ada.submit(RunConfig(seed=5))


def test_several_windows_do_not_get_more(store):
    ada = store.asked_by(ADA)

    def one(seed: int) -> bool:
        try:
            return bool(ada.submit(RunConfig(seed=seed)))
        except RefusedError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(12))) == 3
    assert len(list((store.path / "runs").iterdir())) == 3


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RunConfig(epochs=6), "epochs = 6 is more than students may have here; take 5 or less"),
        (RunConfig(probe=501), "probe = 501"),
        (RunConfig(dataset="imagewoof", size=128), "size = 128 px"),
    ],
)
def test_a_students_run_is_no_larger_than_it_may_be(store, config, said):
    with pytest.raises(RefusedError, match=said):
        store.asked_by(ADA).submit(config)
    store.asked_by(TEACHER).submit(config)


def test_a_students_run_trains_for_so_long_at_a_stretch_however_it_was_queued(store, monkeypatch):
    ada = store.asked_by(ADA)
    alone, (first, second) = ada.submit(RunConfig()), ada.submit_many([RunConfig(seed=1), RunConfig(seed=2)])
    house = store.asked_by(TEACHER).submit(RunConfig(seed=3))
    store.claim()
    store.claim()
    store._reader.dispose()
    (store.path / "meta.db").unlink()
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    reindex(again := Store(store.path))
    for each in (store, again):
        assert [each.run(name).minutes for name in (alone, first, second, house)] == [9, 9, 9, 0]
    again.asked_by(TEACHER).resume(first)  # who lets it go on says for how long
    again.asked_by(ADA).resume(second)
    assert [again.run(name).minutes for name in (first, second)] == [0, 9]


def test_many_runs_are_queued_together_or_not_at_all(store):
    ada = store.asked_by(ADA)
    with pytest.raises(RefusedError, match="3 runs that wait or train here, not 4"):
        sweep.start(ada, SWEEP)
    with pytest.raises(RefusedError, match="3 runs that wait"):
        submit_all(ada, {}, {"dataset": "digits", "epochs": 1}, seeds=2, heads=("ArcFace", "CosFace"))
    with pytest.raises(RefusedError, match="epochs = 9"):
        sweep.start(ada, Sweep("ArcFace", (Axis("s", (2.0, 8.0)),), {"epochs": 9}))
    assert store.runs() == []
    assert sweep.sweeps(store) == {}


def test_what_goes_on_is_no_new_run(store):
    ada = store.asked_by(ADA)
    name = sweep.start(ada, Sweep("ArcFace", (Axis("s", (2.0, 8.0)),), {"epochs": 1}))
    sweep.stop(ada, name)
    for seed in range(3):
        ada.stop(ada.submit(RunConfig(seed=seed)))
    assert len(store.runs()) == FEW.kept
    assert sweep.go_on(ada, name) == 2
    sweep.stop(ada, name)
    fewer = store.asked_by(replace(ADA, limits=replace(FEW, kept=4)))  # who has too many already
    assert sweep.go_on(fewer, name) == 2
    assert len(store.runs()) == FEW.kept
    sweep.stop(ada, name)
    ada.delete(next(run.id for run in store.runs() if run.note))
    with pytest.raises(RefusedError, match="may have 4 runs here, and you have 4; delete some"):
        sweep.go_on(fewer, name)
    assert store.runs(("queued",)) == []


def test_uploads_are_bounded_and_paths_of_the_server_are_for_teachers(store):
    ada = store.asked_by(ADA)
    with pytest.raises(RefusedError, match="This file has 2 MB, and students may bring 1 MB at most"):
        ada.keep_upload(".zip", bytes(1_600_000))
    for number in range(2):
        file = str(ada.keep_upload(".zip", b"zip"))
        ada.ask_data("import", f"set {number}", file)
    with pytest.raises(RefusedError, match="2 files in a day"):
        ada.keep_upload(".zip", b"zip")
    for words in (
        ("import", "mine", "/etc"),
        ("import", "imagewoof", file),
        ("import", "mine", str(store.uploads / "..")),
        ("import", "mine", file, "/etc"),
        ("embeddings", "mine", "--report=x", "--on=x"),
        ("embeddings", "mine", "/etc/passwd", "--on=x"),
        ("fetch", "imagewoof"),
    ):
        with pytest.raises(RefusedError, match="Only teachers may"):
            ada.ask_data(*words)
    assert len(list(store.uploads.iterdir())) == 2
    store.asked_by(TEACHER).ask_data("import", "mine", "/etc")
    ada.ask_data("embeddings", "CLIP", file, "--on=x")
    assert store.jobs()[0]["arguments"][-1] == f"--owner={ADA.owner}"
    assert store.jobs()[0]["owner"] == ADA.owner


def test_a_person_writes_only_so_often(store):
    now = [0.0]
    store.pace = Pace(4, 60.0, lambda: now[0])
    ada, run = store.asked_by(ADA), store.asked_by(ADA).submit(RunConfig())
    for m in (0.1, 0.2, 0.3):
        ada.turn(run, m=m)
    now[0] = 20.0
    with pytest.raises(RefusedError, match="too much at once; try again in 40 s"):
        ada.turn(run, m=0.4)
    assert store.folder(run).wishes == {"m": 0.3}
    store.asked_by(BOB).submit(RunConfig())
    for _ in range(9):
        store.asked_by(TEACHER).turn(run, m=0.2)
    now[0] = 60.1
    ada.turn(run, m=0.4)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), max_size=40), st.integers(1, 4))
def test_within_any_stretch_of_time_nobody_is_let_through_more_often(asked, most):
    now, let = [0.0], {"a": [], "b": []}
    pace = Pace(most, 30.0, lambda: now[0])
    for who, later in asked:
        now[0] += later
        full = pace.full(who)
        try:
            pace.take(who)
            let[who].append(now[0])
            assert not full
        except RefusedError:
            assert full
    for times in let.values():
        assert all(later - first >= 30.0 for first, later in zip(times, times[most:], strict=False))


def test_limits_are_whole_numbers():
    for wrong in ({"queued": -1}, {"minutes": 0}, {"epochs": "many"}, {"size": 1.5}, {"kept": True}):
        with pytest.raises(ValueError, match="whole number"):
            Limits(**wrong)


# ---- whatever people try, in whatever order

TRIES = st.tuples(
    st.sampled_from(["Ada", "Bob", "Eye", "Tea"]),
    st.sampled_from(["submit", "turn", "stop", "resume", "delete", "pin", "claim", "end"]),
    st.integers(0, 5),
)


@settings(max_examples=60)
@given(st.lists(TRIES, max_size=25))
def test_nobody_changes_what_is_not_theirs_whatever_is_tried(tries):
    people = {person.name: person for person in (ADA, BOB, EYE, TEACHER)}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.pace = Pace(10_000, 60.0)
        for name, act, place in tries:
            person, runs = people[name], store.runs()
            run = runs[place % len(runs)] if runs else None
            asked = store.asked_by(person)
            told = {run.id: (run.state, run.stop_wanted) for run in runs}
            kept = {run.id: (store.folder(run.id).wishes, store.folder(run.id).pinned) for run in runs}
            try:
                if act == "submit":
                    asked.submit(RunConfig())
                elif act == "claim":
                    store.claim()
                elif run is None:
                    continue
                elif act == "end":
                    store.end(run.id, run.attempt, "stopped")
                else:
                    more = {"turn": {"m": 0.1}, "pin": {"pinned": True}}.get(act, {})
                    getattr(asked, act)(run.id, **more)
            except RefusedError:
                assert person is not TEACHER
            except ValueError:  # a run in another state
                continue
            if act in ("claim", "end"):
                continue
            after = {run.id: run for run in store.runs()}
            for one in runs:
                now = after.get(one.id)
                same = now is not None and (now.state, now.stop_wanted) == told[one.id]
                same = same and kept[one.id] == (store.folder(one.id).wishes, store.folder(one.id).pinned)
                assert same or person is TEACHER or (person.owns(one.owner) and person.role == "student")
            for one in after.values():
                assert one.id in told or (one.owner == person.owner and person is not EYE)
            for each in (ADA, BOB):
                assert sum(run.open and run.owner == each.owner for run in after.values()) <= FEW.queued
                assert sum(run.owner == each.owner for run in after.values()) <= FEW.kept
        with store.reading():
            pass
        store._reader.dispose()


# ---- where it is kept


def test_owners_are_found_again_from_the_files(store, monkeypatch):
    run = store.asked_by(ADA).submit(RunConfig(), "a note")
    house = store.submit(RunConfig())
    assert read_json(store.folder(run).path / "run.json")["owner"] == ADA.owner
    store._reader.dispose()
    (store.path / "meta.db").unlink()
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    new = Store(store.path)
    assert len(reindex(new)) == 2
    assert (new.run(run).owner, new.run(house).owner) == (ADA.owner, "")


def test_brought_embeddings_are_of_who_brought_them(store, tmp_path, monkeypatch):
    from trainer.__main__ import main

    monkeypatch.setenv("FACES_HOME", str(store.path))
    rows = "\n".join(f"{number % 2},{number},{-number}" for number in range(1, 41))
    (tmp_path / "table.csv").write_text(f"label,a,b\n{rows}\n")
    assert main(["data", "embeddings", "CLIP", str(tmp_path / "table.csv"), f"--owner={ADA.owner}"]) == 0
    (run,) = Store(store.path).runs()
    assert run.owner == ADA.owner == read_json(store.folder(run.id).path / "run.json")["owner"]


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_home_of_before_opens_and_its_runs_are_nobodys(tmp_path, revision):
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, text

    setup = Config()
    setup.set_main_option("script_location", str(ROOT / "trainer" / "migrations"))
    name = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    with create_engine(f"sqlite:///{tmp_path / 'meta.db'}").begin() as db:
        setup.attributes["connection"] = db
        command.upgrade(setup, revision)
        db.execute(
            text("INSERT INTO runs VALUES (:id, :config, 'finished', '', 1, 0, 0, 5.0, 6.0, 7.0, 'a note')"),
            {"id": name, "config": RunConfig().to_json()},
        )
        db.execute(text("INSERT INTO jobs VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAW', '[\"fetch\"]', 'failed', 'why', 5.0)"))
    store = Store(tmp_path)
    run = store.run(name)
    assert (run.owner, run.note, run.created, run.ended) == ("", "a note", 5.0, 7.0)
    assert [job["owner"] for job in store.jobs()] == [""]
    with pytest.raises(RefusedError):
        store.asked_by(ADA).delete(name)
    store.delete(name)


# ---- pages


def test_no_page_writes_past_the_store():
    forbidden = {"pin", "wish", "pause"}  # a run's folder does these for whoever asks
    for file in sorted((ROOT / "pages").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
        assert "write" not in names, f"{file} writes files"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                text = ast.unparse(node.value)
                assert node.attr not in ("write_text", "write_bytes", "unlink", "rmtree"), (file, text)
                assert node.attr not in forbidden or "folder" not in text, (file, text, node.attr)
                assert node.attr not in (TRAINERS - {"index", "end"}) or "store" not in text, (file, text, node.attr)
