"""What is brought takes little memory, whatever it claims: measured is the most that its reader ever had."""

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT
from tests.test_own_images import in_folder, pets, png_that_claims
from trainer.memory import at_most

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Only Linux limits and tells the memory of a process.")

GOAL = 200  # MB that a process may have had which read bombs
READER = """
import re, sys
from pathlib import Path
from trainer import brought
from trainer.__main__ import main
from trainer.commands import data
{before}
code = main(["data", *sys.argv[1:]])
print("peak", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """Bring something as the trainer does, in a process of its own; its exit code, words and most megabytes."""
    monkeypatch.setenv("FACES_HOME", str(tmp_path / "home"))

    def run(*words: str | Path, before: str = "") -> tuple[int, str, int]:
        command = [sys.executable, "-c", READER.format(before=before), *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        said, peak = done.stdout + done.stderr, re.search(r"peak (\d+)", done.stdout)
        assert peak, said
        return done.returncode, said, int(peak[1]) // 1024

    return run


def image(form: str, mode: str = "RGB", size: tuple[int, int] = (5000, 5000), **options) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 1 if mode == "P" else "red").save(out, form, **options)
    return out.getvalue()


def with_size(data: bytes, at: int, size: bytes) -> bytes:
    """The same file with other numbers where its size is."""
    return data[:at] + size + data[at + len(size) :]


def claims() -> dict[str, bytes]:
    """Small files that claim to be large images."""
    gif, bmp, jpeg = (image(form, size=(20, 20)) for form in ("GIF", "BMP", "JPEG"))
    webp = image("WEBP", "RGBA", (20, 20), lossless=True)
    return {
        "1.png": png_that_claims(13_000, 13_000),
        "2.png": png_that_claims(60_000, 60_000),
        "3.png": png_that_claims(5000, 5000),  # legal, but it ends at once
        "4.gif": with_size(gif, 6, b"\xe8\xfd" * 2),
        "5.bmp": with_size(bmp, 18, b"\xe8\xfd\0\0" * 2),
        "6.jpg": with_size(jpeg, jpeg.index(b"\xff\xc0") + 5, b"\xfd\xe8" * 2),
        "7.webp": with_size(webp, webp.index(b"VP8L") + 9, b"\xff\xff\xff\x1f"),  # 16,384 x 16,384
        "8.webp": image("WEBP", "RGBA", (4000, 4000), lossless=True, quality=0, method=0),
    }


def film() -> bytes:
    """A small file of a hundred large pictures, of which the first counts."""
    frames = [Image.new("P", (1000, 4000), color) for color in range(100)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def test_images_that_claim_too_much_are_left_out_for_little_memory(reads, tmp_path):
    bombs = {f"cats/{name}": data for name, data in claims().items()}
    code, said, peak = reads("import", "pets", in_folder(tmp_path / "pets", {**pets(), **bombs, "dogs/9.gif": film()}))
    assert code == 0, said
    assert f"Left out: {len(bombs)} files" in said
    assert all(f"{name}: " in said for name in bombs)
    assert peak < GOAL


@pytest.mark.parametrize(
    "legal",
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "LA"), ("GIF", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGBA")],
    ids=" ".join,
)
def test_the_largest_images_come_in(reads, tmp_path, legal):
    form, mode = legal
    options = {"JPEG": {"progressive": True}, "WEBP": {"lossless": True, "quality": 0, "method": 0}}.get(form, {})
    data = image(form, mode, (4000, 3125) if form == "WEBP" else (5000, 5000), **options)
    folder = in_folder(tmp_path / "pets", pets() | {f"cats/large.{form.lower()}": data})
    code, said, peak = reads("import", "pets", folder)
    assert code == 0, said
    assert "Left out" not in said
    assert peak < GOAL + (100 if form in ("WEBP", "JPEG") else 0)


def test_an_image_that_takes_too_much_memory_is_left_out_in_words(reads, tmp_path):
    folder = in_folder(tmp_path / "pets", pets() | {"cats/large.png": image("PNG", "RGBA")})
    code, said, _ = reads("import", "pets", folder, before="data.MOST_MEMORY = 90 << 20")
    assert code == 0, said
    assert "Left out: 1 files.\ncats/large.png: needs more memory than an image may take" in said


def heavy(path: Path, entries: int = 4500, comment: int = 65_000) -> Path:
    """A zip of one picture, listed many times with long comments: a sparse file that takes twice its length to read."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cats/1.png", b"")
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry, last = bytearray(data[start:end]), bytearray(data[end:])
    entry[32:34] = comment.to_bytes(2, "little")
    last[8:12] = entries.to_bytes(2, "little") * 2
    last[12:16] = (entries * (len(entry) + comment)).to_bytes(4, "little")
    with path.open("r+b") as file:
        for at in range(entries):
            file.seek(start + at * (len(entry) + comment))
            file.write(entry)
        file.seek(start + entries * (len(entry) + comment))
        file.write(last)
    return path


def test_a_zip_that_takes_too_much_memory_is_refused_in_a_sentence(reads, tmp_path):
    code, said, peak = reads("import", "pets", heavy(tmp_path / "heavy.zip"))
    assert code == 2
    assert said.endswith("It would take more than 384 MB of memory, so it is refused.\n")
    assert peak < 480
    assert not list((tmp_path / "home" / "data").rglob("*.json"))


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **({"embeddings": np.eye(20), "labels": np.arange(20) % 2} | arrays))
    return path


def long_header(path: Path) -> Path:
    """An array whose header claims to be half a gigabyte long, and is."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("embeddings.npy", "w") as member:
        member.write(b"\x93NUMPY\x02\x00" + (1 << 29).to_bytes(4, "little"))
        for _ in range(1 << 9):
            member.write(b" " * (1 << 20))
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: npz(path, labels=np.full(20, "a" * 2_000_000)), "each of up to 200 letters"),
        (lambda path: npz(path, beside=np.zeros(50_000_000)), "is no list of up to 100,000 words"),
        (lambda path: npz(path, embeddings=np.zeros((100_001, 500))), "60,000,000 numbers|100,000 rows"),
        (long_header, "EOF: reading array header"),
    ],
    ids=["long words", "a long array", "many rows", "a long header"],
)
def test_embeddings_that_unpack_to_too_much_are_refused_for_little_memory(reads, tmp_path, make, said):
    code, words, peak = reads("embeddings", "CLIP", make(tmp_path / "a.npz"))
    assert code == 2
    assert re.search(said, words), words
    assert peak < GOAL


def test_embeddings_that_take_too_much_memory_are_refused_in_a_sentence(reads, tmp_path):
    rows = {"embeddings": np.zeros((20_000, 500)), "labels": np.arange(20_000) % 2}
    file = npz(tmp_path / "a.npz", **rows)
    code, said, peak = reads("embeddings", "CLIP", file, before="brought.MOST_MEMORY = 60 << 20")
    assert code == 2
    assert said.endswith("It would take more than 60 MB of memory, so it is refused.\n")
    assert peak < GOAL


def test_afterwards_there_is_no_limit():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ValueError, match="more than 10 MB"), at_most(10 << 20):
        bytes(100 << 20)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with at_most(400 << 20), pytest.raises(ValueError, match="more than 100 MB"), at_most(100 << 20):
        bytes(200 << 20)
