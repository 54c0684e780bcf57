"""What every dataset promises, and what digits and Imagewoof promise beside that."""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import faces
from faces.datasets import DATASETS, available, find, samples
from faces.datasets import own as own_images
from faces.datasets.base import Progressed
from faces.datasets.imagewoof import BREEDS, Imagewoof
from faces.datasets.pictures import pixels
from faces.datasets.stored import SIZES

TINY = Path(__file__).parents[2] / "shared/data/imagewoof2-160-tiny.tgz"
real = pytest.mark.skipif(
    not TINY.is_file(), reason="the real photographs (shared/data) are not beside this repository"
)
WOOF = Imagewoof()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def picture(seed, width=40, height=30, mode="RGB", form="JPEG"):
    """A smooth picture of its own, as the bytes of a file."""
    coarse = np.random.RandomState(seed).randint(0, 256, (3, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).convert(mode).save(file, form)
    return file.getvalue()


def woof_files(train=2, val=1):
    """A small Imagewoof. At 50 % its csv changes every second train image and, which must not count, all of val."""
    files, lines = {}, ["path," + ",".join(f"noisy_labels_{r}" for r in (0, 1, 5, 25, 50)) + ",is_valid"]
    for label, synset in enumerate(BREEDS):
        for number in range(train + val):
            name = f"{'train' if number < train else 'val'}/{synset}/{synset}_{number}.JPEG"
            files[name] = picture(100 * label + number, mode="L" if number == 0 else "RGB")
            other = list(BREEDS)[(label + 1) % 10] if number % 2 or number >= train else synset
            lines.append(f"{name},{synset},{synset},{synset},{synset},{other},{number >= train}")
    return {"noisy_imagewoof.csv": "\n".join(lines).encode(), **files}


def tgz(path, files, top="imagewoof2-160", extra=()):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return path


@pytest.fixture(params=[*DATASETS, "own"])
def dataset(request, tmp_path):
    """Every dataset, with something in it."""
    if request.param == "own":
        for name, count in (("cats", 6), ("dogs", 5)):
            (tmp_path / "pets" / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "pets" / name / f"{number}.jpg").write_bytes(picture(number))
        return own_images.import_folder(tmp_path / "pets", "own")
    if request.param == "imagewoof":
        WOOF.import_from(tgz(tmp_path / "woof.tgz", woof_files()))
    if find(request.param).counts is None:
        pytest.skip(f"{request.param} is not on this machine, and this test does not know how to make a small one")
    return find(request.param)


@pytest.fixture
def images(dataset):
    dataset.prepare(dataset.sizes[0])
    return dataset.load(dataset.sizes[0])


def same(one, other):
    return all(np.array_equal(getattr(one, key), getattr(other, key)) for key in ("pixels", "labels", "val", "files"))


# every dataset


def test_every_dataset_says_what_it_is(dataset):
    assert dataset.title
    assert dataset.summary
    assert dataset.source
    assert dataset.noise[0] == 0
    assert available()[dataset.name].name == dataset.name == find(dataset.name).name


def test_pixels_are_square_bytes(dataset, images):
    size = dataset.sizes[0]
    assert images.pixels.dtype == np.uint8
    assert images.pixels.shape[:3] == (len(images.labels), size, size)
    assert images.pixels.shape[3] in (1, 3)
    assert images.pixels.max() > 100


def test_labels_count_the_class_names(dataset, images):
    assert set(images.labels) == set(range(len(images.class_names)))
    assert images.class_names == dataset.class_names
    assert len(set(images.class_names)) == len(images.class_names) >= 2


def test_every_class_has_train_and_validation_images(dataset, images):
    assert dataset.counts == (len(images.train_rows), len(images.val_rows))
    assert set(images.labels[images.train_rows]) == set(images.labels[images.val_rows]) == set(images.labels)
    assert sorted([*images.train_rows, *images.val_rows]) == list(range(len(images.labels)))
    assert len(images.files) in (0, len(images.labels))
    assert images.train_rows[-1] < images.val_rows[0]


def test_loading_again_gives_the_same_rows(dataset, images):
    assert same(images, dataset.load(dataset.sizes[0]))


def test_pixels_cannot_be_changed_by_a_reader(images):
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0] = 0


def test_noise_changes_train_labels_only(dataset, images):
    for noise in dataset.noise:
        noisy = dataset.load(dataset.sizes[0], noise)
        assert np.array_equal(noisy.labels[images.val_rows], images.labels[images.val_rows])
        assert set(noisy.labels) <= set(images.labels)


def test_what_is_not_on_offer_is_refused_with_what_is(dataset):
    with pytest.raises(ValueError, match=rf"no size 7\. Sizes here.*{min(dataset.sizes)}"):
        dataset.load(7)
    with pytest.raises(ValueError, match=r"no size 7"):
        dataset.prepare(7)
    assert not dataset.ready(7)
    with pytest.raises(ValueError, match=r"no label noise of 3 %\. On offer, in %: \[0"):
        dataset.load(dataset.sizes[0], noise=3)


def test_samples_show_train_images_of_every_class(images):
    shown = samples(images, each=2)
    assert tuple(shown) == images.class_names
    assert all(1 <= len(some) <= 2 and some.shape[1:] == images.pixels.shape[1:] for some in shown.values())
    rows = images.train_rows[images.labels[images.train_rows] == 1]
    assert np.array_equal(shown[images.class_names[1]], images.pixels[rows[[0, -1]]])


def test_an_unknown_dataset_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"Unknown dataset 'cifar'\. There are: digits, imagewoof"):
        find("cifar")


def test_listing_datasets_loads_nothing_slow():
    code = "import sys, faces.datasets as d; d.available(); d.find('digits').load(8); print(*sys.modules)"
    repository = Path(faces.__file__).parents[1]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "PIL", "streamlit", "trainer"} & set(loaded.stdout.split())


# digits


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits = find("digits").load(8)
    ours = sorted((label, *(image.astype(float) * 16 / 255).round().ravel()) for label, image in
                  zip(digits.labels, digits.pixels, strict=True))  # fmt: skip
    theirs = load_digits()
    assert ours == sorted((label, *image) for label, image in zip(theirs.target, theirs.data, strict=True))


def test_digits_split_1297_to_500_the_same_share_of_every_class():
    digits = find("digits").load(8)
    assert find("digits").counts == (1297, 500)
    share = np.bincount(digits.labels[digits.val]) / np.bincount(digits.labels)
    assert share.max() - share.min() < 0.01


# Imagewoof


def inside(tar, name):
    file = tar.extractfile(name)
    assert file
    return file.read()


@real
def test_the_tiny_archive_is_read_with_its_breeds_and_its_noise():
    WOOF.import_from(TINY)
    assert WOOF.counts == (60, 30)
    assert WOOF.state == "60 + 30 of 9,025 + 3,929 images (train + validation)."
    WOOF.prepare(64)
    images = WOOF.load(64)
    assert images.class_names[0] == "Shih-Tzu"
    assert images.class_names[9] == "dingo"
    assert np.bincount(images.labels[images.val]).tolist() == [3] * 10
    with tarfile.open(TINY) as tar:
        table = inside(tar, "imagewoof2-160/noisy_imagewoof.csv").decode().splitlines()[1:]
    given = {row.split(",")[0]: row.split(",")[1:-1] for row in table}
    for column, noise in enumerate(WOOF.noise):
        labels = WOOF.load(64, noise).labels
        for row in images.train_rows:
            assert list(BREEDS)[labels[row]] == given[images.files[row]][column]
    assert (WOOF.load(64, 50).labels != images.labels).sum() > 10


@real
def test_the_greyscale_photograph_becomes_grey_rgb():
    WOOF.import_from(TINY)
    WOOF.prepare(64)
    grey = [(image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()
            for image in WOOF.load(64).pixels]  # fmt: skip
    assert sum(grey) >= 1


@real
def test_decoding_in_draft_changes_next_to_nothing():
    with tarfile.open(TINY) as tar:
        photographs = [inside(tar, name) for name in tar.getnames() if name.endswith(".JPEG")][:9]
    for photograph in photographs:
        image = Image.open(io.BytesIO(photograph)).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = left, top, left + side, top + side
        for size, most in ((64, 0), (32, 4)):
            full = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
            assert np.abs(pixels(photograph, size).astype(int) - full).mean() <= most


@pytest.fixture
def woof(tmp_path):
    return tgz(tmp_path / "imagewoof2-160.tgz", woof_files())


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_decoded_from_the_kept_originals(woof, size):
    WOOF.import_from(woof)
    woof.unlink()
    assert not WOOF.ready(size)
    with pytest.raises(ValueError, match=f"not decoded at {size} px yet"):
        WOOF.load(size)
    WOOF.prepare(size)
    assert WOOF.ready(size)
    images = WOOF.load(size)
    files = woof_files()
    assert images.pixels.shape == (30, size, size, 3)
    assert list(images.files[:3]) == [name for name in sorted(files) if name.startswith("train")][:3]
    for row in (0, 29):
        assert np.array_equal(images.pixels[row], pixels(files[images.files[row]], size))


def test_the_centre_square_is_taken():
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, 30:60] = 255
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    assert (pixels(file.getvalue(), 30) == 255).all()


def test_a_second_load_is_memory_mapped_and_decodes_nothing(woof, monkeypatch):
    WOOF.import_from(woof)
    WOOF.prepare(32)
    first = WOOF.load(32)
    monkeypatch.setattr("faces.datasets.stored.pixels", lambda *_: pytest.fail("decoded again"))
    WOOF.prepare(32)
    second = WOOF.load(32)
    assert isinstance(second.pixels, np.memmap)
    assert same(first, second)


class StopError(Exception):
    pass


def stop(progressed):
    raise StopError


def test_an_interrupted_decode_is_never_used_and_is_done_again(woof, home):
    WOOF.import_from(woof)
    WOOF.prepare(96)
    (array,) = (home / "data/imagewoof").glob("96px-*.npy")
    whole = array.read_bytes()
    array.with_suffix(".json").unlink()
    array.unlink()
    with pytest.raises(StopError):
        WOOF.prepare(96, stop)
    assert not WOOF.ready(96)
    assert not array.exists()
    WOOF.prepare(96)
    assert array.read_bytes() == whole
    assert not list(array.parent.glob("*.part"))


@pytest.mark.parametrize("harm", ["cut", "unannounced", "older recipe"])
def test_an_array_that_is_not_whole_is_decoded_again(woof, home, harm):
    WOOF.import_from(woof)
    WOOF.prepare(32)
    before = np.array(WOOF.load(32).pixels)
    (array,) = (home / "data/imagewoof").glob("32px-*.npy")
    if harm == "cut":
        os.truncate(array, array.stat().st_size - 1)
    elif harm == "unannounced":
        array.with_suffix(".json").unlink()
    else:
        array.with_suffix(".json").write_text(json.dumps({"recipe": "?", "bytes": array.stat().st_size}))
    assert not WOOF.ready(32)
    WOOF.prepare(32)
    assert np.array_equal(WOOF.load(32).pixels, before)


def test_parts_of_the_set_are_joined_in_any_order(tmp_path, woof):
    files = woof_files()
    names = list(files)
    one = tgz(tmp_path / "one.tgz", {name: files[name] for name in names[:14]})
    two = tgz(tmp_path / "two.tgz", {name: files[name] for name in names[10:]})
    WOOF.import_from(woof)
    WOOF.prepare(32)
    together = WOOF.load(32)
    WOOF.import_from(two, one)
    assert WOOF.ready(32)  # the same images, so the array still holds
    assert same(together, WOOF.load(32))
    assert np.array_equal(together.labels, WOOF.load(32).labels)


def test_other_images_never_meet_an_old_array(tmp_path, woof):
    WOOF.import_from(woof)
    WOOF.prepare(32)
    WOOF.import_from(tgz(tmp_path / "more.tgz", woof_files(train=3)))
    assert not WOOF.ready(32)
    assert WOOF.counts == (30, 10)


def test_a_folder_is_imported_like_its_archive(tmp_path, woof):
    for name, data in woof_files().items():
        (tmp_path / "imagewoof2" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "imagewoof2" / name).write_bytes(data)
    WOOF.import_from(woof)
    WOOF.prepare(32)
    archive = WOOF.load(32, 50)
    for path in (tmp_path / "imagewoof2", tmp_path):  # its own folder, or the one around it
        WOOF.import_from(path)
        assert WOOF.ready(32)
        assert same(archive, WOOF.load(32, 50))


def test_noise_needs_the_csv_which_may_come_by_itself(tmp_path):
    files = woof_files()
    (tmp_path / "noisy_imagewoof.csv").write_bytes(files.pop("noisy_imagewoof.csv"))
    plain = tgz(tmp_path / "plain.tgz", files)
    WOOF.import_from(plain)
    WOOF.prepare(32)
    with pytest.raises(ValueError, match=r"Import it again together with noisy_imagewoof\.csv"):
        WOOF.load(32, 5)
    WOOF.import_from(plain, tmp_path / "noisy_imagewoof.csv")
    clean, noisy = WOOF.load(32), WOOF.load(32, 50)
    assert (clean.labels != noisy.labels)[clean.train_rows].mean() == 0.5


def test_nothing_is_ready_before_an_import():
    assert WOOF.counts is None
    assert not WOOF.ready(64)
    assert WOOF.class_names[0] == "Shih-Tzu"
    assert "not on this machine" in WOOF.state
    for ask in (lambda: WOOF.load(64), lambda: WOOF.prepare(64)):
        with pytest.raises(ValueError, match="Open the page Data to get it"):
            ask()


def link(name):
    member = tarfile.TarInfo(f"imagewoof2-160/{name}")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


def bad_archive(path, kind):
    files = woof_files()
    if kind == "cut":
        whole = tgz(path, files).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "cut behind a member":  # a gzip that ends cleanly between two files, then nothing
        tgz(path, files)
        path.write_bytes(path.read_bytes()[:-8])
    elif kind == "flipped":
        data = bytearray(tgz(path, files).read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif kind == "no archive":
        path.write_bytes(b"hello" * 100)
    elif kind == "link":
        tgz(path, files, extra=[link("train/n02086240/a.JPEG")])
    elif kind == "another set":
        tgz(path, {"train/n01440764/a.JPEG": picture(0), **files})
    elif kind == "no images":
        tgz(path, {"train/readme.txt": b"hello"})
    elif kind == "bad csv":
        tgz(path, files | {"noisy_imagewoof.csv": b"path,label\na,b\n"})
    elif kind == "only train":
        tgz(path, {name: data for name, data in files.items() if not name.startswith("val")})
    elif kind == "bomb":
        member = tarfile.TarInfo("imagewoof2-160/bomb")
        member.size = 80 << 20
        path.write_bytes(gzip.compress(member.tobuf() + bytes(member.size), 1))
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", "is damaged or no .tgz archive"),
        ("cut behind a member", "is damaged or no .tgz archive"),
        ("flipped", "is damaged or no .tgz archive"),
        ("no archive", "is damaged or no .tgz archive"),
        ("link", "is a link, not a file"),
        ("another set", "class n01440764 is none of the ten breeds"),
        ("no images", "holds no Imagewoof images"),
        ("bad csv", "has not the official columns"),
        ("only train", "There must be train and validation images"),
        ("bomb", "far larger than Imagewoof"),
    ],
)
def test_a_bad_archive_is_refused_and_the_set_stays_as_it_was(tmp_path, woof, kind, reason):
    WOOF.import_from(woof)
    WOOF.prepare(32)
    before = WOOF.load(32)
    with pytest.raises(ValueError, match=reason) as refused:
        WOOF.import_from(bad_archive(tmp_path / "bad.tgz", kind))
    assert "\n" not in str(refused.value)
    assert same(before, WOOF.load(32))


def test_an_archive_that_unpacks_without_end_is_refused(woof, monkeypatch):
    monkeypatch.setattr("faces.datasets.imagewoof.MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match="unpacks to far more"):
        WOOF.import_from(woof)


def test_names_that_lead_out_of_the_archive_lead_nowhere(tmp_path, home):
    files = {f"../../../{name}": data for name, data in woof_files().items()}
    WOOF.import_from(tgz(tmp_path / "out.tgz", files))
    assert WOOF.counts == (20, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"out.tgz", "home"}
    assert {path.parent.name for path in home.rglob("*") if path.is_file()} == {"imagewoof"}


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        WOOF.import_from(tmp_path / "nowhere.tgz")
    with pytest.raises(ValueError, match="Nothing to import"):
        WOOF.import_from()


def test_an_unreadable_photograph_is_named(tmp_path, home):
    files = woof_files()
    files["train/n02086240/n02086240_1.JPEG"] = b"not a picture"
    WOOF.import_from(tgz(tmp_path / "woof.tgz", files))
    with pytest.raises(ValueError, match=r"train/n02086240/n02086240_1\.JPEG of Imagewoof cannot be decoded"):
        WOOF.prepare(32)
    assert not WOOF.ready(32)


def test_progress_is_told_in_bytes_and_images(woof):
    told: list[Progressed] = []
    WOOF.import_from(woof, progress=told.append)
    assert {(step.unit, step.total) for step in told} == {("bytes", woof.stat().st_size)}
    told.clear()
    WOOF.prepare(32, told.append)
    assert Progressed("Decoding Imagewoof at 32 px", 30, 30, "images") in told
    assert {step.unit for step in told} == {"images"}


def test_saving_a_file_adds_a_dataset(tmp_path):
    copy = tmp_path / "copy/faces"
    shutil.copytree(Path(faces.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    dots = "from faces.datasets.base import Dataset\n\n\nclass Dots(Dataset):\n    name = title = 'dots'\n"
    (copy / "datasets/dots.py").write_text(dots)
    code = "from faces.datasets import DATASETS; print(*DATASETS)"
    listed = subprocess.run([sys.executable, "-c", code], cwd=copy.parent, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["digits", "dots", "imagewoof"]
    assert isinstance(DATASETS["imagewoof"], Imagewoof)
