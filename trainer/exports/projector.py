"""TensorBoard's embedding projector: tensors and metadata as TSV, and the file that names them."""

from collections.abc import Sequence

import numpy as np

from faces.datasets.base import Progress, Progressed
from trainer.exports.base import Export, Taken
from trainer.exports.tables import embeddings_table

COLUMNS = ("class", "label", "split", "predicted_class", "index")  # of the metadata; the first one names a point
CONFIG = "projector_config.pbtxt"
ABOUT = f"""Unpack this folder and show it to TensorBoard:

    tensorboard --logdir .

and choose Projector. {CONFIG} names the files. Or load a -tensors.tsv and its -metadata.tsv
with "Load" at projector.tensorflow.org.
"""


class Projector(Export):
    """The files that TensorBoard's projector reads."""

    name, title = "tsv", "TensorFlow projector (TSV)"
    meaning = (
        "The embeddings of the last moment with class, split and prediction. Unpack it and run `tensorboard --logdir` "
        "on the folder, or load the two files of a run at projector.tensorflow.org."
    )

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        found, told = {"README.txt": ABOUT.encode()}, []
        for done, one in enumerate(taken):
            progress(Progressed("Writing tensors", done, len(taken), "runs"))
            table = embeddings_table(one)
            numbers = [name for name in table.column_names if name not in COLUMNS and name.startswith("e")]
            rows = np.stack([table.column(name).to_numpy() for name in numbers], 1)
            words = [[cell(word) for word in table.column(name).to_pylist()] for name in COLUMNS]
            found[f"{one.stem}-tensors.tsv"] = lines([[f"{number:.6g}" for number in row] for row in rows.tolist()])
            found[f"{one.stem}-metadata.tsv"] = lines([COLUMNS, *zip(*words, strict=True)])
            told.append(
                f'embeddings {{\n  tensor_name: "{one.stem}"\n  tensor_shape: {len(rows)}\n  tensor_shape: '
                f'{rows.shape[1]}\n  tensor_path: "{one.stem}-tensors.tsv"\n  metadata_path: '
                f'"{one.stem}-metadata.tsv"\n}}\n'
            )
        return {CONFIG: "".join(told).encode(), **found}


def cell(value: object) -> str:
    """A value as one field: a tab or line break would begin another."""
    return "" if value is None else " ".join(str(value).split())


def lines(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows of fields as TSV; every row ends its line."""
    return "".join("\t".join(row) + "\n" for row in rows).encode()
