"""SIGKILL at random moments: nothing that was acknowledged is lost, and the weights are those of a quiet run.

    python -m tests.faults.kills --kills 20 --seed 0

A run on digits trains under a real supervisor. At random moments, every other one soon after training has got
further, its worker, its supervisor, or all of its processes at once are killed and, where needed, a new
supervisor is started. After each kill every snapshot
that the store had acknowledged must still be there and have the content it was written with, and every file
of the run must be whole; in the end the run must be finished and its weights equal, bit for bit, to those of
the same training left in peace.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from safetensors import SafetensorError
from safetensors.numpy import load

from tests.helpers import end, relatives, trainer, workers
from trainer import RunConfig, train
from trainer.folder import RunFolder
from trainer.store import Store

TARGETS = ("worker", "supervisor", "all")


def serve(home: Path) -> subprocess.Popen:
    """A supervisor of this home."""
    return trainer("serve", home=home, stdout=None, stderr=subprocess.DEVNULL)


def kill(supervisor: subprocess.Popen, target: str) -> str:
    """Kill what trains, the supervisor, or both with all their relatives; says what was killed."""
    me = psutil.Process(supervisor.pid)
    victims = {
        "worker": workers(supervisor)[:1],
        "supervisor": [me],
        "all": [me, *relatives(supervisor)],
    }[target]
    return target if [victim for victim in victims if killed(victim)] else "nobody"


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


def main() -> None:
    """Kill, check, go on; print one line per kill and the verdict."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--kills", type=int, default=20)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--epochs", type=int, default=120)
    given = asked.parse_args()
    draw = random.Random(given.seed)
    config = RunConfig(head="CurricularFace", epochs=given.epochs, dim=16, probe=100)
    *_, quiet = train(config, device="cpu")
    assert quiet.state is not None
    expected = {name: tensor.numpy().copy() for name, tensor in quiet.state()["tensors"].items()}

    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home))
        name, kills, lost, damaged = store.submit(config), 0, 0, set[Path]()
        reached, further = -1, True  # the last step at the kill before, and whether to wait for more than that
        supervisor = serve(store.path)
        while (run := store.run(name)).state != "finished":
            if supervisor.poll() is not None:
                supervisor = serve(store.path)
            if run.state in ("failed", "stopped"):
                store.resume(name)  # given up after three attempts that got nowhere: a person would do this
            time.sleep(draw.uniform(0.05, 1.5))
            if kills >= given.kills or not psutil.pid_exists(supervisor.pid):
                continue
            before = acknowledged(store, name)
            if further and not (before and before[-1] > reached):
                continue
            victim = kill(supervisor, draw.choice(TARGETS)) if before else "nobody"
            if victim == "nobody":
                continue
            kills, reached, further = kills + 1, before[-1], not further
            time.sleep(0.2)
            missing = set(before) - set(acknowledged(store, name))
            for step in before:
                store.snapshot_file(name, step)  # ValueError when its content is another
            lost += len(missing)
            damaged.update(torn(store.folder(name)))
            print(f"{kills:4d}  {victim:10s} at step {reached:6d}  {len(before):4d} kept", flush=True)
        content = store.folder(name).checkpoint()
        end(supervisor)
        damaged.update(torn(store.folder(name)))
        assert content is not None
        found = load(content)
        same = found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in expected)
        steps = acknowledged(store, name)
        assert steps == sorted(set(steps))
        verdict = "equal" if same else "DIFFER"
        print(f"{kills} kills over {run.attempt} attempts, {len(steps)} snapshots in the end.")
        print(f"{lost} snapshots lost, {len(damaged)} files torn, weights {verdict}.")
        if lost or damaged or not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
