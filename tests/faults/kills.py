"""SIGKILL at random moments: nothing that was acknowledged is lost, and the weights are those of a quiet run.

    python -m tests.faults.kills --kills 20 --seed 0

A run on digits trains under a real supervisor. At random moments its worker, its supervisor, or all of its
processes at once are killed and, where needed, a new supervisor is started. After each kill every snapshot
that the store had acknowledged must still be there and have the content it was written with; in the end the
run must be finished and its weights equal, bit for bit, to those of the same training left in peace.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load

from tests.helpers import end, trainer, workers
from trainer import RunConfig, train
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
        "all": [me, *me.children(recursive=True)],
    }[target]
    for victim in victims:
        victim.kill()
    return target if victims else "nobody"


def acknowledged(store: Store, name: str) -> list[int]:
    """The steps whose snapshot the store has entered."""
    return [facts["step"] for facts in store.history(name)]


def main() -> None:
    """Kill, check, go on; print one line per kill and the verdict."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--kills", type=int, default=20)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--epochs", type=int, default=40)
    given = asked.parse_args()
    draw = random.Random(given.seed)
    config = RunConfig(head="CurricularFace", epochs=given.epochs, dim=16, probe=100)
    *_, quiet = train(config, device="cpu")
    assert quiet.state is not None
    expected = {name: tensor.numpy().copy() for name, tensor in quiet.state()["tensors"].items()}

    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home))
        name, kills, lost = store.submit(config), 0, 0
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
            victim = kill(supervisor, draw.choice(TARGETS)) if before else "nobody"
            if victim == "nobody":
                continue
            kills += 1
            time.sleep(0.2)
            missing = set(before) - set(acknowledged(store, name))
            for step in before:
                store.snapshot_file(name, step)  # ValueError when its content is another
            lost += len(missing)
            print(
                f"{kills:4d}  {victim:10s} at step {before[-1] if before else 0:6d}  {len(before):4d} kept", flush=True
            )
        content = store.folder(name).checkpoint()
        end(supervisor)
        assert content is not None
        found = load(content)
        same = found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in expected)
        steps = acknowledged(store, name)
        assert steps == sorted(set(steps))
        verdict = "equal" if same else "DIFFER"
        print(f"{kills} kills over {run.attempt} attempts: {lost} snapshots lost, weights {verdict}.")
        if lost or not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
