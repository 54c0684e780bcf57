"""Recorded runs: small, without images or weights, and the same where they are opened."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from trainer import RunConfig, recorded
from trainer.recorded import bring, record
from trainer.store import Store
from trainer.worker import FINISHED, run_attempt


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("recording"))
    name = store.submit(RunConfig(head="CosFace", epochs=2, dim=16, probe=100))
    attempt = store.claim().attempt
    assert run_attempt(store.folder(name), attempt) == FINISHED
    store.index(name, attempt)
    store.end(name, attempt, "finished")
    return store, name


def test_a_recorded_run_opens_elsewhere_with_its_scores_and_pictures(trained, tmp_path):
    store, name = trained
    other = Store(tmp_path)
    assert bring(other, record(store, [name], "together")) == [name]
    run = other.run(name)
    assert (run.state, run.note, run.config) == ("finished", "together", store.run(name).config)
    last = store.history(name)[-1]
    assert other.history(name)[-1] == last
    ours, theirs = store.snapshot(name, last["step"]), other.snapshot(name, last["step"])
    assert np.abs(ours.embeddings - theirs.embeddings).max() < 1e-3
    assert theirs.embeddings.dtype == np.float32
    assert np.array_equal(ours.labels, theirs.labels)
    assert other.folder(name).class_names == store.folder(name).class_names
    assert other.folder(name).points("pca-2", last["step"]) is not None


def test_a_recording_is_small_and_opened_once(trained, tmp_path):
    store, name = trained
    content = record(store, [name], "", last=50, known=60, shown=20)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert not [member for member in archive.namelist() if "checkpoint" in member]
    other = Store(tmp_path)
    bring(other, content)
    lengths = [len(other.snapshot(name, facts["step"]).embeddings) for facts in other.history(name)]
    assert lengths == [20, 20, 50]
    other.delete(name)
    assert bring(other, content) == bring(other, content) == [name]
    assert len(other.runs()) == 1


def test_only_finished_runs_are_recorded(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="is queued; only finished"):
        record(store, [store.submit(RunConfig())], "")


def zipped(**members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return content.getvalue()


@pytest.mark.parametrize(
    "content", [b"no zip", zipped(**{"../../x": ""}), zipped(**{"01M80KQ60QF59BV3XFTJ8RR1R0/x": ""})]
)
def test_what_is_no_recording_is_refused_in_words(content, tmp_path):
    with pytest.raises(ValueError, match="no file of recorded runs"):
        bring(Store(tmp_path), content)
    assert not Store(tmp_path).runs()


def test_a_recording_with_a_broken_snapshot_is_refused_in_words(trained, tmp_path):
    store, name = trained
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(record(store, [name], ""))) as whole, zipfile.ZipFile(content, "w") as broken:
        for member in whole.namelist():
            broken.writestr(member, whole.read(member)[: -10 if "/snapshots/" in member else None])
    with pytest.raises(ValueError, match="no file of recorded runs"):
        bring(Store(tmp_path), content.getvalue())
    assert not Store(tmp_path).runs()


def test_a_picture_name_from_outside_reaches_no_other_folder(trained, tmp_path):
    store, name = trained
    content = io.BytesIO(record(store, [name], ""))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(f"{name}/points/../00000001.safetensors", b"evil")
    with pytest.raises(ValueError, match="no picture"):
        bring(Store(tmp_path), content.getvalue())


def test_the_runs_that_come_with_faces_open_with_one_click(trained, tmp_path, monkeypatch):
    store, name = trained
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/heads-on-digits.zip").write_bytes(record(store, [name], "1 head × 1 seed · Digits · then"))
    monkeypatch.setattr(recorded, "FOLDER", tmp_path / "assets")
    monkeypatch.setenv("FACES_HOME", str(tmp_path / "home"))
    app = AppTest.from_file(str(Path(__file__).parents[1] / "pages/explore/compare.py"), default_timeout=60).run()
    next(button for button in app.button if button.label == "Heads on digits").click().run()
    assert not app.exception
    assert [run.id for run in Store(tmp_path / "home").runs()] == [name]
    assert not [button for button in app.button if button.label == "Heads on digits"]
