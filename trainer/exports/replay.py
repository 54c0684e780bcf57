"""A replay: training as one HTML file that travels through time, with no server, no network and no cloud behind it.

The picture's own modules are inside, and what they would ask of a server: blocks of points and of facts, small images,
and what each run makes of each image at its last moment. A policy in the file forbids the browser to ask anybody else.
"""

import base64
import html
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from faces.datasets.base import Progress, Progressed
from faces.datasets.pictures import sheet
from faces.projections import PROJECTIONS
from trainer.blocks import ACROSS, SIDE, facts_block, inspected_json, points_block
from trainer.exports.base import Export, Taken
from trainer.inspection import inspected
from trainer.naming import brought, has_logits, names, subtitle, title
from trainer.pictures import KNOWN, shown_facts
from trainer.scene import Panel, alignment, described, shown_images

ASSETS = Path(__file__).parents[2] / "assets"
PAGE = Path(__file__).with_name("replay.html")
MOMENTS = 80  # of a run that a replay holds at most, evenly thinned
MOST = 7  # runs, as many as the picture has panels
IMPORT = re.compile(r'^import \{ ([^}]*) \} from "\./(?:faceview/)?(\w+)\.js";\n', re.M)
STYLE = 'await (await fetch(new URL("./faceview/style.css", import.meta.url))).text()'


class Replay(Export):
    """A page that plays."""

    name, title, suffix, joint, slow = "html", "Replay (HTML)", ".html", True, True
    meaning = (
        "One page that plays the training again, up to seven runs side by side: time, colours, lasso, inspector. It "
        "opens from a disk or an e-mail and asks nobody for anything. The small images shown are inside."
    )

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        if len(taken) > MOST:
            raise ValueError(f"{len(taken)} runs were named; a replay has room for {MOST}.")
        stem = taken[0].stem if len(taken) == 1 else f"faces-{len(taken)}-runs"
        return {f"{stem}{self.suffix}": page(taken, progress).encode()}


def page(taken: Sequence[Taken], progress: Progress) -> str:
    """The whole file. ValueError when the runs have no picture in common that is finished."""
    answers: dict[str, str] = {}
    kinds = shared(taken)
    if not kinds:
        raise ValueError("These runs have no finished picture in common; look at one of them first.")
    images = sheets(taken, answers)
    steps = {one.run.id: moments(one, kinds) for one in taken}  # the steps of each run
    total = sum(map(len, steps.values()))
    done = 0
    for one in taken:
        for step in steps[one.run.id]:
            progress(Progressed("Collecting moments", done := done + 1, total, "moments"))
            known = shown_facts(one.store.snapshot(one.run.id, step), one.run.config.probe)
            answers[f"facts/{one.run.id}/{step}"] = data_url(facts_block(known))
        inspections(one, answers)
    pictures = [picture(taken, name, steps, images, answers) for name in kinds]
    told = json.dumps({"pictures": pictures, "answers": answers}, separators=(",", ":")).replace("<", "\\u003c")
    datasets = sorted({one.run.config.dataset for one in taken})
    said = title(taken[0].run.config)
    if len(taken) > 1:
        heads = ", ".join(dict.fromkeys(one.run.config.head for one in taken))
        said = (
            f"{heads} on {title(taken[0].run.config).split(' on ')[-1] if len(datasets) == 1 else 'several datasets'}"
        )
    parts = {
        "title": html.escape(said), "subtitle": html.escape(settings(taken)), "table": scores(taken),
        "footer": html.escape(footer(taken, max(map(len, steps.values())))), "data": told, "scripts": bundled(),
    }  # fmt: skip
    return re.sub(r"%(\w+)%", lambda found: parts[found[1]], PAGE.read_text(encoding="utf-8"))


def shared(taken: Sequence[Taken]) -> list[str]:
    """The pictures with usual settings that every run has of its newest moment, finished, PCA first."""
    found = []
    for projection in PROJECTIONS:
        for axes in (2, 3):
            name = f"{projection}-{axes}"
            shown = [one.folder.points(name, one.facts["step"]) for one in taken]
            if all(points is not None and not len(points.refining) for points in shown):
                found.append(name)
    return found


def moments(one: Taken, kinds: Iterable[str]) -> list[int]:
    """The steps that a replay holds: those of which there is a snapshot and a picture, evenly thinned, and the last."""
    known = {facts["step"] for facts in one.history}
    drawn = sorted(known & {step for name in kinds for step in one.folder.drawn(name)})
    stride = -(-len(drawn) // MOMENTS)
    return sorted({*drawn[::stride], *drawn[-1:]})


def picture(
    taken: Sequence[Taken],
    name: str,
    steps: Mapping[str, Sequence[int]],
    images: Mapping[str, str],
    answers: dict[str, str],
) -> dict[str, Any]:
    """One picture of these runs as the browser is told of it; what its addresses lead to goes to the answers."""
    projection, axes = name.split("-")
    panels, reference = [], taken[0].folder.points(name, taken[0].facts["step"])
    for one, called in zip(taken, names([one.run for one in taken]), strict=True):
        run, drawn = one.run.id, [step for step in steps[one.run.id] if step in set(one.folder.drawn(name))]
        known = []
        for step in drawn:
            if points := one.folder.points(name, step):
                answers[f"points/{run}/{name}/{step}"] = data_url(points_block(points))
            if beside := one.folder.points(name + KNOWN, step):
                answers[f"points/{run}/{name}{KNOWN}/{step}"] = data_url(points_block(beside))
                known.append(step)
        mine, rotate, told = one.folder.points(name, one.facts["step"]), None, ""
        if one is not taken[0] and mine is not None and reference is not None:
            rotate, residual = alignment(reference, mine)
            told = f"residual {residual:.2f}"
        raw = projection == "pca" and one.run.config.dim == int(axes)
        panels.append(
            Panel(
                f"{run} {name}",
                called if len(taken) > 1 else "",
                "",
                f"points/{run}/{name}/*",
                rotate,
                steps=drawn,
                total=one.facts["steps"],
                facts=f"facts/{run}/*",
                images=images.get(run),
                inspected=f"inspected/{run}/*/*.json",
                raw=raw,
                linear=projection == "pca" and not raw,
                known=f"points/{run}/{name}{KNOWN}/*" if known else None,
                known_steps=known,
                told=told,
            )
        )
    kind = f"{PROJECTIONS[projection].title} on {axes} axes"
    label = f"{kind} of the embeddings of {', '.join(one.run.config.head for one in taken)}"
    stem = taken[0].stem.rsplit("-step", 1)[0] if len(taken) == 1 else f"faces-{len(taken)}-runs"
    height = 560 if len(taken) == 1 else 430 if len(taken) <= 4 else 720
    data = described(
        panels, taken[0].folder.class_names, 3 if axes == "3" else 2, height, label, wishes=True, file=f"{stem}-{name}"
    )
    return {
        "title": f"{PROJECTIONS[projection].title} {axes}-D",
        "projection": projection,
        "axes": int(axes),
        "data": data,
    }


def sheets(taken: Sequence[Taken], answers: dict[str, str]) -> dict[str, str]:
    """The address of each run's images, where they are on this machine; runs that show the same ones share it."""
    found: dict[str, str] = {}
    held: dict[bytes, str] = {}
    for one in taken:
        try:
            dataset, size = shown_images(one.folder, SIDE)
        except ValueError:
            continue
        rows = one.snapshot.rows[: one.run.config.probe]
        key = repr((dataset.name, size)).encode() + rows.tobytes()
        if key not in held:
            held[key] = f"images/{one.run.id}/*"
            pixels = dataset.load(size).pixels
            for number in range(-(-len(rows) // ACROSS**2)):
                part = sheet(pixels[rows[number * ACROSS**2 : (number + 1) * ACROSS**2]], ACROSS, SIDE)
                answers[f"images/{one.run.id}/{number}"] = data_url(part, "image/webp")
        found[one.run.id] = held[key]
    return found


def inspections(one: Taken, answers: dict[str, str]) -> None:
    """What the run makes of each image that its picture shows, at its last moment."""
    probe = one.run.config.probe
    for row in one.snapshot.rows[:probe].tolist():
        if found := inspected(one.snapshot, probe, row):
            told = json.dumps(inspected_json(found), separators=(",", ":"))
            answers[f"inspected/{one.run.id}/{one.facts['step']}/{row}.json"] = data_url(
                told.encode(), "application/json"
            )


def settings(taken: Sequence[Taken]) -> str:
    """What was trained, in a line."""
    if len(taken) == 1:
        return subtitle(taken[0].run.config)
    config = taken[0].run.config
    if any(brought(one.run.config) for one in taken):
        return f"{len(taken)} sets of embeddings"
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    return f"{len(taken)} runs · {config.encoder} {config.size} px · D = {config.dim} · {epochs}"


def scores(taken: Sequence[Taken]) -> str:
    """The last scores as an HTML table."""
    columns = {"dnn_accuracy": "DNN accuracy", "knn_accuracy": "KNN accuracy", "ncm_accuracy": "Class-mean accuracy"}
    number = '<{0} class="number">{1}</{0}>'.format
    heads = "".join(number("th", word) for word in columns.values())
    rows = [f"<tr><th>Head</th>{heads}<th>Settings</th></tr>"]
    for one, called in zip(taken, names([one.run for one in taken]), strict=True):
        metrics, cells = one.facts["metrics"], []
        for name in columns:
            none = "none" if name == "dnn_accuracy" and not has_logits(one.run.config) else "–"
            cells.append(number("td", f"{metrics[name]:.1%}" if name in metrics else none))
        told = html.escape(subtitle(one.run.config))
        rows.append(f"<tr><td>{html.escape(called)}</td>{''.join(cells)}<td>{told}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def footer(taken: Sequence[Taken], moments: int) -> str:
    """How it is used, and what was counted."""
    asked = min(one.facts["metrics"].get("asked", 0) for one in taken)
    counted = f"Scores are counted on {asked:,.0f} images. " if asked else ""
    day = time.strftime("%Y-%m-%d")
    plays = "Space plays, ← and → step, " if moments > 1 else ""
    return (
        f"{counted}{plays}c changes the colours, a click inspects an image at the last moment. "
        f"Saved by Faces on {day}; this file needs no network."
    )


def data_url(content: bytes, media: str = "application/octet-stream") -> str:
    """Bytes as an address that holds them."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def bundled() -> str:
    """The picture's modules as one script, each inside a scope of its own, its style in it.

    ValueError when a module imports or exports in a way that this cannot join.
    """
    texts = {file.stem: file.read_text(encoding="utf-8") for file in (ASSETS / "faceview").glob("*.js")}
    texts["faceview"] = (ASSETS / "faceview.js").read_text(encoding="utf-8")
    wanted: dict[str, set[str]] = {name: set() for name in texts}
    for text in texts.values():
        for parts, source in IMPORT.findall(text):
            wanted[source] |= {part.strip() for part in parts.split(",")}
    wanted["faceview"] |= {"faceview"}
    wanted["points"] |= {"hold"}
    style = json.dumps((ASSETS / "faceview" / "style.css").read_text(encoding="utf-8"))
    if STYLE not in texts["faceview"]:
        raise ValueError("faceview.js does not fetch its style as a replay expects.")
    texts["faceview"] = texts["faceview"].replace(STYLE, style)
    parts, placed = [], set[str]()

    def place(name: str) -> None:
        if name in placed:
            return
        placed.add(name)
        text = texts[name]
        for _, source in IMPORT.findall(text):
            place(source)
        text = IMPORT.sub(lambda found: f"const {{ {found[1]} }} = {found[2]}Module;\n", text)
        text = re.sub(r"^export (default )?", "", text, flags=re.M)
        if re.search(r"^(import|export)\b", text, re.M):
            raise ValueError(f"{name}.js imports in a way that a replay cannot join.")
        names = ", ".join(sorted(wanted[name]))
        parts.append(f"const {name}Module = (() => {{\n{text}\nreturn {{ {names} }};\n}})();")

    place("faceview")
    joined = "\n".join(parts).replace("</script", "<\\/script")
    return f"{joined}\nconst {{ faceview }} = faceviewModule, {{ hold }} = pointsModule;"
