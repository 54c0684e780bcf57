"""Your own images: a folder with one folder per class, or a zip of it.

    cats/1.jpg  dogs/1.jpg ...                        a fifth of every class becomes validation
    train/cats/1.jpg ...  val/cats/9.jpg ...          or you say which

What comes in is not trusted: names are cleaned, zips are read member by member and through
counters, and pictures are decoded and written anew (their centre square, at most 160 pixels,
lossless), so nothing of the original files but those pixels is kept.
"""

import hashlib
import io
import re
import secrets
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BufferedIOBase
from pathlib import Path, PurePosixPath

from faces.datasets.base import Progress, Progressed, silent
from faces.datasets.pictures import opened, square
from faces.datasets.stored import SIZES, Rows, Stored, keep
from faces.home import home

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
VALIDATION = ("val", "valid", "validation", "test")  # folder names beside "train"; the first one found counts
MOST_FILES, MOST_BYTES, MOST_RATIO, MOST_EACH = 50_000, 2 << 30, 100, 64 << 20


class Own(Stored):
    """One imported set. `skipped` lists what was left out, with reasons."""

    source = "Your own images"
    summary = "Images that were imported on this machine."

    def __init__(self, name: str):
        self.name = self.title = name

    @property
    def folder(self) -> Path:
        return home() / "data" / "own" / self.name


def own_sets() -> dict[str, Own]:
    """All imported sets by name."""
    found = sorted((home() / "data" / "own").glob("[!.]*/source.json"))
    return {file.parent.name: Own(file.parent.name) for file in found}


def remove(name: str) -> None:
    """Delete an imported set, originals and all. Unknown name: ValueError."""
    sets = own_sets()
    if name not in sets:
        raise ValueError(f"There is no imported set {name!r}. Imported are: {', '.join(sets) or 'none'}.")
    folder = sets[name].folder
    gone = folder.replace(folder.with_name(f".removed-{secrets.token_hex(4)}"))
    shutil.rmtree(gone)


def import_folder(path: str | Path, name: str, progress: Progress = silent) -> Own:
    """Import a folder as the set `name`. Files that cannot be used are left out and listed in `skipped`.

    ValueError, and nothing imported, when there are fewer than two classes, a class has fewer than
    two train images and one for validation, or the name is taken.
    """
    top = Path(path).expanduser()
    if not top.is_dir():
        raise ValueError(f"{path} is not a folder. Give a folder with one folder of images per class.")
    readers: dict[PurePosixPath, Callable[[], bytes]] = {}
    for file in top.rglob("*"):
        if file.is_file():
            readers[PurePosixPath(file.relative_to(top).as_posix())] = lambda file=file: _at_most(file.open("rb"))
        if len(readers) > MOST_FILES:
            raise ValueError(f"{path} holds more than {MOST_FILES:,} files. Import a smaller part of it.")
    return _import(readers, name, progress)


def import_zip(file: str | Path | bytes | BufferedIOBase, name: str, progress: Progress = silent) -> Own:
    """Import a zip (a path, its bytes, or an open file) like a folder.

    ValueError, and nothing imported, also for a zip that is damaged or hostile: paths that lead
    out of it, links, encryption, more than 50,000 files or 2 GB, a file packed over 100 to 1, or
    one that is not what its header says.
    """
    try:
        with _stream(file) as stream:
            _count_entries(stream)
            with zipfile.ZipFile(stream) as archive:
                return _import(_members(archive), name, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as why:
        raise ValueError(f"The zip is damaged or not what its headers say ({why}), so nothing was imported.") from why


def clean_name(text: str) -> str:
    """The text as 1 to 64 letters, digits, spaces, dots, _ and -, beginning with a letter or digit.

    Other characters become a space. ValueError when nothing is left.
    """
    plain = re.sub(r"[^\w.-]+", " ", unicodedata.normalize("NFC", text))
    name = re.sub(r"^[\W_]+|[\s.]+$", "", plain[:64])
    if not name:
        raise ValueError(f"{text!r} is no name. Use letters, digits, spaces, dots, _ and -.")
    return name


def _import(readers: dict[PurePosixPath, Callable[[], bytes]], name: str, progress: Progress) -> Own:
    """Decode and keep every usable file, in a folder of its own that gets its name only when it is whole."""
    from faces.datasets import available

    name = clean_name(name)
    if taken := [known for known in available() if known.casefold() == name.casefold()]:
        raise ValueError(f"There is already a dataset {taken[0]!r}. Remove it first or choose another name.")
    places, skipped = _places(sorted(readers))
    labels: dict[str, str] = {}
    val: dict[str, bool | None] = {}

    def files() -> Iterator[tuple[str, bytes]]:
        for done, (path, (class_name, is_val)) in enumerate(places.items()):
            progress(Progressed(f"Importing {name}", done, len(places), "images"))
            try:
                data = _as_png(readers[path]())
            except zipfile.BadZipFile:
                raise
            except MemoryError:
                skipped.append((_printable(path), "needs more memory than an image may take"))
                continue
            except Exception as why:  # whatever a broken file does to a decoder
                skipped.append((_printable(path), str(why).split("\n")[0] or type(why).__name__))
                continue
            file = _file_name(path, class_name, is_val, labels)
            labels[file], val[file] = class_name, is_val
            yield file, data

    def known(kept: list[str]) -> Rows:
        names = sorted(set(labels.values()))
        split = {file: bool(is_val) for file, is_val in val.items()}
        if None in val.values():
            for class_name in names:
                split |= _split([file for file in kept if labels[file] == class_name])
        _check_enough(names, labels, split, skipped)
        return Rows(tuple(names), {file: names.index(labels[file]) for file in kept}, split, skipped=tuple(skipped))

    folder = home() / "data" / "own"
    building = folder / f".importing-{secrets.token_hex(4)}"
    try:
        keep(building, files(), known)
        building.replace(folder / name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Own(name)


def _file_name(path: PurePosixPath, class_name: str, is_val: bool | None, taken: Iterable[str]) -> str:
    """What the kept picture is called: split (if said), class and its own name, cleaned."""
    folder = class_name if is_val is None else f"{'val' if is_val else 'train'}/{class_name}"
    stem = clean_name(f"{path.stem} {class_name}") if not re.search(r"[^\W_]", path.stem) else clean_name(path.stem)
    file = f"{folder}/{stem}.png"
    return file if file not in taken else f"{folder}/{stem} {hashlib.sha256(str(path).encode()).hexdigest()[:8]}.png"


Places = dict[PurePosixPath, tuple[str, bool | None]]


def _places(files: list[PurePosixPath]) -> tuple[Places, list[tuple[str, str]]]:
    """Class and split (None: not said) of every file that looks like an image, and what is left out.

    Folders around everything are ignored. Hidden files are not mentioned.
    """
    seen = [file for file in files if not any(part.startswith((".", "__MACOSX")) for part in file.parts)]
    images = [file for file in seen if file.suffix.lower() in SUFFIXES]
    others = [file for file in seen if file.suffix.lower() not in SUFFIXES]
    skipped = [(_printable(file), "not JPEG, PNG, WebP, BMP or GIF") for file in others]
    top = 0
    while images and all(len(file.parts) > top + 2 for file in images) and len({f.parts[top] for f in images}) == 1:
        top += 1
    heads = {file.parts[top].lower() for file in images}
    val = next((head for head in VALIDATION if head in heads), None) if "train" in heads else None
    places: Places = {}
    raw_names: dict[str, str] = {}
    for file in images:
        *folders, _ = file.parts[top:]
        is_val = None
        if val and folders:
            head, *folders = folders
            if head.lower() not in ("train", val):
                skipped.append((_printable(file), f"in neither train nor {val}"))
                continue
            is_val = head.lower() == val
        if not folders:
            skipped.append((_printable(file), "in no class folder"))
            continue
        class_name = clean_name(folders[0])
        if raw_names.setdefault(class_name, folders[0]) != folders[0]:
            raise ValueError(
                f"The class folders {raw_names[class_name]!r} and {folders[0]!r} would both be called "
                f"{class_name!r}. Rename one of them."
            )
        places[file] = class_name, is_val
    return places, skipped


def _split(files: list[str]) -> dict[str, bool]:
    """The fifth of a class (at least one) whose names hash lowest is for validation: the same one every time."""
    by_hash = sorted(files, key=lambda file: hashlib.sha256(file.rsplit("/", 1)[-1].encode()).digest())
    return {file: place < max(1, len(files) // 5) for place, file in enumerate(by_hash)}


def _check_enough(names: list[str], labels: dict[str, str], val: dict[str, bool], skipped: list) -> None:
    """ValueError unless there are two classes with two train images and one for validation each."""
    left_out = f" ({len(skipped)} files were left out, the first: {skipped[0][0]}, {skipped[0][1]})" if skipped else ""
    if len(names) < 2:
        found = f"only {names[0]!r}" if names else "none"
        raise ValueError(f"Two classes or more are needed, one folder of images each; found {found}{left_out}.")
    counts = Counter((labels[file], is_val) for file, is_val in val.items())
    for name in names:
        train, validation = counts[name, False], counts[name, True]
        if train < 2 or validation < 1:
            raise ValueError(
                f"Class {name!r} has {train} train and {validation} validation images; "
                f"at least 2 and 1 are needed{left_out}."
            )


def _as_png(data: bytes) -> bytes:
    """The picture's centre square, turned upright and never enlarged, as a new file without any metadata."""
    image = opened(data)
    out = io.BytesIO()
    square(image, min(max(SIZES), *image.size), upright=True).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _at_most(stream: BufferedIOBase) -> bytes:
    with stream:
        data = stream.read(MOST_EACH + 1)
    if len(data) > MOST_EACH:
        raise ValueError(f"larger than {MOST_EACH >> 20} MiB")
    return data


def _count_entries(stream: BufferedIOBase) -> None:
    """ValueError for a zip with too many entries, before a list of them is built."""
    stream.seek(0)
    entries = 0
    while entries <= MOST_FILES and (chunk := stream.read(1 << 20)):
        entries += chunk.count(b"PK\x01\x02")
    stream.seek(0)
    if entries > MOST_FILES:
        raise ValueError(f"The zip holds more than {MOST_FILES:,} files, so it is refused.")


def _members(archive: zipfile.ZipFile) -> dict[PurePosixPath, Callable[[], bytes]]:
    """A reader for every file in the zip, all of them on one budget of bytes. ValueError for a hostile zip."""
    readers: dict[PurePosixPath, Callable[[], bytes]] = {}
    left = MOST_BYTES

    def read(info: zipfile.ZipInfo) -> bytes:
        nonlocal left
        with archive.open(info) as stream:
            data = stream.read(min(left, MOST_EACH) + 1)
        left -= len(data)
        if left < 0:
            raise zipfile.BadZipFile(f"it unpacks to more than {MOST_BYTES >> 30} GB")
        if len(data) > MOST_EACH:
            raise ValueError(f"larger than {MOST_EACH >> 20} MiB")
        return data

    for info in archive.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
            raise ValueError(f"The zip is refused: {_printable(path)} leads out of it.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"The zip is refused: {_printable(path)} is a link, not a file.")
        if info.flag_bits & 1:
            raise ValueError(f"The zip is refused: {_printable(path)} is encrypted.")
        if info.file_size > MOST_RATIO * max(info.compress_size, 1):
            raise ValueError(f"The zip is refused: {_printable(path)} is packed more than {MOST_RATIO} to 1.")
        if path.parts and not info.is_dir():
            readers[path] = lambda info=info: read(info)
    return readers


def _printable(path: PurePosixPath) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(path))[-120:]


def _stream(file: str | Path | bytes | BufferedIOBase) -> AbstractContextManager[BufferedIOBase]:
    if isinstance(file, bytes):
        return io.BytesIO(file)
    return Path(file).expanduser().open("rb") if isinstance(file, str | Path) else nullcontext(file)
