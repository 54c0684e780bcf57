"""Embeddings brought from elsewhere: looked at and scored like a run, never dressed up as one; refused in words."""

import csv
import io
import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from faces.datasets import find
from faces.evaluation import knn_accuracies, knn_among
from trainer import RunConfig, brought
from trainer.brought import bring, counted, left_out, read
from trainer.commands.data import bring_embeddings
from trainer.naming import has_logits, subtitle, title
from trainer.store import Store

rng = np.random.default_rng(0)
LABELS = np.arange(60) % 3
NUMBERS = (np.eye(3)[LABELS] @ rng.normal(size=(3, 8)) + 0.2 * rng.normal(size=(60, 8))).astype(np.float32)
NAMES = [["cat", "dog", "eel"][label] for label in LABELS]
SPLIT = ["train" if row < 40 else "val" for row in range(60)]


def as_csv(path, numbers=NUMBERS, names=NAMES, **more):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*more, "label", *(f"f{axis}" for axis in range(np.shape(numbers)[1]))])
        for row, (name, values) in enumerate(zip(names, numbers, strict=True)):
            table.writerow([*(column[row] for column in more.values()), name, *values])
    return path


def as_npz(path, **arrays):
    np.savez(path, **({"embeddings": NUMBERS, "labels": np.array(NAMES)} | arrays))
    return path


def as_parquet(path, **columns):
    known = {"class": NAMES, "embedding": list(NUMBERS)}
    write_table(pa.table(known | columns), path)
    return path


@pytest.fixture(params=["csv", "npz", "parquet"])
def file(request, tmp_path):
    make = {"csv": as_csv, "npz": as_npz, "parquet": as_parquet}[request.param]
    return lambda **more: make(tmp_path / f"them.{request.param}", **more)


def test_every_kind_of_file_becomes_the_same_run(file, tmp_path):
    store = Store(tmp_path / "home")
    name = bring(store, file(split=SPLIT), "CLIP", "pets")
    run, (facts,) = store.run(name), store.history(name)
    shot = store.snapshot(name, 1)
    assert (run.state, title(run.config), store.folder(name).class_names) == (
        "finished",
        "CLIP on pets",
        ("cat", "dog", "eel"),
    )
    unit = NUMBERS / np.linalg.norm(NUMBERS, axis=1, keepdims=True)
    assert np.abs(shot.embeddings - unit[shot.rows]).max() < 1e-5
    assert sorted(shot.rows) == list(range(40, 60))
    assert len(shot.known) == 40
    assert facts["metrics"]["knn_accuracy"] == knn_accuracies(unit[:40], LABELS[:40], unit[40:], LABELS[40:], (5,))[5]
    assert store.folder(name).points("pca-2", 1) is not None
    assert store.folder(name).points("pca-3", 1) is not None
    assert "20 rows are named by 40 that it calls train" in counted(facts["metrics"])


def test_nothing_of_a_training_is_made_up(file, tmp_path):
    store = Store(tmp_path / "home")
    name = bring(store, file(), "CLIP", "pets")
    metrics = store.history(name)[-1]["metrics"]
    assert not {"loss", "dnn_accuracy", "dnn_accuracy_with_labels", "own_angle"} & set(metrics)
    shot, config = store.snapshot(name, 1), store.run(name).config
    assert not len(shot.centers)
    assert not has_logits(config)
    assert "brought" in subtitle(config)
    assert store.folder(name).checkpoint() is None


def test_without_a_split_every_row_is_asked_what_the_others_say(file, tmp_path):
    store = Store(tmp_path / "home")
    name = bring(store, file(), "CLIP", "pets")
    metrics, shot = store.history(name)[-1]["metrics"], store.snapshot(name, 1)
    assert sorted(shot.rows) == list(range(60))
    unit = NUMBERS / np.linalg.norm(NUMBERS, axis=1, keepdims=True)
    assert metrics["knn_accuracy"] == pytest.approx(knn_among(unit, LABELS))
    assert "each of 60 rows is named by the 59 others (leave-one-out)" in counted(metrics)


@given(st.integers(0, 2**31), st.integers(12, 40), st.integers(2, 4))
def test_a_row_that_is_left_out_has_no_say(seed, rows, classes):
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    embeddings = random.normal(size=(rows, 5)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    asked = random.permutation(rows)[:7]
    knn, guesses = left_out(embeddings, labels, asked, (1, 3))
    for k in (1, 3):
        right = []
        for row in asked:
            others = np.delete(np.arange(rows), row)
            found = knn_accuracies(embeddings[others], labels[others], embeddings[[row]], labels[[row]], (k,))
            right.append(found[k])
        assert knn[k] == pytest.approx(np.mean(right))
    for row, guess in zip(asked, guesses, strict=True):
        others = np.delete(np.arange(rows), row)
        sums = np.stack([embeddings[others][labels[others] == label].sum(0) for label in range(classes)])
        cosine = embeddings[row] @ (sums / np.linalg.norm(sums, axis=1, keepdims=True)).T
        assert cosine[guess] == pytest.approx(cosine.max(), abs=1e-5)


def test_equal_rows_do_not_vote_for_themselves():
    embeddings = np.tile(np.array([[1, 0]], np.float32), (30, 1))
    labels = np.arange(30) % 2
    knn, _ = left_out(embeddings, labels, np.arange(30), (1,))
    assert 0 <= knn[1] <= 1


def test_our_own_table_comes_back_with_its_images_and_scores(tmp_path):
    from tests.test_exports import train
    from trainer.exports import files

    store = Store(tmp_path / "home")
    run = train(store, head="CosFace", held_out=3)
    tables = files(store, "csv", [run])
    table = tmp_path / "back.csv"
    table.write_bytes(next(content for name, content in tables.items() if "embeddings" in name))
    name = bring(store, table, "Mine", "digits")
    ours, theirs = store.snapshot(run, store.history(run)[-1]["step"]), store.snapshot(name, 1)
    assert sorted(theirs.rows) == sorted(ours.rows)
    assert store.folder(name).print == find("digits").print  # so the picture shows the images
    old, new = store.history(run)[-1]["metrics"], store.history(name)[-1]["metrics"]
    for metric in ("knn_accuracy", "ncm_accuracy", "eer", "rank1"):
        assert new[metric] == pytest.approx(old[metric], abs=0.004), metric


def test_rows_that_are_not_the_datasets_images_get_no_images(tmp_path):
    store = Store(tmp_path / "home")
    table = as_csv(tmp_path / "a.csv", index=list(range(60)))
    name = bring(store, table, "CLIP", "digits")  # digits has no cats
    assert store.folder(name).print != find("digits").print


def test_npz_labels_may_be_numbers_with_names(tmp_path):
    found = read(as_npz(tmp_path / "a.npz", labels=LABELS, class_names=np.array(["x", "y", "z"])))
    assert found.labels[:3] == ["x", "y", "z"]
    found = read(as_npz(tmp_path / "a.npz", labels=LABELS.astype(float)))
    assert found.labels[:3] == ["0", "1", "2"]


# ---- what is refused


def spoilt(numbers=NUMBERS, row=7, value=np.nan):
    numbers = numbers.copy()
    numbers[row] = value
    return numbers


CSVS = {
    "a header and nothing": ("label,f0,f1\n", "no rows"),
    "ragged": ("label,f0,f1\ncat,1,2\ncat,1\n", "Row 2 of .* has 2 fields; its header has 3"),
    "no labels": ("f0,f1\n1,2\n", "no column of labels. .* Its columns: f0, f1"),
    "words": ("label,f0,note\ncat,1,big\n", "Column 'note' of .* holds no numbers"),
    "one number": ("label,f0\ncat,1\n", "1 columns of numbers; embeddings have 2"),
    "twice": ("label,f0,f0\ncat,1,2\n", "same name"),
    "a gap": ("label,f0,f1\ncat,1,\n", "Row 1 of .* has nothing in column 'f1'"),
    "a row without label": ("label,f0,f1\n,1,2\n", "Row 1 has nothing in column 'label'"),
    "empty": ("", "no table with a header"),
}


@pytest.mark.parametrize(("text", "said"), CSVS.values(), ids=CSVS)
def test_a_table_that_does_not_fit_is_refused_in_a_sentence(text, said, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        bring(Store(tmp_path / "home"), tmp_path / "a.csv", "CLIP", "pets")
    assert "\n" not in str(error.value)
    assert not Store(tmp_path / "home").runs()


NPZS = {
    "nan": ({"embeddings": spoilt()}, "Row 8 holds a number that is not finite"),
    "zeros": ({"embeddings": spoilt(value=0)}, "Row 8 is all zeros"),
    "one label": ({"labels": np.zeros(60, int)}, "All rows have the same label, '0'"),
    "a lonely class": ({"labels": np.array([9, *LABELS[1:]])}, "Class '9' has one row"),
    "few": ({"embeddings": NUMBERS[:4], "labels": LABELS[:4]}, "4 rows of 8 numbers came"),
    "other lengths": ({"labels": LABELS[:50]}, r"60 embeddings and labels \(50,\)"),
    "another shape": ({"embeddings": NUMBERS.reshape(60, 2, 4)}, r"float32 \(60, 2, 4\); numbers \(N, D\)"),
    "text": ({"embeddings": NUMBERS.astype(str)}, "numbers .N, D. are needed"),
    "no embeddings": ({"embeddings": NUMBERS[0]}, r"numbers \(N, D\) are needed"),
    "a strange split": ({"split": np.array(["left"] * 60)}, "The split has 'left'; it knows train and val"),
    "all for val": ({"split": np.array(["val"] * 60)}, "0 rows for train and 60 for val"),
    "an unnamed class": ({"labels": LABELS, "class_names": np.array(["a"])}, "run to 2; it names 1 classes"),
    "names alike": (
        {"labels": np.where(LABELS == 1, "a<b", np.where(LABELS == 2, "a>b", "c"))},
        "both be called 'a b'",
    ),
    "too many classes": ({"embeddings": np.ones((2002, 2)), "labels": np.arange(2002)}, "1,000 classes are the most"),
}


@pytest.mark.parametrize(("arrays", "said"), NPZS.values(), ids=NPZS)
def test_arrays_that_do_not_fit_are_refused_in_a_sentence(arrays, said, tmp_path):
    with pytest.raises(ValueError, match=said) as error:
        bring(Store(tmp_path / "home"), as_npz(tmp_path / "a.npz", **arrays), "CLIP", "pets")
    assert "\n" not in str(error.value)
    assert not Store(tmp_path / "home").runs()


def member(shape: str, content: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        archive.writestr(
            "embeddings.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content
        )
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no zip", "no NPZ file"),
        (member("(1000, 4000)"), "not as large as it says"),
        (member("(10000000, 1000)"), "not as large as it says|100,000 rows"),
    ],
)
def test_an_npz_that_lies_is_refused_before_memory_is_taken(content, said, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "a.npz")


def test_no_pickle_is_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    objects = np.array([Trap(), Trap()], dtype=object)
    np.savez(tmp_path / "a.npz", embeddings=NUMBERS, labels=objects)
    with pytest.raises(ValueError, match="Python objects, which are not opened"):
        read(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="no NPZ file"):
        read(tmp_path / "b.npz")


def test_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(brought, "MOST_ROWS", 50)
    for make, name in ((as_csv, "a.csv"), (as_parquet, "a.parquet"), (as_npz, "a.npz")):
        with pytest.raises(ValueError, match="60 rows of"):
            read(make(tmp_path / name))


def test_a_few_bytes_that_stand_for_long_words_are_refused_before_they_are_spelled_out(tmp_path):
    long = [("a" if row % 2 else "b") * 100_000 for row in range(1000)]
    for column in ("note", "class"):
        columns = {"class": [NAMES[row % 60] for row in range(1000)], "embedding": [[0.0, 1.0]] * 1000, column: long}
        file = as_parquet(tmp_path / f"{column}.parquet", **columns)
        with pytest.raises(ValueError, match="words of more than 200 letters"):
            read(file)


def test_words_that_are_not_utf_8_are_refused_not_mangled(tmp_path):
    file = tmp_path / "excel.csv"
    file.write_bytes("label,x,y\nSchäfer,1,2\nDackel,3,4\n".encode("cp1252"))
    with pytest.raises(ValueError, match="not UTF-8"):
        read(file)


def test_lists_of_different_lengths_are_refused(tmp_path):
    table = pa.table({"class": ["a", "b"], "embedding": [[1.0, 2.0], [1.0]]})
    write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="1 to 2 numbers; all need as many"):
        read(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="no Parquet file"):
        read(tmp_path / "b.parquet")


def test_names_are_cleaned_and_no_head_is_impersonated(tmp_path):
    store = Store(tmp_path / "home")
    name = bring(store, as_csv(tmp_path / "a.csv"), "../<b>CLIP", "my\x00 pets")
    assert title(store.run(name).config) == "b CLIP on my pets"
    with pytest.raises(ValueError, match="ArcFace is the name of a head"):
        bring(store, tmp_path / "a.csv", "ArcFace", "pets")
    with pytest.raises(ValueError, match="no CSV, NPZ or Parquet"):
        read(tmp_path / "a.exe")


# ---- on the pages


def test_pages_say_that_nothing_was_trained_and_how_it_was_counted(tmp_path, faces_home):
    from tests.test_pages import opened

    store = Store()
    name = bring(store, as_csv(tmp_path / "a.csv"), "CLIP", "pets")
    app = opened(run=name)
    assert not app.exception
    scores = {metric.label: metric.value for metric in app.metric}
    assert scores["DNN accuracy"] == "none"
    assert scores["KNN accuracy, k = 5"].endswith("%")
    assert not {"Training loss", "Training time"} & set(scores)
    captions = " ".join(caption.value for caption in app.caption)
    assert "leave-one-out" in captions
    assert "no loss and no DNN accuracy" in captions
    app = opened("manage/runs.py")
    assert not app.exception
    assert any("not trained here" in text.value for text in app.markdown)
    app = opened("explore/compare.py", source="Chosen runs", runs=name)
    assert not app.exception
    (table,) = app.dataframe
    assert table.value["DNN accuracy"].tolist() == ["no classifier"]
    assert table.value["Training time"].tolist() == ["–"]


def test_the_page_data_queues_what_is_brought(faces_home):
    from tests.test_pages import button, opened

    app = opened("manage/data.py")
    assert button(app, "Bring").disabled
    app.text_input(key="brought name").set_value("<CLIP>").run()
    app.text_input(key="brought path").set_value("/data/a.csv").run()
    app.text_input(key="brought label").set_value("kind").run()
    button(app, "Bring").click().run()
    assert not app.exception
    (job,) = Store().jobs()
    assert job["arguments"] == ["embeddings", "CLIP", "/data/a.csv", "--on=embeddings", "--label=kind"]


def test_the_command_line_brings_and_says_how_it_counted(tmp_path, faces_home, capsys):
    from trainer.__main__ import main

    assert main(["data", "embeddings", "CLIP", str(as_csv(tmp_path / "a.csv")), "--on", "pets"]) == 0
    assert "leave-one-out" in capsys.readouterr().out
    (run,) = Store().runs()
    assert RunConfig.from_json(run.config.to_json()) == run.config
    assert main(["data", "embeddings", "CLIP", str(tmp_path / "nothing.csv")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert bring_embeddings.__doc__
