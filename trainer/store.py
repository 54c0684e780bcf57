"""The store: which runs there are, what state each is in, and the index to their files.

`meta.db` (SQLite; `trainer.database` may name a Postgres) is the truth for intent, the files of `trainer.folder` for
results. Pages and the command line write wishes here; only the supervisor moves runs through `claim` and `end`. Each
change of state is one guarded update: it names the state it expects, and does nothing when that no longer holds.

A store knows who asks (`by`): each wish passes `trainer.rights.authorize` here, and is refused with its sentence.
"""

import copy
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, delete, func, insert, select, tuple_, union_all, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool
from ulid import ULID

from faces.datasets.imagewoof import Imagewoof
from faces.files import aside, heard, read, sync, there, write
from faces.heads import HEADS
from faces.home import home, runs
from faces.knobs import Value
from faces.seals import DamagedError, from_json, to_json
from trainer import database
from trainer import tables as t
from trainer.config import RunConfig
from trainer.database import DAMAGED
from trainer.folder import RunFolder
from trainer.memory import FIRST, SECOND
from trainer.queued import lists, together
from trainer.rights import OWNER, WRITES, Person, RefusedError, authorize, refusal
from trainer.snapshot import Snapshot, facts_of

REVISION = "0005"  # of the tables, the newest file in trainer/migrations/versions
UPLOADED = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\.[a-z]+")  # what a file is called that was uploaded
TRIES = 3  # attempts in a row without a new snapshot before a run counts as broken
DAY = 86_400.0  # seconds
PATIENCE = 30.0  # seconds a wanted picture is waited for when nobody asks again
OPEN, ENDED = ("queued", "running"), ("finished", "failed", "stopped", "interrupted")
BALLAST = bytes(range(256)) * 4096  # 1 MiB that goes when the disk is full, so that a state can still change


@dataclass(frozen=True)
class Run:
    """One row of the store. `state` is queued, running, finished, failed, stopped or interrupted."""

    id: str
    settings: str  # the config as JSON, read when it is asked for: of ten thousand runs a page shows ten
    state: str
    reason: str
    attempt: int
    idle_attempts: int
    stop_wanted: bool
    created: float
    started: float | None
    ended: float | None
    note: str
    owner: str = ""  # whose it is in a class (`trainer.rights.Person.owner`)
    alone: bool = False  # it wants all cores or ran out of memory once, and trains while no other run does
    minutes: int = 0  # for which it trains at a stretch; 0: as long as it takes

    @property
    def config(self) -> RunConfig:
        """All that decides the run."""
        return _config(self.settings)

    @property
    def open(self) -> bool:
        """Whether it trains or waits to."""
        return self.state in OPEN


class Store:
    """All runs under one home. Cheap to make; opens or creates the database at the first use.

    `by` is who asks, or tells who does whenever it matters; what that person may not do raises RefusedError.
    """

    pace = WRITES

    def __init__(self, path: Path | None = None, by: Person | Callable[[], Person] = OWNER):
        self.path, self._by = path or home(), by

    # ---- who asks ----------------------------------------------------------------------------------

    @property
    def by(self) -> Person:
        """Who asks."""
        return self._by if isinstance(self._by, Person) else self._by()

    def asked_by(self, by: Person | Callable[[], Person]) -> "Store":
        """The same store with somebody else asking; both share their connections."""
        _ = self._reader
        other = copy.copy(self)
        other._by = by
        return other

    def allow(self, action: str, owner: str | None = None) -> None:
        """Let through who may do this, and not too often; RefusedError otherwise."""
        person = self.by
        authorize(person, action, owner)
        if person.limits:
            self.pace.take(person.tag)

    def why_not(self, action: str, owner: str | None = None) -> str:
        """Why who asks may not do this, in a sentence; "" when they may."""
        return refusal(self.by, action, owner)

    def afford(self, configs: Sequence[RunConfig], new: int | None = None) -> None:
        """RefusedError when who asks may not queue all of these: many are queued together or not at all.

        `new` is how many runs there will be more; None: as many as are queued, none of which goes on.
        """
        if limits := self.by.limits:
            for config in configs:
                limits.check(config)
            with self.reading() as db:
                self._room(db, len(configs), len(configs) if new is None else new)

    def _room(self, db: Connection, queued: int, kept: int) -> None:
        person = self.by
        if person.limits:
            theirs = select(func.count()).select_from(t.runs).where(t.runs.c.owner.endswith(f"#{person.tag}"))
            if queued:
                there = db.execute(theirs.where(t.runs.c.state.in_(OPEN))).scalar_one()
                person.limits.room("queued", there, queued)
            if kept:
                person.limits.room("kept", db.execute(theirs).scalar_one(), kept)

    # ---- for pages and the command line ------------------------------------------------------------

    def submit(self, config: RunConfig, note: str = "") -> str:
        """Queue a run and return its id. RefusedError for one too many or too large."""
        (name,) = self.submit_many([config], note)
        return name

    def submit_many(self, configs: Sequence[RunConfig], note: str = "") -> list[str]:
        """Queue runs in this order, all or none, and return their ids. RefusedError for one too many or too large.

        Of several, one file tells (`trainer.queued`) until each is claimed.
        """
        if not configs:
            return []
        self.allow("submit")
        self.afford(configs)
        names = sorted(str(ULID()) for _ in configs)
        told = {"created": time.time(), "note": note[:64], "owner": self.by.owner, "minutes": self.by.minutes}
        rows = [
            {"id": name, "config": config.sealed, "state": "queued", "alone": config.threads > 1, **told}
            for name, config in zip(names, configs, strict=True)
        ]
        own, shared = self.folder(names[0]), together(self.files, names)
        try:
            if names[1:]:
                shared.tell({row["id"]: row["config"] for row in rows}, told)
            else:
                own.tell(configs[0], told)
            with self.writing() as db:
                self._room(db, len(names), len(names))  # once more, with nobody between the count and the rows
                db.execute(insert(t.runs), rows)
                _note(db, names, "submit", 0)
        except (RefusedError, OSError):  # a full disk, say
            with suppress(OSError):
                own.delete()
                shared.delete()
            raise
        return names

    def known(self, name: str) -> bool:
        """Whether there is a run of this id."""
        with self.reading() as db:
            return db.execute(select(t.runs.c.id).where(t.runs.c.id == name)).first() is not None

    def enter(
        self,
        name: str,
        config: RunConfig,
        note: str,
        created: float,
        started: float | None,
        ended: float | None,
        state: str = "finished",
        reason: str = "",
        attempts: Sequence[int] = (1,),
        owner: str = "",
        minutes: int = 0,
    ) -> None:
        """Enter a run that has ended and whose files are in its folder already; of one that is known, nothing."""
        row = {
            "id": name, "config": config.sealed, "state": state, "reason": reason, "created": created,
            "note": note[:64], "owner": owner, "minutes": minutes, "attempt": (newest := max(attempts, default=0)),
            "started": started, "ended": ended,
        }  # fmt: skip
        with self.writing() as db:
            if db.execute(database.upsert(db, t.runs).values(**row).on_conflict_do_nothing()).rowcount:
                _note(db, [name], "enter", newest, reason)
        for attempt in attempts:
            self.index(name, attempt)

    def submit_first(self, config: RunConfig, note: str) -> None:
        """Queue a run if there has been none yet; of several that ask at once, one does."""
        with FileLock(self.path / "first.lock"):
            if not self.count():
                self.submit(config, note)

    def runs(self, states: Iterable[str] = OPEN + ENDED, few: slice = slice(None), note: str = "") -> list[Run]:
        """All runs in these states, newest first, or `few` of them: slice(20, 30) is the third ten.

        With a note, only those whose note begins with it.
        """
        query = select(t.runs).where(t.runs.c.state.in_(list(states))).order_by(t.runs.c.id.desc())
        query = query.where(t.runs.c.note.startswith(note, autoescape=True)) if note else query
        if few.stop is not None:
            query = query.limit(few.stop - (few.start or 0)).offset(few.start or 0)
        with self.reading() as db:
            return [_run(row) for row in db.execute(query)]

    def trained(self, head: str, dataset: str, note: str = "") -> list[Run]:
        """All runs of a head on a dataset, newest first; with a note, only those that have it."""
        field = lambda name: database.field(self._reader, t.runs.c.config, name)  # noqa: E731
        query = select(t.runs).where((field("head") == head) & (field("dataset") == dataset))
        query = query.where(t.runs.c.note == note) if note else query
        with self.reading() as db:
            return [_run(row) for row in db.execute(query.order_by(t.runs.c.id.desc()))]

    def count(self, states: Iterable[str] = OPEN + ENDED) -> int:
        """How many runs are in these states."""
        return self._count(t.runs.c.state.in_(list(states)))

    def ahead(self, name: str) -> int:
        """How many runs wait that are claimed before this one."""
        return self._count((t.runs.c.state == "queued") & (t.runs.c.id < name))

    def run(self, name: str) -> Run:
        """One run; ValueError when there is none of that id."""
        with self.reading() as db:
            row = db.execute(select(t.runs).where(t.runs.c.id == name)).first()
        if row is None:
            raise ValueError("There is no run of this id here; it may have been deleted.")
        return _run(row)

    def folder(self, name: str) -> RunFolder:
        """The files of a run. ValueError when the id is none."""
        if not re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", name):
            raise ValueError("A run is named by 26 letters and digits; this is no run id.")
        return RunFolder(self.files / name)

    @property
    def files(self) -> Any:
        """Where the folders of runs are (`faces.home.runs`)."""
        return runs(self.path)

    def turn(self, name: str, **knobs: Value) -> None:
        """Ask a queued or training run to use these knobs from its next step on.

        ValueError for a knob that the head does not have or cannot change in a running training.
        """
        run = self.run(name)
        self.allow("turn", run.owner)
        known = HEADS.about(run.config.head).knobs
        if fixed := sorted(name for name in knobs if name not in known or not known[name].live):
            raise ValueError(f"{run.config.head} cannot turn {fixed} while it trains; it can turn {_live(known)}.")
        if not run.open:
            raise ValueError(f"This run is {run.state}; knobs turn while it trains.")
        self.folder(name).wish({knob: known[knob].check(knob, value) for knob, value in knobs.items()})

    def stop(self, name: str, why: str = "") -> None:
        """Stop a run, saying why: a waiting one at once, a training one after its step and a last snapshot.

        Nothing happens to a run that has ended. ValueError when there is none of that id.
        """
        self.allow("stop", self.run(name).owner)
        if not self._move(name, ("queued",), "stopped", why or "stopped before it began"):
            with self.writing() as db:
                guard = (t.runs.c.id == name) & (t.runs.c.state == "running")
                db.execute(update(t.runs).where(guard).values(stop_wanted=1, reason=why))

    def resume(self, name: str) -> None:
        """Queue a stopped, failed or interrupted run again; it goes on from its last checkpoint.

        At a stretch it then trains for as long as who asks may let it.
        Nothing happens to one that is open. ValueError for a finished run, and when there is none of that id.
        """
        run, before = self.run(name), ("stopped", "failed", "interrupted")
        self.allow("resume", run.owner)
        again = dict[str, Any](idle_attempts=0, stop_wanted=0, ended=None, alone=run.config.threads > 1)
        again["minutes"] = self.by.minutes
        if not self._move(name, before, "queued", **again) and self.run(name).state == "finished":
            raise ValueError("This run is finished; there is nothing left to resume. Start a new one.")

    def delete(self, name: str) -> None:
        """Remove a run that does not train, with its files. ValueError while it trains."""
        self.allow("delete", self.run(name).owner)
        self._move(name, ("queued",), "stopped")
        with self.writing() as db:
            gone = db.execute(delete(t.runs).where((t.runs.c.id == name) & (t.runs.c.state.in_(ENDED)))).rowcount
            if gone:
                db.execute(delete(t.snapshots).where(t.snapshots.c.run == name))
                db.execute(delete(t.wanted).where(t.wanted.c.run == name))
        if not gone:
            self.run(name)  # says so when there is none any more
            raise ValueError("This run is training; stop it before deleting it.")
        self.folder(name).delete()
        for many in lists(self.files):
            many.forget(name)

    def pin(self, name: str, pinned: bool) -> None:
        """Keep a run when old ones are let go, or no longer."""
        self.allow("pin", self.run(name).owner)
        self.folder(name).pin(pinned)

    def pause(self, name: str, picture: str, paused: bool) -> None:
        """Stop refining a picture of a run, for all viewers, or go on."""
        self.allow("pause", self.run(name).owner)
        self.folder(name).pause(picture, paused)

    def history(self, name: str) -> list[dict[str, Any]]:
        """What each snapshot says (step, epoch, seconds, metrics, knobs, turned), in order.

        Shared, so not to be changed, as what `latest` gives.
        """
        query = select(t.snapshots.c.facts).where(t.snapshots.c.run == name).order_by(t.snapshots.c.step)
        with self.reading() as db:
            return [_facts(facts) for (facts,) in db.execute(query)]

    def latest(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The newest snapshot's facts of each of these runs that has one, in two queries."""
        c = t.snapshots.c
        newest = select(c.run, func.max(c.step)).where(c.run.in_(list(names))).group_by(c.run)
        with self.reading() as db:
            rows = db.execute(select(c.run, c.facts).where(tuple_(c.run, c.step).in_(newest)))
            return {run: _facts(facts) for run, facts in rows}

    def snapshot_file(self, name: str, step: int) -> Path:
        """The file of a snapshot; ValueError when there is none or its content is not what was written.

        Such a file is set aside, so that nobody else takes it for a moment of the run.
        """
        return self._sound(name, step)[0]

    def snapshot(self, name: str, step: int) -> Snapshot:
        """One snapshot with its arrays; ValueError as `snapshot_file`."""
        file, content = self._sound(name, step)
        return Snapshot.of(content, file)

    def _sound(self, name: str, step: int) -> tuple[Path, bytes]:
        c = t.snapshots.c
        with self.reading() as db:
            row = db.execute(select(c.attempt, c.sha256).where((c.run == name) & (c.step == step))).first()
        if row is None:
            raise ValueError(f"This run has no snapshot at step {step}.")
        file = self.folder(name).attempt(row.attempt) / "snapshots" / f"{step:08d}.safetensors"
        try:
            content = read(file)
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != row.sha256:
            aside(file)
            raise DamagedError(f"The snapshot at step {step} is damaged and is not shown.")
        return file, content

    def want(self, name: str, step: int, picture: str) -> str:
        """Ask the projectors for a picture. Returns "" while it is on its way, or why it failed."""
        authorize(self.by, "look")
        key = (t.wanted.c.run == name) & (t.wanted.c.step == step) & (t.wanted.c.name == picture)
        with self.reading() as db:
            row = db.execute(select(t.wanted).where(key)).first()
        if row is not None and (row.state != "waiting" or time.time() - row.asked < PATIENCE / 3):
            return row.reason
        fresh = {"run": name, "step": step, "name": picture, "asked": time.time(), "state": "waiting", "reason": ""}
        with self.writing() as db:
            wish = database.upsert(db, t.wanted).values(**fresh)
            db.execute(wish.on_conflict_do_update(index_elements=["run", "step", "name"], set_={"asked": time.time()}))
        return ""

    def ask_data(self, *arguments: str) -> str:
        """Queue a data job, `python -m trainer data ...`, and return its id; the same one while it is still open."""
        self.allow(self._meant(*arguments))
        if arguments[0] == "embeddings" and (owner := self.by.owner):
            arguments = (*arguments, f"--owner={owner}")
        for job in self.jobs():
            if job["state"] in OPEN and job["arguments"] == list(arguments):
                return job["id"]
        name = str(ULID())
        row = {"id": name, "arguments": json.dumps(arguments), "state": "queued", "created": time.time()}
        with self.writing() as db:
            db.execute(insert(t.jobs).values(**row, owner=self.by.owner))
        return name

    def _meant(self, kind: str, name: str, *words: str) -> str:
        """Which action a data job is: to bring something new that was uploaded, or to read a path of this machine."""
        if kind in ("prepare", "fetch"):
            return {"prepare": "decode", "fetch": "fetch"}[kind]
        paths = [Path(word) for word in (words if kind == "import" else words[:1])]
        uploaded = paths and all(path.parent == self.uploads and UPLOADED.fullmatch(path.name) for path in paths)
        return "bring" if uploaded and (kind, name) != ("import", Imagewoof.name) else "path"

    @property
    def uploads(self) -> Path:
        """Where files lie that were uploaded, until the job that they are for is done with them."""
        return self.path / "uploads"

    def keep_upload(self, suffix: str, content: bytes | memoryview) -> Path:
        """Keep a file that was uploaded, under a name of our own and with a suffix such as ".zip".

        RefusedError for one too large, or one too many.
        """
        self.allow("bring")
        person = self.by
        if person.limits:
            most = person.limits.upload
            if len(content) > most * 1_000_000:
                size = f"{len(content) / 1e6:,.0f} MB"
                raise RefusedError(f"This file has {size}, and students may bring {most} MB at most; ask a teacher.")
            recent = (t.jobs.c.owner.endswith(f"#{person.tag}")) & (t.jobs.c.created > time.time() - DAY)
            with self.reading() as db:
                count = db.execute(select(func.count()).select_from(t.jobs).where(recent)).scalar_one()
            person.limits.room("uploads", count)
        file = self.uploads / f"{ULID()}{suffix}"
        write(file, content)
        return file

    def ask_with_upload(self, kind: str, name: str, suffix: str, content: bytes | memoryview, *words: str) -> str:
        """Queue a data job for a file that was uploaded; nothing of it is kept when the job is refused."""
        file = self.keep_upload(suffix, content)
        try:
            return self.ask_data(kind, name, str(file), *words)
        except (ValueError, OSError):
            file.unlink(missing_ok=True)
            raise

    def jobs(self) -> list[dict[str, Any]]:
        """Data jobs, newest first, each with the progress it last reported."""
        with self.reading() as db:
            rows = [dict(row._mapping) for row in db.execute(select(t.jobs).order_by(t.jobs.c.id.desc()).limit(20))]
        for row in rows:
            row["arguments"] = json.loads(row["arguments"])
            row["progress"] = heard(self.job_file(row["id"]))
        return rows

    def job_file(self, job: str) -> Path:
        """Where a data job reports its progress."""
        return self.path / "jobs" / f"{job}.json"

    def stop_job(self, job: str) -> None:
        """Stop a data job; what it has fetched stays for the next try."""
        with self.reading() as db:
            owner = db.execute(select(t.jobs.c.owner).where(t.jobs.c.id == job)).scalar()
        self.allow("stop", owner or "")
        self.end_job(job, "stopped", "")

    # ---- for the supervisor ------------------------------------------------------------------------

    def waiting(self) -> dict[str, Any]:
        """What there is to do, in one look that takes no lock: queued runs, runs to stop, pictures, data jobs."""
        with self.reading() as db:
            queued = db.execute(select(t.runs.c.id).where(t.runs.c.state == "queued").limit(1)).first()
            stops = select(t.runs.c.id).where((t.runs.c.state == "running") & (t.runs.c.stop_wanted == 1))
            stopped = list(db.execute(stops).scalars())
            wanted = db.execute(select(t.wanted.c.name).where(t.wanted.c.state == "waiting").distinct()).scalars()
            pictures = {name.split("-")[0] for name in wanted}
            recent = db.execute(select(t.jobs.c.id, t.jobs.c.state).order_by(t.jobs.c.id.desc()).limit(20)).all()
        return {
            "queued": queued is not None,
            "stops": stopped,
            "wanted": pictures,
            "jobs": sum(state == "queued" for _, state in recent),
            "stopped_jobs": [name for name, state in recent if state == "stopped"],
        }

    def lay_ballast(self) -> None:
        """Put something on the disk that can go when it is full, unless it is there."""
        if not (self.path / "ballast").exists():
            write(self.path / "ballast", BALLAST)

    def claim(self) -> Run | None:
        """Take the oldest waiting run into training, as its next attempt; None when nothing waits.

        None too while a run trains alone, and when the oldest must and others still train: it keeps its turn.
        """
        oldest = select(t.runs).where(t.runs.c.state == "queued").order_by(t.runs.c.id).limit(1)
        training = select(func.max(t.runs.c.alone)).where(t.runs.c.state == "running")
        with self.writing() as db:
            row, alone = db.execute(oldest).first(), db.execute(training).scalar()  # None: nothing trains
            if row is None or alone or (row.alone and alone is not None):
                return None
            name, folder = row.id, self.folder(row.id)
            if not there(folder.path / "config.json"):  # it was queued with others
                told = {"created": row.created, "note": row.note, "owner": row.owner, "minutes": row.minutes}
                folder.tell(RunConfig.from_json(row.config), told)
            taken = {
                "state": "running", "attempt": t.runs.c.attempt + 1, "idle_attempts": t.runs.c.idle_attempts + 1,
                "started": time.time(), "reason": row.reason if row.alone else "", "stop_wanted": 0,
            }  # fmt: skip
            db.execute(update(t.runs).where((t.runs.c.id == name) & (t.runs.c.state == "queued")).values(**taken))
            run = _run(db.execute(select(t.runs).where(t.runs.c.id == name)).one())
            _note(db, [name], "claim", run.attempt)
        return run

    def index(self, name: str, attempt: int, known: int = -1) -> int:
        """Enter an attempt's snapshots of steps above `known`; returns the last step entered, or `known`."""
        new = [(step, file) for step, file in self.folder(name).snapshots(attempt) if step > known]
        if new:
            sync(new[0][1].parent)  # their worker may not have come to it, and a row lasts
        for step, file in new:
            known = step
            try:
                content = read(file)
                facts, sha256 = facts_of(content, file), hashlib.sha256(content).hexdigest()
            except ConnectionError:  # it is elsewhere, and there another time
                raise
            except DamagedError as why:  # since it was written
                aside(file)
                print(why, file=sys.stderr)
                continue
            except OSError as why:
                print(f"{file} cannot be read ({why}); it is left out.", file=sys.stderr)
                continue
            told = to_json(facts).decode()
            row = {"run": name, "step": step, "attempt": attempt, "facts": told, "sha256": sha256}
            with self.writing() as db:
                fresh = db.execute(database.upsert(db, t.snapshots).values(**row).on_conflict_do_nothing()).rowcount
                guard = (t.runs.c.id == name) & (t.runs.c.attempt == attempt)
                if fresh:
                    db.execute(update(t.runs).where(guard).values(idle_attempts=0))
        return known

    def end(self, name: str, attempt: int, state: str, reason: str = "") -> bool:
        """Record how an attempt ended; does nothing when another attempt has begun since."""
        return self._move(name, ("running",), state, reason, attempt, ended=time.time())

    def retry(self, name: str) -> None:
        """Queue an interrupted run again, or give it up after too many attempts that got nowhere."""
        run = self.run(name)
        if run.idle_attempts >= TRIES:
            said = run.reason or "it ended without a word"
            self._move(name, ("interrupted",), "failed", f"Given up after {TRIES} attempts without progress: {said}")
        else:
            self._move(name, ("interrupted",), "queued", run.reason)

    def try_alone(self, name: str, attempt: int) -> None:
        """An attempt ran out of memory: queue its run once more, to train alone, or fail it when it did already.

        One that somebody wants to stop is stopped. Does nothing when another attempt has begun since.
        """
        run = self.run(name)
        if run.stop_wanted:
            self.end(name, attempt, "stopped", run.reason)
        elif run.alone:
            self.end(name, attempt, "failed", SECOND)
        else:
            self._move(name, ("running",), "queued", FIRST, attempt, alone=1, idle_attempts=0)

    def next_wanted(self, projection: str) -> dict[str, Any] | None:
        """Take the picture of this kind that was asked for last, forgetting those nobody waits for any more."""
        c = t.wanted.c
        with self.writing() as db:
            db.execute(delete(t.wanted).where((c.asked < time.time() - PATIENCE) & (c.state != "working")))
            mine = (c.state == "waiting") & c.name.startswith(f"{projection}-")
            row = db.execute(select(t.wanted).where(mine).order_by(c.asked.desc()).limit(1)).first()
            if row is None:
                return None
            key = (c.run == row.run) & (c.step == row.step) & (c.name == row.name)
            db.execute(update(t.wanted).where(key).values(state="working"))
        return dict(row._mapping)

    def end_wanted(self, name: str, step: int, picture: str, reason: str) -> None:
        """The picture is there (no reason), or failed for this reason."""
        c = t.wanted.c
        key = (c.run == name) & (c.step == step) & (c.name == picture)
        with self.writing() as db:
            if reason:
                db.execute(update(t.wanted).where(key).values(state="failed", reason=reason, asked=time.time()))
            else:
                db.execute(delete(t.wanted).where(key))

    def claim_job(self) -> dict[str, Any] | None:
        """Take the oldest waiting data job; None when nothing waits."""
        with self.writing() as db:
            waiting = select(t.jobs).where(t.jobs.c.state == "queued").order_by(t.jobs.c.id).limit(1)
            row = db.execute(waiting).first()
            if row is None:
                return None
            db.execute(update(t.jobs).where(t.jobs.c.id == row.id).values(state="running"))
        return {"id": row.id, "arguments": json.loads(row.arguments)}

    def end_job(self, job: str, state: str, reason: str) -> None:
        """Record how a data job ended, unless it has ended already."""
        guard = (t.jobs.c.id == job) & t.jobs.c.state.in_(OPEN)
        with self.writing() as db:
            db.execute(update(t.jobs).where(guard).values(state=state, reason=reason))
            words = db.execute(select(t.jobs.c.arguments).where(t.jobs.c.id == job)).scalar()
        for path in map(Path, json.loads(words or "[]")):
            if path.parent == self.uploads:  # the page's own copy
                path.unlink(missing_ok=True)

    def recover(self) -> None:
        """After a supervisor that died: index what its workers left, and queue their runs again."""
        for run in self.runs(("running",)):
            self.index(run.id, run.attempt)
            stopped = run.stop_wanted
            said = "The trainer went away; the run goes on from its last checkpoint."
            self.end(run.id, run.attempt, "stopped" if stopped else "interrupted", run.reason if stopped else said)
        for run in self.runs(("interrupted",)):
            self.retry(run.id)
        with self.writing() as db:
            db.execute(update(t.wanted).values(state="waiting"))
            db.execute(update(t.jobs).where(t.jobs.c.state == "running").values(state="queued"))
        for many in lists(self.files):
            with suppress(OSError, ValueError), self.reading() as db:
                begun = select(t.runs.c.id).where(t.runs.c.id.between(*many.ends) & (t.runs.c.attempt > 0))
                if {*many.left} <= {*db.execute(begun).scalars()}:
                    many.delete()

    # ---- the database ------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that has the write lock from its first line on. OSError when the disk is full or read-only."""
        with self._begun(self._writer) as db:
            yield db

    @contextmanager
    def _begun(self, writer: Engine) -> Iterator[Connection]:
        if shutil.disk_usage(self.path).free < len(BALLAST) / 4:
            (self.path / "ballast").unlink(missing_ok=True)
        try:
            with database.in_words(), writer.begin() as db:
                yield db
        except OperationalError as error:
            if why := database.refusal(error):
                raise OSError(why, os.strerror(why), str(self.path / "meta.db")) from error
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that holds no lock between two statements."""
        with database.in_words(), self._reader.connect() as db:
            yield db

    def check(self) -> None:
        """DamagedError unless all of a SQLite database can be read and is what was written, as far as that can be told.

        SQLite keeps no checksum: a bit that was turned in a note, a reason or a time is not noticed.
        """
        with self.reading() as db:
            if db.dialect.name != "sqlite":
                return
            database.check(db)
            for (text,) in db.execute(union_all(select(t.runs.c.config), select(t.snapshots.c.facts))):
                from_json(text, DAMAGED)
            strange = db.execute(select(t.runs.c.id).where(t.runs.c.state.not_in(OPEN + ENDED))).first()
        if strange:
            raise DamagedError(DAMAGED)

    def set_aside(self) -> None:
        """Begin a new database in the place of a damaged one."""
        database.set_aside(self.path)
        self.__dict__.pop("_reader", None)
        self.__dict__.pop("_writer", None)

    def _count(self, which: Any) -> int:
        with self.reading() as db:
            return db.execute(select(func.count()).select_from(t.runs).where(which)).scalar_one()

    def _move(
        self, name: str, before: tuple[str, ...], state: str, reason: str = "", attempt: int | None = None, **more: Any
    ) -> bool:
        guard = (t.runs.c.id == name) & t.runs.c.state.in_(before)
        if attempt is not None:
            guard &= t.runs.c.attempt == attempt
        with self.writing() as db:
            if state == "queued":
                self._room(db, 1, 0)
            moved = db.execute(update(t.runs).where(guard).values(state=state, reason=reason, **more)).rowcount == 1
            if moved:
                _note(db, [name], f"{'|'.join(before)[:16]}>{state}", attempt or 0, reason)
        return moved

    @cached_property
    def _writer(self) -> Engine:
        engine = database.writer(self.path)
        with database.in_words():
            self._migrate(engine)
        return engine

    @cached_property
    def _reader(self) -> Engine:
        _ = self._writer  # which brings the tables up to date
        # a page reads several times a second; opening the file takes most of a look
        return database.engine(self.path, QueuePool)

    def _migrate(self, engine: Engine) -> None:
        with engine.connect() as db:
            found = database.revision(db)
        if found == REVISION:
            return
        if found and found > REVISION:
            raise ValueError(
                f"This home was written by a newer Faces (tables {found}, here {REVISION}); update Faces, or point "
                "FACES_HOME at another folder."
            )
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        setup = Config()
        setup.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with FileLock(self.path / "migrate.lock"), self._begun(engine) as db:
            found = database.revision(db)  # another may have been here before
            if found and found != REVISION and engine.name == "sqlite":
                write(self.path / f"meta.db.{found}", database.content(self.path))
            setup.attributes["connection"] = db
            try:
                command.upgrade(setup, "head")
            except CommandError as error:  # no tables of ours are called so
                raise DamagedError(DAMAGED) from error


@lru_cache(10_000)
def _config(settings: str) -> RunConfig:
    return RunConfig.from_json(settings, DAMAGED)


@lru_cache(2000)  # all who follow a run ask for all its moments at each look; 7 MB
def _facts(text: str) -> dict[str, Any]:
    return from_json(text, DAMAGED)


def _run(row: Any) -> Run:
    values = dict(row._mapping)
    values |= {name: bool(values[name]) for name in ("stop_wanted", "alone")}
    return Run(settings=values.pop("config"), **values)


def _note(db: Connection, runs: Sequence[str], edge: str, attempt: int, reason: str = "") -> None:
    told = {"at": time.time(), "edge": edge[:32], "attempt": attempt, "reason": reason}
    db.execute(insert(t.audit), [{"run": run, **told} for run in runs])


def _live(knobs: Any) -> list[str]:
    return [name for name, knob in knobs.items() if knob.live]
