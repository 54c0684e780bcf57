"""The code: one short PyTorch script that trains the same head with the same settings, without Faces."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from faces.datasets import find
from faces.datasets.base import Progress
from faces.datasets.own import Own
from faces.encoders import ENCODERS
from faces.heads import HEADS, scored
from trainer.config import RunConfig
from trainer.exports.base import Export, Taken
from trainer.folder import RunFolder
from trainer.naming import brought, subtitle, title
from trainer.store import Run
from trainer.written import Written

BATCHES = "trainer.batches"
WRITTEN = {  # settings that a script follows; a run with others has no code
    "head", "dataset", "knobs", "size", "encoder", "dim", "epochs", "batch", "lr", "weight_decay", "optimizer",
    "schedule", "crop", "area", "grow", "augment", "pretrained", "noise", "drop_duplicates", "seed", "probe",
    "held_out", "warp", "threads", "mode",  # only the last digits depend on the last two
}  # fmt: skip


class Code(Export):
    """A script that stands alone."""

    name, title, suffix = "code", "The code (PyTorch script)", ".py"
    meaning = (
        "A short script that trains this head with these settings and scores it: data, encoder, the head's formula, "
        "training loop, evaluation. It needs PyTorch and no Faces, and starts from the same weights in the same order."
    )

    def refusal(self, run: Run, folder: RunFolder) -> str:
        if brought(run.config):
            return (
                f"{run.config.head} was brought as embeddings: nothing was trained here, so there is no code to take."
            )
        if run.config.head not in HEADS or run.config.encoder not in ENCODERS:
            return f"{run.config.head} on {run.config.encoder} is not part of this Faces any more."
        return unwritten(run.config)

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        return {
            (name := f"{one.stem}{self.suffix}"): script(
                one.run.config, one.folder.class_names, one.facts["turned"], name
            ).encode()
            for one in taken
        }


def script(
    config: RunConfig, class_names: Sequence[str], turned: Sequence[Sequence[Any]] = (), name: str = "train.py"
) -> str:
    """The script for these settings, in a file of this name; `turned` are knobs turned by hand: (step, name, value).

    ValueError when the settings leave out near duplicates of images that are not on this machine.
    """
    written, head, encoder = Written(), HEADS.about(config.head), ENCODERS.about(config.encoder)
    grouped = balanced(config.head)
    written.add(encoder.module, config.encoder)
    written.add_head(head.module, config.head, config.knobs)
    wanted = ["balanced_order" if grouped else "order", "ready"]
    moving = config.augment and find_moved(config.dataset)
    ways = {  # what is done to images, and the functions that do it
        ("moves", "moved"): moving and config.area == 1, ("areas", "warped", "resized"): config.area < 1,
        ("warps", "warped"): config.warp, ("resized",): config.grow,
    }  # fmt: skip
    for function in dict.fromkeys([*wanted, *(name for names, used in ways.items() if used for name in names)]):
        written.add(BATCHES, function)
    if config.optimizer == "muon":
        written.add("trainer.muon", "Muon")
    data, needs, usage = images(config)
    usage = usage.replace("THIS_FILE", name)
    for where, part in [*NEEDS, *needs, *([("math", "")] if config.schedule != "constant" else [])]:
        written.imports.add((where, part, part or SHORT.get(where, where)))
    settings: dict[str, Any] = {
        "EPOCHS": config.epochs, "BATCH": config.batch, "DIM": config.dim, "LR": config.lr,
        "WEIGHT_DECAY": config.weight_decay, "SEED": config.seed, "SIZE": config.size,
    }  # fmt: skip
    if config.crop:
        settings["CROP"] = config.crop
    settings |= {name.upper(): value for name in ("warp", "grow") if (value := getattr(config, name))}
    if config.area < 1:
        settings["AREA"] = config.area
    unseen = config.unseen(len(class_names)).tolist()
    if unseen:
        settings["HELD_OUT"] = unseen
    if turned:
        settings["TURNED"] = [tuple(turn) for turn in turned]
    parts = [
        f'"""{title(config)}, trained without Faces.\n\n{subtitle(config)}\n\n    {usage}\n"""',
        "\n".join(written.import_lines()),
        "\n".join(f"{setting} = {value!r}" for setting, value in settings.items())
        + '\nDEVICE = "cuda" if torch.cuda.is_available() else "cpu"'
        + '\nHALF = DEVICE == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)  # bfloat16',
        "# ---- the images",
        data,
        "# ---- the encoder, the head, and how batches are drawn",
        written.text(),
        "# ---- training and scores",
        EMBED.format(side="CROP" if config.crop else "", comma=", " if config.crop else ""),
        training(config, grouped, moving, bool(unseen), bool(turned)),
        KNN,
        main(config, bool(unseen), len(class_names) - len(unseen), usage.count("FOLDER") > 0),
    ]
    return "\n\n\n".join(parts).rstrip() + "\n"


def unwritten(config: RunConfig) -> str:
    """What of these settings a script does not say yet, in a sentence; empty when it says it all."""
    others = [field for field in dataclasses.fields(config) if field.name not in WRITTEN]
    asked = [field.name for field in others if getattr(config, field.name) != field.default]
    return f"The code cannot say what {', '.join(asked)} does in this run." if asked else ""


def balanced(head: str) -> bool:
    """Whether a head's batches must hold several images of each class, read from its class or those it is built on."""
    import ast

    from trainer.written import ancestors

    for _, node in ancestors(HEADS.about(head).module, head):
        for line in node.body:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "balanced":
                return ast.literal_eval(line.value)
    return False


def find_moved(dataset: str) -> bool:
    """Whether training may move a dataset's images; photographs, when it is gone."""
    try:
        return find(dataset).moved
    except ValueError:
        return True


NEEDS = [("numpy", ""), ("torch", ""), ("torch", "nn"), ("torch.nn.functional", "normalize")]
SHORT = {"numpy": "np"}


def images(config: RunConfig) -> tuple[str, list[tuple[str, str]], str]:
    """The part that reads the images, what it imports, and how the script is called."""
    if config.dataset == "digits":
        return DIGITS, [("sklearn.datasets", "load_digits")], "python THIS_FILE"
    needs = [("sys", ""), ("concurrent.futures", "ThreadPoolExecutor"), ("pathlib", "Path"), ("PIL", "Image")]
    parts, more = [FOLDER], ""
    if config.noise:
        needs.append(("csv", ""))
        parts.append(NOISY.replace("PERCENT", str(config.noise)))
        more += RELABELLED + (SEEN_ONLY if config.held_out else "")
    if config.drop_duplicates:
        parts.insert(
            0, "DROPPED = {  # training images that nearly equal a validation image\n" + dropped(config) + "\n}"
        )
        more += "    kept = np.array([key(file) not in DROPPED for file in files])\n"
        more += "    pixels, labels, val = pixels[kept], labels[kept], val[kept]\n"
    usage = "python THIS_FILE FOLDER, where FOLDER holds train/<class>/ and val/<class>/ with the images"
    if isinstance(_found(config.dataset), Own):
        usage += ".\nThe set was split here if it came without those two; split yours as you like"
    text = "\n\n\n".join(parts)
    return text.replace("# MORE\n", more).replace("    # MORE", ""), needs, usage


def _found(name: str) -> Any:
    try:
        return find(name)
    except ValueError:
        return None


def dropped(config: RunConfig) -> str:
    """The names of the training images that the run left out."""
    data = find(config.dataset)
    if data.counts is None:
        raise ValueError(
            f"{data.title} is not on this machine, so nobody knows which near duplicates the run left out."
        )
    files = data.load(config.size).files
    return "\n".join(f"    {str(files[row])!r}," for row in np.unique(data.duplicates()[:, 0]))


DIGITS = '''def images():
    """scikit-learn's digits (N, 8, 8, 1), their labels, and which of them are for validation: 500, of every class."""
    digits = load_digits()
    pixels, labels = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8), digits.target
    by_class = np.lexsort((np.random.RandomState(0).permutation(len(labels)), labels))
    val = np.zeros(len(labels), dtype=bool)
    val[by_class] = np.diff(np.arange(len(labels) + 1) * 500 // len(labels)) > 0
    rows = np.argsort(val, kind="stable")
    return pixels[rows], labels[rows], val[rows]'''

FOLDER = '''def key(file):
    """The name of an image below the folder, such as train/beagle/1.jpg."""
    return "/".join(file.parts[-3:])


def pixels_of(file):
    """The centre square of an image, SIZE pixels wide."""
    image = Image.open(file)
    image.draft("RGB", (2 * SIZE, 2 * SIZE))
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side)))


def images(folder):
    """All images (N, SIZE, SIZE, 3), their labels, and which of them are for validation."""
    files = [file for part in ("train", "val") for file in sorted((Path(folder) / part).glob("*/*"))]
    names = sorted({file.parent.name for file in files})
    labels = np.array([names.index(file.parent.name) for file in files])
    val = np.array([file.parts[-3] == "val" for file in files])
    with ThreadPoolExecutor() as pool:
        pixels = np.stack(list(pool.map(pixels_of, files)))
    # MORE
    return pixels, labels, val'''.replace("    # MORE\n", "# MORE\n")

RELABELLED = """    wrong = noisy(Path(folder) / "noisy_imagewoof.csv")
    given = [wrong.get(key(file), names[label]) for file, label in zip(files, labels)]
    truth, labels = labels, np.array([names.index(name) for name in given])
"""

SEEN_ONLY = """    kept = val | ~np.isin(truth, HELD_OUT)  # none of their images is trained on under a wrong label
    pixels, labels, val = pixels[kept], labels[kept], val[kept]
"""

NOISY = '''def noisy(file):
    """PERCENT % wrong training labels, as published with Imagewoof: the class of each such image."""
    rows = csv.DictReader(file.open(encoding="utf-8"))
    return {row["path"]: row["noisy_labels_PERCENT"] for row in rows if row["path"].startswith("train/")}'''

EMBED = '''@torch.no_grad()
def features_of(encoder, pixels):
    """What the encoder, in eval mode, makes of images."""
    encoder.eval()
    found = []
    for some in pixels.split(256):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=HALF):
            found.append(encoder(ready(some{comma}{side})).float())
    encoder.train()
    return torch.cat(found)'''

KNN = '''def knn_accuracy(known, known_labels, asked, asked_labels, k=5):
    """Share of asked images whose k nearest known ones, by cosine, vote for their class; a tie goes to the smaller."""
    near = (normalize(asked, eps=1e-6) @ normalize(known, eps=1e-6).T).topk(k, dim=1).indices
    votes = nn.functional.one_hot(known_labels[near]).sum(1)
    return (votes.argmax(1) == asked_labels).float().mean().item()'''


def training(config: RunConfig, grouped: bool, moving: bool, unseen: bool, turned: bool) -> str:
    """The training loop, with no more in it than these settings use."""
    crop = ", CROP" if config.crop else ""
    optimizer = {
        "sgd": "torch.optim.SGD(groups, lr=LR, momentum=0.9, nesterov=True)",
        "momentum": "torch.optim.SGD(groups, lr=LR, momentum=0.9)",
        "adamw": "torch.optim.AdamW(groups, lr=LR)",
        "muon": "Muon(groups, lr=LR, half=HALF)",
    }[config.optimizer]
    drawn = "balanced_order(labels[rows].cpu(), SEED, epoch)" if grouped else "order(len(rows), SEED, epoch)"
    lines = [
        "def train(encoder, head, pixels, labels, rows):",
        '    """EPOCHS times over these rows, the last incomplete batch of each left out."""',
        "    groups = [",
        '        {"params": list(encoder.parameters()), "weight_decay": WEIGHT_DECAY},',
        '        {"params": list(head.parameters()), "weight_decay": 0.0},',
        "    ]",
        f"    optimizer = {optimizer}",
        "    steps_per_epoch = max(1, len(rows) // BATCH)",
        "    steps = EPOCHS * steps_per_epoch",
        "    for step in range(steps):",
        "        epoch, place = divmod(step, steps_per_epoch)",
        "        if place == 0:",
        f"            seen, losses = rows[{drawn}], []",
        "        some = seen[place * BATCH : (place + 1) * BATCH].to(DEVICE)",
        "        batch = pixels[some]",
    ]
    if moving and config.area == 1:
        lines.append(f"        batch = moved(batch, *moves(len(batch), SIZE, SEED, step{crop}){crop})")
    if turned:
        lines += [
            "        for at, name, value in TURNED:",
            "            if at == step:",
            "                setattr(head, name, value)  # as a person did while it trained",
        ]
    if config.schedule != "constant":
        high, rest = ("0.1", "0.9") if config.schedule == "cosine" else ("0.6", "0.4")
        lines += [
            "        done = step / steps  # the learning rate rises in a line, and falls down half a cosine",
            f"        fall = 0.5 + 0.5 * math.cos(math.pi * max(0.0, done - {high}) / {rest})",
            "        for group in optimizer.param_groups:",
            '            group["lr"] = LR * ((done + 1e-3) / 0.101 if done < 0.1 else fall)',
        ]
    seeing = f"ready(batch{crop})"
    if config.area < 1:
        seeing = "warped(ready(batch), areas(len(batch), SEED, step, AREA))"
        seeing = f"resized({seeing}{crop})" if config.crop else seeing
    if config.warp:
        seeing = f"warped({seeing}, warps(len(batch), SEED, step, WARP))"
    if config.grow:
        whole = "CROP" if config.crop else "SIZE"
        lines += [
            "        done = step / steps  # images have a half, then three quarters of their side at first",
            f"        side = {whole} if done >= GROW else {whole} * (2 + int(2 * done / GROW)) // 4",
        ]
        seeing = f"resized({seeing}, side)"
    lines += [
        "        with torch.autocast(DEVICE, torch.bfloat16, enabled=HALF):",
        f"            loss = head.loss(encoder({seeing}), labels[some])",
        "        optimizer.zero_grad()",
        "        loss.backward()",
        "        optimizer.step()",
        "        losses.append(loss.item())",
        "        if place == steps_per_epoch - 1:",
        '            print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}", flush=True)',
    ]
    return "\n".join(lines)


def main(config: RunConfig, unseen: bool, classes: int, folder: bool) -> str:
    """Where all of it comes together."""
    pretrained = ", pretrained=True" if config.pretrained else ""
    lines = [
        'if __name__ == "__main__":',
        f"    pixels, labels, val = map(torch.from_numpy, images({'sys.argv[1]' if folder else ''}))",
    ]
    if unseen:
        lines += [
            "    seen = torch.isin(labels, torch.tensor(HELD_OUT), invert=True)  # the others are kept out of it all",
            "    pixels, labels, val = pixels[seen], labels[seen].unique(return_inverse=True)[1], val[seen]",
        ]
    lines += [
        "    rows, asked = (~val).nonzero().squeeze(1), val.nonzero().squeeze(1)",
        "    pixels, labels = pixels.to(DEVICE), labels.to(DEVICE)",
        "    torch.manual_seed(SEED)",
        f"    encoder = {config.encoder}(pixels.shape[3], {'CROP' if config.crop else 'SIZE'}, DIM{pretrained})",
        "    torch.manual_seed(SEED)",
        f"    head = {config.head}(DIM, {classes})",
        "    encoder, head = encoder.to(DEVICE, memory_format=torch.channels_last), head.to(DEVICE)",
        "    train(encoder, head, pixels, labels, rows)",
        "    known, found = features_of(encoder, pixels[rows]), features_of(encoder, pixels[asked])",
    ]
    if scored(config.head):
        lines += [
            "    guesses = head.eval()(found).argmax(1)  # inference logits, which saw no label",
            '    print(f"DNN accuracy {(guesses == labels[asked]).float().mean():.4f}")',
        ]
    lines.append('    print(f"KNN accuracy {knn_accuracy(known, labels[rows], found, labels[asked]):.4f}")')
    return "\n".join(lines)
