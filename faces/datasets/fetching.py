"""Downloads that survive interruptions and are checked before anyone uses them."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from faces.datasets.base import Progress, Progressed, silent
from faces.files import commit, make

CHUNK = 1 << 18  # bytes
MIB = 1 << 20


@dataclass(frozen=True)
class Published:
    """A file on the web and how to know it."""

    url: str
    bytes: int
    md5: str  # of the whole file
    md5_of_first_mib: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetch(file: Published, folder: Path, progress: Progress = silent, attempts: int = 5, wait: int = 1) -> Path:
    """Download into `folder` and return the path of the checked file; nothing to do when it is there.

    What has arrived is kept as .part (with the server's ETag beside it) and continued, within this
    call (`attempts`, with `wait`, 2 `wait`, ... seconds between) and by later calls. A server that
    ignores the wish to continue, or whose file has changed, makes it start over.

    Raises ConnectionError when the server cannot be reached or keeps breaking off, and ValueError
    when what it offers is not the published file; that is then thrown away.
    """
    final = folder / file.name
    if final.is_file() and _wrong(final, file) is None:
        return final
    make(folder)
    part, etag = folder / f"{file.name}.part", folder / f"{file.name}.etag"
    trouble = ""
    for attempt in range(attempts):
        time.sleep(wait * attempt)
        try:
            _continue(file, part, etag, progress)
            trouble = "the connection was cut"
        except urllib.error.HTTPError as why:
            trouble = f"the server answered {why.code} {why.reason}"
            if why.code == 416:  # nothing left in that range, so what is here cannot be a beginning of it
                part.unlink(missing_ok=True)
            elif 400 <= why.code < 500 and why.code not in (408, 429):
                break  # it means it
        except (OSError, http.client.HTTPException) as why:
            trouble = str(getattr(why, "reason", why)) or type(why).__name__
        if _length(part) == file.bytes:
            break
    if _length(part) < file.bytes:
        arrived = f"{_length(part) / 1e6:.1f} of {file.bytes / 1e6:.1f} MB"
        raise ConnectionError(
            f"The download of {file.name} stopped at {arrived}: {trouble}. "
            "What arrived is kept, so trying again goes on from there."
        )
    if reason := _wrong(part, file):
        part.unlink()
        raise ValueError(f"The download of {file.name} is not the published file ({reason}), so it was thrown away.")
    commit(part, final)
    etag.unlink(missing_ok=True)
    return final


def _continue(file: Published, part: Path, etag: Path, progress: Progress) -> None:
    """One connection: append what is missing to `part`, or start over when the server does not continue."""
    have = _length(part)
    if have == file.bytes:
        return
    if have > file.bytes:  # no beginning of it
        part.unlink()
        have = 0
    request = urllib.request.Request(file.url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        if etag.is_file():
            request.add_header("If-Range", etag.read_text(encoding="utf-8"))
    with urllib.request.urlopen(request, timeout=30) as answer:
        continued = answer.status == 206
        if continued and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()  # it continues elsewhere than asked
            raise OSError("the server sent another part than asked for")
        length = answer.headers.get("Content-Length")
        whole = int(length) + (have if continued else 0) if length else file.bytes
        if whole != file.bytes:
            part.unlink(missing_ok=True)
            raise ValueError(
                f"The server offers {file.name} with {whole:,} bytes; the published file has {file.bytes:,}. "
                "Import an archive that you trust instead."
            )
        if not continued:
            have = 0
            part.unlink(missing_ok=True)
            if answer.headers.get("ETag"):
                etag.write_text(answer.headers["ETag"], encoding="utf-8")
            else:
                etag.unlink(missing_ok=True)
        with part.open("ab") as out:
            while have < file.bytes and (chunk := answer.read(min(CHUNK, file.bytes - have))):
                out.write(chunk)
                have += len(chunk)
                progress(Progressed(f"Downloading {file.name}", have, file.bytes, "bytes"))


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _wrong(path: Path, file: Published) -> str | None:
    """Why this is not the published file, or None when it is."""
    if path.stat().st_size != file.bytes:
        return f"{path.stat().st_size:,} bytes instead of {file.bytes:,}"
    whole = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as content:
        start = content.read(MIB)
        whole.update(start)
        while chunk := content.read(MIB):
            whole.update(chunk)
    if hashlib.md5(start, usedforsecurity=False).hexdigest() != file.md5_of_first_mib:
        return "its first MiB has another checksum"
    return None if whole.hexdigest() == file.md5 else "its checksum differs"
