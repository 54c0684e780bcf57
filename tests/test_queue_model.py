"""The queue against a model of it: any order of wishes, attempts, crashes and late words keeps its promises.

FACES_EXAMPLES=5000 searches longer.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from sqlalchemy import select

from trainer import RunConfig, tables
from trainer.snapshot import Snapshot
from trainer.store import ENDED, OPEN, TRIES, Store
from trainer.training import train

EDGES = {
    "queued": {"running", "stopped"},
    "running": {"finished", "failed", "stopped", "interrupted", "queued"},
    "interrupted": {"queued", "failed"},
    "stopped": {"queued"},
    "failed": {"queued"},
    "finished": set(),
}
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where a sync costs nothing


class Model(dict):
    """What one run should be."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


@pytest.fixture(scope="module", autouse=True)
def ready(tmp_path_factory):
    """An empty home and one snapshot, made once."""
    Queue.empty = tmp_path_factory.mktemp("empty")
    Store(Queue.empty).runs()
    first = next(iter(train(RunConfig(epochs=1, batch=256, dim=2, probe=100))))
    Queue.moment = Snapshot.to_bytes(first)
    Queue.config = RunConfig(epochs=1)


class Queue(RuleBasedStateMachine):
    """Two stores on one home, as the app and a supervisor have them, and what a person or a fault may do."""

    empty: Path
    moment: bytes
    config: RunConfig
    names = Bundle("names")

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(dir=MEMORY))
        shutil.copytree(self.empty, self.home, dirs_exist_ok=True)
        self.stores = Store(self.home), Store(self.home)
        self.model: dict[str, Model] = {}
        self.kept: set[tuple[str, int]] = set()  # snapshots that were acknowledged
        self.before: dict[str, str] = {}

    def teardown(self) -> None:
        for store in self.stores:
            store._writer.dispose()
            store._reader.dispose()
        shutil.rmtree(self.home)

    @rule(target=names, who=st.integers(0, 1))
    def submit(self, who: int) -> str:
        name = self.stores[who].submit(self.config)
        self.model[name] = Model(state="queued", attempt=0, idle=0, stop=False, alone=False)
        return name

    @rule(target=names, who=st.integers(0, 1), count=st.integers(2, 3))
    def submit_many(self, who: int, count: int):
        made = self.stores[who].submit_many([self.config] * count)
        self.model |= {name: Model(state="queued", attempt=0, idle=0, stop=False, alone=False) for name in made}
        return multiple(*made)

    @rule(who=st.integers(0, 1))
    def claim(self, who: int) -> None:
        waiting = sorted(name for name, run in self.model.items() if run.state == "queued")
        training = [run for run in self.model.values() if run.state == "running"]
        if any(run.alone for run in training) or (waiting and training and self.model[waiting[0]].alone):
            waiting = []
        claimed = self.stores[who].claim()
        assert (claimed.id if claimed else None) == (waiting[0] if waiting else None)
        if claimed:
            run = self.model[claimed.id]
            run.update(state="running", attempt=run.attempt + 1, idle=run.idle + 1, stop=False)
            assert claimed.attempt == run.attempt

    @rule(name=names, step=st.integers(1, 3))
    def reach(self, name: str, step: int) -> None:
        """The worker writes a snapshot, and the supervisor sees it."""
        run = self.model[name]
        if run.state == "running":
            folder = self.stores[0].folder(name).attempt(run.attempt) / "snapshots"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{step:08d}.safetensors").write_bytes(self.moment)
            self.stores[1].index(name, run.attempt)
            if (name, step) not in self.kept:
                run.idle = 0
            self.kept.add((name, step))

    @rule(name=names, state=st.sampled_from(ENDED), late=st.integers(0, 2))
    def end(self, name: str, state: str, late: int) -> None:
        """An attempt says how it ended; with `late`, one that another has followed."""
        run = self.model[name]
        heard = self.stores[1].end(name, run.attempt - late, state)
        assert heard == (run.state == "running" and late == 0)
        if heard:
            run.state = state

    @rule(name=names, late=st.integers(0, 1))
    def run_out(self, name: str, late: int) -> None:
        """An attempt ran out of memory; with `late`, one that another has followed."""
        run = self.model[name]
        self.stores[1].try_alone(name, run.attempt - late)
        if run.state == "running" and late == 0:
            if run.stop or run.alone:
                run.state = "stopped" if run.stop else "failed"
            else:
                run.update(state="queued", alone=True, idle=0)

    @rule(name=names)
    def retry(self, name: str) -> None:
        self.stores[1].retry(name)
        self.retried(self.model[name])

    def retried(self, run: Model) -> None:
        if run.state == "interrupted":
            run.state = "failed" if run.idle >= TRIES else "queued"

    @rule(name=names, who=st.integers(0, 1))
    def stop(self, name: str, who: int) -> None:
        self.stores[who].stop(name)
        run = self.model[name]
        run.stop |= run.state == "running"
        run.state = "stopped" if run.state == "queued" else run.state

    @rule(name=names, who=st.integers(0, 1))
    def resume(self, name: str, who: int) -> None:
        run = self.model[name]
        if run.state == "finished":
            with pytest.raises(ValueError, match="nothing left to resume"):
                self.stores[who].resume(name)
            return
        self.stores[who].resume(name)
        if run.state not in OPEN:
            run.update(state="queued", idle=0, stop=False, alone=False)

    @rule(target=names, name=consumes(names), who=st.integers(0, 1))
    def delete(self, name: str, who: int):
        if self.model[name].state == "running":
            with pytest.raises(ValueError, match="stop it before"):
                self.stores[who].delete(name)
            return name
        self.stores[who].delete(name)
        del self.model[name]
        self.before.pop(name, None)
        self.kept = {kept for kept in self.kept if kept[0] != name}
        assert not self.stores[who].folder(name).path.exists()
        return multiple()

    @rule()
    def crash(self) -> None:
        """The supervisor and all workers die; the next one recovers."""
        self.stores = Store(self.home), self.stores[0]
        self.stores[0].recover()
        for run in self.model.values():
            if run.state == "running":
                run.state = "stopped" if run.stop else "interrupted"
            self.retried(run)
        # what one step of the model does in two goes over an edge of its own each time
        self.before = {name: run.state for name, run in self.model.items()}

    @invariant()
    def runs_are_as_they_should_be(self) -> None:
        found = {run.id: run for run in self.stores[0].runs()}
        assert found.keys() == self.model.keys()
        for name, run in self.model.items():
            one = found[name]
            assert (one.state, one.attempt, one.idle_attempts) == (run.state, run.attempt, run.idle)
            assert one.alone == run.alone
            assert one.stop_wanted == run.stop or one.state != "running"
            before = self.before.get(name, run.state)
            assert run.state in EDGES[before] | {before}
            self.before[name] = run.state

    @invariant()
    def who_trains_alone_is_alone(self) -> None:
        training = self.stores[0].runs(("running",))
        assert len(training) < 2 or not any(run.alone for run in training)

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        for name, step in self.kept:
            self.stores[0].snapshot_file(name, step)

    @invariant()
    def the_audit_tells_each_move(self) -> None:
        with self.stores[0].reading() as db:
            audit = list(db.execute(select(tables.audit).order_by(tables.audit.c.id)))
        for name, run in self.model.items():
            told = [row.edge for row in audit if row.run == name]
            assert told.count("claim") == run.attempt
            last = told[-1]
            assert run.state == {"submit": "queued", "claim": "running"}.get(last, last.split(">")[-1])


TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=int(os.environ.get("FACES_EXAMPLES", 400)), stateful_step_count=20, deadline=None
)
