"""Points, and what is known of images, as compact bytes for a browser: the picture's own format, without a server.

The layout of a block of points, all little-endian:

    offset 0    "FV04"                      magic and version
           4    uint32 N, M, axes, A        points, class centers, 2 or 3, of a tour up to 16, forbidden arcs
           20   float32 scale               a coordinate is int16 / 32767 * scale
           24   int16 (N, axes), (M, axes)  points, then centers; the origin is the middle of the picture
           ..   uint16 (N,), (M,)           labels, then labels of the centers
           ..   float32 (4,)                trustworthiness and KNN accuracy of the picture, KNN accuracy of the same
                                            embeddings, share of variance shown
           ..   float32                     variance of the embeddings, summed over their axes
           ..   float32 (M,)                the centers' margin cones, radians
           ..   float32 (A, 2)              start and end of the arcs where no margin is met, radians

What is not known in the three lines before the last is nan. Browsers may still hold blocks of version FV03, which had
no A, and of FV02, which had none either and ended with two numbers, trustworthiness and KNN accuracy, or with none.

What is known of each image of a snapshot is a block of its own, which every projection shares:

    offset 0    "FF02"                      magic and version
           4    uint32 N
           8    float32 worst, longest      a loss is uint16 / 65534 * worst, a length / 65534 * longest
           16   uint32 (N,)                 rows of the dataset
           ..   int16 (N,)                  predicted classes, -1 for none
           ..   uint16 (N,)                 angles to the own center, / 65534 * pi; 65535 for none
           ..   uint16 (N,)                 losses of the inference logits; 65535 for none
           ..   uint16 (N,)                 lengths of the features; 65535 for none. "FF01" had none and no longest

What is known of a single image, with its nearest neighbours, is a few hundred characters of JSON: the fields of
`trainer.inspection.Inspected`, null for what is not known.

Every array lies where a browser can read it in place. 3929 points on three axes with ten
centers take 31.5 kB, less than a third of what Plotly 7.1 takes for the same float32 numbers.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from trainer.folder import Points
from trainer.inspection import Inspected
from trainer.pictures import ShownFacts

MOST = 2048  # classes, as many as the picture has room for (assets/faceview/painters.js)
MOST_AXES = 16
HEADER = np.dtype([("magic", "S4"), ("N", "<u4"), ("M", "<u4"), ("axes", "<u4"), ("A", "<u4"), ("scale", "<f4")])
NONE = 65535  # no such angle or loss
ACROSS, SIDE = 16, 64  # images in a row of a sheet, which has as many rows, and the pixels of a large one


def points_block(shown: Points) -> bytes:
    """The bytes of a block. A coordinate moves by at most scale / 65534, which is below a pixel.

    ValueError for other than 2 to 16 axes, for arrays that do not belong together, for more than 2,048
    classes, and for a coordinate that is not a number.
    """
    points, labels, centers, center_labels, quality, spread, cones, _, arcs = shown
    axes = points.shape[1]
    if not 2 <= axes <= MOST_AXES or centers.shape[1] != axes:
        raise ValueError(
            f"Points on {axes} and centers on {centers.shape[1]} axes cannot be drawn; both need 2 to {MOST_AXES}."
        )
    if len(points) != len(labels) or len(centers) != len(center_labels):
        raise ValueError(
            f"{len(points)} points and {len(centers)} centers came with {len(labels)} and {len(center_labels)} labels; "
            "each needs its own."
        )
    every = np.concatenate([labels, center_labels])
    if every.size and not 0 <= every.min() <= every.max() < MOST:
        raise ValueError(f"Labels from {every.min()} to {every.max()} do not fit; a picture takes 0 to {MOST - 1}.")
    places = np.concatenate([points, centers]).astype(np.float64)  # (N + M, axes)
    if not np.isfinite(places).all():
        raise ValueError("Some coordinates are not finite numbers, so these points cannot be drawn.")
    scale = float(np.abs(places).max(initial=0)) or 1.0
    header = np.array([(b"FV04", len(points), len(centers), axes, len(arcs), scale)], HEADER)
    whole = np.rint(places / scale * 32767).astype("<i2"), every.astype("<u2")
    measured = np.full(5 + len(centers), np.nan, "<f4")
    for found, place, most in ((quality, 0, 4), (spread, 4, 1), (cones, 5, len(centers))):
        measured[place : place + min(most, len(found))] = found[:most]
    return b"".join(array.tobytes() for array in (header, *whole, measured, arcs.astype("<f4")))


def read_block(block: bytes) -> Points:
    """The points of a block, as the browser reads them. ValueError when these are no such bytes."""
    if len(block) < HEADER.itemsize or not block.startswith(b"FV04"):
        raise ValueError("These bytes are no block of points; one starts with FV04.")
    _, N, M, axes, A, scale = np.frombuffer(block, HEADER, 1)[0].item()
    end = HEADER.itemsize + (N + M) * (2 * axes + 2)
    if len(block) != end + 4 * (5 + M + 2 * A) or axes < 2:
        raise ValueError(f"This block of {N} points is incomplete: {len(block)} bytes came.")
    places = np.frombuffer(block, "<i2", (N + M) * axes, HEADER.itemsize).reshape(-1, axes)
    places = (places / 32767 * scale).astype(np.float32)
    every = np.frombuffer(block, "<u2", N + M, end - 2 * (N + M)).astype(np.int64)
    *told, arcs = np.split(np.frombuffer(block, "<f4", 5 + M + 2 * A, end), [4, 5, 5 + M])
    parts = (part if np.isfinite(part[:2]).all() else part[:0] for part in told)
    return Points(places[:N], every[:N], places[N:], every[N:], *parts, arcs=arcs.reshape(A, 2))


def facts_block(facts: ShownFacts) -> bytes:
    """The bytes of a block of facts.

    An angle moves by at most 2.4e-5 radians, a loss or length by 1/131068 of the largest.
    """
    lengths = facts.lengths if len(facts.lengths) else np.full(len(facts.rows), np.nan)
    worst, longest = (float(np.nanmax(values, initial=0.0)) or 1.0 for values in (facts.losses, lengths))

    def shares(values: Float[ndarray, " N"], most: float) -> bytes:
        known = np.isfinite(values)
        return np.where(known, np.rint(np.where(known, values, 0) / most * (NONE - 1)), NONE).astype("<u2").tobytes()

    return b"".join(
        [
            b"FF02", np.array([len(facts.rows)], "<u4").tobytes(), np.array([worst, longest], "<f4").tobytes(),
            facts.rows.astype("<u4").tobytes(), facts.predictions.astype("<i2").tobytes(),
            shares(facts.angles, np.pi), shares(facts.losses, worst), shares(lengths, longest),
        ]
    )  # fmt: skip


def inspected_json(found: Inspected) -> dict[str, Any]:
    """The fields of an inspection as plain values; angles and losses to five digits."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [plain(one) for one in value.tolist()]
        if isinstance(value, float):
            return round(value, 5) if math.isfinite(value) else None
        return None if value == -1 else value

    return {field: plain(value) for field, value in found._asdict().items()}
