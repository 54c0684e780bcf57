"""One image looked at closely: its neighbours are those of a search over all, and the server says them in JSON."""

import asyncio
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.applications import Starlette

from faces.datasets import find
from pages.components import blocks, shown
from trainer import RunConfig
from trainer.inspection import Inspected, K, inspected
from trainer.snapshot import Snapshot
from trainer.store import Store

RUN = "01J00000000000000000000000"


def some(N, dim=8, classes=3, seed=0, **arrays):
    """A snapshot of N random images at rows 100, 103, ..., with a center for each class."""
    chance = np.random.default_rng(seed)
    unit = lambda rows: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)  # noqa: E731
    labels, nothing = chance.integers(0, classes, N), np.empty(0, np.float32)
    given = {
        "embeddings": unit(chance.normal(size=(N, dim))), "labels": labels, "rows": 100 + 3 * np.arange(N),
        "predictions": labels, "centers": unit(chance.normal(size=(classes, dim))),
        "center_labels": np.arange(classes), "known": np.empty((0, dim), np.float32),
        "known_labels": np.empty(0, np.int64), "variance": nothing, "knn": np.empty((0, 2), np.float32),
    }  # fmt: skip
    return Snapshot(5, 10, 1.0, 1.0, {}, {}, **given | arrays)


@given(st.integers(1, 60), st.integers(2, 16), st.integers(0, 10**6), st.data())
def test_neighbours_are_those_that_a_search_over_all_finds(N, dim, seed, data):
    snapshot, at = some(N, dim, seed=seed), data.draw(st.integers(0, N - 1))
    probe = data.draw(st.integers(at + 1, N + 5))
    found = inspected(snapshot, probe, 100 + 3 * at)
    shown = snapshot.embeddings[:probe].astype(np.float64)
    angles = np.arccos(np.clip(shown @ shown[at], -1, 1))
    others = [other for other in np.argsort(angles, kind="stable") if other != at][:K]
    assert found.places.tolist() == others
    assert found.rows.tolist() == [100 + 3 * other for other in others]
    assert found.labels.tolist() == snapshot.labels[others].tolist()
    np.testing.assert_allclose(found.angles, angles[others], atol=1e-3)
    assert found.among == min(N, probe)


@given(st.integers(2, 40))
def test_an_image_is_no_neighbour_of_itself_even_among_copies(copies):
    snapshot = some(copies, embeddings=np.tile(np.eye(1, 8, dtype=np.float32), (copies, 1)))
    for at in range(copies):
        found = inspected(snapshot, copies, 100 + 3 * at)
        assert at not in found.places
        assert len(set(found.places)) == min(K, copies - 1)
        assert not found.angles.any()


def test_angles_to_centers_by_hand():
    """An image at 30 degrees, of class 0 with centers at 0 and 90; class 1 lies at 100, class 2 at 320."""
    at = lambda *degrees: np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], 1).astype("f4")  # noqa: E731
    snapshot = some(
        3, embeddings=at(30, 200, 75), labels=np.array([0, 1, 2]), predictions=np.array([2, 1, 2]),
        centers=at(0, 90, 100, 320), center_labels=np.array([0, 0, 1, 2]), losses=np.array([0.5, 1, 2], np.float32),
    )  # fmt: skip
    found = inspected(snapshot, 3, 100)
    assert (found.label, found.prediction, found.other_label, found.loss, found.among) == (0, 2, 1, 0.5, 3)
    assert np.rad2deg([found.own, found.other]) == pytest.approx([30, 70], abs=1e-4)
    assert (found.places.tolist(), found.labels.tolist()) == ([2, 1], [2, 1])
    assert np.rad2deg(found.angles) == pytest.approx([45, 170], abs=1e-4)


def test_what_a_head_does_not_have_is_not_made_up():
    empty = {"centers": np.empty((0, 8), np.float32), "center_labels": np.empty(0, np.int64)}
    found = inspected(some(5, predictions=np.full(5, -1), **empty), 5, 100)
    assert (found.prediction, found.other_label) == (-1, -1)
    assert np.isnan([found.own, found.other, found.loss]).all()
    told = blocks.inspected_json(found)
    assert [told[field] for field in ("prediction", "own", "other", "other_label", "loss")] == [None] * 5
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("row", [0, 101, 100 + 3 * 5, -1])
def test_an_image_that_the_picture_does_not_show_is_not_inspected(row):
    assert inspected(some(9), 5, row) is None


def get(path, **loaders):
    """(status, headers, body) of a GET, without a server."""
    said = []

    async def send(message):
        said.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "http_version": "1.1"}
    asyncio.run(Starlette(routes=blocks.routes(lambda run, step, name: None, **loaders))(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], headers, b"".join(part.get("body", b"") for part in said[1:])


def test_an_inspection_is_served_once_and_kept_for_good():
    snapshot = some(20)
    look = lambda run, step, row: inspected(snapshot, 20, row) if (run, step) == (RUN, 40) else None  # noqa: E731
    status, headers, body = get(blocks.inspected_address(RUN, 40, 103), load_inspected=look)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert "immutable" in headers["cache-control"]
    told, found = json.loads(body), inspected(snapshot, 20, 103)
    assert list(told) == list(Inspected._fields)
    assert (told["label"], told["rows"]) == (found.label, found.rows.tolist())
    assert told["angles"] == pytest.approx(found.angles, abs=1e-5)
    missing = get(blocks.inspected_address(RUN, 40, 104), load_inspected=look)
    assert (missing[0], missing[2]) == (404, b"This image is not among those of this moment.")
    assert "immutable" not in missing[1].get("cache-control", "")


@pytest.mark.parametrize(
    "path",
    [
        f"/faces/inspected/{RUN}x/1/1.json",
        f"/faces/inspected/{RUN[:-1]}/1/1.json",
        f"/faces/inspected/{RUN}/-1/1.json",
        f"/faces/inspected/{RUN}/1/-1.json",
        f"/faces/inspected/{RUN}/1/1.5.json",
        f"/faces/inspected/{RUN}/1/*.json",
        f"/faces/inspected/{RUN}/1/{'9' * 5000}.json",
        f"/faces/inspected/{RUN}/{'9' * 16}/1.json",
        "/faces/inspected/../1/1.json",
        f"/faces/images/{RUN}/1/-/at/-1.webp",
        f"/faces/images/{RUN}/1/XY/at/1.webp",
        f"/faces/images/{RUN}x/1/-/at/1.webp",
    ],
)
def test_no_other_name_reaches_the_store(path):
    def load(*given):
        raise AssertionError(f"{given} reached the store")

    assert get(path, load_inspected=load, load_image=load)[0] == 404


@given(st.text(max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_whatever_is_asked_only_well_formed_names_reach_the_store(run, step, row):
    def load(run, step, row):
        assert blocks.ULID.fullmatch(run)
        assert 0 <= step < 10**15 > row >= 0

    assert get(f"/faces/inspected/{run}/{step}/{row}.json", load_inspected=load)[0] == 404


def test_a_kept_run_answers_as_its_snapshot_does_and_shows_its_images(faces_home):
    store = Store()
    name, last = store.submit(RunConfig(dataset="digits", probe=100)), some(150)
    store.claim()
    store.folder(name).keep(1, last)
    store.index(name, 1)
    dataset = find("digits")
    store.folder(name).begin(dataset.print, dataset.class_names)
    row = int(last.rows[7])
    for _ in range(2):  # read, then remembered
        found = shown.load_inspected(name, last.step, row)
        assert found.rows.tolist() == inspected(last, 100, row).rows.tolist()
        assert found.among == 100
    assert shown.load_inspected(name, last.step + 1, row) is None
    assert shown.load_inspected(RUN, last.step, row) is None
    assert shown.load_inspected(name, last.step, int(last.rows[100])) is None
    image = Image.open(io.BytesIO(shown.load_image(name, last.step, dataset.print or "-", 7)))
    assert np.array_equal(np.asarray(image)[:, :, :1], dataset.load(8).pixels[row])
    assert shown.load_image(name, last.step, "abc", 7) is None
    assert shown.load_image(name, last.step, dataset.print or "-", 100) is None
