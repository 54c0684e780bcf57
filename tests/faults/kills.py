"""SIGKILL at random moments: nothing that was acknowledged is lost, and the weights are those of a quiet run.

    python -m tests.faults.kills --kills 200 --seed 0     # half an hour
    pytest tests/test_kills.py --kills 1000                # what every push does 200 times, mostly to workers

Runs on digits train one after the other under the real app. At random moments, every other one soon after training has
got further, the worker, the supervisor, the app's server, or all of them at once are killed. The app starts a new
supervisor by itself; a server is started again here, as a person would. After each kill every snapshot that the store
had acknowledged must still be there and have the content it was written with, and every file of the run must be whole;
in the end each run must be finished and its weights equal, bit for bit, to those of the same training left in peace.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from safetensors import SafetensorError
from safetensors.numpy import load

from tests.helpers import ROOT, Server, end, relatives, trains
from trainer import RunConfig, train
from trainer.folder import RunFolder
from trainer.store import Store

TARGETS = {"worker": 5, "supervisor": 3, "server": 1, "all": 1}  # how often each is killed, beside the others


def serve(home: Path) -> Server:
    """The app on this home, which starts a supervisor."""
    return Server(ROOT, home / "server.log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})


def kill(server: subprocess.Popen, target: str) -> str:
    """Kill what trains, the supervisor, the server, or all of them; says what was killed."""
    family = relatives(server)
    victims = {
        "worker": [one for one in family if trains(one)][:1],
        "supervisor": [one for one in family if serves(one)],
        "server": [psutil.Process(server.pid)],
        "all": [psutil.Process(server.pid), *family],
    }[target]
    return target if [victim for victim in victims if killed(victim)] else "nobody"


def serves(process: psutil.Process) -> bool:
    """Whether this one is the supervisor. False for one that is gone."""
    try:
        return "serve" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def killed(process: psutil.Process) -> bool:
    """Kill a process; False when it had ended already."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def acknowledged(store: Store, name: str) -> list[int]:
    """The steps whose snapshot the store has entered."""
    return [facts["step"] for facts in store.history(name)]


def torn(folder: RunFolder) -> list[Path]:
    """Files under their final names that are not whole: cut short, or not what their name says they hold."""
    found = []
    for file in folder.path.rglob("*"):
        try:
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            elif file.suffix == ".safetensors":
                content = file.read_bytes()
                load(content)
                if file.parent.name == "checkpoints":
                    assert hashlib.sha256(content).hexdigest()[:12] == file.stem.split("-")[1]
        except FileNotFoundError:
            continue  # an older checkpoint, dropped just now
        except (ValueError, SafetensorError, AssertionError):
            found.append(file)
    return found


class Siege(NamedTuple):
    """What came of one run under fire."""

    kills: int
    attempts: int
    kept: int
    lost: int
    torn: int
    same: bool


@cache
def weights(config: RunConfig) -> dict[str, np.ndarray]:
    """Weights and momenta of the same training left in peace."""
    *_, quiet = train(config, device="cpu")
    assert quiet.state is not None
    return {name: tensor.numpy().copy() for name, tensor in quiet.state()["tensors"].items()}


def same(store: Store, name: str, config: RunConfig) -> bool:
    """Whether a run ended with the weights that it has when it is left in peace."""
    content, expected = store.folder(name).checkpoint(), weights(config)
    assert content is not None
    found = load(content)
    return found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in expected)


def besiege(config: RunConfig, most: int, draw: random.Random, targets: Mapping[str, int] = TARGETS) -> Siege:
    """Train a run while it is killed up to `most` times; a line for each kill."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        store = Store(Path(home))
        name, kills, lost, damaged = store.submit(config), 0, 0, set[Path]()
        reached, further = -1, True  # the last step at the kill before, and whether to wait for more than that
        server = serve(store.path)
        while (run := store.run(name)).state != "finished":
            if server.process.poll() is not None:
                server = serve(store.path)
            if run.state in ("failed", "stopped"):
                store.resume(name)  # given up after three attempts that got nowhere: a person would do this
            time.sleep(draw.uniform(0.05, 1.5))
            before = acknowledged(store, name)
            if kills >= most or not before or (further and before[-1] <= reached):
                continue
            (target,) = draw.choices(list(targets), list(targets.values()))
            if (victim := kill(server.process, target)) == "nobody":
                continue
            kills, reached, further = kills + 1, before[-1], not further
            time.sleep(0.2)
            missing = set(before) - set(acknowledged(store, name))
            for step in before:
                store.snapshot_file(name, step)  # ValueError when its content is another
            lost += len(missing)
            damaged.update(torn(store.folder(name)))
            print(f"{kills:4d}  {victim:10s} at step {reached:6d}  {len(before):4d} kept", flush=True)
        end(server.process, 60)
        for one in psutil.process_iter():  # a trainer whose server was killed would wait for work
            with suppress(psutil.Error):
                if serves(one) and one.environ().get("FACES_HOME") == home:
                    one.terminate()
                    one.wait(30)
        damaged.update(torn(store.folder(name)))
        steps = acknowledged(store, name)
        assert steps == sorted(set(steps))
        return Siege(kills, run.attempt, len(steps), lost, len(damaged), same(store, name, config))


def main() -> None:
    """Besiege run after run until there were enough kills; print a line per kill and the verdict."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--kills", type=int, default=20)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--epochs", type=int, default=120)
    given = asked.parse_args()
    draw, sieges, began = random.Random(given.seed), list[Siege](), time.monotonic()
    while (left := given.kills - sum(one.kills for one in sieges)) > 0:
        config = RunConfig(head="CurricularFace", epochs=given.epochs, dim=16, probe=100, seed=len(sieges))
        sieges.append(besiege(config, left, draw))
        one = sieges[-1]
        verdict = "equal" if one.same else "DIFFER"
        print(f"{one.kills} kills over {one.attempts} attempts, {one.kept} snapshots in the end.")
        print(f"{one.lost} snapshots lost, {one.torn} files torn, weights {verdict}.", flush=True)
    whole = [sum(column) for column in zip(*sieges, strict=True)]
    minutes = (time.monotonic() - began) / 60
    print(f"{whole[0]} kills in {minutes:.0f} min, {len(sieges)} runs, {whole[1]} attempts, {whole[2]} snapshots;")
    print(f"{whole[3]} snapshots lost, {whole[4]} files torn, {whole[5]} of {len(sieges)} runs with equal weights.")
    if whole[3] or whole[4] or not all(one.same for one in sieges):
        sys.exit(1)


if __name__ == "__main__":
    main()
