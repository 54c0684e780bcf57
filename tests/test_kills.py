"""Two hundred kills on every push, more by --kills: nothing acknowledged is lost or torn, weights are a quiet run's."""

import os
import random
import time
from dataclasses import replace

import psutil
import pytest

from faces.files import read_json
from tests.faults.kills import acknowledged, besiege, killed, same, torn
from trainer import RunConfig
from trainer.engines.local import LocalEngine
from trainer.store import Store
from trainer.supervisor import Supervisor

CONFIG = RunConfig(head="CurricularFace", epochs=80, dim=16, probe=100)
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL."),
    pytest.mark.xdist_group("kills"),
]


@pytest.fixture
def rounds(request):
    """Two hundred kills each; `pytest tests/test_kills.py --kills 1000` does five."""
    kills = request.config.getoption("--kills")
    assert kills > 0, f"Kills come by 200; {kills} given."
    assert kills % 200 == 0, f"Kills come by 200; {kills} given."
    return range(kills // 200)


def test_a_worker_killed_188_times_at_random_moments_loses_nothing(tmp_path, rounds):
    for seed in rounds:
        harry(Store(tmp_path / f"home{seed}"), replace(CONFIG, seed=seed), random.Random(seed))


def harry(store: Store, config: RunConfig, draw: random.Random):
    """A run whose supervisor is this test, which looks every hundredth of a second; workers are real processes."""
    engine = LocalEngine(slots=1)
    supervisor, name, kills, known = Supervisor(store, engine), store.submit(config), 0, list[int]()
    folder = store.folder(name)
    try:
        victim = due = 0.0
        while (run := store.run(name)).state != "finished":
            supervisor.tick()
            time.sleep(0.01)
            if run.state == "failed":
                store.resume(name)  # given up after three attempts that got nowhere: a person would do this
            told = read_json(folder.attempt(run.attempt) / "worker.json") if run.state == "running" else {}
            if kills == 188 or not told:
                continue
            if told["pid"] != victim:
                victim, due = told["pid"], time.monotonic() + draw.expovariate(1 / 0.4)
            elif time.monotonic() > due and psutil.pid_exists(victim) and killed(psutil.Process(victim)):
                kills, due = kills + 1, time.monotonic() + 60
                before, known = known, acknowledged(store, name)
                assert set(before) <= set(known)
                for step in known[-3:]:
                    store.snapshot_file(name, step)  # ValueError when its content is another
                assert torn(folder) == []
    finally:
        engine.close(10)
    assert kills == 188
    assert run.attempt > 100
    for step in acknowledged(store, name):
        store.snapshot_file(name, step)
    assert torn(folder) == []
    assert same(store, name, config)


def test_a_supervisor_a_server_and_all_of_them_killed_twelve_times_lose_nothing(rounds):
    kills, seed = 0, 0
    while kills < 12 * len(rounds):
        siege = besiege(CONFIG, 12 * len(rounds) - kills, random.Random(seed), {"supervisor": 2, "all": 2, "server": 1})
        assert siege.lost == siege.torn == 0
        assert siege.same
        kills, seed = kills + siege.kills, seed + 1
