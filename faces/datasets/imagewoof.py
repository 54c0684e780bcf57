"""Imagewoof: ten breeds of dogs that are hard to tell apart, from ImageNet. Downloaded or imported, never shipped."""

import csv
import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from faces.datasets.base import Progress, Progressed, silent
from faces.datasets.fetching import Published, fetch
from faces.datasets.stored import Rows, Stored, keep
from faces.files import make
from faces.home import home

BREEDS = {
    "n02086240": "Shih-Tzu",
    "n02087394": "Rhodesian ridgeback",
    "n02088364": "beagle",
    "n02089973": "English foxhound",
    "n02093754": "Border terrier",
    "n02096294": "Australian terrier",
    "n02099601": "golden retriever",
    "n02105641": "Old English sheepdog",
    "n02111889": "Samoyed",
    "n02115641": "dingo",
}
OFFICIAL = (9025, 3929)  # train and validation images

# Bytes and the MD5 of the first MiB are those that fastai itself checks (github.com/fastai/fastai,
# fastai/data/download_checks.py); the MD5 of the whole is Catalyst's (github.com/catalyst-team/catalyst, #1268).
# Every size on offer needs no more than the smallest archive.
WHERE = "https://s3.amazonaws.com/fast-ai-imageclas/"
ARCHIVES = {
    "160 px": Published(
        WHERE + "imagewoof2-160.tgz", 92612825, "3d200a7be99704a0d7509be2a9fbfe15", "3559b194123981a540b87132dbda412f"
    ),
    "320 px": Published(
        WHERE + "imagewoof2-320.tgz", 328387740, "0f46d997ec2264e97609196c95897a44", "7a1fd92672a559a85de76e4810a20c21"
    ),
    "full size": Published(
        WHERE + "imagewoof2.tgz", 1343715595, "9aafe18bcdb1632c4249a76c458465ba", "2cc1c1e36e20cb6fd24ffb978edcb487"
    ),
}

IMAGE = re.compile(r"(?:.*/)?(?P<file>(?:train|val)/(?P<synset>n\d{8})/[\w.-]+\.JPEG)")
NOISY = "noisy_imagewoof.csv"
MOST_FILES, MOST_BYTES, MOST_EACH = 50_000, 8 << 30, 64 << 20  # far above the real archives, far below a bomb's wish


class Imagewoof(Stored):
    """Imagewoof2: 9,025 train and 3,929 validation photographs of ten dog breeds, with the official split."""

    name, title = "imagewoof", "Imagewoof"
    summary = "Photographs of ten breeds of dogs that are hard to tell apart."
    source = "https://github.com/fastai/imagenette#imagewoof"
    noise = (0, 1, 5, 25, 50)
    known_duplicates = Path(__file__).with_name("imagewoof_duplicates.csv")  # tests/benchmarks/near_duplicate_names.py

    @property
    def folder(self) -> Path:
        return home() / "data" / "imagewoof"

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(BREEDS.values())

    @property
    def state(self) -> str:
        if self.counts in (None, OFFICIAL):
            return super().state
        train, val = self.counts or (0, 0)
        return f"{train:,} + {val:,} of {OFFICIAL[0]:,} + {OFFICIAL[1]:,} images (train + validation)."

    def download(self, archive: str = "160 px", progress: Progress = silent) -> None:
        """Get one of ARCHIVES from fastai and import it. An interrupted download goes on where it stopped.

        Raises ConnectionError when the server cannot be reached or keeps breaking off, ValueError
        when what it offers is not the published archive.
        """
        if archive not in ARCHIVES:
            raise ValueError(f"Unknown archive {archive!r}. There are: {', '.join(ARCHIVES)}.")
        make(self.folder)
        with FileLock(self.folder / "download.lock"):
            file = fetch(ARCHIVES[archive], self.folder, progress)
            self.import_from(file, progress=progress)
            file.unlink()  # the set now keeps its JPEG files itself

    def import_from(self, *paths: str | Path, progress: Progress = silent) -> None:
        """Make the set what these paths hold together: .tgz archives, folders, and noisy_imagewoof.csv by itself.

        Archives and folders have the official layout, <top>/(train|val)/<synset>/<name>.JPEG; they
        may hold only some of the images (`state` then says so). The originals are copied, so the
        paths may go afterwards. ValueError, with the earlier set untouched, when one of them is
        damaged or something else.
        """
        if not paths:
            raise ValueError("Nothing to import: give an Imagewoof archive (.tgz) or folder.")
        noisy: dict[str, dict[str, str]] = {}

        def files() -> Iterator[tuple[str, bytes]]:
            for path in (Path(path).expanduser() for path in paths):
                found = False
                for file, data in _files(path, progress):
                    if file.endswith(".csv"):
                        noisy.update(_noisy_rows(path, data))
                        found |= path.suffix == ".csv"
                        continue
                    found = True
                    yield file, data
                if not found:
                    raise ValueError(f"{path.name} holds no Imagewoof images (train/<synset>/<name>.JPEG, and val/).")

        keep(self.folder, files(), lambda kept: _rows(kept, noisy))


def _rows(kept: list[str], noisy: dict[str, dict[str, str]]) -> Rows:
    """Labels and split by path. A noise level is on offer when every train image has a label for it."""
    synsets = list(BREEDS)
    labels = {file: synsets.index(file.split("/")[1]) for file in kept}
    val = {file: file.startswith("val/") for file in kept}
    if len(set(val.values())) < 2:
        raise ValueError(f"There must be train and validation images; {sum(val.values())} of {len(val)} are for val.")
    rates = Imagewoof.noise[1:] if all(file in noisy for file in kept if not val[file]) else ()
    changed = {
        rate: {file: labels[file] if val[file] else synsets.index(noisy[file][f"noisy_labels_{rate}"]) for file in kept}
        for rate in rates
    }
    return Rows(tuple(BREEDS.values()), labels, val, changed)


def _noisy_rows(path: Path, data: bytes) -> dict[str, dict[str, str]]:
    """The rows of noisy_imagewoof.csv by image. ValueError when it is something else."""
    try:
        rows = {row["path"]: row for row in csv.DictReader(io.StringIO(data.decode("utf-8")))}
        if all(row[f"noisy_labels_{rate}"] in BREEDS for row in rows.values() for rate in Imagewoof.noise[1:]):
            return rows
    except (KeyError, csv.Error, UnicodeDecodeError):
        pass
    raise ValueError(f"The {NOISY} of {path.name} has not the official columns and labels.")


def _files(path: Path, progress: Progress) -> Iterable[tuple[str, bytes]]:
    """The images ("train/<synset>/<name>.JPEG", bytes) and the csv at this path; nothing else is looked at."""
    if path.name == NOISY and path.is_file():
        return [(NOISY, path.read_bytes())]
    if path.is_dir():
        return _in_folder(path, progress)
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Give an Imagewoof archive (.tgz) or folder.")
    return _in_archive(path, progress)


def _in_folder(path: Path, progress: Progress) -> Iterator[tuple[str, bytes]]:
    files = sorted(file for file in path.rglob("*") if file.suffix == ".JPEG" or file.name == NOISY)
    for done, file in enumerate(files):
        progress(Progressed(f"Reading {path.name}", done, len(files), "images"))
        if (name := _expected(file.relative_to(path.parent).as_posix(), path)) and file.is_file():
            yield name, file.read_bytes()


def _in_archive(path: Path, progress: Progress) -> Iterator[tuple[str, bytes]]:
    """Read a .tgz once, front to back, without unpacking it. Names in it are only compared, never used as paths.

    Streaming needs no seeking, so headers that point backwards (CVE-2025-8194) fail at once, and
    reading gzip to its end checks its CRC: a cut archive is never taken for a small one.
    """
    with path.open("rb") as raw:
        total = path.stat().st_size
        try:
            with _Capped(fileobj=raw) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
                for number, member in enumerate(tar):
                    progress(Progressed(f"Reading {path.name}", min(raw.tell(), total), total, "bytes"))
                    if number >= MOST_FILES or member.size > MOST_EACH:
                        raise ValueError(f"{path.name} is far larger than Imagewoof, so it is refused.")
                    name = _expected(member.name, path)
                    if name and not member.isreg():
                        raise ValueError(f"{path.name} is refused: {name} in it is a link, not a file.")
                    if name and (content := tar.extractfile(member)):
                        yield name, content.read()
                while plain.read(1 << 20):
                    pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as why:
            raise ValueError(f"{path.name} is damaged or no .tgz archive ({why}). Download it again.") from why


def _expected(name: str, path: Path) -> str | None:
    """The name from train/ or val/ on, "noisy_imagewoof.csv", or None for anything that is not looked at."""
    if name.rsplit("/", 1)[-1] == NOISY:
        return NOISY
    match = IMAGE.fullmatch(name)
    if match and match["synset"] not in BREEDS:
        raise ValueError(f"{path.name} is not Imagewoof: its class {match['synset']} is none of the ten breeds.")
    return match["file"] if match else None


class _Capped(gzip.GzipFile):
    """Reads up to MOST_BYTES."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        if self.count > MOST_BYTES:
            raise ValueError("The archive unpacks to far more than Imagewoof holds, so it is refused.")
        return data
