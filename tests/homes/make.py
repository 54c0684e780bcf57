"""Make a home with the code of a release, to be opened by every Faces after it (tests/test_old_homes.py).

    git worktree add --detach /tmp/old COMMIT
    cd /tmp/old && FACES_DEVICE=cpu PYTHONPATH=. python <here>/tests/homes/make.py <here>/tests/homes/0.1.0.zip
    git worktree remove /tmp/old

COMMIT is the last one of a release, before anything that the changelog lists under the next:

    0.1.0  f565b3e        0.2.0  f08b2c1        0.3.0  09c3db1

Each was made with the versions of today's requirements.txt, which pins for these what the release itself did. The next
is added when 0.5.0 begins: 0.4.0.zip, and its commit here.

In a home there are two finished runs of one experiment, one that was stopped with a checkpoint after a knob was turned,
and one that waits; all of digits, no photographs. Of checkpoints, half a megabyte each, only the newest of the stopped
run is kept; of the finished ones Faces itself lets go where room is short.
"""

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

SMALL = {"probe": 100, "epochs": 1}
NOTE = "all heads · Digits · 2026-11-22 02:30:00"


def until(what) -> None:
    """Wait for something to be true, a minute at most."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def fill(home: Path) -> None:
    """Train, stop and queue the runs of a home, by the trainer of the Faces that is imported here."""
    from trainer.config import RunConfig
    from trainer.store import Store

    store = Store(home)
    circle = store.submit(RunConfig(head="ArcFace", dim=2, **SMALL), NOTE)
    several = store.submit(RunConfig(head="SubCenterArcFace", dim=3, **SMALL), NOTE)
    stopped = store.submit(RunConfig(head="CurricularFace", dim=8, **SMALL | {"batch": 16, "epochs": 2}))
    words = [sys.executable, "-m", "trainer", "serve"]
    with open(home / "supervisor.log", "ab") as log:
        serving = subprocess.Popen(words, env={**os.environ, "FACES_HOME": str(home)}, stdout=log, stderr=log)
    try:
        until(lambda: store.history(stopped))
        store.turn(stopped, m=0.3)
        until(lambda: any(facts["turned"] for facts in store.history(stopped)))
        store.stop(stopped)
        until(lambda: not store.runs(("queued", "running")))
        last = store.history(circle)[-1]["step"]
        until(lambda: store.want(circle, last, "tsne-2") or store.folder(circle).points("tsne-2", last))
    finally:
        serving.terminate()
        serving.wait(30)
    store.submit(RunConfig(head="CosFace", knobs={"m": 0.2}, dim=8, **SMALL), "waits")
    states = {run.id: run.state for run in store.runs()}
    assert [states[name] for name in (circle, several, stopped)] == ["finished", "finished", "stopped"], states
    newest = max((home / "runs" / stopped).glob("a*/checkpoints/*"))
    for file in set(home.glob("runs/*/a*/checkpoints/*")) - {newest}:
        file.unlink()


def main(to: Path) -> None:
    """Make a home and pack it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        fill(home)
        with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for file in sorted(home.rglob("*")):
                packed.write(file, file.relative_to(home))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
