"""Your own images come in whatever state they are, and never further than they should."""

import io
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from faces.datasets import available, find
from faces.datasets import own as own_images
from faces.datasets.own import clean_name, import_folder, import_zip, remove


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def picture(seed=0, form="PNG", size=(20, 16), mode="RGB", **options):
    file = io.BytesIO()
    noise = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, form, **options)
    return file.getvalue()


def pets(cats=6, dogs=6):
    return {f"cats/{n}.png": picture(n) for n in range(cats)} | {f"dogs/{n}.png": picture(90 + n) for n in range(dogs)}


def zipped(files, **options):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def in_folder(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def loaded(dataset, size=32):
    dataset.prepare(size)
    return dataset.load(size)


def test_a_folder_and_its_zip_give_the_same_set(tmp_path):
    files = pets()
    folder = loaded(import_folder(in_folder(tmp_path / "pets", files), "one"))
    (tmp_path / "pets.zip").write_bytes(zipped(files))
    for number, archive in enumerate([zipped(files), io.BytesIO(zipped(files)), tmp_path / "pets.zip"]):
        other = loaded(import_zip(archive, f"zip {number}"))
        assert np.array_equal(folder.pixels, other.pixels)
        assert np.array_equal(folder.val, other.val)
        assert list(folder.files) == list(other.files)
    assert folder.class_names == ("cats", "dogs")
    assert folder.files[0].startswith("cats/")


@pytest.mark.parametrize("around", ["", "pets/", "a/b/", "train/"])
def test_folders_around_the_classes_do_not_matter(around):
    images = loaded(import_zip(zipped({around + name: data for name, data in pets().items()}), "pets"))
    assert images.class_names == ("cats", "dogs")
    assert len(images.val_rows) == 2


def test_a_fifth_of_each_class_is_validation_and_stays_so_when_others_come_or_go():
    files = pets(cats=20, dogs=5)
    before = loaded(import_zip(zipped(files), "before"))
    assert np.bincount(before.labels[before.val]).tolist() == [4, 1]
    for train_cat in before.files[before.train_rows][:3]:
        del files[train_cat]
    after = loaded(import_zip(zipped(dict(reversed(files.items()))), "after"))
    assert np.bincount(after.labels[after.val]).tolist() == [3, 1]
    assert set(after.files[after.val]) < set(before.files[before.val])


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "test"])
def test_a_split_that_is_given_is_kept(val):
    files = {f"Train/{name}": data for name, data in pets(4, 4).items()}
    files |= {f"{val}/{kind}/{n}.png": picture(50 + n) for kind in ("cats", "dogs") for n in range(2)}
    files["extra/cats/1.png"] = picture(7)
    dataset = import_zip(zipped({f"top/{name}": data for name, data in files.items()}), "pets")
    assert dataset.counts == (8, 4)
    assert dataset.skipped == (("top/extra/cats/1.png", f"in neither train nor {val.lower()}"),)
    assert loaded(dataset).class_names == ("cats", "dogs")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_the_common_formats_are_read(form):
    files = {name.replace("png", form.lower()): picture(n, form) for n, name in enumerate(pets())}
    assert import_zip(zipped(files), "pets").counts == (10, 2)


def test_pixels_are_those_of_the_file_and_small_pictures_are_not_enlarged_first():
    files = pets(4, 4)
    for n in range(4):
        files[f"cats/{n}.png"] = picture(n, size=(32, 32))
    images = loaded(import_zip(zipped(files), "pets"), 32)
    row = list(images.files).index("cats/2.png")
    assert np.array_equal(images.pixels[row], np.asarray(Image.open(io.BytesIO(files["cats/2.png"]))))


def test_large_pictures_are_kept_at_the_largest_size_on_offer(home):
    dataset = import_zip(zipped(pets() | {"cats/large.jpg": picture(1, "JPEG", (900, 700))}), "pets")
    (originals,) = (home / "data/own/pets").glob("originals-*.zip")
    with zipfile.ZipFile(originals) as kept:
        assert Image.open(io.BytesIO(kept.read("cats/large.png"))).size == (256, 256)
    assert loaded(dataset, 256).pixels.shape[1:] == (256, 256, 3)


def test_photographs_stand_upright_and_leave_their_metadata_behind(home):
    picture_on_its_side = np.zeros((40, 40, 3), np.uint8)
    picture_on_its_side[:, :20] = 255  # left half white; turned by orientation 6, the top half is
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    Image.fromarray(picture_on_its_side).save(file, "JPEG", exif=exif, quality=95)
    images = loaded(import_zip(zipped(pets() | {"cats/side.jpg": file.getvalue()}), "pets"), 32)
    upright = images.pixels[list(images.files).index("cats/side.png")]
    assert upright[:12].min() > 200
    assert upright[20:].max() < 50
    (originals,) = (home / "data/own/pets").glob("originals-*.zip")
    assert b"a camera" not in zipfile.ZipFile(originals).read("cats/side.png")


def test_transparent_pictures_lie_on_white():
    file = io.BytesIO()
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(file, "PNG")
    images = loaded(import_zip(zipped(pets() | {"cats/glass.png": file.getvalue()}), "pets"))
    assert (images.pixels[list(images.files).index("cats/glass.png")] == 255).all()


def test_what_cannot_be_used_is_left_out_and_listed_with_its_reason(tmp_path):
    bad = {
        "cats/broken.png": picture()[:60],
        "cats/text.jpg": b"hello",
        "cats/deep.png": picture_16_bit(),
        "cats/photo.heic": b"...",
        "dogs/tiff.png": picture(form="TIFF"),
        "alone.png": picture(),
        "cats/.hidden.png": b"",
        "__MACOSX/cats/._1.png": b"",
    }
    dataset = import_folder(in_folder(tmp_path / "pets", pets() | bad), "pets")
    reasons = dict(dataset.skipped)
    assert set(reasons) == {name for name in bad if not name.startswith(("__MACOSX", "cats/.hidden"))}
    assert reasons["cats/text.jpg"] == reasons["dogs/tiff.png"] == "not an image in JPEG, PNG, WebP, BMP or GIF format"
    assert reasons["cats/deep.png"] == "more than 8 bits per channel"
    assert reasons["cats/photo.heic"] == "not JPEG, PNG, WebP, BMP or GIF"
    assert reasons["alone.png"] == "in no class folder"
    assert reasons["cats/broken.png"]
    assert dataset.counts == (10, 2)
    assert len(loaded(dataset).files) == 12


def picture_16_bit():
    file = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16)).save(file, "PNG")
    return file.getvalue()


def png_that_claims(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(5001, 5000), (9600, 9600), (13000, 13000), (60000, 60000)])
def test_a_picture_that_claims_too_many_pixels_is_left_out_undecoded(width, height, monkeypatch):
    decoded = []

    def square(image, *_, **__):
        decoded.append(image.size)
        return image

    monkeypatch.setattr(own_images, "square", square)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        dataset = import_zip(zipped(pets() | {"cats/bomb.png": png_that_claims(width, height)}), "pets")
    assert [name for name, _ in dataset.skipped] == ["cats/bomb.png"]
    assert "25,000,000" in dataset.skipped[0][1]
    assert set(decoded) == {(20, 16)}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "Two classes or more are needed, one folder of images each; found none"),
        ({"1.png": picture(), "2.png": picture()}, r"found none \(2 files were left out, the first: 1.png, in no cl"),
        ({f"cats/{n}.png": picture(n) for n in range(5)}, "found only 'cats'"),
        (pets(cats=2), "Class 'cats' has 1 train and 1 validation images; at least 2 and 1 are needed"),
        (pets(cats=2) | {"cats/2.png": b"?"}, r"needed \(1 files were left out, the first: cats/2.png, not an image"),
        (
            {f"train/{name}": data for name, data in pets().items()} | {"val/cats/9.png": picture()},
            "Class 'dogs' has 6 train and 0 validation images",
        ),
        (pets() | {"cats!/1.png": picture()}, "'cats' and 'cats!' would both be called 'cats'"),
        (pets() | {"???/1.png": picture()}, r"'\?\?\?' is no name\. Use letters"),
    ],
)
def test_a_set_that_could_not_be_trained_is_refused(tmp_path, home, files, reason):
    (tmp_path / "pets").mkdir()
    for attempt in (
        lambda: import_folder(in_folder(tmp_path / "pets", files), "pets"),
        lambda: import_zip(zipped(files), "pets"),
    ):
        with pytest.raises(ValueError, match=reason):
            attempt()
        assert "pets" not in available()
        assert not list((home / "data/own").glob("**/*"))


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        import_folder(tmp_path / "nowhere", "pets")


def with_link():
    out = io.BytesIO(zipped(pets()))
    with zipfile.ZipFile(out, "a") as archive:
        info = zipfile.ZipInfo("cats/link.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def with_lying_header(claimed):
    """One entry whose headers claim another length than it has."""
    data = bytearray(zipped(pets() | {"cats/lie.png": picture(5)}, compression=zipfile.ZIP_DEFLATED))
    for signature, name_at, length_at in ((b"PK\x03\x04", 30, 22), (b"PK\x01\x02", 46, 24)):
        at = data.find(signature)
        while data[at + name_at : at + name_at + 12] != b"cats/lie.png":
            at = data.find(signature, at + 1)
        data[at + length_at : at + length_at + 4] = struct.pack("<I", claimed)
    return bytes(data)


def encrypted():
    data = bytearray(zipped(pets()))
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


HOSTILE = {
    "a path upwards": (lambda: zipped(pets() | {"../../evil.png": picture()}), r"\.\./\.\./evil\.png leads out of it"),
    "an absolute path": (lambda: zipped(pets() | {"/etc/evil.png": picture()}), "leads out of it"),
    "a path of Windows": (lambda: zipped(pets() | {"cats\\..\\..\\evil.png": picture()}), "leads out of it"),
    "a drive": (lambda: zipped(pets() | {"C:/evil.png": picture()}), "leads out of it"),
    "a link": (with_link, r"cats/link\.png is a link"),
    "a bomb": (
        lambda: zipped(pets() | {"cats/bomb.png": bytes(50 << 20)}, compression=zipfile.ZIP_DEFLATED),
        r"cats/bomb\.png is packed more than 100 to 1",
    ),
    "a header that claims less": (lambda: with_lying_header(100), r"not what its headers say \(Bad CRC-32"),
    "an encrypted file": (encrypted, "is encrypted"),
    "half a zip": (lambda: zipped(pets())[:1500], "damaged or not what its headers say"),
    "no zip": (lambda: b"hello", "damaged or not what its headers say"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_zip_is_refused_whole(tmp_path, home, kind):
    make, reason = HOSTILE[kind]
    data = make()
    with pytest.raises(ValueError, match=reason) as refused:
        import_zip(data, "pets")
    assert "\n" not in str(refused.value)
    assert "pets" not in available()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_header_that_claims_more_gives_no_more():
    assert import_zip(with_lying_header(5000), "pets").counts == (11, 2)


@pytest.mark.parametrize("name", [b"\0@@", b"./.", b".//"])
def test_an_entry_without_a_name_does_no_harm(name):
    assert import_zip(zipped(pets() | {"@@@": picture()}).replace(b"@@@", name), "pets").counts == (10, 2)


def test_a_zip_with_too_many_files_is_refused_before_they_are_listed(monkeypatch):
    monkeypatch.setattr(own_images, "MOST_FILES", 20)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("listed"))
    many = b"".join(b"PK\x01\x02" + bytes(42) for _ in range(21))
    with pytest.raises(ValueError, match="more than 20 files"):
        import_zip(many, "pets")


def test_a_zip_that_unpacks_to_too_much_is_refused_while_reading(monkeypatch):
    monkeypatch.setattr(own_images, "MOST_BYTES", 5000)
    with pytest.raises(ValueError, match="it unpacks to more than"):
        import_zip(zipped(pets()), "pets")


def test_one_huge_file_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(own_images, "MOST_EACH", 5000)
    files = pets() | {"cats/huge.bmp": picture(1, "BMP", (60, 60))}
    for dataset in (import_zip(zipped(files), "zip"), import_folder(in_folder(tmp_path / "pets", files), "folder")):
        ((name, why),) = dataset.skipped
        assert name == "cats/huge.bmp"
        assert why.startswith("larger than")


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("my cats", "my cats"),
        ("  Hündchen_2.0 ", "Hündchen_2.0"),
        ("Hu\u0308ndchen", "Hündchen"),  # NFC
        ("../../etc/passwd", "etc passwd"),
        ("a\\b:c\0d\ne", "a b c d e"),
        ("<b>cats</b> $x$", "b cats b x"),
        (".hidden", "hidden"),
        ("x" * 100, "x" * 64),
        ("dogs...", "dogs"),
    ],
)
def test_names_are_cleaned_at_the_door(given, clean):
    assert clean_name(given) == clean == clean_name(clean)
    dataset = import_zip(zipped(pets()), given)
    assert dataset.name == clean
    assert dataset.folder.name == clean
    assert find(clean).counts == (10, 2)


@pytest.mark.parametrize("name", ["", " ", "..", "///", "$$$", "\u202e"])
def test_a_name_without_letters_is_refused(name):
    with pytest.raises(ValueError, match=r"is no name\. Use letters, digits, spaces"):
        import_zip(zipped(pets()), name)


def test_names_of_classes_and_files_are_clean_in_the_set():
    files = {f"<i>cats/{n}$.png": picture(n) for n in range(5)} | {f"dogs/{n} (1).png": picture(n) for n in range(5)}
    files |= {"dogs/$$.png": picture(1), "dogs/a/1!.png": picture(2), "dogs/b/1!.png": picture(3)}
    images = loaded(import_zip(zipped(files), "pets"))
    assert images.class_names == ("dogs", "i cats")
    assert not set("".join(images.files)) & set("<>$()!")
    assert len(set(images.files)) == 13


@pytest.mark.parametrize("taken", ["pets", "Pets", "digits", "Imagewoof"])
def test_a_name_that_is_taken_is_refused(taken):
    import_zip(zipped(pets()), "pets")
    with pytest.raises(ValueError, match=r"There is already a dataset '\w+'\. Remove it first or choose another"):
        import_zip(zipped(pets()), taken)


def test_a_set_appears_is_found_and_can_be_removed(home):
    dataset = import_zip(zipped(pets()), "my pets")
    assert list(available())[-1] == "my pets"
    assert find("my pets").title == "my pets"
    loaded(dataset)
    remove("my pets")
    assert "my pets" not in available()
    assert not [path for path in home.rglob("*") if path.is_file()]
    for name in ("my pets", "digits", "../own", ""):
        with pytest.raises(ValueError, match=r"There is no imported set .*Imported are: none"):
            remove(name)


def test_an_interrupted_import_leaves_nothing(home):
    def stop(progressed):
        if progressed.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_zip(zipped(pets()), "pets", stop)
    assert "pets" not in available()
    assert not [path for path in home.rglob("*") if path.is_file()]
