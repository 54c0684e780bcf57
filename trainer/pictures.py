"""Pictures: the points of a snapshot under one projection, computed once and kept for every viewer.

A picture's name says all that decides it: "pca-3", "tsne-2", "tsne-2-perplexity=50", "pca-2-basis=240" on the axes
of step 240. PCA is drawn by the worker that trains, with each snapshot; all others by the projectors, when
somebody looks, and so is "pca-8", of which the grand tour makes linear views. A large t-SNE is shown early and then
refined, until it is done or a newer moment is wanted. Pictures show the first `probe` validation images, which are
the same at every step of a run; "pca-2.known" has training images on the axes of "pca-2", of those moments at
which some were embedded.
"""

import contextlib
import hashlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from faces.datasets.base import Progress, Progressed, silent
from faces.evaluation import Near, angles, knn_among, knn_inside, nearest, neighbours, trustworthiness
from faces.files import Pace, lock, matching, place, read, remove, watch, write
from faces.home import home
from faces.knobs import Choice, Knob, Value, settle
from faces.projections import PROJECTIONS, carried, pca
from faces.seals import UNSEALED, DamagedError, sealed, whole
from trainer.folder import Points, RunFolder
from trainer.snapshot import Snapshot
from trainer.telling import teller

AT_ONCE = ("pca-2", "pca-3")  # cheap: a few milliseconds
TOUR = "pca-8"
KNOWN, TRAINED = ".known", 1000  # end of the name of a picture of training images, and how many it shows
JUDGED = 1000  # points of a picture that its quality is measured on; all pairs are compared
GRAPH = 91  # neighbours of each image that are kept, itself among them: what t-SNE's usual perplexity asks for
BASIS = Knob(0, 0, 2**31, "step whose axes a PCA shows; 0: its own, turned to lie as the moment before")
OFTEN = 0.4  # seconds between two looks at a picture that is being refined, and before the first
MOST = 16  # pictures that a projector refines; further ones end as they are


class ShownFacts(NamedTuple):
    """What is known of each image of a picture. Angles and losses are nan where there is no center or no logit."""

    rows: Int[ndarray, " N"]  # places in the dataset
    predictions: Int[ndarray, " N"]  # -1 for none
    angles: Float[ndarray, " N"]  # to the nearest center of the own class, radians
    losses: Float[ndarray, " N"]  # cross-entropy of the inference logits
    lengths: Float[ndarray, " N"] = np.empty(0, np.float32)  # of the features; empty where nobody measured them


def shown_facts(snapshot: Snapshot, probe: int) -> ShownFacts:
    """The facts of the images that a picture of this snapshot shows."""
    embeddings, labels = snapshot.embeddings[:probe], snapshot.labels[:probe]
    none = np.full(len(labels), np.nan, np.float32)
    own = np.isin(labels, snapshot.center_labels)
    to_own = none.copy()
    if own.any():
        to_own[own] = angles(embeddings[own], labels[own], snapshot.centers, snapshot.center_labels)[0]
    losses = snapshot.losses[:probe] if len(snapshot.losses) else none
    return ShownFacts(snapshot.rows[:probe], snapshot.predictions[:probe], to_own, losses, snapshot.lengths[:probe])


def known_knobs(projection: str) -> dict[str, Knob | Choice]:
    """The knobs that a picture's name may tell."""
    return {**PROJECTIONS[projection].knobs, **({"basis": BASIS} if projection == "pca" else {})}


def picture_name(projection: str, axes: int, **knobs: Value) -> str:
    """The name of a picture; knobs at their default are left out."""
    default = settle(known_knobs(projection), {}, 2)
    told = [f"{name}={value:.12g}" for name, value in sorted(knobs.items()) if value != default[name]]
    return "-".join([projection, str(axes), *told])


def picture(name: str) -> tuple[str, int, dict[str, Value]]:
    """Projection, axes and knobs of a picture's name; ValueError when it is none."""
    projection, _, rest = name.partition("-")
    axes, *told = rest.split("-", 1)
    if projection not in PROJECTIONS or (axes not in ("2", "3") and name != TOUR):
        raise ValueError(f"{name[:40]!r} is no picture. Pictures: {', '.join(f'{p}-2, {p}-3' for p in PROJECTIONS)}.")
    given = dict(pair.split("=") for pair in told[0].split("-")) if told else {}
    values = {knob: float(value) for knob, value in given.items()}
    return projection, int(axes), settle(known_knobs(projection), values, 2)


def draw(
    folder: RunFolder,
    snapshot: Snapshot,
    name: str,
    progress: Progress = silent,
    start: Float[ndarray, "_ axes"] | None = None,
) -> None:
    """Compute a picture of a snapshot and keep it; it starts from `start`, else from the run's picture before."""
    if basis := picture(name)[2].get("basis"):
        draw_on_axes_of(folder, int(basis), name, progress)
    else:
        *_, points = stages(folder, snapshot, name, progress, start)
        keep(folder, snapshot, name, points)


def stages(
    folder: RunFolder,
    snapshot: Snapshot,
    name: str,
    progress: Progress = silent,
    start: Float[ndarray, "_ axes"] | None = None,
) -> Iterator[Points]:
    """A picture as it comes to be, the finished one last, without its quality."""
    projection, axes, knobs = picture(name)
    embeddings = snapshot.embeddings[: folder.config.probe]
    labels = snapshot.labels[: len(embeddings)]
    last = max((drawn for drawn in folder.drawn(name) if drawn <= snapshot.step), default=None)
    before = folder.points(name, last) if start is None and last is not None else None
    if before:
        start = before.points
    if projection == "pca":
        points = components(embeddings, axes, start)
        centers = placed(snapshot.centers, embeddings, points)
        yield Points(points, labels, centers, snapshot.center_labels)
        return
    if before and last is not None and not len(before.refining) and shown_at(folder, last, embeddings):
        yield before
        return
    none = np.empty((0, axes), np.float32)  # only a linear picture has a place for vectors that were not laid out
    near = kept_neighbours(folder, embeddings)
    for stage in PROJECTIONS[projection].stages(embeddings, axes, start, progress, near, **knobs):
        refining = () if stage.last else (stage.done, stage.total, stage.divergence)
        yield Points(stage.points, labels, none, snapshot.center_labels[:0], refining=np.array(refining, np.float32))


def kept_neighbours(folder: RunFolder, embeddings: Float[ndarray, "N D"]) -> Near:
    """`nearest` among the images of a moment, found once for all its pictures: t-SNE and UMAP are drawn side by side.

    Of a run the newest moment's are kept, and at least `GRAPH` of each image.
    """
    name = hashlib.blake2b(embeddings.tobytes(), digest_size=8).hexdigest()
    file = folder.path / "neighbours" / f"{name}.safetensors"

    def near(k: int) -> tuple[Int[ndarray, "N k"], Float[ndarray, "N k"]]:
        if isinstance(file, Path):
            file.parent.mkdir(exist_ok=True)
        with lock(file.with_name("lock"), home()):
            with contextlib.suppress(OSError, SafetensorError, DamagedError):
                kept = load(whole(read(file), file))
                if kept["rows"].shape[1] >= k:
                    return kept["rows"][:, :k].astype(np.int64), kept["cosines"][:, :k]
            rows, cosines = nearest(embeddings, embeddings, min(max(k, GRAPH), len(embeddings)))
            remove(*matching(file.parent, "*.safetensors"))
            write(file, sealed(save({"rows": rows.astype(np.int32), "cosines": cosines}, UNSEALED)))
        return rows[:, :k], cosines[:, :k]

    return near


def shown_at(folder: RunFolder, step: int, embeddings: Float[ndarray, "N D"]) -> bool:
    """Whether a moment has these embeddings, number for number: then a layout has nothing to add."""
    file = folder.moments().get(step)
    with contextlib.suppress(OSError, DamagedError):
        return file is not None and np.array_equal(Snapshot.read(file).embeddings[: len(embeddings)], embeddings)
    return False


def components(
    embeddings: Float[ndarray, "N D"], axes: int, start: Float[ndarray, "before axes"] | None
) -> Float[ndarray, "N axes"]:
    """The leading principal components, turned to lie as before; of a tour in order, each with its sign of before.

    Embeddings of as many numbers as there are axes lie on the circle or the sphere and are drawn as they are.
    """
    if embeddings.shape[1] == axes:
        return embeddings
    if axes <= 3:
        return PROJECTIONS["pca"].points(embeddings, axes, start)
    points = pca(embeddings, axes)
    if start is not None:
        both = min(len(points), len(start))
        points = points * np.where((points[:both] * start[:both]).sum(0) < 0, -1, 1)
    return points.astype(np.float32)


def placed(
    others: Float[ndarray, "M D"], embeddings: Float[ndarray, "N D"], points: Float[ndarray, "N axes"]
) -> Float[ndarray, "M axes"]:
    """Where other vectors lie in a linear picture of the embeddings."""
    return others if embeddings.shape[1] == points.shape[1] else carried(others, embeddings, points)


def keep(folder: RunFolder, snapshot: Snapshot, name: str, points: Points) -> None:
    """Measure a picture and keep it, with training images on its axes where it has a place for them."""
    embeddings, known = snapshot.embeddings[: len(points.points)], snapshot.known[:TRAINED]
    spread = np.float32("nan")
    if name.startswith("pca-"):
        spread = embeddings.var(0).sum()
        points = points._replace(spread=np.array([spread]))
        if embeddings.shape[1] == points.points.shape[1]:
            points = points._replace(cones=snapshot.cones, arcs=snapshot.arcs)
    if name != TOUR:
        points = points._replace(quality=measured(embeddings, points.points, points.labels, float(spread)))
    if name in AT_ONCE and len(known):  # there before whoever reads the picture may ask for them
        trained = placed(known, embeddings, points.points)
        none = points.centers[:0], points.center_labels[:0]
        folder.keep_points(name + KNOWN, snapshot.step, Points(trained, snapshot.known_labels[:TRAINED], *none))
    folder.keep_points(name, snapshot.step, points)


def draw_on_axes_of(folder: RunFolder, basis: int, name: str, progress: Progress = silent) -> None:
    """Draw every moment of a run by the linear map of one of them, that one last.

    A moment's points are centered on the mean of that one, so that what moves there moves here.
    """
    _, axes, _ = picture(name)
    files = folder.moments()
    base = Snapshot.read(files[basis])
    embeddings = base.embeddings[: folder.config.probe]
    own = folder.points(picture_name("pca", axes), basis)
    laid = own.points if own else components(embeddings, axes, None)
    steps = [step for step in files if step != basis]
    for done, step in enumerate([*steps, basis]):
        progress(Progressed("Drawing all moments on the same axes", done, len(files), "moments"))
        with contextlib.suppress(OSError, DamagedError):  # a damaged moment is not shown
            one = Snapshot.read(files[step])
            points = placed(one.embeddings[: folder.config.probe], embeddings, laid)
            centers = placed(one.centers, embeddings, laid)
            keep(folder, one, name, Points(points, one.labels[: len(points)], centers, one.center_labels))


def draw_past(folder: RunFolder, snapshots: Iterable[Snapshot]) -> None:
    """Draw what is drawn at once of moments that have no picture, given the newest first.

    Each starts from the moment after it, so that all lie as the last picture does.
    """
    for snapshot in snapshots:
        for name in AT_ONCE:
            later = [step for step in folder.drawn(name) if step >= snapshot.step]
            if later[:1] != [snapshot.step]:
                after = folder.points(name, later[0]) if later else None
                draw(folder, snapshot, name, start=after.points if after else None)


def measured(
    embeddings: Float[ndarray, "N D"],
    points: Float[ndarray, "N axes"],
    labels: Int[ndarray, " N"],
    spread: float = np.nan,
) -> Float[ndarray, " five"]:
    """What a picture keeps, on its first `JUDGED` points with k = 5: five numbers.

    Its trustworthiness; the KNN accuracy inside it; that of the same points in all D axes, leaving one out; the
    share of the variance, `spread`, that its axes show, nan where none is given; the KNN accuracy inside it when
    the labels are shuffled, which is what chance gives. Empty for ten points or fewer.
    """
    if len(points) <= 10:
        return np.empty(0, np.float32)
    wrong = shuffled(labels)[:JUDGED]
    share = float(points.var(0).sum()) / spread if spread > 0 else np.nan
    embeddings, points, labels = embeddings[:JUDGED], points[:JUDGED], labels[:JUDGED]
    near = neighbours(points, 5)
    return np.array(
        [
            trustworthiness(embeddings, near), knn_inside(near, labels), knn_among(embeddings, labels), share,
            knn_inside(near, wrong),
        ],
        np.float32,
    )  # fmt: skip


def shuffled(labels: Int[ndarray, " N"]) -> Int[ndarray, " N"]:
    """The same labels, dealt out anew, always in the same way."""
    return np.random.default_rng(0).permutation(labels)


def with_shuffled_labels(points: Points) -> Points:
    """A picture as chance would label it, with what KNN finds in it then; its centers, which have labels, are gone."""
    quality = points.quality
    if len(quality) == 5:
        quality = np.array([quality[0], quality[4], np.nan, quality[3], quality[4]], np.float32)
    return points._replace(
        labels=shuffled(points.labels), centers=points.centers[:0], center_labels=points.center_labels[:0],
        quality=quality if len(quality) == 5 else quality[:0], cones=points.cones[:0], arcs=points.arcs[:0],
    )  # fmt: skip


def project(projection: str) -> None:
    """Serve one projection: a JSON line in for each picture, a JSON line out when it can be seen or has failed.

    While there is nothing to draw, it refines what it has drawn. Ends with its input, so that it never outlives
    the supervisor.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, daemon=True).start()
    warming = warming_file(projection)
    warm(projection, teller(warming))
    warming.unlink(missing_ok=True)
    hand: dict[tuple[str, str], Refining] = {}
    while True:
        able = [one for one in hand.values() if not one.paused]
        try:
            line = lines.get(block=not able, timeout=1.0 if hand else None)
        except queue.Empty:
            if able and not refine(one := min(able, key=lambda one: one.slices)):
                del hand[one.key]
            continue
        if not line:
            return
        job = json.loads(line)
        job["reason"] = serve(projection, job, hand)
        print(json.dumps(job), file=replies, flush=True)


def serve(projection: str, job: dict, hand: "dict[tuple[str, str], Refining]") -> str:
    """Draw a picture so far that it can be seen, and take it in hand if it can be refined. Why it failed, or ""."""
    folder = RunFolder(place(job["folder"]))
    key = (job["folder"], job["name"])
    told = folder.progress_file(job["name"], job["step"])
    try:
        if key in hand and hand[key].snapshot.step == job["step"]:
            return ""
        if key in hand:
            hand.pop(key).end()
        if picture(job["name"])[2].get("basis"):
            draw(folder, Snapshot.read(place(job["file"])), job["name"], teller(told))
            return ""
        one = Refining(key, folder, Snapshot.read(place(job["file"])), teller(told))
        while one.go_on():
            if one.shown:
                hand[key] = one
                break
        if len(hand) > MOST:
            hand.pop(next(iter(hand))).end()
        return ""
    except Exception as error:
        traceback.print_exc()
        said = str(error).splitlines()[0] if str(error) else repr(error)
        return f"{PROJECTIONS[projection].title} failed: {said}"
    finally:
        remove(told)


class Refining:
    """A picture that becomes better slice by slice, and is kept now and then, so that it is seen to move."""

    def __init__(self, key: tuple[str, str], folder: RunFolder, snapshot: Snapshot, progress: Progress):
        self.key, self.folder, self.snapshot = key, folder, snapshot
        self.stages = stages(folder, snapshot, key[1], lambda told: None if self.shown else progress(told))
        self.slices, self.shown, self.since = 0, False, time.monotonic()
        self.points: Points | None = None
        self._paused, self._there = watch(folder.pause_file(key[1])), watch(folder.path)
        self.often = Pace(folder.path, OFTEN).every

    @property
    def paused(self) -> bool:
        return self._paused()

    @property
    def there(self) -> bool:
        """Whether the run has not been deleted meanwhile."""
        return self._there()

    def go_on(self) -> bool:
        """One slice more; False when that was the last."""
        self.points, self.slices = next(self.stages), self.slices + 1
        last = not len(self.points.refining)
        if last or time.monotonic() - self.since > (self.often if self.shown else OFTEN):
            keep(self.folder, self.snapshot, self.key[1], self.points)
            self.shown, self.since = True, time.monotonic()
        return not last

    def end(self) -> None:
        """Let it stay as it is, for good."""
        if self.points and self.folder.there:
            keep(self.folder, self.snapshot, self.key[1], self.points._replace(refining=np.empty(0, np.float32)))


def refine(one: Refining) -> bool:
    """A slice of what nobody waits for; False when it was the last, or when it cannot go on."""
    try:
        return one.there and one.go_on()
    except Exception:
        traceback.print_exc()
        return False


def warming_file(projection: str) -> Path:
    """Where a projector tells how far its start is; there is no such file before and after."""
    return home() / "projectors" / f"{projection}.json"


def warm(projection: str, progress: Progress) -> None:
    """Import and compile what the projection needs, by laying out a little noise."""
    doing = f"Loading and compiling {PROJECTIONS[projection].title}"
    noise = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    for done, axes in enumerate((2, 3)):
        progress(Progressed(doing, done, 2, "parts"))
        PROJECTIONS[projection].points(noise / np.linalg.norm(noise, axis=1, keepdims=True), axes)
