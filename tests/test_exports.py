"""Taking runs away: every kind of export opens where it is meant to, with what was trained."""

import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
import types
import zipfile
from subprocess import Popen

import numpy as np
import pytest
import torch
from safetensors import safe_open

from faces.datasets import find
from faces.datasets.imagewoof import BREEDS
from faces.heads import HEADS
from tests.helpers import ROOT, until
from trainer import RunConfig, making
from trainer.exports import EXPORTS, file_name, files, take
from trainer.exports.code import WRITTEN, balanced, script, unwritten
from trainer.exports.tables import as_csv
from trainer.store import Store
from trainer.training import train as run
from trainer.worker import FINISHED, run_attempt

DIGITS = find("digits").class_names


def train(store: Store, **settings) -> str:
    name = store.submit(RunConfig(**{"epochs": 1, "dim": 16, "probe": 100, **settings}))
    attempt = store.claim().attempt
    assert run_attempt(store.folder(name), attempt) == FINISHED
    store.index(name, attempt)
    store.end(name, attempt, "finished")
    return name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("taking"))
    return store, train(store, head="CosFace", epochs=2), train(store, head="Triplet")


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("kind", [kind for kind in EXPORTS if not EXPORTS[kind].slow])
def test_a_file_says_head_dataset_seed_and_step(trained, kind):
    store, one, other = trained
    name, content = take(store, kind, [one])
    assert name == file_name(store, kind, [one])
    assert name.startswith("faces-CosFace-digits-seed0-step40")
    assert content
    assert take(store, kind, [one, other])[0].startswith("faces-2-runs-digits")


def test_tables_hold_every_moment_and_every_image(trained):
    store, one, other = trained
    found = members(take(store, "csv", [one, other])[1])
    rows = list(csv.DictReader(io.StringIO(found["faces-2-runs-metrics.csv"].decode())))
    assert len(rows) == sum(len(store.history(run)) for run in (one, other))
    last = next(row for row in reversed(rows) if row["run"] == one)
    assert float(last["knn_accuracy"]) == store.history(one)[-1]["metrics"]["knn_accuracy"]
    assert {row["dnn_accuracy"] for row in rows if row["head"] == "Triplet"} == {""}
    images = list(csv.DictReader(io.StringIO(found["faces-CosFace-digits-seed0-step40-embeddings.csv"].decode())))
    shot = store.snapshot(one, 40)
    assert [row["split"] for row in images] == ["val"] * 500 + ["train"] * 1297
    embeddings = np.array([[float(row[f"e{axis}"]) for axis in range(16)] for row in images])
    assert np.abs(embeddings[:500] - shot.embeddings).max() < 1e-6
    assert [int(row["index"]) for row in images[:500]] == shot.rows.tolist()
    assert [row["predicted_class"] for row in images[:500]] == [DIGITS[guess] for guess in shot.predictions]
    assert [row["class"] for row in images[500:]] == [DIGITS[label] for label in shot.known_labels]


def test_parquet_keeps_numbers_as_they_are(trained):
    from pyarrow.parquet import read_table

    store, one, _ = trained
    found = {
        name.split("-")[-1]: read_table(io.BytesIO(table)) for name, table in files(store, "parquet", [one]).items()
    }
    shot = store.snapshot(one, 40)
    table = found["embeddings.parquet"]
    both = np.concatenate([shot.embeddings, shot.known])
    assert np.array_equal(np.stack([table[f"e{axis}"].to_numpy() for axis in range(16)], 1), both)
    assert table["index"].null_count == len(shot.known)
    assert found["metrics.parquet"]["step"].to_pylist() == [facts["step"] for facts in store.history(one)]


def test_no_text_of_a_table_is_a_formula_to_a_spreadsheet():
    import pyarrow as pa

    table = pa.table({"class": ["=1+1", "@x", "-2", "cat", None], "e0": [-1.0, 0.0, 0.0, 0.0, 0.0]})
    said = as_csv(table).decode().splitlines()
    assert [line.split(",")[0].strip('"') for line in said[1:]] == ["'=1+1", "'@x", "'-2", "cat", ""]
    assert said[1].endswith(",-1")


def test_tensorboard_reads_the_projector_files(trained, tmp_path):
    plugin = pytest.importorskip("tensorboard.plugins.projector.projector_plugin")
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from werkzeug.test import Client

    store, one, other = trained
    for name, content in members(take(store, "tsv", [one, other])[1]).items():
        (tmp_path / name).write_bytes(content)
    multiplexer = EventMultiplexer({".": str(tmp_path)})
    projector = plugin.ProjectorPlugin(TBContext(logdir=str(tmp_path), multiplexer=multiplexer))
    apps = projector.get_plugin_apps()

    def ask(route: str, **words: str):
        answer = Client(apps[route]).get("/", query_string=words)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return answer.get_data()

    (run,) = json.loads(ask("/runs"))
    told = json.loads(ask("/info", run=run))["embeddings"]
    assert [one["tensorShape"] for one in told] == [[1797, 16], [1797, 16]]
    name = told[0]["tensorName"]
    tensor = np.frombuffer(ask("/tensor", run=run, name=name), np.float32).reshape(-1, 16)
    shot = store.snapshot(one, 40)
    assert np.abs(tensor - np.concatenate([shot.embeddings, shot.known])).max() < 1e-5
    words = ask("/metadata", run=run, name=name).decode().splitlines()
    assert words[0].split("\t")[:3] == ["class", "label", "split"]
    assert [line.split("\t")[0] for line in words[1:501]] == [DIGITS[label] for label in shot.labels]


def test_a_checkpoint_builds_the_model_again_from_its_own_header(trained, tmp_path):
    from faces.encoders import ENCODERS
    from faces.model import EncoderWithHead
    from trainer.batches import ready

    store, one, _ = trained
    (tmp_path / "w.safetensors").write_bytes(take(store, "safetensors", [one])[1])
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = RunConfig.from_json(told["config"])
    assert (config, told["step"], json.loads(told["classes"])) == (store.run(one).config, "40", list(DIGITS))
    model = EncoderWithHead(ENCODERS[config.encoder](1, 8, 16), HEADS["CosFace"](16, 10)).eval()
    model.load_state_dict(tensors)
    shot = store.snapshot(one, 40)
    pixels = torch.from_numpy(find("digits").load(8).pixels[shot.rows])
    assert np.abs(model.embed(ready(pixels)).detach().numpy() - shot.embeddings).max() < 1e-5


def test_onnxruntime_embeds_real_images_as_the_run_did(trained):
    runtime = pytest.importorskip("onnxruntime")
    store, one, _ = trained
    name, content = take(store, "onnx", [one])
    assert name == "faces-CosFace-digits-seed0-step40.onnx"
    session = runtime.InferenceSession(content)
    shot = store.snapshot(one, 40)
    images = (find("digits").load(8).pixels[shot.rows] / 255).astype(np.float32).transpose(0, 3, 1, 2)
    features, embeddings = session.run(["features", "embeddings"], {"images": images})
    assert np.abs(embeddings - shot.embeddings).max() < 1e-4
    assert np.abs(np.linalg.norm(features, axis=1) - 1).max() > 0.1
    assert session.run(["embeddings"], {"images": images[:1]})[0].shape == (1, 16)  # any number of images
    told = session.get_modelmeta().custom_metadata_map
    assert RunConfig.from_json(told["config"]) == store.run(one).config


# ---- the code


def ran(text: str) -> types.ModuleType:
    """A script as a module: defined, not run."""
    made = types.ModuleType("taken")
    exec(compile(text, "taken.py", "exec"), made.__dict__)
    return made


@pytest.mark.parametrize("name", HEADS)
def test_the_code_has_the_same_head(name):
    dim, generator = 12, torch.Generator().manual_seed(0)
    config = RunConfig(head=name, dim=dim, batch=40)
    made = ran(script(config, DIGITS))
    ours, theirs = HEADS[name](dim, 10, **config.knobs), getattr(made, name)(dim, 10)
    theirs.load_state_dict(ours.state_dict())
    features = (3 * torch.randn(40, dim, generator=generator)).requires_grad_()
    labels = torch.arange(40) % 10
    for _ in range(2):  # buffers follow the batch
        losses = [head.loss(features, labels) for head in (ours, theirs)]
        slopes = [torch.autograd.grad(loss, features)[0] for loss in losses]
        assert torch.allclose(losses[0], losses[1], atol=1e-6, rtol=1e-6)
        assert torch.allclose(slopes[0], slopes[1], atol=1e-6)
    if ours.scored:
        assert torch.allclose(ours.eval()(features), theirs.eval()(features), atol=1e-5)
    assert balanced(name) == ours.balanced


def scores(said: str) -> dict[str, float]:
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in said.splitlines() if "accuracy" in line}


@pytest.mark.parametrize(
    "settings",
    [
        {"head": "ArcFace", "held_out": 3},
        {"head": "AdaCos", "optimizer": "adamw", "lr": 0.01, "schedule": "constant"},
        {"head": "SupCon", "seed": 3},
        {"head": "Classification", "knobs": {"smoothing": 0.1}, "optimizer": "muon", "schedule": "flat", "grow": 0.5},
    ],
    ids=lambda settings: settings["head"],
)
def test_the_code_scores_what_the_run_scored(settings, tmp_path, capsys):
    store = Store(tmp_path / "home")
    one = train(store, **settings)
    _, content = take(store, "code", [one])
    assert not re.search(rb"(import|from) (faces|trainer)", content)
    exec(compile(content, "taken.py", "exec"), {"__name__": "__main__"})
    found, metrics = scores(capsys.readouterr().out), store.history(one)[-1]["metrics"]
    assert found["KNN accuracy"] == pytest.approx(metrics["knn_accuracy"], abs=0.011)
    assert ("DNN accuracy" in found) == ("dnn_accuracy" in metrics)
    if "dnn_accuracy" in metrics:
        assert found["DNN accuracy"] == pytest.approx(metrics["dnn_accuracy"], abs=0.011)


def test_the_code_runs_alone(trained, tmp_path):
    store, one, _ = trained
    name, content = take(store, "code", [one])
    (tmp_path / name).write_bytes(content)
    told = subprocess.run([sys.executable, "-I", name], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    knn = store.history(one)[-1]["metrics"]["knn_accuracy"]
    assert scores(told.stdout)["KNN accuracy"] == pytest.approx(knn, abs=0.011)


def test_the_code_reads_the_same_digits():
    pixels, labels, val = ran(script(RunConfig(), DIGITS)).images()
    ours = find("digits").load(8)
    assert np.array_equal(pixels, ours.pixels)
    assert np.array_equal(labels, ours.labels)
    assert np.array_equal(val, ours.val)


def test_the_code_turns_what_a_person_turned():
    made = ran(script(RunConfig(epochs=1, batch=512), DIGITS, [[1, "m", 0.4]]))
    head = made.ArcFace(made.DIM, 10)
    pixels, labels, val = map(torch.from_numpy, made.images())
    made.train(made.ConvNet(1, 8, made.DIM), head, pixels, labels, (~val).nonzero().squeeze(1))
    assert (made.ArcFace.m, head.m) == (0.25, 0.4)


@pytest.mark.parametrize(
    "settings",
    [{"encoder": "ConvNetSlim", "warp": 0.2}, {"optimizer": "muon", "schedule": "flat", "grow": 0.6, "warp": 0.1}],
)
def test_the_code_trains_as_the_run_did(settings):
    config = RunConfig(epochs=2, batch=256, dim=8, probe=100, **settings)
    *_, snapshot = run(config)
    made = ran(script(config, DIGITS))
    torch.manual_seed(0)
    encoder = getattr(made, config.encoder)(1, 8, made.DIM)
    torch.manual_seed(0)
    head = made.ArcFace(made.DIM, 10)
    pixels, labels, val = map(torch.from_numpy, made.images())
    made.train(encoder.to(memory_format=torch.channels_last), head, pixels, labels, (~val).nonzero().squeeze(1))
    kept = snapshot.state()["tensors"]
    for name, value in encoder.named_parameters():
        assert torch.allclose(value, kept[f"model.encoder.{name}"], atol=1e-3)


# ---- what cannot be taken


def test_what_is_not_there_is_refused_in_words(trained, tmp_path):
    from trainer.recorded import bring, record

    store, one, _ = trained
    other = Store(tmp_path)
    bring(other, record(store, [one], ""))
    for kind in ("safetensors", "onnx"):
        with pytest.raises(ValueError, match="recorded runs come without weights"):
            take(other, kind, [one])
    with pytest.raises(ValueError, match="no snapshot yet"):
        take(store, "csv", [store.submit(RunConfig())])
    with pytest.raises(ValueError, match="Unknown export 'pdf'"):
        take(store, "pdf", [one])


def test_every_setting_of_a_run_is_written_or_refused():
    names = {field.name for field in dataclasses.fields(RunConfig)}
    assert names >= WRITTEN
    assert unwritten(RunConfig()) == ""
    other = dataclasses.make_dataclass("Later", [("warmth", float, 0.0)], bases=(RunConfig,), frozen=True)
    assert "warmth" in unwritten(other(warmth=0.5))


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": 48},
        {"noise": 5, "held_out": 2},
        {"pretrained": True, "encoder": "ResNet18"},
        {"area": 0.35, "optimizer": "muon"},
        {"area": 0.5, "crop": 48, "grow": 0.5},
    ],
)
def test_the_code_of_photographs_reads_a_folder_and_scores(settings, tmp_path, monkeypatch, capsys):
    from PIL import Image

    random = np.random.default_rng(0)
    for part, each in (("train", 12), ("val", 4)):
        for label, breed in enumerate(BREEDS):
            (tmp_path / part / breed).mkdir(parents=True)
            for number in range(each):
                tone = (random.integers(0, 40, (70, 90, 3)) + 20 * label).astype(np.uint8)
                Image.fromarray(tone).save(tmp_path / part / breed / f"{number}.JPEG")
    rows = [f"train/{breed}/{number}.JPEG,{breed}" for breed in BREEDS for number in range(12)]
    (tmp_path / "noisy_imagewoof.csv").write_text("\n".join(["path,noisy_labels_5", *rows]))
    config = RunConfig(dataset="imagewoof", epochs=1, batch=40, dim=8, **settings)
    made = ran(script(config, list(BREEDS)))
    pixels, labels, val = made.images(tmp_path)
    assert (len(pixels), val.sum(), len(set(labels))) == (136 if "held_out" in settings else 160, 40, 10)
    if settings.get("pretrained"):
        assert "imagenet()" in script(config, list(BREEDS))
        return  # its weights would be fetched
    monkeypatch.setattr(sys, "argv", ["taken.py", str(tmp_path)])
    exec(compile(script(config, list(BREEDS)), "taken.py", "exec"), {"__name__": "__main__"})
    assert 0 <= scores(capsys.readouterr().out)["KNN accuracy"] <= 1


def test_the_command_line_writes_files_into_a_folder_or_one_file(trained, tmp_path, monkeypatch, capsys):
    from trainer.__main__ import main

    store, one, other = trained
    monkeypatch.setenv("FACES_HOME", str(store.path))
    assert main(["export", one, "--as", "csv", "--to", str(tmp_path / "out")]) == 0
    stem = "faces-CosFace-digits-seed0-step40"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"{stem}-metrics.csv", f"{stem}-embeddings.csv"}
    assert main(["export", one, other, "--as", "code", "--to", str(tmp_path / "both.zip")]) == 0
    assert len(members((tmp_path / "both.zip").read_bytes())) == 2
    assert main(["export", one, "--as", "code", "--to", str(tmp_path / "mine.py")]) == 0
    assert main(["export", one, str(tmp_path / "plain.zip")]) == 0  # as ever
    assert "settings.json" in members((tmp_path / "plain.zip").read_bytes())
    capsys.readouterr()
    assert main(["export", one, "--as", "csv", "--to", str(tmp_path / "a.csv")]) == 2
    assert "must be a folder or end with .zip" in capsys.readouterr().err


# ---- where it is found


@pytest.mark.parametrize("page", ["explore/explore.py", "explore/compare.py", "manage/runs.py"])
def test_pages_offer_the_menu(trained, page, monkeypatch):
    from tests.test_pages import opened

    store, one, other = trained
    monkeypatch.setenv("FACES_HOME", str(store.path))
    words = {"run": one} if "explore.py" in page else {"source": "Chosen runs", "runs": f"{one},{other}"}
    app = opened(page, **words)
    assert not app.exception
    boxes = [box for box in app.get("popover") if box.proto.popover.label == "Take it away"]
    assert len(boxes) == (2 if "runs" in page else 1)


# ---- slow ones


def test_what_is_slow_is_made_once_by_another_process(trained):
    store, one, _ = trained
    making.make(store, "html", [one])
    making.make(store, "html", [one])
    file = until(lambda: making.made(store, "html", [one]))
    assert file.name == file_name(store, "html", [one])
    assert until(lambda: not making.told(store, "html", [one])[0])
    assert making.told(store, "html", [one]) == (False, "", {})


def test_what_could_not_be_made_says_why_in_words(trained):
    store, one, _ = trained
    names = [store.submit(RunConfig())]
    making._begun[making.folder(store, "html", [one])] = making._one.submit(
        making._carry_out, store.path, "html", names, making.folder(store, "html", names) / "a.html"
    )
    until(lambda: not making.told(store, "html", [one])[0])
    assert "no snapshot yet" in making.told(store, "html", [one])[1]
    assert not making.folder(store, "html", names).exists()


def test_an_app_that_stops_gives_up_what_is_being_made(trained, monkeypatch):
    store, one, other = trained
    monkeypatch.setattr(making, "child", lambda *_, **pipes: Popen(["sleep", "300"], text=True, **pipes))
    making.make(store, "html", [other])
    making.make(store, "html", [one, other])  # waits its turn
    until(lambda: making._running)
    making.end()
    until(lambda: not making.told(store, "html", [other])[0], 10)
    assert "exit -9" in making.told(store, "html", [other])[1]
    assert making.told(store, "html", [one, other]) == (False, "", {})


def test_the_web_process_loads_no_torch_for_what_is_quick():
    code = "import sys; from trainer.exports import EXPORTS; from trainer.exports.code import script; "
    code += "from trainer import RunConfig; script(RunConfig(), list('0123456789')); print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
