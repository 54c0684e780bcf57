"""The supervisor: one process per home that takes runs from the queue and sees them through.

It loads no torch, holds no data, and may be killed at any time: what matters is in the store, and the
next supervisor picks up from there.
"""

import json
import math
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import psutil
from filelock import FileLock, Timeout

from faces.files import Pace, heard, make, prove, read
from faces.projections import PROJECTIONS
from faces.seals import DamagedError
from trainer import sweep, worker
from trainer.engines import Engine
from trainer.engines.children import child, tell
from trainer.engines.local import LocalEngine
from trainer.leases import LEASE, Leases
from trainer.reindex import mend
from trainer.store import Run, Store
from trainer.tidying import brimming, cramped

TICK = 0.2  # seconds
GRACE = 10.0  # seconds that an attempt has to stop by itself


@dataclass
class Training:
    """An attempt that runs now."""

    run: Run
    handle: Any
    due: Pace  # to look for its snapshots
    began: float = math.inf  # when its first moment was there
    indexed: int = -1
    stop_by: float | None = None
    lost: str = ""  # why it is being ended, if it is for saying nothing
    over: str = ""  # why it was asked to stop, if it is for the time

    def overdue(self) -> str:
        """Why it has to stop, in a sentence, when it has trained for as long as it may at a stretch; "" until then."""
        most = self.run.minutes
        if not most or time.monotonic() - self.began < 60 * most:
            return ""
        return f"It has trained for {most} minutes, as long as a student's run may at a stretch; it can go on."


@dataclass
class Projector:
    """A warm process for one projection, at work on at most one picture."""

    projection: str
    process: Popen | None = None
    replies: queue.Queue = field(default_factory=queue.Queue)
    job: dict[str, Any] | None = None

    def send(self, job: dict[str, Any]) -> None:
        """Give it a picture to draw, starting it first when needed."""
        if self.process is None or self.process.poll() is not None:
            self.process, self.replies = (
                child("project", self.projection, modest=False, stdin=PIPE, stdout=PIPE),
                queue.Queue(),
            )
            threading.Thread(target=self._listen, args=(self.process, self.replies), daemon=True).start()
        tell(self.process, job)
        self.job = job

    def reply(self) -> dict[str, Any] | None:
        """The answer to the job, if it has come; a projector that died answers with a reason."""
        assert self.process is not None
        try:
            answer = self.replies.get_nowait()
        except queue.Empty:
            if self.process.poll() is None:
                return None
            answer = {**(self.job or {}), "reason": "The projector ended without an answer; ask again."}
        return answer

    @staticmethod
    def _listen(process: Popen, replies: queue.Queue) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            replies.put(json.loads(line))


class Supervisor:
    """The loop that moves runs, pictures and data jobs along."""

    def __init__(self, store: Store, engine: Engine, idle: float | None = None, app: int | None = None):
        self.store, self.engine, self.idle, self.app = store, engine, idle, app
        self.training: list[Training] = []
        self.projectors = [Projector(name) for name in PROJECTIONS]
        self.job: tuple[dict[str, Any], Popen] | None = None
        self.search: tuple[str, Popen] | None = None
        self.leaving = threading.Event()
        self.leases = Leases()

    def run(self) -> None:
        """Serve until told to leave, or until nothing has happened for `idle` seconds and the app is gone."""
        for run in self.store.runs(("running",)):
            outlast(self.store.folder(run.id).attempt(run.attempt) / "worker.json")
        self.store.recover()
        busy = time.monotonic()
        while not self.leaving.is_set():
            self.rest()
            try:
                active = self.tick()
            except DamagedError as why:  # of the database: the next supervisor mends it before it begins
                print(why, file=sys.stderr)
                break
            except Exception:  # a locked database, a full disk: said in the log, tried again
                traceback.print_exc()
                active = not self.leaving.wait(1.0)
            if active or (self.app and psutil.pid_exists(self.app)):
                busy = time.monotonic()
            elif self.idle and time.monotonic() - busy > self.idle:
                break
        self.leave()

    def rest(self) -> None:
        """Wait until the next round: a moment, or less when an attempt has ended."""
        self.engine.news.wait(TICK)
        self.engine.news.clear()

    def tick(self) -> bool:
        """One round; whether there was anything to do."""
        waiting = self.store.waiting()
        full = brimming(self.store.path) if self.training else ""
        for training in list(self.training):
            self._follow(training, bool(full) or training.run.id in waiting["stops"])
            if full and training in self.training and training.run.id not in waiting["stops"]:
                self.store.stop(training.run.id, full)
            if not training.over and (over := training.overdue()):
                self.store.folder(training.run.id).ask_to_stop(training.run.attempt)  # nobody is in a hurry
                training.over = over
        self._end_stuck()
        while waiting["queued"] and self.engine.free() and not cramped(self.store.path):
            self.store.lay_ballast()
            run = self.store.claim()
            if run is None:
                break
            folder = self.store.folder(run.id).path
            self.training.append(Training(run, self.engine.start(folder, run.attempt), Pace(folder)))
        if waiting["queued"] or not self.training:
            self.engine.warm()
        for projector in self.projectors:
            self._project(projector, projector.projection in waiting["wanted"])
        self._data(waiting["jobs"], waiting["stopped_jobs"])
        self._search()
        return bool(
            self.training or self.job or self.search or waiting["queued"] or waiting["wanted"] or waiting["jobs"]
        )

    def leave(self) -> None:
        """Let the workers stop with a checkpoint and record it; the next supervisor goes on from there."""
        self.engine.close(GRACE)
        with suppress(DamagedError):
            for training in self.training:
                self._follow(training, False)
        for projector in self.projectors:
            if projector.process:
                projector.process.kill()
        if self.job:
            self.job[1].kill()
        if self.search:
            self.search[1].kill()  # all that it knows is in the store

    def _follow(self, training: Training, stop: bool) -> None:
        run, now = training.run, time.monotonic()
        code = self.engine.poll(training.handle)
        if training.due() or code is not None:
            training.indexed = self.store.index(run.id, run.attempt, training.indexed)
            training.began = min(training.began, now if training.indexed >= 0 else math.inf)
        if code is not None:
            self.training = [other for other in self.training if other is not training]
            self._record(training, code)
        elif stop and training.stop_by is None:
            self.store.folder(run.id).ask_to_stop(run.attempt)
            training.stop_by = now + GRACE
        elif training.stop_by is not None and now > training.stop_by:
            self.engine.kill(training.handle)

    def _end_stuck(self) -> None:
        if not self.leases.due():
            return
        places = {one.run.id: self.store.folder(one.run.id).attempt(one.run.attempt) for one in self.training}
        lapsed = self.leases.lapsed({one.run.id: (places[one.run.id], one.indexed) for one in self.training})
        for training in self.training:
            training.lost = ""
            if training.run.id in lapsed:
                training.lost = f"it said nothing for {LEASE / 60:.0f} minutes"
                self.engine.kill(training.handle)

    def _record(self, training: Training, code: int) -> None:
        run = training.run
        if code == worker.FINISHED:
            self.store.end(run.id, run.attempt, "finished")
        elif code == worker.STOPPED or training.stop_by is not None:
            self.store.end(run.id, run.attempt, "stopped", self.store.run(run.id).reason or training.over)
        elif code == worker.OUT_OF_MEMORY:
            self.store.try_alone(run.id, run.attempt)
        elif code == worker.FAILED:
            self.store.end(run.id, run.attempt, "failed", _reason(self.store, run))
        else:
            told = {worker.INTERRUPTED: "interrupted", worker.GPU_LOST: "the GPU does not answer any more"}
            how = training.lost or told.get(code, f"signal {-code}" if code < 0 else f"exit code {code}")
            self.store.end(run.id, run.attempt, "interrupted", f"The worker went away ({how}).")
            if not self.leaving.is_set():
                self.store.retry(run.id)

    def _project(self, projector: Projector, wanted: bool) -> None:
        if projector.job and (answer := projector.reply()):
            self.store.end_wanted(answer["run"], answer["step"], answer["name"], answer["reason"])
            projector.job = None
        if wanted and projector.job is None and (job := self.store.next_wanted(projector.projection)):
            try:
                file = self.store.snapshot_file(job["run"], job["step"])
            except ValueError as error:
                self.store.end_wanted(job["run"], job["step"], job["name"], str(error))
                return
            job = {"run": job["run"], "step": job["step"], "name": job["name"], "file": str(file)}
            projector.send({**job, "folder": str(self.store.folder(job["run"]).path)})

    def _data(self, waiting: int, stopped: list[str]) -> None:
        if self.job:
            job, process = self.job
            if job["id"] in stopped:
                process.kill()
            code = process.poll()
            if code is not None:
                reason = heard(self.store.job_file(job["id"])).get("reason", "")
                said = reason or f"The data job ended early (exit {code}); what it had fetched is kept."
                self.store.end_job(job["id"], "failed" if code else "finished", said if code else "")
                self.job = None
        elif waiting and (taken := self.store.claim_job()):
            report = str(self.store.job_file(taken["id"]))
            self.job = taken, child("data", *taken["arguments"], "--report", report, stdin=PIPE)

    def _search(self) -> None:
        if self.search:
            name, process = self.search
            code = process.poll()
            if code is not None:
                if code:  # else it has said so itself, and may have been asked to go on since
                    said = f"The search ended early (exit {code}); supervisor.log in the home says more."
                    sweep.end_search(self.store, name, said)
                self.search = None
        elif wanted := sweep.searches(self.store):
            at_once = len(self.training) + self.engine.free()
            self.search = wanted[0], child("tune", wanted[0], "--at-once", str(at_once), modest=False, stdin=PIPE)


def outlast(file: Path) -> None:
    """Wait for a worker of an earlier supervisor to stop, and end it when it does not. Not on other machines."""
    told = heard(file)
    if told.get("host", platform.node()) != platform.node():
        return
    with suppress(psutil.Error, KeyError):
        worker = psutil.Process(told["pid"])
        if abs(worker.create_time() - told["born"]) < 1:
            try:
                worker.wait(GRACE)
            except psutil.TimeoutExpired:
                worker.kill()


def serve(
    store: Store, engine: Callable[[], Engine] = LocalEngine, idle: float | None = None, app: int | None = None
) -> bool:
    """Be the supervisor of this home until told to leave (SIGTERM, SIGINT). False when it has one already.

    `engine` makes what attempts run on. `idle` seconds without work are enough to leave, but not while the process
    `app` lives. ValueError or OSError, in one sentence, when the runs' files are where nothing can be written.
    """
    make(store.path)
    prove(store.files)
    try:
        with FileLock(store.path / "supervisor.lock", timeout=0):
            mend(store)
            supervisor = Supervisor(store, engine(), idle, app)
            for name in (signal.SIGTERM, signal.SIGINT):
                signal.signal(name, lambda *_: supervisor.leaving.set())
            supervisor.run()
            return True
    except Timeout:
        return False


def served(path: Path) -> bool:
    """Whether a supervisor looks after this home now."""
    try:
        make(path)
        with FileLock(path / "supervisor.lock", timeout=0):
            return False
    except Timeout:
        return True


def _reason(store: Store, run: Run) -> str:
    try:
        return read(store.folder(run.id).attempt(run.attempt) / "reason.txt").decode(errors="replace")
    except (FileNotFoundError, ConnectionError):  # of storage that is away just now; the run must end all the same
        return brimming(store.path) or "Training failed without a word; its log may say more."
