"""What the picture component asks of the server over HTTP: its script, and points as compact bytes.

    app = st.App("pages/router.py", routes=blocks.routes(load_points))

A block of points never changes, so browsers keep it for good, but for a picture that is still being refined: that
has an address of its own for each look at it, and is kept nowhere. `trainer.blocks` says how blocks are laid out.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trainer.blocks import ACROSS, SIDE, facts_block, inspected_json, points_block, read_block
from trainer.folder import Points
from trainer.inspection import Inspected
from trainer.pictures import ShownFacts, with_shuffled_labels

__all__ = ["ACROSS", "SIDE", "facts_block", "inspected_json", "points_block", "read_block"]  # of trainer.blocks

ROOT = "/faces"
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
NAME = re.compile("[a-z0-9=._-]{1,64}")
PRINT = re.compile("[0-9a-f]{1,64}|-")
WHOLE = re.compile("[0-9]{1,15}")
MEMORY = 8_000_000  # bytes of answers that each route keeps at hand
LARGE = 160  # pixels of a single image

_ASSETS = Path(__file__).parents[2] / "assets"
SCRIPTS = {
    file.relative_to(_ASSETS).as_posix(): file.read_bytes()
    for file in [_ASSETS / "faceview.js", _ASSETS / "curves.js", *sorted(_ASSETS.glob("faceview/*.*s"))]
}
MEDIA = {"js": "text/javascript", "css": "text/css"}
VERSION = hashlib.sha256(b"".join(SCRIPTS.values())).hexdigest()[:12]


def script(file: str) -> str:
    """Where the browser finds a script, such as faceview.js."""
    return f"{ROOT}/{VERSION}/{file}"


SCRIPT = script("faceview.js")


LoadPoints = Callable[[str, int, str], Points | str | None]  # run (a ULID), step, name of the layout, such as "pca-3"
LoadFacts = Callable[[str, int], ShownFacts | None]  # run, step
LoadSheet = Callable[[str, int, str, int], bytes | None]  # run, step, the images' fingerprint, number of the sheet
LoadImage = Callable[[str, int, str, int], bytes | None]  # run, step, the images' fingerprint, place in the picture
LoadInspected = Callable[[str, int, int], Inspected | None]  # run, step, row of the dataset


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

    def text(request: Request) -> Response:
        found = SCRIPTS.get(request.path_params["file"])
        if found is None:
            return PlainTextResponse("There is no such script.", 404)
        known = request.path_params["version"] == VERSION
        headers = FOREVER if known else {"Cache-Control": "no-cache"}
        return Response(found, media_type=MEDIA[request.path_params["file"].rpartition(".")[2]], headers=headers)

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
        Route(ROOT + "/{version}/{file:path}", text),
    ]
