"""Downloads end with the published file or with a clear sentence, whatever the server does."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faces.datasets.base import Progressed
from faces.datasets.fetching import MIB, Published, fetch
from faces.datasets.imagewoof import ARCHIVES, BREEDS, Imagewoof

CONTENT = np.random.RandomState(0).bytes(3 * MIB)


@pytest.fixture
def server(monkeypatch):
    """A server on this machine with the manners that a test gives it; `asked` holds the headers of each request."""
    monkeypatch.setenv("no_proxy", "*")
    state: Any = SimpleNamespace(content=CONTENT, cut=[], ranges=True, etag='"one"', status=None, shift=0, asked=[])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(dict(self.headers))
            if state.status:
                return self.send_error(state.status)
            wish = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = 0
            if wish and state.ranges and self.headers.get("If-Range") in (None, state.etag):
                start = int(wish[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start + state.shift}-{len(state.content) - 1}/*")
            else:
                self.send_response(200)
            if state.etag:
                self.send_header("ETag", state.etag)
            body = state.content[start:] if not start else state.content[start + state.shift :] + bytes(state.shift)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # the client may leave first
                self.wfile.write(body[: state.cut.pop(0)] if state.cut else body)
            self.close_connection = True

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{listening.server_port}/file.tgz"
        state.file = published(state.url, CONTENT)
        yield state
        listening.shutdown()


def published(url, content):
    first = hashlib.md5(content[:MIB]).hexdigest()
    return Published(url, len(content), hashlib.md5(content).hexdigest(), first)


def test_a_file_arrives_whole_and_alone(server, tmp_path):
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.tgz"]


def test_a_file_that_is_here_is_not_asked_for_again(server, tmp_path):
    fetch(server.file, tmp_path)
    fetch(server.file, tmp_path)
    assert len(server.asked) == 1


def test_a_file_that_is_here_and_damaged_is_fetched_again(server, tmp_path):
    fetch(server.file, tmp_path).write_bytes(CONTENT[:-1] + b"?")
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT


def test_progress_reaches_the_end_and_never_passes_it(server, tmp_path):
    told: list[Progressed] = []
    fetch(server.file, tmp_path, told.append)
    done = [step.done for step in told]
    assert done == sorted(done)
    assert done[-1] == told[-1].total == len(CONTENT)
    assert {(step.unit, step.total) for step in told} == {("bytes", len(CONTENT))}


def test_a_cut_connection_is_continued_at_once(server, tmp_path):
    server.cut = [2 * MIB, MIB // 2]
    assert fetch(server.file, tmp_path, wait=0).read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [None, f"bytes={2 * MIB}-", f"bytes={5 * MIB // 2}-"]
    assert server.asked[1]["If-Range"] == '"one"'


def test_a_later_download_goes_on_where_the_last_one_stopped(server, tmp_path):
    server.cut = [MIB]
    with pytest.raises(ConnectionError, match=r"stopped at 1\.0 of 3\.1 MB: the connection was cut\. What arrived is"):
        fetch(server.file, tmp_path, attempts=1)
    assert not (tmp_path / "file.tgz").exists()
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT
    assert server.asked[1]["Range"] == f"bytes={MIB}-"


def test_a_person_may_stop_a_download_and_go_on_later(server, tmp_path):
    def stop(progressed):
        if progressed.done > MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.file, tmp_path, stop)
    told: list[Progressed] = []
    assert fetch(server.file, tmp_path, told.append).read_bytes() == CONTENT
    assert told[0].done > MIB


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.cut, server.ranges = [MIB], False
    assert fetch(server.file, tmp_path, wait=0).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_without_etags_is_continued_by_size(server, tmp_path):
    server.cut, server.etag = [MIB], None
    assert fetch(server.file, tmp_path, wait=0).read_bytes() == CONTENT
    assert "If-Range" not in server.asked[1]


def test_a_file_that_changed_meanwhile_starts_over(server, tmp_path):
    server.content, server.cut = bytes(len(CONTENT)), [MIB]
    with pytest.raises(ConnectionError):
        fetch(server.file, tmp_path, attempts=1)
    server.content, server.etag = CONTENT, '"two"'
    assert fetch(server.file, tmp_path, wait=0).read_bytes() == CONTENT


def test_a_range_that_was_not_asked_for_is_not_used(server, tmp_path):
    server.cut, server.shift = [MIB], 7
    assert fetch(server.file, tmp_path, wait=0).read_bytes() == CONTENT


def test_too_much_from_an_earlier_time_starts_over(server, tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(CONTENT + b"more")
    assert fetch(server.file, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("place", [5, 2 * MIB])
def test_wrong_bytes_are_refused_and_thrown_away(server, tmp_path, place):
    server.content = CONTENT[:place] + bytes([CONTENT[place] ^ 1]) + CONTENT[place + 1 :]
    with pytest.raises(ValueError, match=r"file\.tgz is not the published file \(its .*checksum.*\), so it was thrown"):
        fetch(server.file, tmp_path)
    assert not list(tmp_path.glob("*.tgz*.part")) + list(tmp_path.glob("*.tgz"))


def test_another_length_is_refused_before_anything_is_fetched(server, tmp_path):
    server.content = CONTENT + b"more"
    told: list[Progressed] = []
    with pytest.raises(ValueError, match=r"offers file\.tgz with 3,145,732 bytes; the published file has 3,145,728"):
        fetch(server.file, tmp_path, told.append)
    assert not told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (503, 3), (416, 3)])
def test_a_server_that_refuses_is_quoted_and_asked_again_only_where_that_may_help(server, tmp_path, status, requests):
    server.status = status
    with pytest.raises(ConnectionError, match=f"stopped at 0.0 of 3.1 MB: the server answered {status}"):
        fetch(server.file, tmp_path, attempts=3, wait=0)
    assert len(server.asked) == requests


def test_an_unreachable_server_is_one_sentence(server, tmp_path):
    nobody = replace(server.file, url="http://127.0.0.1:9/file.tgz")
    with pytest.raises(ConnectionError, match=r"stopped at 0\.0 of 3\.1 MB: .*refused"):
        fetch(nobody, tmp_path, attempts=1)


# Imagewoof


def test_the_published_archives_are_fully_described():
    for archive in ARCHIVES.values():
        assert re.fullmatch(r"https://s3\.amazonaws\.com/fast-ai-imageclas/imagewoof2(-\d+)?\.tgz", archive.url)
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
        assert re.fullmatch("[0-9a-f]{32}", archive.md5_of_first_mib)
        assert archive.bytes > 90_000_000


def test_imagewoof_is_downloaded_in_one_call_and_keeps_no_second_copy(server, tmp_path, monkeypatch):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for synset in BREEDS:
            for number, split in enumerate(("train", "train", "val")):
                picture = io.BytesIO()
                Image.new("RGB", (40, 30), (number * 40, 20, 20)).save(picture, "JPEG")
                member = tarfile.TarInfo(f"imagewoof2-160/{split}/{synset}/{synset}_{number}.JPEG")
                member.size = picture.tell()
                picture.seek(0)
                tar.addfile(member, picture)
    server.content, server.cut = archive.getvalue(), [1000]
    monkeypatch.setenv("FACES_HOME", str(tmp_path))
    monkeypatch.setitem(ARCHIVES, "160 px", published(server.url, server.content))
    monkeypatch.setattr("faces.datasets.fetching.time.sleep", lambda _: None)
    woof, told = Imagewoof(), list[Progressed]()
    woof.download(progress=told.append)
    assert woof.counts == (20, 10)
    assert {step.doing.split()[0] for step in told} == {"Downloading", "Reading"}
    woof.prepare(32)
    assert woof.load(32).pixels.shape == (30, 32, 32, 3)
    assert not list(tmp_path.rglob("*.tgz*"))


def test_an_unknown_archive_is_refused_with_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"Unknown archive '64 px'\. There are: 160 px, 320 px, full size"):
        Imagewoof().download("64 px")
