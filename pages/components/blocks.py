"""What the picture component asks of the server over HTTP: its script, and points as compact bytes.

    app = st.App("pages/router.py", routes=blocks.routes(load_points))

A block of points never changes, so browsers keep it for good, but for a picture that is still being refined: that
has an address of its own for each look at it, and is kept nowhere. Its layout, all little-endian:

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

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trainer.folder import Points
from trainer.inspection import Inspected
from trainer.pictures import ShownFacts, with_shuffled_labels

ROOT = "/faces"
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
NAME = re.compile("[a-z0-9=._-]{1,64}")
MOST = 2048  # classes, as many as the picture has room for (assets/faceview/painters.js)
PRINT = re.compile("[0-9a-f]{1,64}|-")
WHOLE = re.compile("[0-9]{1,15}")
MOST_AXES = 16
MEMORY = 8_000_000  # bytes of answers that each route keeps at hand
HEADER = np.dtype([("magic", "S4"), ("N", "<u4"), ("M", "<u4"), ("axes", "<u4"), ("A", "<u4"), ("scale", "<f4")])
NONE = 65535  # no such angle or loss
ACROSS, SIDE = 16, 64  # images in a row of a sheet, which has as many rows, and the pixels of a large one
LARGE = 160  # pixels of a single image

_ASSETS = Path(__file__).parents[2] / "assets"
SCRIPTS = {
    file.relative_to(_ASSETS).as_posix(): file.read_bytes()
    for file in [_ASSETS / "faceview.js", *sorted(_ASSETS.glob("faceview/*.*s"))]
}
MEDIA = {"js": "text/javascript", "css": "text/css"}
VERSION = hashlib.sha256(b"".join(SCRIPTS.values())).hexdigest()[:12]
SCRIPT = f"{ROOT}/{VERSION}/faceview.js"


LoadPoints = Callable[[str, int, str], Points | str | None]  # run (a ULID), step, name of the layout, such as "pca-3"
LoadFacts = Callable[[str, int], ShownFacts | None]  # run, step
LoadSheet = Callable[[str, int, str, int], bytes | None]  # run, step, the images' fingerprint, number of the sheet
LoadImage = Callable[[str, int, str, int], bytes | None]  # run, step, the images' fingerprint, place in the picture
LoadInspected = Callable[[str, int, int], Inspected | None]  # run, step, row of the dataset


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


def address(run: str, step: int | str, name: str, look: int = 0, shuffled: bool = False) -> str:
    """Where the browser finds the points of this run, step and layout; step "*" stands for any.

    `look` tells apart the looks at a layout that is still being refined. `shuffled` deals its labels out anew.
    """
    asked = "&".join([f"look={look}"] * bool(look) + ["shuffled=1"] * shuffled)
    return f"{ROOT}/points/{run}/{step}/{name}.bin" + (f"?{asked}" if asked else "")


def facts_address(run: str, step: int | str) -> str:
    """Where the browser finds what is known of the images of this run and step."""
    return f"{ROOT}/facts/{run}/{step}.bin"


def sheets_address(run: str, step: int, print: str) -> str:
    """Where the browser finds the images that the picture of this step shows.

    `*` stands for the number of a sheet, or for "at/" and a place in the picture: that image alone, larger.
    """
    return f"{ROOT}/images/{run}/{step}/{print or '-'}/*.webp"


def inspected_address(run: str, step: int | str, row: int | str) -> str:
    """Where the browser finds what a run makes of one image; "*" stands for any step, a second "*" for any row."""
    return f"{ROOT}/inspected/{run}/{step}/{row}.json"


def remembering(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """The same answers, from memory where they never change, so that a class asks the disk once for all.

    Those asked for longest ago are forgotten when they take more than `MEMORY` bytes.
    """
    kept: OrderedDict[str, Response] = OrderedDict()
    guard = Lock()

    def remembered(request: Request) -> Response:
        place = f"{request.url.path}?{request.url.query}"
        with guard:
            if place in kept:
                kept.move_to_end(place)
                return Response(kept[place].body, headers=kept[place].headers)  # sending may change an answer's headers
        found = answer(request)
        if found.headers.get("Cache-Control") == FOREVER["Cache-Control"]:
            with guard:
                kept[place] = found
                while sum(len(one.body) for one in kept.values()) > MEMORY:
                    kept.popitem(last=False)
                found = Response(found.body, headers=found.headers)
        return found

    return remembered


def routes(
    load_points: LoadPoints,
    load_facts: LoadFacts = lambda run, step: None,
    load_sheet: LoadSheet = lambda run, step, print, sheet: None,
    load_image: LoadImage = lambda run, step, print, at: None,
    load_inspected: LoadInspected = lambda run, step, row: None,
) -> list[Route]:
    """The routes of the component. Loaders get only well-formed names and return None for what is not there.

    Points may also be on their way (""), which the browser waits for, or impossible for a reason.
    """

    def script(request: Request) -> Response:
        text = SCRIPTS.get(request.path_params["file"])
        if text is None:
            return PlainTextResponse("There is no such script.", 404)
        known = request.path_params["version"] == VERSION
        headers = FOREVER if known else {"Cache-Control": "no-cache"}
        return Response(text, media_type=MEDIA[request.path_params["file"].rpartition(".")[2]], headers=headers)

    def points(request: Request) -> Response:
        run, step, name = (request.path_params[part] for part in ("run", "step", "name"))
        if not ULID.fullmatch(run) or not NAME.fullmatch(name):
            return PlainTextResponse(
                "A run is named by 26 characters of a ULID, a picture by letters, digits, - . = and _.", 404
            )
        found = load_points(run, step, name)
        if found is None:
            return PlainTextResponse(f"There are no points {name} of step {step}.", 404)
        if isinstance(found, str):
            return PlainTextResponse(found or "This picture is on its way.", 404 if found else 202)
        headers = {"Cache-Control": "no-store"} if len(found.refining) else FOREVER
        if "shuffled" in request.query_params:
            found = with_shuffled_labels(found)
        block = points_block(found)
        return Response(block, media_type="application/octet-stream", headers=headers)

    def facts(request: Request) -> Response:
        run, step = request.path_params["run"], request.path_params["step"]
        found = load_facts(run, step) if ULID.fullmatch(run) else None
        if found is None:
            return PlainTextResponse(f"Nothing is known of the images of step {step}.", 404)
        return Response(facts_block(found), media_type="application/octet-stream", headers=FOREVER)

    def images(load: LoadSheet | LoadImage) -> Callable[[Request], Response]:
        def image(request: Request) -> Response:
            run, step, print, number = (request.path_params[part] for part in ("run", "step", "print", "number"))
            known = ULID.fullmatch(run) and PRINT.fullmatch(print)
            found = load(run, step, print, number) if known else None
            if found is None:
                return PlainTextResponse("These images are not on this machine.", 404)
            return Response(found, media_type="image/webp", headers=FOREVER)

        return image

    def inspected(request: Request) -> Response:
        run, step, row = (request.path_params[part] for part in ("run", "step", "row"))
        known = ULID.fullmatch(run) and WHOLE.fullmatch(step) and WHOLE.fullmatch(row)
        found = load_inspected(run, int(step), int(row)) if known else None
        if found is None:
            return PlainTextResponse("This image is not among those of this moment.", 404)
        return JSONResponse(inspected_json(found), headers=FOREVER)

    return [
        Route(ROOT + "/points/{run}/{step:int}/{name}.bin", remembering(points)),
        Route(ROOT + "/facts/{run}/{step:int}.bin", remembering(facts)),
        Route(ROOT + "/images/{run}/{step:int}/{print}/{number:int}.webp", remembering(images(load_sheet))),
        Route(ROOT + "/images/{run}/{step:int}/{print}/at/{number:int}.webp", remembering(images(load_image))),
        Route(ROOT + "/inspected/{run}/{step}/{row}.json", remembering(inspected)),
        Route(ROOT + "/{version}/{file:path}", script),
    ]
