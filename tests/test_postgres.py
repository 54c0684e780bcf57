"""A store in Postgres keeps the promises of one in a file.

Needs a Postgres on this machine, which is started in a folder of its own, and psycopg (tests/requirements-cluster.txt).
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from tests import test_queue_model, test_store
from tests.helpers import end, trainer, until
from tests.test_queue_model import ready  # noqa: F401
from trainer import RunConfig
from trainer.store import Store
from trainer.tables import tables

FOUND = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
BIN = next((Path(found).parent for found in FOUND if found), None)
pytestmark = [
    pytest.mark.skipif(BIN is None, reason="There is no Postgres here; `apt-get install postgresql` installs one."),
    pytest.mark.skipif(
        importlib.util.find_spec("psycopg") is None,
        reason="psycopg is not installed; `uv pip install -r tests/requirements-cluster.txt` installs it.",
    ),
    pytest.mark.xdist_group("postgres"),
]


@pytest.fixture(scope="module")
def postgres():
    """The address of a Postgres that listens on a socket in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="faces-pg"))
    user = {}
    if os.name == "posix" and os.geteuid() == 0:  # Postgres refuses to be root
        shutil.chown(folder, "postgres")
        user = {"user": "postgres"}
    control = [str(BIN / "pg_ctl"), "-D", str(folder / "data"), "-w"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **user}
    subprocess.run([str(BIN / "initdb"), "-A", "trust", "-U", "faces", "-D", str(folder / "data")], **quiet)
    subprocess.run([*control, "-l", str(folder / "log"), "-o", f"-c listen_addresses= -k {folder}", "start"], **quiet)
    yield f"postgresql+psycopg://faces@/postgres?host={folder}"
    subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder)


@pytest.fixture
def store(postgres, tmp_path, monkeypatch):
    """An empty store in Postgres."""
    monkeypatch.setenv("FACES_STORE", postgres)
    made = Store(tmp_path / "home")
    emptied(made)
    yield made
    closed(made)


def emptied(store: Store) -> None:
    with store.writing() as db:
        for table in tables.sorted_tables:
            db.execute(table.delete())


def closed(store: Store) -> None:
    store._writer.dispose()
    store._reader.dispose()


@pytest.mark.parametrize(
    "promise",
    [
        test_store.test_a_submitted_run_waits_with_its_settings,
        test_store.test_runs_are_claimed_oldest_first_and_once,
        test_store.test_a_waiting_run_stops_at_once_and_a_training_one_is_asked_to,
        test_store.test_a_stopped_run_can_be_resumed_and_a_finished_one_cannot,
        test_store.test_an_attempt_that_is_over_changes_nothing,
        test_store.test_a_run_that_gets_nowhere_is_given_up_after_three_attempts,
        test_store.test_a_training_run_is_not_deleted_and_an_ended_one_goes_with_its_files,
        test_store.test_snapshots_are_indexed_once_and_read_back,
    ],
    ids=lambda promise: promise.__name__.removeprefix("test_"),
)
def test_what_is_promised_of_a_file_holds_in_postgres(store, promise):
    promise(store)
    assert not (store.path / "meta.db").exists()


def test_the_model_of_the_queue_holds_in_postgres(postgres, monkeypatch):
    monkeypatch.setenv("FACES_STORE", postgres)

    class InPostgres(test_queue_model.Queue):
        @initialize()
        def begin(self) -> None:
            super().begin()
            emptied(self.stores[0])

        @rule()
        def crash(self) -> None:
            left = self.stores[1]
            super().crash()
            closed(left)

    run_state_machine_as_test(InPostgres, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))


def test_two_supervisors_never_claim_the_same_run(store):
    names = [store.submit(RunConfig(seed=seed)) for seed in range(40)]
    others = [Store(store.path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(lambda turn: others[turn % 4].claim(), range(60)))
    assert sorted(run.id for run in claimed if run) == names
    for other in others:
        closed(other)


def test_runs_of_a_head_are_found_and_a_picture_is_wanted_once(store):
    name = store.submit(RunConfig(head="CosFace"), "a note")
    store.submit(RunConfig(head="ArcFace"), "a note")
    assert [run.id for run in store.trained("CosFace", "digits", "a note")] == [name]
    for _ in range(2):
        store.want(name, 0, "pca-2")
    assert store.waiting()["wanted"] == {"pca"}
    assert store.next_wanted("pca")["run"] == name
    assert store.next_wanted("pca") is None


def test_a_supervisor_trains_what_waits_in_postgres(store):
    name = store.submit(RunConfig(epochs=1, batch=256, dim=8, probe=100))
    supervisor = trainer("serve", home=store.path)
    until(lambda: store.run(name).state == "finished")
    end(supervisor)
    assert store.history(name)
