"""A run as one zip that opens without Faces: settings, metrics, the last snapshot, weights."""

from collections.abc import Sequence

from faces.datasets.base import Progress
from faces.files import read
from trainer.exports.base import Export, Taken
from trainer.exports.tables import as_csv, metrics_table

ABOUT = """settings.json          what was trained (RunConfig)
metrics.csv            one row per snapshot; without dnn_accuracy for a head that has no class logits
snapshot.safetensors   the last one: embeddings of the validation images, labels, predictions, centers
model.safetensors      weights (model.encoder.*, model.head.*) and the optimizer's state

Read them with the safetensors package; nothing here is a pickle.
"""


class Whole(Export):
    """Everything that Faces keeps of a run."""

    name, title = "zip", "Everything (zip)"
    meaning = "Settings, metrics, the last snapshot as it is kept here, and the weights with the optimizer's state."

    def files(self, taken: Sequence[Taken], progress: Progress) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for one in taken:
            folder = f"{one.stem}/" if len(taken) > 1 else ""
            found[f"{folder}README.txt"] = ABOUT.encode()
            found[f"{folder}settings.json"] = one.run.config.to_json().encode()
            found[f"{folder}metrics.csv"] = as_csv(metrics_table([one]))
            found[f"{folder}snapshot.safetensors"] = read(one.store.snapshot_file(one.run.id, one.facts["step"]))
            if weights := one.folder.checkpoint():
                found[f"{folder}model.safetensors"] = weights
        return found
