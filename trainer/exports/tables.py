"""Metrics and embeddings as tables: CSV for people and spreadsheets, Parquet for numbers kept as they are."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from faces.datasets.base import Progress, Progressed
from trainer.exports.base import Export, Taken

RUN = ("head", "dataset", "seed", "run")  # columns that say which run a row of metrics is of


class Csv(Export):
    """Tables as text."""

    name, title = "csv", "Tables (CSV)"
    meaning = (
        "metrics: a row per moment. embeddings: a row per image of the last moment, with its index in the dataset, "
        "label, class, split, what it was taken for, and the numbers of its unit embedding, e0, e1, ..."
    )

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        return tables(taken, progress, ".csv", as_csv)


class Parquet(Export):
    """Tables as columns, in the types that they have."""

    name, title = "parquet", "Tables (Parquet)"
    meaning = f"{Csv.meaning} The same as CSV, smaller, with types: read it with pandas, Polars, DuckDB or Arrow."

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        return tables(taken, progress, ".parquet", as_parquet)


def tables(taken: Sequence[Taken], progress: Progress, suffix: str, written: Any) -> dict[str, bytes]:
    """The metrics of all runs in one table, the embeddings of each in one of its own."""
    metrics = taken[0].stem if len(taken) == 1 else f"faces-{len(taken)}-runs"
    found = {f"{metrics}-metrics{suffix}": written(metrics_table(taken))}
    for done, one in enumerate(taken):
        progress(Progressed("Writing embeddings", done, len(taken), "runs"))
        found[f"{one.stem}-embeddings{suffix}"] = written(embeddings_table(one))
    return found


def metrics_table(taken: Sequence[Taken]) -> Any:
    """A row per snapshot of each run: which run, step, epoch, seconds, and every metric that occurs, else null."""
    import pyarrow as pa

    names = sorted({name for one in taken for facts in one.history for name in facts["metrics"]})
    rows: list[dict[str, Any]] = []
    for one in taken:
        config = one.run.config
        which = dict(zip(RUN, (config.head, config.dataset, config.seed, one.run.id), strict=True))
        for facts in one.history:
            rows.append({**which, **{name: facts[name] for name in ("step", "epoch", "seconds")}, **facts["metrics"]})
    numbers = [pa.field(name, pa.float64()) for name in ("epoch", "seconds", *names)]
    words = [pa.field(name, pa.int64() if name == "seed" else pa.string()) for name in RUN]
    return pa.Table.from_pylist(rows, pa.schema([*words, pa.field("step", pa.int64()), *numbers]))


def embeddings_table(one: Taken) -> Any:
    """A row per image of the newest snapshot, validation first.

    `index` is its row of the dataset, null for training images and those of held-out classes, of which a snapshot
    does not keep it; `prediction` is null for those too, and where there was none.
    """
    import pyarrow as pa

    shot, classes = one.snapshot, one.folder.class_names
    parts = [
        ("val", shot.embeddings, shot.labels, shot.rows, shot.predictions),
        ("train", shot.known, shot.known_labels, None, None),
        ("unseen", shot.unseen, shot.unseen_labels, None, None),
    ]
    parts = [part for part in parts if len(part[1])]

    def column(at: int) -> Any:
        known = [pa.array(part[at] if part[at] is not None else [None] * len(part[1]), pa.int64()) for part in parts]
        return pa.chunked_array(known, pa.int64()).combine_chunks()

    def named(numbers: Any) -> Any:
        return pa.array([None if number is None or number < 0 else class_name(classes, number) for number in numbers])

    labels = np.concatenate([part[2] for part in parts]) if parts else np.empty(0, np.int64)
    rows = np.concatenate([part[1] for part in parts]) if parts else shot.embeddings
    predictions = [None if number is None or number < 0 else number for number in column(4).to_pylist()]
    columns = {
        "index": column(3), "label": pa.array(labels, pa.int64()), "class": named(labels.tolist()),
        "split": pa.array(np.repeat([part[0] for part in parts], [len(part[1]) for part in parts]), pa.string()),
        "prediction": pa.array(predictions, pa.int64()), "predicted_class": named(predictions),
    }  # fmt: skip
    columns |= {f"e{axis}": pa.array(rows[:, axis]) for axis in range(rows.shape[1])}
    return pa.table(columns)


def class_name(classes: Sequence[str], label: int) -> str:
    """The name of a class, or its number where its name is not known."""
    return classes[label] if label < len(classes) else str(label)


def as_csv(table: Any) -> bytes:
    """A table as CSV with a header; null is an empty field. Text that a spreadsheet would run gets a ' before it."""
    from pyarrow.csv import write_csv

    out = io.BytesIO()
    write_csv(harmless(table), out)
    return out.getvalue()


def inert(text: str) -> str:
    """A text with a ' before what would make it a formula to a spreadsheet."""
    return f"'{text}" if text and text[0] in "=+-@\t\r\n" else text


def harmless(table: Any) -> Any:
    """A table in which no text begins like a formula: class names come from folders that anybody may have named."""
    import pyarrow as pa

    for at, name in enumerate(table.column_names):
        if pa.types.is_string(table.schema.field(at).type):
            safe = [text and inert(text) for text in table.column(at).to_pylist()]
            table = table.set_column(at, name, pa.array(safe, pa.string()))
    return table


def as_parquet(table: Any) -> bytes:
    """A table as the content of a Parquet file."""
    from pyarrow.parquet import write_table

    out = io.BytesIO()
    write_table(table, out, compression="zstd")
    return out.getvalue()
