"""Do the tests catch it when a guard is gone? Each bug is put into a copy of the project, where its tests must fail.

    python -m tests.faults.seeded          # some minutes; prints a Markdown table, and fails when a bug is missed

A test that passes without the guard proves nothing about it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT


class Bug(NamedTuple):
    """One guard, the text that is it, what takes its place, and the tests that must notice."""

    name: str
    file: str
    guard: str
    without: str
    tests: str


BUGS = [
    Bug(
        "no fence: an attempt that is over may end the next one", "trainer/store.py",
        "            guard &= t.runs.c.attempt == attempt\n", "            pass\n", "tests/test_queue_model.py",
    ),
    Bug(
        "no guard on edges: any state may become any other", "trainer/store.py",
        "guard = (t.runs.c.id == name) & t.runs.c.state.in_(before)", "guard = t.runs.c.id == name",
        "tests/test_queue_model.py",
    ),
    Bug(
        "a claim does not count as an attempt", "trainer/store.py",
        '"attempt": t.runs.c.attempt + 1,', '"attempt": t.runs.c.attempt,', "tests/test_queue_model.py",
    ),
    Bug(
        "the newest run is claimed first", "trainer/store.py",
        'select(t.runs).where(t.runs.c.state == "queued").order_by(t.runs.c.id).limit(1)',
        'select(t.runs).where(t.runs.c.state == "queued").order_by(t.runs.c.id.desc()).limit(1)',
        "tests/test_queue_model.py",
    ),
    Bug(
        "a run that ran out of memory begins beside others again", "trainer/store.py",
        "if row is None or alone or (row.alone and alone is not None):", "if row is None or alone:",
        "tests/test_faults.py -k ran_out_of_memory",
    ),
    Bug(
        "others begin beside a run that must train alone", "trainer/store.py",
        "if row is None or alone or (row.alone and alone is not None):",
        "if row is None or (row.alone and alone is not None):", "tests/test_faults.py -k ran_out_of_memory",
    ),
    Bug(
        "a run that runs out of memory is tried for ever", "trainer/store.py",
        "        elif run.alone:\n", "        elif False:\n", "tests/test_faults.py -k ran_out_of_memory",
    ),
    Bug(
        "a worker that the system ended for want of memory is just gone", "trainer/worker.py",
        "if system_kills() > kills.pop(pid) and code == -signal.SIGKILL:", "if False:",
        "tests/test_memory.py -k system_ends",
    ),
    Bug(
        "a training waits for the disk", "trainer/worker.py",
        "writer.hand(partial(keep, folder, attempt, snapshot), spare=not (whole or must))",
        "keep(folder, attempt, snapshot)", "tests/test_faults.py -k slow",
    ),
    Bug(
        "a training has ended before all is written", "trainer/writer.py",
        "        self.thread.join()\n", "", "tests/test_faults.py -k slow",
    ),
    Bug(
        "what the disk refused last is passed over", "trainer/writer.py",
        "        if self.error and kind is None:\n", "        if False:\n", "tests/test_full_disk.py",
    ),
    Bug(
        "moments of whole epochs give way on a slow disk", "trainer/worker.py",
        "spare=not (whole or must)", "spare=True", "tests/test_faults.py -k slow",
    ),
    Bug(
        "a poison run is tried for ever", "trainer/store.py",
        "if run.idle_attempts >= TRIES:", "if run.idle_attempts >= 10 * TRIES:", "tests/test_store.py",
    ),
    Bug(
        "what is brought may take any memory", "trainer/memory.py",
        "    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))\n", "", "tests/test_limits.py -k takes_too_much",
    ),
    Bug(
        "who leaves is let in again before those who wait", "pages/components/live.py",
        "_turns = Turns(2)", "from threading import Semaphore\n\nTurns = Semaphore\n_turns = Turns(2)",
        "tests/test_live.py",
    ),
    Bug(
        "a crowd looks as often as one", "pages/components/live.py",
        "max(1.0, len(_looked) / CROWD)", "1.0", "tests/test_live.py",
    ),
    Bug(
        "a full disk lets trainings begin", "trainer/supervisor.py", " and not cramped(self.store.path)", "",
        "tests/test_tidying.py",
    ),
    Bug(
        "trainings go on until the disk is full", "trainer/supervisor.py",
        'brimming(self.store.path) if self.training else ""', '""', "tests/test_full_disk.py",
    ),
    Bug(
        "nothing goes from a full disk so that a state can change", "trainer/store.py",
        '(self.path / "ballast").unlink(missing_ok=True)', "pass", "tests/test_full_disk.py",
    ),
    Bug(
        "a write that the disk refused leaves its part there", "faces/files.py",
        "        temporary.unlink(missing_ok=True)\n", "        pass\n", "tests/test_full_disk.py",
    ),
    Bug(
        "a stop is timed by a clock that can jump", "trainer/supervisor.py",
        "run, now = training.run, time.monotonic()", "run, now = training.run, time.time()",
        "tests/test_faults.py -k clock_that_jumps",
    ),
    Bug(
        "an attempt that says nothing keeps its place for ever", "trainer/supervisor.py",
        "        self._end_stuck()\n", "", "tests/test_faults.py -k says_nothing",
    ),
    Bug(
        "hours of sleep count as silence", "trainer/leases.py",
        "min(passed, MOST)", "passed", "tests/test_leases.py",
    ),
    Bug(
        "who waits for a worker counts as silent", "trainer/leases.py",
        "if told := heard(folder / \"worker.json\"):", "if told := str(folder):", "tests/test_leases.py",
    ),
    Bug(
        "a student's run trains on and on", "trainer/supervisor.py",
        "if not training.over and (over := training.overdue()):", "if over := \"\":", "tests/test_faults.py -k stretch",
    ),
    Bug(
        "a class takes any number of people", "pages/components/who.py",
        "len(there) >= room.people", "False", "tests/test_class.py -k too_many",
    ),
    Bug(
        "the classes of a batch are drawn by chance too", "faces/partial_fc.py",
        "        drawn[labels[self.at_home(labels)] - self.first] = True\n", "", "tests/test_partial_fc.py",
    ),
    Bug(
        "a run that was pinned after the look goes with the old ones", "trainer/tidying.py",
        "if item.run and (run is None or store.folder(run.id).pinned):", "if item.run and run is None:",
        "tests/test_tidying.py",
    ),
    Bug(
        "a training run can be deleted", "trainer/store.py",
        "(t.runs.c.id == name) & (t.runs.c.state.in_(ENDED))", "(t.runs.c.id == name)", "tests/test_queue_model.py",
    ),
    Bug(
        "a wish to stop is forgotten by the next supervisor", "trainer/store.py",
        "            stopped = run.stop_wanted\n", "            stopped = False\n", "tests/test_store.py",
    ),
    Bug(
        "a file is not synced before it gets its name", "faces/files.py",
        "        os.fsync(file.fileno())\n", "        pass\n", "tests/test_store.py",
    ),
    Bug(
        "a folder is not synced after a rename", "faces/files.py",
        "            os.fsync(folder)\n", "            pass\n", "tests/test_store.py",
    ),
    Bug(
        "what is in a file does not outlast a power cut", "faces/files.py",
        "        os.fsync(file.fileno())\n", "        pass\n", "tests/test_power.py -k current_unit",
    ),
    Bug(
        "names of files do not outlast a power cut", "faces/files.py",
        "            os.fsync(folder)\n", "            pass\n", "tests/test_power.py -k current_unit",
    ),
    Bug(
        "names of new folders do not outlast a power cut", "faces/files.py",
        "        sync(one.parent)\n", "", "tests/test_power.py -k current_unit",
    ),
    Bug(
        "the database does not outlast a power cut", "trainer/database.py",
        "PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL", "tests/test_power.py -k current_unit",
    ),
    Bug(
        "a snapshot is entered before its name outlasts a power cut", "trainer/store.py",
        "            sync(new[0][1].parent)", "            pass", "tests/test_power.py -k entered",
    ),
    Bug(
        "progress that a power cut has torn is an error", "faces/files.py",
        "    except ValueError:\n        return {}\n", "    except ZeroDivisionError:\n        return {}\n",
        "tests/test_power.py -k current_unit",
    ),
    Bug(
        "an old database is brought up to date without a copy", "trainer/store.py",
        'if found and found != REVISION and engine.name == "sqlite":', "if False:", "tests/test_old_homes.py -k kept",
    ),
    Bug(
        "what newer tables have is not added to old ones", "trainer/migrations/versions/v0003_owners.py",
        'for table in ("runs", "jobs"):', 'for table in ("runs",):', "tests/test_old_homes.py -k moments",
    ),
    Bug(
        "an array that old moments lack is asked for", "trainer/snapshot.py",
        "for name in ARRAYS if name in arrays", "for name in ARRAYS", "tests/test_old_homes.py -k moments",
    ),
    Bug(
        "old runs are read with what new ones begin with", "trainer/config.py",
        'schedule: str = "cosine"', 'schedule: str = "flat"', "tests/test_old_homes.py -k later",
    ),
    Bug(
        "a file is written in its place", "faces/files.py",
        'temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")', "temporary = path",
        "tests/test_store.py",
    ),
    Bug(
        "a snapshot of another moment is shown", "trainer/store.py",
        "hashlib.sha256(content).hexdigest() != row.sha256", "False", "tests/test_store.py",
    ),
    Bug(
        "a damaged checkpoint is taken up", "trainer/folder.py",
        'if hashlib.sha256(content).hexdigest()[:12] == file.stem.split("-")[1]:', "if content:", "tests/test_store.py",
    ),
    Bug(
        "what does not add up to its seal is shown", "faces/seals.py",
        "    if _seal(content, found) != found[1] if found else BROKEN.search(content):\n", "    if False:\n",
        "tests/test_damaged.py",
    ),
    Bug(
        "decoded images that do not add up are trained on", "faces/datasets/stored.py",
        "self.ready(needed) and self._sound(facts, needed)", "self.ready(needed)", "tests/test_damaged.py -k decoded",
    ),
    Bug(
        "a damaged list of runs is read on", "trainer/reindex.py",
        "        store.set_aside()\n", "        pass\n", "tests/test_damaged.py -k torn_list",
    ),
    Bug(
        "any text is a run id", "trainer/store.py",
        'if not re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", name):', "if not name:", "tests/test_store.py",
    ),
    Bug(
        "a request under any name is answered",
        "pages/components/door.py",
        "if all(map(self.known, called + headers.getlist(\"origin\"))):",
        "if all(map(self.known, headers.getlist(\"origin\"))):",
        "tests/test_private.py",
    ),
    Bug(
        "a socket is opened to any page", "pages/components/door.py",
        "called + headers.getlist(\"origin\")", "called", "tests/test_private.py",
    ),
    Bug(
        "everybody may do everything", "trainer/rights.py",
        "    if why := refusal(person, action, owner):\n", "    if why := None:\n", "tests/test_rights.py",
    ),
    Bug(
        "whose run it is does not matter to who deletes it", "trainer/store.py",
        'self.allow("delete", self.run(name).owner)', 'self.allow("delete")', "tests/test_rights.py",
    ),
    Bug(
        "a name is enough to be somebody", "trainer/rights.py",
        'owner.rpartition("#")[2] == self.tag', 'owner.rpartition("#")[0] == self.name', "tests/test_rights.py",
    ),
    Bug(
        "a limit is looked at before the others of the same moment are in", "trainer/store.py",
        "self._room(db, len(names), len(names))  # once more", "pass  #",
        "tests/test_rights.py",
    ),
    Bug(
        "an old code goes on being one", "trainer/classroom.py",
        'return _digest(key, "code", role, self.codes[role]).hex()[:32]',
        'return _digest(key, "code", role).hex()[:32]', "tests/test_class.py -k code",
    ),
    Bug(
        "data is given to who has not come in", "pages/components/who.py",
        "        if guarded:\n", "        if False:\n", "tests/test_class.py -k gate",
    ),
    Bug(
        "a download of any content is taken", "faces/datasets/fetching.py",
        'None if whole.hexdigest() == file.md5 else "its checksum differs"', "None", "tests/test_fetch.py",
    ),
    Bug(
        "a worker that was killed counts as finished", "trainer/worker.py",
        "code = os.waitstatus_to_exitcode(status)", "code = status >> 8", "tests/test_engines.py",
    ),
    Bug(
        "an engine that closes kills its workers", "trainer/worker.py",
        "os.kill(pid, signal.SIGTERM)", "os.kill(pid, signal.SIGKILL)", "tests/test_engines.py",
    ),
    Bug(
        "an attempt that has ended keeps its slot", "trainer/engines/local.py",
        "            self.running.remove(handle)\n", "            pass\n", "tests/test_engines.py",
    ),
    Bug(
        "runs of other seeds are shown each other's batches", "trainer/feed.py",
        '"held_out", "seed")', '"held_out")', "tests/test_training.py -k train_in_turn",
    ),
]  # fmt: skip


def caught(bug: Bug, copy: Path) -> bool:
    """Whether the tests fail with this bug, and for no other reason than a failed promise."""
    file = copy / bug.file
    right = file.read_text(encoding="utf-8")
    assert right.count(bug.guard) == 1, f"{bug.file} has {right.count(bug.guard)} places like {bug.guard!r}"
    try:
        file.write_text(right.replace(bug.guard, bug.without), encoding="utf-8")
        return fails(bug.tests, copy)
    finally:
        file.write_text(right, encoding="utf-8")


def fails(tests: str, copy: Path) -> bool:
    """Whether some test fails; an error that keeps tests from running at all is no failure."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FACES_PROFILE": "finding"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=900)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode == 1


def main() -> int:
    """Print a table; 1 when a bug was missed."""
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "faces"
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        for name in names.decode().split("\0"):
            if name and not name.startswith("assets/runs/"):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        for tests in sorted({bug.tests for bug in BUGS}):
            assert not fails(tests, copy), f"{tests} fails without any bug"
        print("| guard that is gone | tests | caught | seconds |\n|---|---|---|---|")
        for bug in BUGS:
            began = time.monotonic()
            found = caught(bug, copy)
            missed += not found
            print(
                f"| {bug.name} | {bug.tests} | {'yes' if found else '**no**'} | {time.monotonic() - began:.0f} |",
                flush=True,
            )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
