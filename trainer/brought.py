"""Embeddings brought from elsewhere: a table of numbers with labels becomes a run that nobody trained.

    CSV      a header, a column of labels (class, label, target or y), numbers in the others; split, index if you like
    Parquet  the same columns, or the embeddings in one column of lists
    NPZ      embeddings (N, D) and labels (N,); class_names, split and index if you like; nothing that needs pickle

It has one snapshot, no weights, no loss and no DNN accuracy. Rows whose split says train are known, the others asked;
without a split each row is asked what the others say (leave-one-out). What comes in is not trusted: sizes are read
before contents, names are cleaned, and what does not fit is refused in one sentence.
"""

import io
import json
import os
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from ulid import ULID

from faces.datasets import find
from faces.datasets.base import Progress, Progressed, silent
from faces.datasets.own import clean_name
from faces.evaluation import class_means, explained_variance, knn_accuracies, nearest, nearest_means, vote
from faces.heads import HEADS
from trainer.config import VERSION, RunConfig
from trainer.memory import at_most
from trainer.naming import BROUGHT
from trainer.pictures import draw_past
from trainer.snapshot import Snapshot
from trainer.store import Store

MOST_ROWS, MOST_DIMS, MOST_NUMBERS, MOST_BYTES = 100_000, 4096, 60_000_000, 1 << 30
MOST_MEMORY = 5 << 29  # for reading a file: the 60 million numbers that are the most take up to 2.1 GB, as Parquet
MOST_CLASSES = 1000
MOST_LETTERS = 200  # of a word
FEWEST = 10  # rows; KNN with k = 5 asks for some
ASKED = 5000  # rows that are asked at most, of every class its share; the picture shows these
LABEL = ("class", "label", "labels", "target", "y", "category")  # names of the column of labels, the first one counts
SPLIT = ("split", "subset", "val")
INDEX = ("index", "row")
NUMBERS = ("embeddings", "embedding", "features", "vectors", "x")  # names of an array or a column of lists
BESIDE = {*LABEL, *SPLIT, *INDEX, "id", "name", "names", "file", "path", "class_names", "prediction", "predicted_class"}
KNOWN = {"train", "training", "known", "gallery", "false", "0"}
VALIDATION = {"val", "valid", "validation", "test", "query", "asked", "true", "1"}
UNSEEN = {"unseen"}  # classes kept out of a training, as our own tables call them


class Brought(NamedTuple):
    """What a file holds: embeddings as they came, labels as words, split and rows of a dataset if it says so."""

    embeddings: Float[ndarray, "N D"]
    labels: list[str]
    split: list[str] | None
    places: Int[ndarray, " N"] | None  # rows of a dataset; -1 where a row does not say


def bring(store: Store, path: Path, name: str, on: str, label: str = "", progress: Progress = silent) -> str:
    """Make a run of the embeddings in a file and return its id.

    `name` is what made them ("CLIP"), `on` what they are of; `label` names the column of labels. Where `on` is a
    dataset of this home and the rows say which of its images they are, the picture shows these. ValueError, in one
    sentence, for whatever does not fit, and then nothing is kept.
    """
    name, on = clean_name(name), clean_name(on)
    if name in HEADS:
        raise ValueError(f"{name} is the name of a head. Call these embeddings after what made them.")
    progress(Progressed("Reading embeddings", 0, None, "rows"))
    with at_most(MOST_MEMORY):
        found = read(path, label)
    class_names, labels = named(found.labels)
    embeddings = checked(found.embeddings, labels, class_names)
    parts = None if found.split is None else parted(found.split)
    shown = np.ones(len(labels), bool) if parts is None else parts == 1
    rows, images = np.arange(len(labels)), None
    if found.places is not None:
        images = same_images(on, found.places[shown], [class_names[label] for label in labels[shown]])
        rows = rows if images is None else found.places
    progress(Progressed("Measuring embeddings", 0, None, "rows"))
    snapshot = measured(embeddings, labels, rows, parts)
    config = settings(name, on, embeddings.shape[1], len(snapshot.labels))
    run, now = str(ULID()), time.time()
    folder = store.folder(run)
    folder.tell(config, {"created": now, "note": "", "owner": store.by.owner})
    folder.begin(BROUGHT if images is None else images, class_names)
    folder.keep(1, snapshot)
    draw_past(folder, [snapshot])
    store.enter(run, config, "", now, now, now, owner=store.by.owner)
    return run


def settings(name: str, on: str, dim: int, shown: int) -> RunConfig:
    """The record of a run that was brought: names and sizes, and nothing of a training."""
    known = {"head": name, "dataset": on, "encoder": BROUGHT, "dim": dim, "epochs": 0, "knobs": {}, "probe": shown}
    none = {"size": 0, "batch": 0, "lr": 0.0, "weight_decay": 0.0, "optimizer": "", "schedule": "", "augment": False}
    return RunConfig.from_json(json.dumps({"version": VERSION, **known, **none}))


def counted(metrics: Mapping[str, float]) -> str:
    """On what the scores of a run that was brought are counted, in a sentence."""
    asked = f"{metrics['asked']:,.0f}"
    if "leave_one_out" in metrics:
        others = metrics["leave_one_out"] - 1
        return f"No split came with them: each of {asked} rows is named by the {others:,.0f} others (leave-one-out)."
    return f"Their own split: {asked} rows are named by {metrics['known']:,.0f} that it calls train."


# ---- reading


def read(path: Path, label: str = "") -> Brought:
    """What a CSV, NPZ or Parquet file holds. ValueError for another kind of file and for what has none of its forms."""
    readers: dict[str, Callable[[Path, str], Brought]] = {
        ".csv": read_csv, ".tsv": read_csv, ".npz": read_npz, ".parquet": read_parquet,
    }  # fmt: skip
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path.name} is no CSV, NPZ or Parquet file; embeddings come as .csv, .npz or .parquet.")
    if not path.is_file():
        raise ValueError(f"{path} does not exist.")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size >> 20:,} MB; {MOST_BYTES >> 20:,} are the most.")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own asks for twice as much as it uses
    return readers[path.suffix.lower()](path, label)


def read_csv(path: Path, label: str) -> Brought:
    """Rows of a text file with a header. ValueError names the first row that has too few or too many fields."""
    import pyarrow as pa
    from pyarrow import csv

    with path.open("rb") as file:
        header = file.readline(1 << 20).decode("utf-8", "replace")
        rows = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    separator = "\t" if "\t" in header else ";" if header.count(";") > header.count(",") else ","
    enough(rows, header.count(separator) + 1, path.name)
    ragged: list[Any] = []

    def odd(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        table = csv.read_csv(
            path, csv.ReadOptions(use_threads=False), csv.ParseOptions(delimiter=separator, invalid_row_handler=odd),
            csv.ConvertOptions(null_values=["", "NA", "null"], strings_can_be_null=True),
        )  # fmt: skip
    except (pa.ArrowInvalid, pa.ArrowKeyError) as why:
        if ragged:
            row = ragged[0]
            where = f"Row {row.number - 1}" if row.number else "A row"
            said = f"{where} of {path.name} has {row.actual_columns} fields; its header has {row.expected_columns}."
            raise ValueError(said) from why
        raise ValueError(f"{path.name} is no table with a header ({first(why)}).") from why
    return from_table(table, label, path.name)


def read_parquet(path: Path, label: str) -> Brought:
    """Rows of a Parquet file; how many it claims to have is checked before any is read."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
        told = file.metadata
        groups = [told.row_group(at) for at in range(told.num_row_groups)]
        enough(told.num_rows, told.num_columns, path.name)
        values = sum(group.column(at).num_values for group in groups for at in range(told.num_columns))
        if values > MOST_NUMBERS + MOST_ROWS * len(BESIDE) or sum(one.total_byte_size for one in groups) > MOST_BYTES:
            raise ValueError(f"{path.name} holds {values:,} values; {MOST_NUMBERS:,} numbers are the most.")
        texts = [one.name for one in file.schema_arrow if is_text(one.type)]
        for one in file.schema_arrow:
            if not (one.name in texts or is_number(one.type) or pa.types.is_boolean(one.type) or is_numbers(one.type)):
                raise ValueError(
                    f"Column {one.name[:40]!r} of {path.name} is {one.type}; numbers, words, lists of numbers are read."
                )
        batches = [
            short(batch, texts, path.name)
            for batch in ParquetFile(path, read_dictionary=texts).iter_batches(batch_size=1000)
        ]
    except (pa.ArrowException, OSError) as why:
        raise ValueError(f"{path.name} is no Parquet file that can be read ({first(why)}).") from why
    table = pa.Table.from_batches(batches) if batches else file.schema_arrow.empty_table()
    return from_table(table, label, path.name)


def short(batch: Any, texts: Sequence[str], name: str) -> Any:
    """Some rows with their words spelled out, once none is known to be long: few bytes may stand for gigabytes."""
    import pyarrow as pa
    from pyarrow import compute as pc

    for text in texts:
        column = batch.column(text)
        spelled = column.dictionary if pa.types.is_dictionary(column.type) else column
        if (pc.max(pc.binary_length(spelled)).as_py() or 0) > MOST_LETTERS:
            raise ValueError(f"Column {text[:40]!r} of {name} has words of more than {MOST_LETTERS} letters.")
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        batch = batch.set_column(batch.schema.get_field_index(text), text, column)
    return batch


def from_table(table: Any, label: str, name: str) -> Brought:
    """Embeddings, labels and the rest from named columns. ValueError says which column is missing or has no numbers."""
    import pyarrow as pa

    if not table.num_rows:
        raise ValueError(f"{name} has no rows under its header.")
    if any(pa.types.is_binary(one.type) or pa.types.is_large_binary(one.type) for one in table.schema):
        raise ValueError(f"The words of {name} are not UTF-8; save it as UTF-8.")
    there = {column.casefold().strip(): column for column in reversed(table.column_names)}
    if len(set(table.column_names)) < len(table.column_names):
        raise ValueError(f"Two columns of {name} have the same name; give each its own.")
    if label and label.casefold() not in there:
        raise ValueError(f"{name} has no column {label!r}. Its columns: {listed(table.column_names)}.")
    own = there.get(label.casefold()) if label else next((there[one] for one in LABEL if one in there), None)
    if own is None:
        raise ValueError(
            f"{name} has no column of labels. Call it class or label, or name it. Its columns: "
            f"{listed(table.column_names)}."
        )
    labels = words(table.column(own).to_pylist(), own)
    kinds = {column: table.schema.field(column).type for column in table.column_names if column != own}
    lists = [column for column, kind in kinds.items() if is_list(kind)]
    if len(lists) > 1:
        raise ValueError(f"{name} has several columns of lists, {listed(lists)}; keep the one that is to be shown.")
    if lists:
        numbers = stacked(table.column(lists[0]), lists[0])
    else:
        chosen = [column for column in kinds if column.casefold().strip() not in BESIDE]
        if odd := [column for column in chosen if not is_number(kinds[column])]:
            raise ValueError(f"Column {odd[0]!r} of {name} holds no numbers. Leave it out, or name it as the labels.")
        if len(chosen) < 2:
            raise ValueError(f"{name} has {len(chosen)} columns of numbers; embeddings have 2 or more.")
        empty = [column for column in chosen if table.column(column).null_count]
        if empty:
            row = table.column(empty[0]).is_null().to_pylist().index(True)
            raise ValueError(f"Row {row + 1} of {name} has nothing in column {empty[0]!r}.")
        numbers = np.stack([table.column(column).to_numpy().astype(np.float32) for column in chosen], 1)
    split = next((there[one] for one in SPLIT if one in there and there[one] != own), None)
    index = next((there[one] for one in INDEX if one in there and pa.types.is_integer(kinds[there[one]])), None)
    rows = None if index is None else table.column(index).to_pylist()
    return Brought(
        numbers, labels, words(table.column(split).to_pylist(), split) if split else None,
        None if rows is None else np.array([-1 if row is None else row for row in rows], np.int64),
    )  # fmt: skip


def read_npz(path: Path, label: str) -> Brought:
    """Arrays of an NPZ file; what their headers claim is checked before any is made. No pickle is ever opened."""
    try:
        arrays = dict(npz_arrays(path))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, SyntaxError) as why:
        raise ValueError(f"{path.name} is no NPZ file that can be read ({first(why)}).") from why
    there = {key.casefold(): array for key, array in arrays.items()}
    numbers = next((there[one] for one in NUMBERS if one in there), None)
    if numbers is None:
        tables = [array for array in there.values() if array.ndim == 2 and array.dtype.kind == "f"]
        numbers = tables[0] if len(tables) == 1 else None
    own = next((there[one] for one in ((label.casefold(),) if label else LABEL) if one in there), None)
    if numbers is None or own is None:
        wanted = "embeddings (N, D)" if numbers is None else f"{label or 'labels'} (N,)"
        raise ValueError(f"{path.name} has no array {wanted}. It has: {listed(list(arrays))}.")
    if numbers.ndim != 2 or numbers.dtype.kind not in "fiu":
        raise ValueError(
            f"The embeddings of {path.name} are {numbers.dtype} {numbers.shape}; numbers (N, D) are needed."
        )
    split, index = (next((there[one] for one in names if one in there), None) for names in (SPLIT, INDEX))
    for what, array in (("labels", own), ("split", split), ("index", index)):
        if array is not None and array.shape != (len(numbers),):
            raise ValueError(
                f"{path.name} has {len(numbers):,} embeddings and {what} {array.shape}; one each is needed."
            )
    labels = words(own.tolist(), "labels")
    given = there.get("class_names")
    if given is not None and own.dtype.kind in "iu" and given.ndim == 1:
        if not 0 <= own.min(initial=0) <= own.max(initial=0) < len(given):
            raise ValueError(f"Labels of {path.name} run to {own.max()}; it names {len(given)} classes.")
        labels = [str(given[at]) for at in own]
    whole = index is not None and index.dtype.kind in "iu"
    return Brought(
        numbers.astype(np.float32), labels, words(split.tolist(), "split") if split is not None else None,
        index.astype(np.int64) if whole and index is not None else None,
    )  # fmt: skip


def npz_arrays(path: Path) -> Any:
    """Names and arrays, each read only when its header and its size agree. ValueError for objects and for too much."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > 20 or sum(info.file_size for info in members) > MOST_BYTES:
            raise ValueError(f"{path.name} holds more than 20 arrays or {MOST_BYTES >> 20:,} MB.")
        for info in members:
            with archive.open(info) as stream:
                start = io.BytesIO(stream.read(20_000))  # of a gigabyte, if the header says so
            version = npy.read_magic(start)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(start)
            if dtype.hasobject:
                raise ValueError(
                    f"{info.filename} in {path.name} holds Python objects, which are not opened; save numbers."
                )
            if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > info.file_size:
                raise ValueError(f"{info.filename} in {path.name} is not as large as it says.")
            if len(shape) == 2:
                enough(shape[0], shape[1], path.name)
            elif int(np.prod(shape, dtype=np.int64)) > MOST_ROWS or dtype.itemsize > 4 * MOST_LETTERS:
                raise ValueError(
                    f"{info.filename} in {path.name} is no list of up to {MOST_ROWS:,} words or numbers, each of up to "
                    f"{MOST_LETTERS} letters."
                )
            with archive.open(info) as stream:
                yield info.filename.removesuffix(".npy"), npy.read_array(stream, allow_pickle=False)


def enough(rows: int, columns: int, name: str) -> None:
    """ValueError for more rows or columns than a run can hold."""
    if rows > MOST_ROWS or columns > MOST_DIMS + len(BESIDE) or rows * columns > MOST_NUMBERS * 1.1:
        raise ValueError(
            f"{name} has {rows:,} rows of {columns:,} columns; {MOST_ROWS:,} rows, {MOST_DIMS:,} columns and "
            f"{MOST_NUMBERS:,} numbers are the most."
        )


def stacked(column: Any, name: str) -> Float[ndarray, "N D"]:
    """A column of lists as rows. ValueError unless all have the same length."""
    from pyarrow import compute as pc

    lists = column.combine_chunks()
    lengths = {length or 0 for length in pc.unique(pc.list_value_length(lists)).to_pylist()}
    if len(lengths) != 1:
        raise ValueError(
            f"The lists in column {name!r} have {min(lengths)} to {max(lengths)} numbers; all need as many."
        )
    try:
        return lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(lists), -1)
    except (TypeError, ValueError) as why:
        raise ValueError(f"Column {name!r} holds lists with more than numbers in them.") from why


def is_list(kind: Any) -> bool:
    """Whether a column holds a list in every row."""
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_numbers(kind: Any) -> bool:
    """Whether a column holds a list of numbers in every row."""
    return is_list(kind) and is_number(kind.value_type)


def is_text(kind: Any) -> bool:
    """Whether a column holds words, as they are or by a dictionary."""
    import pyarrow as pa

    spelled = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        test(spelled)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def is_number(kind: Any) -> bool:
    """Whether a column holds numbers."""
    import pyarrow as pa

    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)


def words(values: Sequence[Any], column: str) -> list[str]:
    """Labels as text; 3.0 is 3. ValueError for a row that has none."""
    found = []
    for row, value in enumerate(values):
        if value is None or str(value).strip() == "":
            raise ValueError(f"Row {row + 1} has nothing in column {column!r}.")
        whole = isinstance(value, float) and value.is_integer()
        found.append(str(int(value) if whole else value).strip())
    return found


def listed(names: Sequence[str]) -> str:
    """A few names for a sentence."""
    shown = ", ".join(name[:40] for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def first(why: Exception) -> str:
    """The first line of what a library says."""
    return (str(why).splitlines() or [type(why).__name__])[0][:160]


# ---- checking and measuring


def named(labels: Sequence[str]) -> tuple[list[str], Int[ndarray, " N"]]:
    """Class names, cleaned and in order (numbers by value), and each row's place among them.

    ValueError for fewer than two classes or too many, and for two that would be called the same.
    """
    if len(every := set(labels)) < 2:
        raise ValueError(f"All rows have the same label, {labels[0][:40]!r}." if labels else "There are no rows.")
    if len(every) > MOST_CLASSES:
        raise ValueError(
            f"There are {len(every):,} labels; {MOST_CLASSES:,} classes are the most. Is it the right column?"
        )
    whole = all(re.fullmatch("-?[0-9]{1,18}", label) for label in every)
    ordered = sorted(every, key=int) if whole else sorted(every)
    names = ordered if whole else [clean_name(label) for label in ordered]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Two labels would both be called {twice!r}. Rename one of them.")
    place = {label: at for at, label in enumerate(ordered)}
    return [name[:64] for name in names], np.array([place[label] for label in labels], np.int64)


def checked(
    embeddings: Float[ndarray, "N D"], labels: Int[ndarray, " N"], class_names: Sequence[str]
) -> Float[ndarray, "N D"]:
    """The same rows with unit length. ValueError for too few or too many, for nan and for a row without direction."""
    count, dim = embeddings.shape
    enough(count, dim, "The file")
    if count < FEWEST or dim < 2:
        raise ValueError(f"{count} rows of {dim} numbers came; {FEWEST} rows of 2 numbers are the least.")
    finite = np.isfinite(embeddings).all(1)
    if not finite.all():
        raise ValueError(f"Row {int(np.argmin(finite)) + 1} holds a number that is not finite (nan or infinite).")
    sizes = np.bincount(labels, minlength=len(class_names))
    if sizes.min() < 2:
        raise ValueError(f"Class {class_names[int(sizes.argmin())]!r} has one row; each needs 2 or more.")
    largest = np.abs(embeddings).max(1, keepdims=True)
    if not largest.all():
        raise ValueError(f"Row {int(np.argmin(largest)) + 1} is all zeros, so it has no direction.")
    scaled = embeddings / largest  # no square overflows
    return (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)


def parted(split: Sequence[str]) -> Int[ndarray, " N"]:
    """0 for known rows, 1 for asked ones, 2 for those of unseen classes. ValueError for a word that says none of it."""
    place = {**dict.fromkeys(KNOWN, 0), **dict.fromkeys(VALIDATION, 1), **dict.fromkeys(UNSEEN, 2)}
    if odd := sorted({word for word in split if word.casefold() not in place}):
        raise ValueError(f"The split has {odd[0][:40]!r}; it knows train and val (or test).")
    return np.array([place[word.casefold()] for word in split])


def measured(
    embeddings: Float[ndarray, "N D"],
    labels: Int[ndarray, " N"],
    rows: Int[ndarray, " N"],
    parts: Int[ndarray, " N"] | None,
) -> Snapshot:
    """The one moment of a run that was brought, with every score that needs no model."""
    from trainer.measuring import last_metrics
    from trainer.training import COMPONENTS, KS, spread_out

    if parts is not None and ((parts == 0).sum() < 5 or not (parts == 1).any()):
        counts = [int((parts == part).sum()) for part in (0, 1)]
        raise ValueError(f"The split has {counts[0]} rows for train and {counts[1]} for val; 5 and 1 are the least.")
    everyone = np.arange(len(labels))
    asked = spread_out(everyone if parts is None else everyone[parts == 1], labels)[:ASKED]
    known = everyone[:0] if parts is None else everyone[parts == 0]
    unseen = everyone[:0] if parts is None else everyone[parts == 2]
    metrics = {"asked": float(len(asked))}
    if parts is None:
        knn, predictions = left_out(embeddings, labels, asked, KS)
        metrics["leave_one_out"] = float(len(labels))
    else:
        known = spread_out(known, labels)
        knn = knn_accuracies(embeddings[known], labels[known], embeddings[asked], labels[asked], KS)
        predictions = nearest_means(embeddings[known], labels[known], embeddings[asked])
        metrics["known"] = float(len(known))
    metrics |= {"knn_accuracy": knn[5], "ncm_accuracy": float((predictions == labels[asked]).mean())}
    none = np.empty((0, embeddings.shape[1]), np.float32)
    snapshot = Snapshot(
        step=1, steps=1, epoch=0.0, seconds=0.0, metrics=metrics, knobs={}, embeddings=embeddings[asked],
        labels=labels[asked], predictions=predictions, rows=rows[asked], centers=none, center_labels=labels[:0],
        known=embeddings[known], known_labels=labels[known],
        variance=explained_variance(embeddings[asked], COMPONENTS).astype(np.float32),
        knn=np.array(list(knn.items()), np.float32), unseen=embeddings[unseen], unseen_labels=labels[unseen],
    )  # fmt: skip
    return Snapshot(**{**vars(snapshot), "metrics": {**metrics, **last_metrics(snapshot)}})


def left_out(
    embeddings: Float[ndarray, "N D"], labels: Int[ndarray, " N"], asked: Int[ndarray, " asked"], ks: Sequence[int]
) -> tuple[dict[int, float], Int[ndarray, " asked"]]:
    """KNN accuracy for several k, and the class with the nearest mean, of rows that are asked what all others say.

    A row is never its own neighbour, nor part of the mean that it is compared with.
    """
    ks = [k for k in ks if k < len(embeddings)]
    near, _ = nearest(embeddings, embeddings[asked], max(ks) + 1)  # (asked, k + 1)
    itself = near == asked[:, None]
    itself[~itself.any(1), -1] = True  # of many equal rows it need not be among the nearest
    voted = labels[near[~itself].reshape(len(asked), -1)]
    knn = {k: float((vote(voted[:, :k]) == labels[asked]).mean()) for k in ks}
    classes, means = class_means(embeddings, labels)
    sums = np.stack([embeddings[labels == label].sum(0) for label in classes])
    place, mine = np.searchsorted(classes, labels[asked]), embeddings[asked]
    rest = sums[place] - mine
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
    scores = mine @ means.T  # (asked, C)
    scores[np.arange(len(asked)), place] = (mine * rest).sum(1)
    return knn, classes[scores.argmax(1)]


def same_images(on: str, places: Int[ndarray, " N"], names: Sequence[str]) -> str | None:
    """The fingerprint of the dataset `on` if its images at these places have these classes; None if not, or unknown."""
    try:
        data = find(on)
        size = next(size for size in data.sizes if data.ready(size))
        labels = data.load(size).labels
    except (ValueError, StopIteration):
        return None
    if places.min(initial=0) < 0 or places.max(initial=0) >= len(labels):
        return None
    return data.print if [data.class_names[label] for label in labels[places]] == list(names) else None
