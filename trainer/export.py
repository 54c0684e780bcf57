"""A run to take away: one zip that opens without Faces."""

import csv
import io
import zipfile

from trainer.store import Store

ABOUT = """settings.json          what was trained (RunConfig)
metrics.csv            one row per snapshot; without dnn_accuracy for a head that has no class logits
snapshot.safetensors   the last one: embeddings of the validation images, labels, predictions, centers
model.safetensors      weights (model.encoder.*, model.head.*) and the optimizer's state

Read them with the safetensors package; nothing here is a pickle.
"""


def export(store: Store, name: str) -> bytes:
    """A run as the content of a zip file. ValueError when it has no snapshot yet."""
    run, history = store.run(name), store.history(name)
    if not history:
        raise ValueError("This run has no snapshot yet; there is nothing to take away.")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("README.txt", ABOUT)
        archive.writestr("settings.json", run.config.to_json())
        archive.writestr("metrics.csv", metrics_csv(history))
        archive.write(store.snapshot_file(name, history[-1]["step"]), "snapshot.safetensors")
        if weights := store.folder(name).checkpoint():
            archive.writestr("model.safetensors", weights)
    return content.getvalue()


def metrics_csv(history: list[dict]) -> str:
    """The snapshots of a run as a table: step, epoch, seconds, and every metric that occurs."""
    metrics = sorted({name for facts in history for name in facts["metrics"]})
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["step", "epoch", "seconds", *metrics])
    for facts in history:
        row = [facts["metrics"].get(name, "") for name in metrics]
        table.writerow([facts["step"], facts["epoch"], facts["seconds"], *row])
    return text.getvalue()
