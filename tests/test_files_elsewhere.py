"""Folders of runs elsewhere: what is promised of a home holds where `FACES_FILES` names a folder or object storage.

A folder (file://) and memory (memory://) are there always; S3 is spoken to a server on this machine (moto). What is not
a folder needs universal-pathlib, s3fs and moto: uv pip install -r tests/requirements-cluster.txt.
"""

import hashlib
import importlib.util
import inspect
import io
import logging
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from faces import files
from faces.files import PACE, Pace, matching, names, read, read_json, remove, sizes, there, write
from pages.components import blocks, shown
from tests import test_store
from tests.helpers import ROOT, end, listening, trainer, until
from trainer import RunConfig, pictures, recorded, tidying, train
from trainer.exports import take
from trainer.reindex import reindex
from trainer.store import Store
from trainer.supervisor import serve
from trainer.telling import mover, sentence
from trainer.tidying import size
from trainer.worker import Wishes, logged, run_attempt, unpack

SHORT = {"epochs": 1, "batch": 256, "dim": 8, "probe": 100}
LONG = RunConfig(epochs=30, dim=8, probe=100)  # long enough for a wish to stop to be heard
ENDLESS = RunConfig(epochs=200, dim=8, probe=100)
GONE = RunConfig.from_json(RunConfig(**SHORT).to_json().replace('"digits"', '"gone"'))
MISSING = [name for name in ("upath", "s3fs", "moto") if importlib.util.find_spec(name) is None]
needs_extra = pytest.mark.skipif(
    bool(MISSING),
    reason=f"{', '.join(MISSING)} not installed; `uv pip install -r tests/requirements-cluster.txt` installs them.",
)
pytestmark = pytest.mark.xdist_group("elsewhere")


@pytest.fixture(scope="module")
def bucket():
    """A bucket on a server of this machine that speaks S3, for this process and those that it starts."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    said = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "faces", "AWS_SECRET_ACCESS_KEY": "faces"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (said | {"AWS_DEFAULT_REGION": "us-east-1"}).items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="faces")
        yield "s3://faces"
    server.stop()


@pytest.fixture(params=["file", pytest.param("memory", marks=needs_extra), pytest.param("s3", marks=needs_extra)])
def store(request, tmp_path, faces_home, monkeypatch):
    """An empty store whose runs' folders are elsewhere: in a folder, in memory, on object storage."""
    urls = {"file": f"file://{tmp_path}/else where", "memory": f"memory://{tmp_path.name}/runs"}
    if request.param == "s3":
        urls["s3"] = f"{request.getfixturevalue('bucket')}/{tmp_path.name}/runs"
    monkeypatch.setenv("FACES_FILES", urls[request.param])
    yield Store(faces_home)
    assert not (faces_home / "runs").exists()


only_far = pytest.mark.parametrize("store", [pytest.param("s3", marks=needs_extra)], indirect=True)
seen_by_all = pytest.mark.parametrize("store", ["file", pytest.param("s3", marks=needs_extra)], indirect=True)


def trained(store: Store, config: RunConfig) -> str:
    """A run that was carried out here, to its end."""
    name = store.submit(config)
    attempt = store.claim().attempt
    assert run_attempt(store.folder(name), attempt) == 0
    store.index(name, attempt)
    store.end(name, attempt, "finished")
    return name


def digest(content: bytes) -> str:
    """SHA-256 over all weights and momenta in a checkpoint."""
    whole, tensors = hashlib.sha256(), unpack(content)["tensors"]
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return whole.hexdigest()


@cache
def quiet() -> str:
    """The digest of LONG, trained here without a break and without files."""
    *_, last = train(LONG, device="cpu")
    whole, tensors = hashlib.sha256(), last.state()["tensors"]
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


def asks(promise) -> list[str]:
    """Which fixtures a test needs."""
    return [*inspect.signature(promise).parameters]


@pytest.mark.parametrize(
    "promise",
    [each for name, each in vars(test_store).items() if name.startswith("test_") and asks(each)[0] == "store"
     and {*asks(each)} <= {"store", "monkeypatch"}],
    ids=lambda promise: promise.__name__.removeprefix("test_"),
)  # fmt: skip
def test_what_is_promised_of_a_home_holds_elsewhere(store, promise, monkeypatch):
    given = {"store": store, "monkeypatch": monkeypatch}
    promise(*(given[name] for name in asks(promise)))


def test_without_the_variable_runs_are_in_the_home_and_no_library_is_loaded(faces_home, monkeypatch):
    monkeypatch.delenv("FACES_FILES", raising=False)
    assert Store(faces_home).files == faces_home / "runs"
    said = (
        "import sys\nimport app, trainer.worker, trainer.supervisor, trainer.pictures\n"
        "from trainer import RunConfig\nfrom trainer.store import Store\nStore().submit(RunConfig())\n"
        "print(sorted({'upath', 's3fs'} & {*sys.modules}))"
    )
    told = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("many", [1, 3000])
def test_a_file_comes_back_as_it_was_written_and_the_last_write_stays(store, many):
    file = store.files / "x" / "a.bin"
    for content in (b"one" * many, memoryview(b"two" * many), "drei" * many, b""):
        write(file, content)
        assert read(file) == (content.encode() if isinstance(content, str) else bytes(content))
    assert (there(file), there(file.parent), there(store.files / "y")) == (True, True, False)
    assert names(file.parent) == ["a.bin"]
    assert names(store.files / "y") == matching(store.files / "y", "*") == []
    remove(file, store.files / "x" / "b")
    assert not there(file)
    with pytest.raises(FileNotFoundError):
        read(file)
    assert read_json(file) == {}


def test_files_are_found_by_the_parts_of_their_place(store):
    for name in ("a0002/s/2.x", "a0001/s/1.x", "a0001/s/y", "b/s/3.x", "a0001/4.x", "c/a0001/s/5.x"):
        write(store.files / name, "1")
    found = matching(store.files, "a[0-9]*/s/[0-9]*.x")
    assert [file.name for file in found] == ["1.x", "2.x"]
    assert [file.parent.parent.name for file in found] == ["a0001", "a0002"]


def test_a_reader_sees_an_old_file_or_a_new_one_and_nothing_between(store):
    file, sides = store.files / "x" / "a.bin", [bytes([side]) * 300_000 for side in range(4)]
    write(file, sides[0])
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, file, side, False) for side in sides * 5]
        looks = [read(file) for _ in range(20)]
        for one in writing:
            one.result()
    assert {*looks} <= {*sides}
    assert names(file.parent) == ["a.bin"]


def test_many_may_turn_knobs_at_once_and_no_wish_is_lost(store):
    folder = store.folder(store.submit(RunConfig()))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: folder.wish({f"k{at % 8}": float(at), "m": 0.5}), range(40)))
    assert {**folder.wishes}.keys() == {"m", *(f"k{at}" for at in range(8))}
    folder.wish({"m": 0.25})
    assert Wishes(folder)()["m"] == folder.wishes["m"] == 0.25


def test_pins_pauses_and_wishes_to_stop_are_seen_and_taken_back(store):
    name = store.submit(RunConfig())
    folder = store.folder(name)
    assert (folder.pinned, folder.paused("tsne-2"), there(folder.attempt(1) / "stop")) == (False, False, False)
    store.pin(name, True)
    store.pause(name, "tsne-2", True)
    folder.ask_to_stop(1)
    assert (folder.pinned, folder.paused("tsne-2"), there(folder.attempt(1) / "stop")) == (True, True, True)
    for _ in range(2):
        store.pin(name, False)
        store.pause(name, "tsne-2", False)
    assert (folder.pinned, folder.paused("tsne-2")) == (False, False)


def test_a_training_keeps_all_that_a_home_keeps_and_gives_it_to_browsers_and_exports(store):
    name = trained(store, RunConfig(**SHORT))
    folder, steps = store.folder(name), [facts["step"] for facts in store.history(name)]
    *_, last = train(RunConfig(**SHORT), device="cpu")
    assert np.array_equal(store.snapshot(name, last.step).embeddings, last.embeddings)
    assert folder.drawn("pca-2") == folder.drawn("pca-3") == steps == list(folder.moments())
    pictures.draw(folder, store.snapshot(name, last.step), "tsne-2-perplexity=5")
    pictures.draw(folder, store.snapshot(name, last.step), f"pca-2-basis={last.step}")
    assert len(folder.drawn(f"pca-2-basis={last.step}")) == len(steps)
    routes = blocks.routes(shown.load_points, shown.load_facts, shown.load_sheet, load_inspected=shown.load_inspected)
    with listening(Starlette(routes=routes)) as address, httpx.Client(base_url=address) as client:
        for drawn in ("pca-3", "tsne-2-perplexity=5"):
            block = client.get(blocks.address(name, last.step, drawn)).content
            given = folder.points(drawn, last.step)
            near = np.abs(np.concatenate([given.points, given.centers])).max() / 32767
            np.testing.assert_allclose(blocks.read_block(block).points, given.points, atol=0.51 * near)
        assert client.get(blocks.facts_address(name, last.step)).content.startswith(b"FF02")
        assert client.get(blocks.inspected_address(name, last.step, last.rows[0])).json()["among"] == 100
        assert client.get(blocks.address(name, last.step, "umap-2")).status_code == 404
    with zipfile.ZipFile(io.BytesIO(take(store, "zip", [name])[1])) as whole:
        assert whole.read("snapshot.safetensors") == read(store.snapshot_file(name, last.step))
        assert whole.read("model.safetensors") == folder.checkpoint()
    for kind in ("csv", "tsv", "safetensors", "code"):
        assert take(store, kind, [name])[1]
    zipped = recorded.record(store, [name], "a note")
    store.delete(name)
    assert names(store.files) == []
    assert recorded.bring(store, zipped) == [name]
    assert store.folder(name).drawn("tsne-2-perplexity=5") == [last.step]
    assert not store.folder(name).weighed


@seen_by_all
def test_a_run_that_is_stopped_and_resumed_ends_like_one_left_in_peace(store):
    supervisor = trainer("serve", home=store.path)
    name = store.submit(LONG)
    folder = store.folder(name)
    until(lambda: [*folder.snapshots(1)])
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")
    reached = unpack(folder.checkpoint())["facts"]["step"]
    assert 0 < reached < store.history(name)[-1]["steps"]
    store.resume(name)
    until(lambda: store.run(name).state == "finished")
    assert min(step for step, _ in folder.snapshots(2)) > reached - 1
    assert digest(folder.checkpoint()) == quiet()
    for facts in store.history(name):
        store.snapshot(name, facts["step"])  # ValueError unless it is what was written
    assert folder.drawn("pca-2") == [facts["step"] for facts in store.history(name)]
    newest = store.history(name)[-1]["step"]
    assert store.want(name, newest, "tsne-2") == ""
    until(lambda: (drawn := folder.points("tsne-2", newest)) and not len(drawn.refining))
    assert folder.points("tsne-2", newest).points.shape == (100, 2)
    until(lambda: not there(folder.progress_file("tsne-2", newest)))
    end(supervisor)
    assert read_json(folder.attempt(2) / "worker.json")["pid"]
    store.delete(name)
    assert matching(store.files, "*/*") == matching(store.files, "*/*/*") == names(store.files) == []


@seen_by_all
def test_a_knob_turned_while_a_run_trains_is_heard_and_its_failure_told(store):
    supervisor = trainer("serve", home=store.path)
    name, broken = store.submit(ENDLESS), store.submit(GONE)
    until(lambda: len(store.history(name)) > 1)
    store.turn(name, m=0.1, s=9)
    until(lambda: any(facts["knobs"]["m"] == 0.1 and facts["knobs"]["s"] == 9 for facts in store.history(name)))
    progress = store.folder(name).attempt(1) / "progress.json"
    until(lambda: read_json(progress).get("step"))
    until(lambda: store.run(broken).state == "failed")
    assert "gone" in store.run(broken).reason
    until(lambda: "Traceback" in store.folder(broken).log(1))
    store.stop(name)
    until(lambda: store.run(name).state == "stopped")
    end(supervisor)
    assert supervisor.returncode == 0


@pytest.mark.parametrize("keep", ["all", "none"])
def test_room_is_made_mildest_first_and_pinned_runs_stay_whole(store, keep):
    old, pinned, new = (trained(store, RunConfig(**SHORT, seed=seed)) for seed in range(3))
    store.pin(pinned, True)
    before = {name: size(store.folder(name).path) for name in (old, pinned, new)}
    assert tidying.taken(store) == sum(before.values())
    if keep == "all":
        assert tidying.plan(store, tidying.taken(store)) == []
        (first, *_) = tidying.plan(store, tidying.taken(store) - 1)
        assert (first.kind, first.run) == ("pictures", old)
        freed = tidying.remove(store, [first])
        assert freed == first.size == before[old] - size(store.folder(old).path)
        assert store.folder(old).drawn("pca-2") == [store.history(old)[-1]["step"]]
        weights = next(item for item in tidying.plan(store, 0) if item.kind == "run" and item.run == old)
        assert weights.size == size(store.folder(old).path)
    else:
        assert {item.run for item in tidying.plan(store, 0)} - {""} == {old, new}
        tidying.remove(store, [item for item in tidying.candidates(store) if item.kind == "weights"])
        assert [store.folder(name).weighed for name in (old, pinned, new)] == [False, True, False]
        tidying.remove(store, tidying.plan(store, 0))
        assert [run.id for run in store.runs()] == [pinned]
        assert names(store.files) == [pinned]
        assert size(store.folder(pinned).path) == before[pinned]


@only_far
def test_one_listing_tells_what_a_hundred_runs_take(store, monkeypatch):
    for seed in range(100):
        name = store.submit(RunConfig(seed=seed))
        write(store.folder(name).attempt(1) / "checkpoints" / "00000001-a.safetensors", bytes(1000))
        store.stop(name)
    asked, find = [], files.sizes
    monkeypatch.setattr(files, "sizes", lambda folder: (asked.append(str(folder)), find(folder))[1])
    items = tidying.plan(store, tidying.taken(store) - 30_000)
    assert [item.kind for item in items] == ["weights"] * 30
    assert asked == [str(store.files)] * 3  # how much is taken, here and in the plan, and what could go


@only_far
def test_a_look_at_what_is_far_is_taken_now_and_then(store, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(files.time, "monotonic", lambda: clock.now)
    near, far = Pace(store.path), Pace(store.files)
    assert [near(), near(), far(), far()] == [True, True, True, False]
    folder = store.folder(store.submit(RunConfig()))
    stop, wishes = files.watch(folder.attempt(1) / "stop"), Wishes(folder)
    move = mover(folder.attempt(1) / "progress.json")
    move(1, 9, 1.0)
    assert (stop(), wishes()) == (False, {})
    folder.ask_to_stop(1)
    folder.wish({"m": 0.1})
    move(2, 9, 1.0)
    assert (stop(), wishes(), read_json(folder.attempt(1) / "progress.json")["step"]) == (False, {}, 1)
    clock.now += PACE
    move(3, 9, 1.0)
    assert (stop(), wishes(), read_json(folder.attempt(1) / "progress.json")["step"]) == (True, {"m": 0.1}, 3)


@only_far
def test_what_a_worker_prints_is_in_its_log_whole(store):
    log = store.folder(store.submit(RunConfig())).attempt(1) / "log.txt"
    with logged(log) as words:
        words.write(b"one\n")
        until(lambda: there(log) and read(log) == b"one\n", 10)
        words.write("zwölf\n".encode())
    assert read(log).decode() == "one\nzwölf\n"


@only_far
def test_a_frozen_encoder_is_read_from_there(store):
    name = trained(store, RunConfig(**SHORT))
    frozen = trained(store, RunConfig(**SHORT, frozen_from=name))
    assert there(store.folder(name).path / "features.safetensors")
    assert store.run(frozen).state == "finished"


@only_far
def test_a_damaged_file_elsewhere_is_not_entered_and_a_place_that_is_away_is_asked_again(store, monkeypatch):
    name = store.submit(RunConfig(**SHORT))
    attempt = store.claim().attempt
    first, *_, last = train(store.run(name).config)
    for moment in (first, last):
        store.folder(name).keep(attempt, moment)
    (_, torn), (_, whole) = store.folder(name).snapshots(attempt)
    write(torn, read(torn)[:-10])
    content = read(whole)
    with monkeypatch.context() as patch:
        patch.setattr(whole.fs, "cat_file", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no way there.")))
        with pytest.raises(ConnectionError, match=r"cannot be reached: no way there\.$"):
            store.index(name, attempt)
    assert store.history(name) == []
    assert store.index(name, attempt) == last.step
    assert [facts["step"] for facts in store.history(name)] == [last.step]
    assert store.snapshot_file(name, last.step) == whole
    assert read(whole) == content


def test_a_database_is_rebuilt_with_all_that_a_training_left(store, monkeypatch):
    name = trained(store, RunConfig(**SHORT))
    before, history = store.run(name), store.history(name)
    with store.writing() as db:
        for table in ("runs", "snapshots"):
            db.exec_driver_sql(f"DELETE FROM {table}")
    assert reindex(store) == []  # it may still be being submitted
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    assert reindex(store) == [name]
    after = store.run(name)
    same = ("config", "state", "attempt", "note", "created", "reason", "owner")
    assert [getattr(after, field) for field in same] == [getattr(before, field) for field in same]
    assert store.history(name) == history
    for facts in history:
        store.snapshot(name, facts["step"])


# ---- what cannot be


@pytest.mark.parametrize(
    ("url", "library", "said"),
    [
        ("s3://faces/runs", "upath", "s3:// needs a library that is not installed.*universal-pathlib s3fs$"),
        ("gs://faces/runs", "upath", "gs:// needs.*uv pip install --python .* universal-pathlib gcsfs$"),
        ("file://mnt/faces", "", "three strokes: file:///mnt/faces"),
    ],
)
def test_a_place_that_cannot_be_is_one_sentence(faces_home, monkeypatch, url, library, said):
    monkeypatch.setenv("FACES_FILES", url)
    monkeypatch.setattr(files, "_known", {})
    if library:
        monkeypatch.setitem(sys.modules, library, None)  # as if it were not there
    with pytest.raises(ValueError, match=said) as refused:
        Store(faces_home).submit(RunConfig())
    assert "\n" not in sentence(refused.value)


@needs_extra
@pytest.mark.parametrize(
    ("url", "said"),
    [("nothing://faces", "is no place for files"), ("s3://", "is no place for files"), ("memory://x", "one process")],
)
def test_a_url_that_is_none_is_refused_before_anything_runs(faces_home, monkeypatch, url, said):
    monkeypatch.setenv("FACES_FILES", url)
    with pytest.raises(ValueError, match=said):
        serve(Store(faces_home))


@needs_extra
def test_a_bucket_that_is_not_there_is_told_in_a_sentence_and_no_run_is_kept(bucket, faces_home, monkeypatch):
    monkeypatch.setenv("FACES_FILES", "s3://nobody/runs")
    store = Store(faces_home)
    for act in (lambda: store.submit(RunConfig()), lambda: serve(store)):
        with pytest.raises(ConnectionError, match=r"s3://nobody/runs/.* cannot be written: .*bucket") as refused:
            act()
        assert sentence(refused.value) == str(refused.value)
    assert store.runs() == []


@needs_extra
def test_a_server_that_is_away_is_told_in_a_sentence(faces_home, monkeypatch):
    for name, value in {
        "FACES_FILES": "s3://faces/runs", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "faces",
        "AWS_SECRET_ACCESS_KEY": "faces", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    alone = trainer("serve", home=faces_home)
    said = alone.communicate(timeout=60)[1]
    assert alone.returncode == 2
    assert said.splitlines()[-1].startswith("s3://faces/runs/proof cannot be reached: Could not connect")


@only_far
def test_a_run_can_be_copied_home_and_opened(store, tmp_path, monkeypatch):
    name = trained(store, RunConfig(**SHORT))
    there_ = store.folder(name)
    content = {file: read(there_.path / file) for file in sizes(there_.path)}
    monkeypatch.delenv("FACES_FILES")
    near = Store(tmp_path / "near")
    for file, one in content.items():
        write(near.files / name / file, one)
    monkeypatch.setattr("trainer.reindex.YOUNG", 0.0)
    assert reindex(near) == [name]
    assert near.run(name).config == RunConfig(**SHORT)
    (tmp_path / "home" / "runs").mkdir(parents=True, exist_ok=True)
    (tmp_path / "home" / "runs").rmdir()
