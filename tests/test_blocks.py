"""Blocks of points: the bytes between server and picture."""

import asyncio

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from pages.components import blocks
from trainer.folder import Points
from trainer.pictures import with_shuffled_labels

RUN = "01J00000000000000000000000"


def some(N=300, M=10, axes=3):
    chance = np.random.default_rng(0)
    return Points(
        chance.normal(size=(N, axes)).astype(np.float32),
        chance.integers(0, 10, N),
        chance.normal(size=(M, axes)).astype(np.float32),
        np.arange(M),
    )


NONE = np.zeros((0, 2), np.float32), np.zeros(0, int)  # no centers


def encoded(given):
    return blocks.points_block(given)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("M", [0, 10])
def test_what_goes_into_a_block_comes_out(axes, M):
    given = some(M=M, axes=axes)
    back = blocks.read_block(encoded(given))
    step = np.abs(np.concatenate([given.points, given.centers])).max() / 32767
    np.testing.assert_allclose(back.points, given.points, atol=0.51 * step)
    np.testing.assert_allclose(back.centers, given.centers, atol=0.51 * step)
    np.testing.assert_array_equal(back.labels, given.labels)
    np.testing.assert_array_equal(back.center_labels, given.center_labels)


def test_a_block_has_the_documented_layout():
    block = blocks.points_block(Points(np.array([[0.5, -1], [1, 0]], np.float32), np.array([3, 700]), *NONE))
    head = b"FV04" + np.array([2, 0, 2, 0], "<u4").tobytes() + np.array([1], "<f4").tobytes()
    places = np.array([16384, -32767, 32767, 0], "<i2").tobytes() + np.array([3, 700], "<u2").tobytes()
    assert block == head + places + np.full(5, np.nan, "<f4").tobytes()


def test_a_block_keeps_what_was_measured_and_only_that():
    given = some(M=2, axes=2)._replace(quality=np.array([0.9, 0.8, 0.85, 0.5], "f4"), spread=np.array([2], "f4"))
    back = blocks.read_block(blocks.points_block(given))
    assert back.quality.tolist() == given.quality.tolist()
    assert (back.spread.tolist(), back.cones.tolist()) == ([2], [])
    back = blocks.read_block(blocks.points_block(given._replace(cones=np.array([0.5, 0], "f4"))))
    assert back.cones.tolist() == [0.5, 0]


def test_points_on_their_way_are_waited_for_and_impossible_ones_say_why():
    path = f"/faces/points/{RUN}/3/pca-8.bin"
    assert get(path, lambda run, step, name: "")[0] == 202
    status, _, body = get(path, lambda run, step, name: "PCA failed: no numbers")
    assert (status, body) == (404, b"PCA failed: no numbers")


def test_a_picture_of_imagewoof_takes_32_kilobytes():
    assert len(encoded(some(3929))) == 24 + (3929 + 10) * 8 + 4 * 15 < 32_000


def test_all_points_in_one_place_can_be_drawn():
    with np.errstate(all="raise"):
        block = blocks.points_block(Points(np.zeros((4, 2), np.float32), np.zeros(4, int), *NONE))
    assert not blocks.read_block(block).points.any()


@pytest.mark.parametrize(
    ("points", "labels", "said"),
    [
        (np.zeros((3, 17)), np.zeros(3, int), "17"),
        (np.zeros((3, 2)), np.zeros(2, int), "3 points"),
        (np.zeros((3, 2)), np.array([0, 1, 2048]), "2047"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(points, labels, said):
    with pytest.raises(ValueError, match=said):
        blocks.points_block(Points(points.astype(np.float32), labels, points[:0], labels[:0]))


@pytest.mark.parametrize("spoilt", [b"", b"FV04" + bytes(40), encoded(some())[:-1]])
def test_other_bytes_are_not_read_as_points(spoilt):
    with pytest.raises(ValueError, match="block of"):
        blocks.read_block(spoilt)


def get(path, load_points=lambda run, step, name: None, app=None, headers=()):
    """(status, headers, body) of a GET, without a server."""
    said = []

    async def send(message):
        said.append(message)

    async def receive():
        return {"type": "http.request"}

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": list(headers),
        "http_version": "1.1",
    }
    asyncio.run((app or Starlette(routes=blocks.routes(load_points)))(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], headers, b"".join(part.get("body", b"") for part in said[1:])


def test_points_are_served_once_and_kept_for_good():
    asked = []

    def load_points(run, step, name):
        asked.append((run, step, name))
        return some()

    status, headers, body = get(blocks.address(RUN, 40, "pca-3"), load_points)
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert "immutable" in headers["cache-control"]
    assert body == encoded(some())
    assert asked == [(RUN, 40, "pca-3")]


def test_what_never_changes_is_loaded_once_for_all_viewers_as_far_as_memory_goes():
    loaded = []

    def answer(request):
        loaded.append(request.url.path)
        forever = blocks.FOREVER if "final" in request.url.path else {"Cache-Control": "no-store"}
        return Response(bytes(blocks.MEMORY // 2), headers=forever)

    remembered = blocks.remembering(answer)
    for path in (
        "/final/1",
        "/final/1",
        "/refining",
        "/refining",
        "/final/2",
        "/final/1",
        "/final/3",
        "/final/1",
        "/final/2",
    ):
        remembered(Request({"type": "http", "path": path, "query_string": b"", "headers": [], "server": ("here", 80)}))
    assert loaded == ["/final/1", "/refining", "/refining", "/final/2", "/final/3", "/final/2"]


def test_what_was_sent_packed_can_be_sent_again_whole():
    app = Starlette(routes=blocks.routes(lambda run, step, name: some(3000)), middleware=[Middleware(GZipMiddleware)])
    path = f"/faces/points/{RUN}/3/pca-3.bin"
    packed = [b"accept-encoding", b"gzip"]
    sent = [get(path, app=app, headers=headers) for headers in ([packed], [], [packed], [])]
    assert [len(body) == int(headers["content-length"]) for _, headers, body in sent] == [True] * 4
    assert [headers.get("content-encoding") for _, headers, _ in sent] == ["gzip", None] * 2
    assert sent[1][2] == encoded(some(3000))


def test_a_picture_that_is_still_refined_is_kept_nowhere_and_has_an_address_for_each_look():
    going = some()._replace(refining=np.array([85, 500, 1.5], np.float32))
    status, headers, body = get(blocks.address(RUN, 40, "tsne-2", look=85), lambda *_: going)
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert body == encoded(some())
    addresses = {blocks.address(RUN, "*", "tsne-2", look) for look in (0, 60, 85)}
    assert len(addresses) == 3
    assert blocks.address(RUN, "*", "tsne-2") in addresses  # the finished one


def test_shuffled_labels_come_from_an_address_of_their_own():
    status, _, body = get(blocks.address(RUN, 40, "pca-3", shuffled=True), lambda *_: some())
    assert status == 200
    assert body == encoded(with_shuffled_labels(some()))
    assert body != encoded(some())


def test_points_that_are_missing_are_missing_in_one_sentence():
    status, headers, body = get(blocks.address(RUN, 40, "pca-3"))
    assert (status, body) == (404, b"There are no points pca-3 of step 40.")
    assert "immutable" not in headers.get("cache-control", "")


@pytest.mark.parametrize(
    "path",
    [
        f"/faces/points/{RUN}x/1/pca.bin",
        f"/faces/points/{RUN[:-1]}/1/pca.bin",
        f"/faces/points/{RUN}\n/1/pca.bin",
        f"/faces/points/{RUN}/1/..%2f.bin",
        f"/faces/points/{RUN}/1/PCA.bin",
        f"/faces/points/{RUN}/-1/pca.bin",
        "/faces/points/../1/pca.bin",
        f"/faces/{blocks.VERSION}/../../pyproject.toml",
        f"/faces/{blocks.VERSION}/faceview.py",
    ],
)
def test_no_other_name_reaches_the_store_or_a_file(path):
    def load_points(run, step, name):
        raise AssertionError(f"{run!r} {step!r} {name!r} reached the store")

    assert get(path, load_points)[0] == 404


def test_the_script_is_kept_only_under_its_own_version():
    status, headers, body = get(blocks.SCRIPT)
    assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert b"export default function" in body
    assert "immutable" in headers["cache-control"]
    assert get("/faces/older/faceview.js")[1]["cache-control"] == "no-cache"


def test_every_module_the_script_imports_is_served():
    imported = [
        line.split('"./')[1].split('"')[0]
        for line in blocks.SCRIPTS["faceview.js"].decode().splitlines()
        if 'from "./' in line
    ]
    assert len(imported) >= 3
    for file in imported:
        assert get(f"/faces/{blocks.VERSION}/{file}")[0] == 200
