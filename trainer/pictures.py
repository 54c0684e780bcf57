"""Pictures: the points of a snapshot under one projection, computed once and kept for every viewer.

A picture's name says all that decides it: "pca-3", "tsne-2", "tsne-2-perplexity=50". PCA is drawn by the
worker that trains, with each snapshot; t-SNE and UMAP by the projectors, when somebody looks, and so is
"pca-8", of which the grand tour makes linear views. Pictures show the first `probe` validation images, which are
the same at every step of a run; "pca-2.known" has training images on the axes of "pca-2", of those moments at
which some were embedded.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from faces.datasets.base import Progress, Progressed, silent
from faces.evaluation import angles, knn_inside, trustworthiness
from faces.home import home
from faces.knobs import Value, settle
from faces.projections import PROJECTIONS, carried, pca
from trainer.folder import Points, RunFolder
from trainer.snapshot import Snapshot
from trainer.telling import teller

AT_ONCE = ("pca-2", "pca-3")  # cheap: a few milliseconds
TOUR = "pca-8"
KNOWN, TRAINED = ".known", 1000  # end of the name of a picture of training images, and how many it shows
JUDGED = 1000  # points of a picture that its quality is measured on; all pairs are compared


class ShownFacts(NamedTuple):
    """What is known of each image of a picture. Angles and losses are nan where there is no center or no logit."""

    rows: Int[ndarray, " N"]  # places in the dataset
    predictions: Int[ndarray, " N"]  # -1 for none
    angles: Float[ndarray, " N"]  # to the nearest center of the own class, radians
    losses: Float[ndarray, " N"]  # cross-entropy of the inference logits


def shown_facts(snapshot: Snapshot, probe: int) -> ShownFacts:
    """The facts of the images that a picture of this snapshot shows."""
    embeddings, labels = snapshot.embeddings[:probe], snapshot.labels[:probe]
    none = np.full(len(labels), np.nan, np.float32)
    own = np.isin(labels, snapshot.center_labels)
    to_own = none.copy()
    if own.any():
        to_own[own] = angles(embeddings[own], labels[own], snapshot.centers, snapshot.center_labels)[0]
    losses = snapshot.losses[:probe] if len(snapshot.losses) else none
    return ShownFacts(snapshot.rows[:probe], snapshot.predictions[:probe], to_own, losses)


def picture_name(projection: str, axes: int, **knobs: Value) -> str:
    """The name of a picture; knobs at their default are left out."""
    default = settle(PROJECTIONS[projection].knobs, {}, 2)
    told = [f"{name}={value:g}" for name, value in sorted(knobs.items()) if value != default[name]]
    return "-".join([projection, str(axes), *told])


def picture(name: str) -> tuple[str, int, dict[str, Value]]:
    """Projection, axes and knobs of a picture's name; ValueError when it is none."""
    projection, _, rest = name.partition("-")
    axes, *told = rest.split("-", 1)
    if projection not in PROJECTIONS or (axes not in ("2", "3") and name != TOUR):
        raise ValueError(f"{name[:40]!r} is no picture. Pictures: {', '.join(f'{p}-2, {p}-3' for p in PROJECTIONS)}.")
    known = PROJECTIONS[projection].knobs
    given = dict(pair.split("=") for pair in told[0].split("-")) if told else {}
    values = {knob: float(value) for knob, value in given.items()}
    return projection, int(axes), settle(known, values, 2)


def draw(
    folder: RunFolder,
    snapshot: Snapshot,
    name: str,
    progress: Progress = silent,
    start: Float[ndarray, "_ axes"] | None = None,
) -> None:
    """Compute a picture of a snapshot and keep it; it starts from `start`, else from the run's picture before."""
    projection, axes, knobs = picture(name)
    embeddings = snapshot.embeddings[: folder.config.probe]
    if start is None and (before := folder.earlier_points(name, snapshot.step)):
        start = before.points
    labels, center_labels = snapshot.labels[: len(embeddings)], snapshot.center_labels
    known, none = snapshot.known[:TRAINED], np.empty(0, np.float32)
    spread, cones = embeddings.var(0).sum(keepdims=True), none
    if projection == "pca" and embeddings.shape[1] == axes:  # on the circle or the sphere: drawn as they are
        points, centers, cones = embeddings, snapshot.centers, snapshot.cones
    elif projection == "pca":
        points = (
            components(embeddings, axes, start) if name == TOUR else PROJECTIONS["pca"].points(embeddings, axes, start)
        )
        others = carried(np.concatenate([snapshot.centers, known]), embeddings, points)
        centers, known = np.split(others, [len(snapshot.centers)])
    else:  # only a linear picture has a place for vectors that were not laid out
        points = PROJECTIONS[projection].points(embeddings, axes, start, progress, **knobs)
        centers, center_labels = np.empty((0, axes), np.float32), center_labels[:0]
        known, spread = none, none
    quality = none if name == TOUR else measured(embeddings, points, labels)
    if len(known) and name in AT_ONCE:  # there before whoever reads the picture may ask for them
        trained = Points(known, snapshot.known_labels[:TRAINED], centers[:0], center_labels[:0])
        folder.keep_points(name + KNOWN, snapshot.step, trained)
    folder.keep_points(name, snapshot.step, Points(points, labels, centers, center_labels, quality, spread, cones))


def components(
    embeddings: Float[ndarray, "N D"], axes: int, start: Float[ndarray, "before axes"] | None
) -> Float[ndarray, "N axes"]:
    """The leading principal components, largest first, each with the sign that it had in the picture before."""
    points = pca(embeddings, axes)
    if start is not None:
        both = min(len(points), len(start))
        points = points * np.where((points[:both] * start[:both]).sum(0) < 0, -1, 1)
    return points.astype(np.float32)


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
    embeddings: Float[ndarray, "N D"], points: Float[ndarray, "N axes"], labels: Int[ndarray, " N"]
) -> Float[ndarray, " two"]:
    """A picture's trustworthiness and the KNN accuracy inside it (k = 5), on its first `JUDGED` points.

    Empty for ten points or fewer. 500 points took 10 CPU milliseconds here, 1,000 took 40.
    """
    if len(points) <= 10:
        return np.empty(0, np.float32)
    embeddings, points, labels = embeddings[:JUDGED], points[:JUDGED], labels[:JUDGED]
    return np.array([trustworthiness(embeddings, points), knn_inside(points, labels)], np.float32)


def project(projection: str) -> None:
    """Serve one projection: a JSON line in for each picture, a JSON line out when it is there or has failed.

    Ends with its input, so that it never outlives the supervisor.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    warming = warming_file(projection)
    warm(projection, teller(warming))
    warming.unlink(missing_ok=True)
    for line in sys.stdin:
        job = json.loads(line)
        folder = RunFolder(Path(job["folder"]))
        told = folder.progress_file(job["name"], job["step"])
        try:
            draw(folder, Snapshot.read(job["file"]), job["name"], teller(told))
            job["reason"] = ""
        except Exception as error:
            traceback.print_exc()
            job["reason"] = (
                f"{PROJECTIONS[projection].title} failed: {str(error).splitlines()[0] if str(error) else error!r}"
            )
        told.unlink(missing_ok=True)
        print(json.dumps(job), file=replies, flush=True)


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
