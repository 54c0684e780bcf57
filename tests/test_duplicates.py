"""Near duplicates across the split: found from pixels, kept with the set, left out of training when asked."""

import csv
import io
import re
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFilter
from streamlit.testing.v1 import AppTest

from faces.datasets import duplicates, find, own
from faces.datasets.imagewoof import BREEDS, Imagewoof
from trainer import RunConfig
from trainer.training import train

ROUTER = Path(__file__).parents[1] / "pages/router.py"
TINY = Path(__file__).parents[2] / "shared/data/imagewoof2-160-tiny.tgz"
ALL = TINY.with_name("noisy_imagewoof.csv")  # names every photograph
needs_photographs = pytest.mark.skipif(
    not TINY.is_file(), reason="the real photographs (shared/data) are not beside this repository"
)


def scene(seed: int, side: int = 96) -> Image.Image:
    """A picture of soft coloured shapes with detail on them, in its own light, unlike that of any other seed."""
    random = np.random.default_rng(seed)
    rough = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    fine = Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).resize((side, side))
    light, depth = random.uniform(20, 120), random.uniform(0.3, 0.5)
    mixed = Image.blend(rough, fine, 0.4).filter(ImageFilter.GaussianBlur(1))
    return mixed.point(lambda level: light + depth * level)


def again(image: Image.Image, quality: int) -> Image.Image:
    """The picture as a JPEG file keeps it."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out)


CHANGES = {
    "copied": lambda image: image,
    "encoded again": lambda image: again(image, 40),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "shifted": lambda image: ImageChops.offset(image, 3, -3),
    "brighter": lambda image: image.point(lambda level: min(255, level + 20)),
    "cropped": lambda image: image.crop((7, 7, 89, 89)),
}


def pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image.convert("RGB").resize((64, 64))) for image in images])


TRAIN = 60
SET = [scene(seed) for seed in range(TRAIN + 20)]  # no two alike
VAL = np.arange(len(SET) + 1) >= TRAIN
ONE = np.zeros(len(VAL), np.int64)  # a single class


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_on_the_other_side_is_found_and_nothing_else(change):
    images = pixels([*SET, change(SET[7])])
    assert duplicates.straddling(images, ONE, VAL).tolist() == [[7, len(SET)]]


def test_copies_on_the_same_side_are_left_alone():
    images = pixels([*SET, SET[TRAIN + 3]])
    assert duplicates.straddling(images, ONE, VAL).shape == (0, 2)


def test_a_copy_under_another_label_is_left_alone():
    images = pixels([*SET, SET[7]])
    assert duplicates.straddling(images, np.arange(len(images)) // len(SET), VAL).shape == (0, 2)


def test_images_without_any_detail_are_no_duplicates_of_everything():
    flat = [Image.new("RGB", (64, 64), (shade, shade, shade)) for shade in (0, 128, 255)]
    found = duplicates.straddling(
        pixels([*SET, *flat]), np.zeros(len(SET) + 3, np.int64), np.arange(len(SET) + 3) >= TRAIN
    )
    assert found.shape == (0, 2)


@pytest.fixture
def pets(faces_home) -> str:
    """Own images of two classes, of which one training image is in validation again, mirrored."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for row, image in enumerate([*SET, CHANGES["mirrored"](SET[7])]):
            kept = io.BytesIO()
            image.save(kept, "PNG")
            side = "val" if VAL[row] else "train"
            archive.writestr(f"{side}/{'cats' if row % 2 or row == len(SET) else 'dogs'}/{row}.png", kept.getvalue())
    own.import_zip(out.getvalue(), "pets")
    return "pets"


def test_a_set_says_its_duplicates_once_prepared_the_same_for_every_size(pets):
    data = find(pets)
    with pytest.raises(ValueError, match="not searched"):
        data.duplicates()
    data.prepare(32)
    ((train, val),) = data.duplicates().tolist()
    images = data.load(32)
    assert images.files[train] == "train/cats/7.png"
    assert images.files[val] == f"val/cats/{len(SET)}.png"
    data.prepare(96)
    assert data.duplicates().tolist() == [[train, val]]


def test_the_search_is_done_once_and_again_for_another_method(pets, monkeypatch):
    data, searches = find(pets), []
    search = duplicates.straddling
    monkeypatch.setattr(duplicates, "straddling", lambda *given: searches.append(1) or search(*given))
    data.prepare(64)
    data.prepare(64)
    assert len(searches) == 1
    monkeypatch.setattr(duplicates, "METHOD", "another")
    with pytest.raises(ValueError, match="not searched"):
        data.duplicates()
    data.prepare(64)
    assert len(searches) == 2


def test_training_leaves_out_the_duplicates_and_validation_stays(pets):
    data = find(pets)
    data.prepare(32)
    settings = {"head": "NormFace", "dataset": pets, "size": 32, "epochs": 1, "batch": 8, "dim": 8}
    *_, whole = train(RunConfig(**settings))
    *_, without = train(RunConfig(**settings, drop_duplicates=True))
    assert len(whole.known) == TRAIN
    assert len(without.known) == TRAIN - 1
    assert sorted(without.rows) == sorted(whole.rows)


def test_a_split_of_copies_leaves_nothing_to_train_on_and_says_so(faces_home, tmp_path):
    for side, row in product(("train", "val"), range(4)):
        file = tmp_path / side / f"class {row % 2}" / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        SET[row].save(file)
    own.import_folder(tmp_path, "copies").prepare(64)
    with pytest.raises(ValueError, match="No training image of copies is left: each nearly equals a validation image"):
        next(train(RunConfig(dataset="copies", drop_duplicates=True)))


def test_digits_have_no_list():
    with pytest.raises(ValueError, match="Digits has no list of near duplicates"):
        find("digits").duplicates()


@needs_photographs
def test_real_photographs_without_duplicates_have_none(faces_home):
    data = Imagewoof()
    data.import_from(TINY)
    data.prepare(64)
    assert data.duplicates().shape == (0, 2)


def listed() -> list[tuple[str, str, int]]:
    """The list of Imagewoof's near duplicates: training file, validation file, matches."""
    with Imagewoof.known_duplicates.open(encoding="utf-8", newline="") as lines:
        return [(row["train"], row["val"], int(row["matches"])) for row in csv.DictReader(lines)]


def test_the_list_names_pairs_of_one_class_once_the_surest_first():
    pairs = listed()
    assert len(pairs) > 100
    assert len({pair[:2] for pair in pairs}) == len(pairs)
    for known, asked, _ in pairs:
        synset = known.split("/")[1]
        assert synset in BREEDS
        assert re.fullmatch(rf"train/{synset}/({synset}|ILSVRC2012_val)_\d+\.JPEG", known)
        assert re.fullmatch(rf"val/{synset}/({synset}|ILSVRC2012_val)_\d+\.JPEG", asked)
    matches = [count for *_, count in pairs]
    assert matches == sorted(matches, reverse=True)


@pytest.mark.skipif(not ALL.is_file(), reason="the official list of names (shared/data) is not beside this repository")
def test_the_list_names_official_photographs():
    with ALL.open(encoding="utf-8", newline="") as lines:
        official = {row["path"] for row in csv.DictReader(lines)}
    assert {name for known, asked, _ in listed() for name in (known, asked)} <= official


def woof(folder: Path, photographs: dict[str, Image.Image]) -> Imagewoof:
    """Imagewoof of these photographs by name, and of a few that are no near duplicates."""
    others = {f"{side}/n02115641/n02115641_{number}.JPEG": number for side in ("train", "val") for number in range(3)}
    photographs |= {file: SET[30 + row] for row, file in enumerate(others)}
    for file, image in photographs.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / file)
    data = Imagewoof()
    data.import_from(folder)
    return data


def test_pairs_known_by_name_count_though_pixels_do_not_tell_and_missing_ones_are_skipped(faces_home, tmp_path):
    (one, its_twin, _), *others = listed()
    lonely = next(pair[0] for pair in others if pair[0] != one and pair[1] != its_twin)
    data = woof(tmp_path, {one: SET[0], its_twin: SET[1], lonely: SET[2]})
    data.prepare(32)
    assert data.load(32).files[data.duplicates()].tolist() == [[one, its_twin]]
    assert {how: len(pairs) for how, pairs in data.found().items()} == {"names": 1, "pixels": 0}
    data.prepare(96)
    assert data.load(96).files[data.duplicates()].tolist() == [[one, its_twin]]


def test_a_pair_known_both_ways_counts_once(faces_home, tmp_path):
    one, its_twin, _ = listed()[0]
    data = woof(tmp_path, {one: SET[0], its_twin: again(SET[0], 40)})
    data.prepare(64)
    assert {how: len(pairs) for how, pairs in data.found().items()} == {"names": 1, "pixels": 1}
    assert data.load(64).files[data.duplicates()].tolist() == [[one, its_twin]]


def test_the_data_page_says_how_pairs_are_known(faces_home, tmp_path):
    (one, its_twin, _), *others = listed()
    two, another, _ = next(pair for pair in others if pair[0] != one and pair[1] != its_twin)
    pictures = {one: SET[0], its_twin: again(SET[0], 40), two: SET[1], another: SET[2]}
    woof(tmp_path, pictures).prepare(64)
    app = AppTest.from_file(str(ROUTER), default_timeout=60).run()
    app.switch_page(str(ROUTER.with_name("manage") / "data.py")).run()
    assert not app.exception
    assert any(expander.label.startswith("2 training photographs") for expander in app.expander)
    (told,) = (caption.value for caption in app.caption if "pairs" in caption.value)
    assert re.findall(r"\d+", told) == ["2", "2", "1", "1"]  # all, by name, from pixels, both


def test_another_list_makes_the_old_pairs_stale(faces_home, tmp_path, monkeypatch):
    one, its_twin, _ = listed()[0]
    data = woof(tmp_path / "woof", {one: SET[0], its_twin: SET[1]})
    data.prepare(64)
    assert len(data.duplicates()) == 1
    (empty := tmp_path / "empty.csv").write_text("train,val,matches\n")
    monkeypatch.setattr(Imagewoof, "known_duplicates", empty)
    with pytest.raises(ValueError, match="not searched"):
        data.duplicates()
    data.prepare(64)
    assert data.duplicates().shape == (0, 2)
