"""One attempt at one run: train, write what comes, answer wishes. The same function on every engine.

A worker gets no database, only its run's folder. It says how it ended by its exit code.
"""

import contextlib
import io
import json
import math
import os
import platform
import queue
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from faces.datasets import find
from faces.encoders import ENCODERS
from faces.files import PACE, Pace, make, place, there, watch, write, write_json
from faces.knobs import Value
from trainer import pictures
from trainer.folder import RunFolder
from trainer.memory import go_first, starved, system_kills
from trainer.snapshot import Snapshot
from trainer.telling import mover, sentence, teller
from trainer.writer import Writer

FINISHED, STOPPED, FAILED, OUT_OF_MEMORY, GPU_LOST, INTERRUPTED = 0, 3, 4, 5, 6, 75  # exit codes; others are crashes
CHECKPOINT_AFTER = 20.0  # seconds; sooner at the end of an epoch, at a turned knob, at a stop


def run_attempt(folder: RunFolder, attempt: int, interrupted: Callable[[], bool] = bool) -> int:
    """Carry out one attempt from the newest checkpoint on; returns the exit code.

    Stops after the step when the attempt's `stop` file appears (a person's wish) or when `interrupted`
    says so (the supervisor went away). A slow disk does not hold training up (`trainer.writer`), but it has not ended
    before all is written. Where it is behind, the newest moment within an epoch takes the place of those before.
    """
    from trainer.training import unchanged

    steps = attempted(folder, attempt, interrupted)
    with unchanged():
        while True:
            try:
                next(steps)
            except StopIteration as over:
                return over.value


def attempted(folder: RunFolder, attempt: int, interrupted: Callable[[], bool]) -> Generator[None, None, int]:
    """The same a turn at a time: yields after every step. Writing what is left in the end is one turn."""
    here = folder.attempt(attempt)
    stop = here / "stop"
    asked = watch(stop)
    try:
        from trainer.training import best_device, turns

        device = best_device()
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
            told = teller(progress)
            last = False
            moved = mover(progress, "" if device == "cuda" else missed())
            for snapshot in turns(config, Wishes(folder), stopped, moved, start, device, progress=told):
                if snapshot is None:
                    yield
                    continue
                whole, last = math.isclose(snapshot.epoch, round(snapshot.epoch)), snapshot.last
                due = time.monotonic() - checkpointed > (1 if whole else CHECKPOINT_AFTER)
                free = written is None or written.is_set()  # one checkpoint at a time waits for the disk
                must = last or len(snapshot.turned) > turned or stopped() or (due and free)
                writer.hand(partial(keep, folder, attempt, snapshot), spare=not (whole or must))
                if must:
                    written = writer.hand(partial(folder.keep_checkpoint, attempt, snapshot.step, pack(snapshot)))
                    checkpointed, turned = time.monotonic(), len(snapshot.turned)
                yield
        if last:
            return FINISHED
        return STOPPED if there(stop) else INTERRUPTED
    except Exception as error:
        if short := starved(error):
            traceback.clear_frames(error.__traceback__)  # lets go of what fills the memory
        with contextlib.suppress(OSError, MemoryError):  # a full disk: the supervisor says it then
            write(here / "reason.txt", sentence(error))
            traceback.print_exception(error)
        return OUT_OF_MEMORY if short else FAILED if usable() else GPU_LOST


def missed() -> str:
    """What to say where there should be a GPU and training has to do without; "" where none is expected."""
    hidden = os.environ.get("FACES_DEVICE") or os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return "" if hidden or not shutil.which("nvidia-smi") else "on the processor, since the GPU does not answer"


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
    reply, me, source = replier(), os.getpid(), sys.stdin.fileno()
    text, listening = b"", True
    names: dict[int, int] = {}
    kills: dict[int, int] = {}  # the system's for want of memory, before each worker
    while listening or names:
        if listening and select.select([source], [], [], 0.02)[0]:
            read = os.read(source, 65536)
            listening, text = bool(read), text + read
            *lines, text = text.split(b"\n")
            for line in lines:
                job = json.loads(line)
                known = system_kills()
                names[pid := fork(job, me)], kills[pid] = job["name"], known
                reply(job["name"], pid)
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
            reply(names.pop(pid), pid, code)
    return FINISHED


def crew() -> int:
    """Carry out the attempts that JSON lines name in this process, a step of each in turn; print the exit code of each.

    One may join at any time. Runs that see the same batches have them made once (`trainer.feed`). The end of the input
    makes all of them stop. What ends this process ends them all, and each goes on from its checkpoint in another; so
    does an error that leaves the GPU of no more use to the others.
    """
    reply, me = replier(), os.getpid()
    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()  # None: the last
    alone = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        alone.set()
        jobs.put(None)

    go_first()
    signal.signal(signal.SIGTERM, lambda *_: alone.set())
    threading.Thread(target=listen, daemon=True).start()
    ring: list[tuple[int, Generator[None, None, int]]] = []
    listening = True
    while listening or ring:
        while listening and (not ring or not jobs.empty()):
            if (job := jobs.get()) is None:
                listening = False
                break
            ring.append((job["name"], carried_out(job, alone.is_set)))
            reply(job["name"], me)
        for member in list(ring):
            name, steps = member
            try:
                next(steps)
                continue
            except StopIteration as over:
                code = over.value
            except Exception as error:  # of a disk, say, before it could begin
                traceback.print_exception(error)
                code = FAILED
            ring.remove(member)
            reply(name, me, code)
            if code == GPU_LOST:
                return code
    return FINISHED


def usable() -> bool:
    """Whether the GPU still answers this process, if it uses one: after some errors it does not to its end."""
    torch = sys.modules.get("torch")
    try:
        if torch and torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def replier() -> Callable[..., None]:
    """What tells the parent of a worker, by its name, id and exit code; nothing else that is printed reaches it.

    Ctrl-C is for the supervisor, which then closes our input. Loads all that a training needs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    load()

    def reply(name: int, pid: int, code: int | None = None) -> None:
        print(json.dumps({"name": name, "pid": pid, "code": code}), file=replies, flush=True)

    return reply


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
    with begun(job) as (folder, words):
        sys.stdout.flush()
        os.dup2(words.fileno(), 1)
        os.dup2(words.fileno(), 2)
        return run_attempt(folder, job["attempt"], interrupted)


def carried_out(job: dict[str, Any], interrupted: Callable[[], bool]) -> Generator[None, None, int]:
    """The same a turn at a time, beside others in this process: its log has what Python prints in its turns."""
    terms: Any = {"encoding": "utf-8", "errors": "backslashreplace", "write_through": True}
    with begun(job) as (folder, words), io.TextIOWrapper(words, **terms) as log:
        steps = attempted(folder, job["attempt"], interrupted)
        while True:
            try:
                with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                    next(steps)
            except StopIteration as over:
                return over.value
            yield


@contextlib.contextmanager
def begun(job: dict[str, Any]) -> Iterator[tuple[RunFolder, Any]]:
    """The folder of the run that a job names, and the file for what is printed; both say who is at work."""
    os.environ.update(job["environment"])
    folder = RunFolder(place(job["folder"]))
    log = folder.attempt(job["attempt"]) / "log.txt"
    with logged(log) as words:
        me = psutil.Process()
        told = {"host": platform.node(), "pid": me.pid, "born": me.create_time()}
        write_json(log.with_name("worker.json"), told)
        yield folder, words


@contextlib.contextmanager
def logged(log: Path) -> Iterator[Any]:
    """A log to print to. One elsewhere is brought there every few seconds, and at the end."""
    if isinstance(log, Path):
        make(log.parent)
        with open(log, "ab", buffering=0) as file:
            yield file
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
        bringing = threading.Thread(target=bring, daemon=True)
        bringing.start()
        try:
            yield words
        finally:
            sys.stdout.flush()
            ended.set()
            bringing.join()
