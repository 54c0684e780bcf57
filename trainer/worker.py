"""One attempt at one run: train, write what comes, answer wishes. The same function on every engine.

A worker gets no database, only its run's folder. It says how it ended by its exit code.
"""

import contextlib
import json
import math
import os
import platform
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from faces.datasets import find
from faces.encoders import ENCODERS
from faces.files import PACE, Pace, place, there, watch, write
from faces.knobs import Value
from trainer import pictures
from trainer.folder import RunFolder
from trainer.memory import go_first, starved, system_kills
from trainer.snapshot import Snapshot
from trainer.telling import mover, sentence, teller
from trainer.writer import Writer

FINISHED, STOPPED, FAILED, OUT_OF_MEMORY, INTERRUPTED = 0, 3, 4, 5, 75  # exit codes; any other is a crash
CHECKPOINT_AFTER = 20.0  # seconds; sooner at the end of an epoch, at a turned knob, at a stop


def run_attempt(folder: RunFolder, attempt: int, interrupted: Callable[[], bool] = bool) -> int:
    """Carry out one attempt from the newest checkpoint on; returns the exit code.

    Stops after the step when the attempt's `stop` file appears (a person's wish) or when `interrupted`
    says so (the supervisor went away). A slow disk does not hold training up (`trainer.writer`), but it has not ended
    before all is written. Where it is behind, the newest moment within an epoch takes the place of those before.
    """
    here = folder.attempt(attempt)
    stop = here / "stop"
    asked = watch(stop)
    try:
        from trainer.training import train

        config = folder.config
        data, progress = find(config.dataset), here / "progress.json"
        data.prepare(config.size, teller(progress))
        folder.begin(data.print, data.class_names)
        if config.pretrained:
            ENCODERS[config.encoder].weights(teller(progress))
        content = folder.checkpoint()
        start = None if content is None else unpack(content)
        checkpointed, turned, written = time.monotonic(), 0, None
        with Writer() as writer:
            stopped = lambda: asked() or interrupted() or writer.error is not None  # noqa: E731
            for snapshot in train(config, Wishes(folder), stopped, mover(progress), start, progress=teller(progress)):
                whole = math.isclose(snapshot.epoch, round(snapshot.epoch))
                due = time.monotonic() - checkpointed > (1 if whole else CHECKPOINT_AFTER)
                free = written is None or written.is_set()  # one checkpoint at a time waits for the disk
                must = snapshot.last or len(snapshot.turned) > turned or stopped() or (due and free)
                writer.hand(partial(keep, folder, attempt, snapshot), spare=not (whole or must))
                if must:
                    written = writer.hand(partial(folder.keep_checkpoint, attempt, snapshot.step, pack(snapshot)))
                    checkpointed, turned = time.monotonic(), len(snapshot.turned)
        if snapshot.last:
            return FINISHED
        return STOPPED if there(stop) else INTERRUPTED
    except Exception as error:
        if short := starved(error):
            traceback.clear_frames(error.__traceback__)  # lets go of what fills the memory
        with contextlib.suppress(OSError, MemoryError):  # a full disk: the supervisor says it then
            write(here / "reason.txt", sentence(error))
            traceback.print_exception(error)
        return OUT_OF_MEMORY if short else FAILED


def keep(folder: RunFolder, attempt: int, snapshot: Snapshot) -> None:
    """Write a moment, and what is drawn of it at once."""
    folder.keep(attempt, snapshot)
    for name in pictures.AT_ONCE if snapshot.last or not folder.config.frozen_from else ():  # drawing takes longer
        pictures.draw(folder, snapshot, name)


class Wishes:
    """The run's wishes, read again only when the file has changed: asking costs microseconds. Elsewhere at a `Pace`."""

    def __init__(self, folder: RunFolder):
        self.folder, self.file, self.due = folder, folder.path / "wishes.json", Pace(folder.path)
        self.seen, self.values = 0, dict[str, Value]()

    def __call__(self) -> Mapping[str, Value]:
        if not isinstance(self.file, Path):
            self.values = self.folder.wishes if self.due() else self.values
            return self.values
        with contextlib.suppress(FileNotFoundError):
            if (changed := os.stat(self.file).st_mtime_ns) != self.seen:
                self.seen, self.values = changed, self.folder.wishes
        return self.values


def pack(snapshot: Snapshot) -> bytes:
    """What a resumed run starts from, as the content of a safetensors file."""
    from safetensors.torch import save

    assert snapshot.state is not None
    state = snapshot.state()
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state["tensors"].items()}
    return save(tensors, {"facts": json.dumps(state["facts"])})


def unpack(content: bytes) -> dict[str, Any]:
    """The inverse of `pack`."""
    from safetensors.torch import load

    length = int.from_bytes(content[:8], "little")  # safetensors: header length, header, data
    facts = json.loads(content[8 : 8 + length])["__metadata__"]["facts"]
    return {"facts": json.loads(facts), "tensors": load(content)}


def work() -> int:
    """Wait, torch already loaded, for one JSON line that names a run; carry it out; return the exit code.

    The end of the input means that the supervisor is gone: then the attempt stops and can be resumed.
    """
    load()
    line = sys.stdin.readline()
    if not line:
        return FINISHED
    alone = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        alone.set()

    threading.Thread(target=listen, daemon=True).start()
    return carry_out(json.loads(line), alone.is_set)


def nurse() -> int:
    """Fork a worker for each JSON line, and print one with its exit code when it has ended.

    The end of the input, or of this process, makes the workers stop. Nothing here may start a thread or
    touch a GPU, since neither survives a fork.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which then closes our input
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    load()
    me, source, text, listening = os.getpid(), sys.stdin.fileno(), b"", True
    names: dict[int, int] = {}
    kills: dict[int, int] = {}  # the system's for want of memory, before each worker
    while listening or names:
        if listening and select.select([source], [], [], 0.05)[0]:
            read = os.read(source, 65536)
            listening, text = bool(read), text + read
            *lines, text = text.split(b"\n")
            for line in lines:
                job = json.loads(line)
                known = system_kills()
                names[pid := fork(job, me)], kills[pid] = job["name"], known
                print(json.dumps({"name": job["name"], "pid": pid, "code": None}), file=replies, flush=True)
                load_more()
            if not listening:
                for pid in names:
                    os.kill(pid, signal.SIGTERM)
        elif not listening:
            time.sleep(0.05)
        while names and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            code = os.waitstatus_to_exitcode(status)
            if system_kills() > kills.pop(pid) and code == -signal.SIGKILL:
                code = OUT_OF_MEMORY
            print(json.dumps({"name": names.pop(pid), "pid": pid, "code": code}), file=replies, flush=True)
    return FINISHED


def fork(job: dict[str, Any], nursery: int) -> int:
    """Carry out a job in a forked process; returns its id. It stops at SIGTERM, and when the nursery is gone."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    if pid := os.fork():
        signal.signal(signal.SIGTERM, before)
        return pid
    code = FAILED
    try:
        go_first()
        code = carry_out(job, lambda: bool(asked) or os.getppid() != nursery)
    finally:
        os._exit(code)


def load() -> None:
    """Import all that a training needs, also what torch itself imports late (with the first optimizer)."""
    from torch import nn, optim

    import trainer.training  # noqa: F401

    optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9, nesterov=True)


def load_more() -> None:
    """Import what a last look measures with, and what only some heads need, once and after the first worker is off.

    It takes 3 s and 57 MB (one core of a shared server, pytorch-metric-learning 2.9.0, mostly scipy.stats, 3 runs).
    """
    from pytorch_metric_learning.utils import accuracy_calculator  # noqa: F401


def carry_out(job: dict[str, Any], interrupted: Callable[[], bool]) -> int:
    """Run the attempt that a job names, with its words in its log; returns the exit code."""
    os.environ.update(job["environment"])
    folder = RunFolder(place(job["folder"]))
    log = folder.attempt(job["attempt"]) / "log.txt"
    with logged(log):
        me = psutil.Process()
        told = {"host": platform.node(), "pid": me.pid, "born": me.create_time()}
        write(log.with_name("worker.json"), json.dumps(told))
        return run_attempt(folder, job["attempt"], interrupted)


@contextlib.contextmanager
def logged(log: Path) -> Iterator[None]:
    """Put whatever this process prints into a log. One elsewhere is brought there every few seconds, and at the end."""
    if isinstance(log, Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab", buffering=0) as file:
            say_into(file)
        yield
        return
    ended, brought = threading.Event(), -1  # bytes

    def bring() -> None:
        nonlocal brought
        while True:
            last = ended.wait(PACE if brought >= 0 else 0.0)
            if len(content := here.read_bytes()) > brought:
                with contextlib.suppress(OSError):
                    write(log, content)
                    brought = len(content)
            if last:
                return

    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # Windows keeps a file that is printed to
    here = Path(folder.name) / log.name
    with folder, open(here, "ab", buffering=0) as words:
        say_into(words)
        bringing = threading.Thread(target=bring, daemon=True)
        bringing.start()
        try:
            yield
        finally:
            sys.stdout.flush()
            ended.set()
            bringing.join()


def say_into(file: Any) -> None:
    """Make a file what this process prints to."""
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
