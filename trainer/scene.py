"""What the picture in the browser is told, as plain values: panels, classes, colours, addresses.

The same for a page, whose addresses lead to the server, and for a replay, which holds what they lead to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from faces.datasets import Dataset, find
from faces.palette import JUDGED, SCALE, Ink, class_ink
from faces.projections import class_residual, class_turn
from trainer.blocks import ACROSS, SIDE
from trainer.folder import Points, RunFolder


@dataclass(frozen=True)
class Panel:
    """One panel: an `id` that stays the same while its points change, words over it, and where its points are.

    `url` comes from `blocks.address`; None while there is nothing to show yet. With `steps`, the moments of the
    panel in order, of `total` steps in all, `url` and `facts` (from `blocks.facts_address`) name the step "*",
    and the viewer travels between them; without, `url` is the one block to show. `told` are words about the
    newest moment. `images` comes from `blocks.sheets_address`, and `inspected`, from `blocks.inspected_address` with
    two "*", lets a click open the inspector. `rotate` turns the points (nine numbers, the rows of a 3x3), so that
    panels can be aligned. `centers` draws the class centers.

    `raw`: the axes are those of the embeddings, which lie on the unit circle or sphere. `linear`: they are PCA's.
    `tour` is the address of the same moments on more axes, from which the viewer makes linear views; `known` that of
    training images on the axes of `url`, which `known_steps` have.
    """

    id: str
    title: str
    subtitle: str = ""
    url: str | None = None
    rotate: Sequence[float] | None = None
    centers: bool = True
    steps: Sequence[int] = ()
    total: int = 0
    facts: str | None = None
    images: str | None = None
    inspected: str | None = None
    raw: bool = False
    linear: bool = False
    tour: str | None = None
    known: str | None = None
    known_steps: Sequence[int] = ()
    told: str = ""


def described(
    panels: Sequence[Panel],
    classes: Sequence[str],
    axes: Literal[2, 3],
    height: int,
    label: str,
    live: bool = False,
    picks: bool = False,
    wishes: bool = False,
    file: str = "faces",
) -> dict[str, Any]:
    """What assets/faceview.js is told of a picture: words, colours and addresses.

    `live`: more moments will come. `picks` and `wishes`: a click and the keys that ask for another picture are told.
    `file` is how the names of saved pictures begin. ValueError for other than 1 to 7 panels with ids of their own.
    """
    if not 1 <= len(panels) <= 7 or len({panel.id for panel in panels}) < len(panels):
        raise ValueError(f"{len(panels)} panels {[panel.id for panel in panels]} given; 1 to 7 with different ids fit.")
    return {
        "panels": [
            {
                "id": panel.id, "title": panel.title, "subtitle": panel.subtitle, "url": panel.url,
                "rotate": None if panel.rotate is None else [float(part) for part in panel.rotate],
                "centers": panel.centers, "steps": list(panel.steps), "total": panel.total, "facts": panel.facts,
                "images": panel.images, "inspected": panel.inspected, "told": panel.told, "raw": panel.raw,
                "linear": panel.linear, "tour": panel.tour, "known": panel.known,
                "known_steps": list(panel.known_steps),
            }
            for panel in panels
        ],
        "classes": [_drawn(index, name) for index, name in enumerate(classes)],
        "axes": axes, "height": height, "label": label, "live": live, "picks": picks, "wishes": wishes, "file": file,
        "sheet": {"across": ACROSS, "side": SIDE},
        "scale": [_colors(ink) for ink in SCALE], "judged": {name: _colors(ink) for name, ink in JUDGED.items()},
    }  # fmt: skip


def _drawn(index: int, name: str) -> dict[str, str]:
    return {"name": name, **_colors(class_ink(index))}


def _colors(ink: Ink) -> dict[str, str]:
    return {"color_light": ink.light, "color_dark": ink.dark, "shape": ink.shape}


def alignment(reference: Points, mine: Points) -> tuple[list[float], float]:
    """Nine numbers that turn a picture's class centroids onto the reference's, and the residual of the two."""
    rotation, axes = np.eye(3), mine.points.shape[1]
    both = mine.points, mine.labels, reference.points, reference.labels
    rotation[:axes, :axes] = class_turn(*both).T  # the component multiplies from the left
    return [round(float(number), 6) for number in rotation.ravel()], class_residual(*both)


def shown_images(folder: RunFolder, side: int) -> tuple[Dataset, int]:
    """A run's dataset and a size at which its images can be had: the smallest from `side` pixels on, else the largest.

    ValueError unless they are those it trained on.
    """
    config = folder.config
    dataset = find(config.dataset)
    if folder.print != dataset.print:
        raise ValueError(f"The images of {dataset.title} are not those that this run trained on.")
    for size in sorted(dataset.sizes, key=lambda size: (size < side, abs(size - side))):
        if dataset.ready(size):
            return dataset, size
    raise ValueError(f"The images of {dataset.title} are not on this machine.")
