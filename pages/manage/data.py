"""Data: what images are here, what can be fetched, and how to bring your own."""

from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from faces.datasets import Dataset, available, own, samples
from faces.datasets.imagewoof import ARCHIVES, Imagewoof
from faces.datasets.own import Own, clean_name
from pages.components import runs as told
from pages.components.live import live
from pages.components.session import the_store
from trainer.exports.tables import inert
from trainer.store import OPEN
from trainer.telling import sentence

EACH = 6  # samples of a class
PAIRS = 8  # near duplicates shown

store = the_store()


def ask(*arguments: str) -> None:
    """Queue a data job."""
    told.tried(store.ask_data, *arguments)


def remove(name: str) -> None:
    """Remove a set of somebody's own images."""
    store.allow("remove")
    own.remove(name)


def decoded(data: Dataset) -> list[int]:
    """The sizes at which a dataset can be used at once."""
    return [size for size in sorted(data.sizes) if data.ready(size)]


@st.cache_data(max_entries=20, show_spinner="Looking at samples")
def pictures(name: str, size: int, counts: tuple[int, int]) -> dict[str, Any]:
    """A few validation images of each class."""
    return samples(available()[name].load(size), EACH, val=True)


def gallery(data: Dataset) -> None:
    """Samples of each class, one row per class."""
    sizes = decoded(data)
    if not sizes or data.counts is None:
        return
    with st.expander(f"Samples of each class, as the encoder sees them at {sizes[-1]} px"):
        found = pictures(data.name, sizes[-1], data.counts)
        with st.container(horizontal=True):
            for name, images in found.items():
                with st.container(width=170):
                    st.image(list(images), width=48 if sizes[-1] <= 16 else 76)
                    st.caption(told.plain(name))


@st.cache_data(max_entries=20, show_spinner=False)
def twins(name: str, size: int, pairs: tuple[tuple[int, int], ...]) -> Any:
    """Each pair (training, validation) side by side, as one picture."""
    images = available()[name].load(size).pixels
    return [np.concatenate([images[row] for row in pair], axis=1) for pair in pairs]


def near_duplicates(data: Dataset) -> None:
    """How many training images nearly equal a validation image, and what some of them look like."""
    sizes = decoded(data)
    if not data.compared or not sizes:
        return
    try:
        found = data.found()
    except ValueError:
        return  # not looked for yet; the next training does
    pairs = data.duplicates()
    if not len(pairs):
        st.caption("No training photograph is a near copy of a validation one, as far as their pixels tell.")
        return
    count = len(set(pairs[:, 0].tolist()))
    words = "training photograph is a near copy" if count == 1 else "training photographs are near copies"
    with st.expander(f"{count:,} {words} of validation ones"):
        st.markdown(
            "A neighbour that is almost the same picture answers for the asked one, so KNN accuracy is too high "
            "wherever such pairs straddle the split. **Drop near duplicates** in a run's settings leaves the training "
            "ones out. Left: training, right: validation; pairs from the surest to the least sure."
        )
        if "names" in found:
            named, seen = len(found["names"]), len(found["pixels"])
            st.caption(
                f"{len(pairs):,} pairs: {named:,} from a list that comes with Faces, made by matching local features "
                f"of the originals, {seen:,} found from pixels on this machine, {named + seen - len(pairs):,} in both."
            )
        chosen = pairs[np.linspace(0, len(pairs) - 1, min(PAIRS, len(pairs))).astype(int)].tolist()
        st.image(twins(data.name, sizes[-1], tuple(map(tuple, chosen))), width=160)


def shelf(data: Dataset) -> None:
    """One dataset: what it is and what of it is here."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.header(told.plain(data.title), width="content", anchor=False)
            st.badge("here" if data.counts else "not here yet", color="green" if data.counts else "gray")
        st.markdown(data.summary)
        sizes = ", ".join(f"{size} px" for size in decoded(data))
        st.caption(f"{len(data.class_names)} classes. {data.state}" + (f" Decoded: {sizes}." if sizes else ""))
        if isinstance(data, Imagewoof):
            fetch(data)
        if isinstance(data, Own):
            if data.skipped:
                with st.expander(f"{len(data.skipped)} files were left out"):
                    rows = [{"file": inert(file), "reason": why} for file, why in data.skipped]
                    st.dataframe(rows, hide_index=True)
            st.button(
                "Remove",
                key=f"remove {data.name}",
                icon=":material/delete:",
                on_click=told.tried,
                args=(remove, data.name),
                **told.allowed(store, "remove"),
            )
        if data.counts and len(data.sizes) > 1:
            missing = [size for size in sorted(data.sizes) if size not in decoded(data)]
            if missing:
                with st.container(horizontal=True, vertical_alignment="bottom"):
                    size = st.selectbox(
                        "Decode at", missing, format_func=lambda px: f"{px} px", key=f"size {data.name}", width=140
                    )
                    st.button(
                        "Decode", key=f"decode {data.name}", on_click=ask,
                        args=("prepare", data.name, "--size", str(size)),
                        **{"help": "Or leave it to the first training."} | told.allowed(store, "decode"),
                    )  # fmt: skip
        gallery(data)
        near_duplicates(data)


def fetch(data: Imagewoof) -> None:
    """Get Imagewoof from its source or from this machine."""
    with st.expander("Get it" if data.counts is None else "Get it again", expanded=data.counts is None):
        download, bring = st.columns(2, gap="large")
        with download:
            st.markdown(
                "**Download it**, from fastai's public archive, for research and education. "
                "A broken download goes on where it stopped."
            )
            archive = st.selectbox(
                "Archive", list(ARCHIVES), format_func=lambda name: f"{name} · {ARCHIVES[name].bytes / 1e6:,.0f} MB"
            )
            st.button(
                "Download", type="primary", icon=":material/download:", on_click=ask,
                args=("fetch", data.name, "--archive", archive), **told.allowed(store, "fetch"),
            )  # fmt: skip
        with bring:
            st.markdown(
                "**Or take it from this machine**: archives (.tgz) or folders that hold it, in whole or in part."
            )
            paths = st.text_area("Paths on the machine that runs Faces, one per line", height=80, key="woof paths")
            given = [line.strip() for line in paths.splitlines() if line.strip()]
            st.button(
                "Import", key="import woof", icon=":material/drive_folder_upload:", on_click=ask,
                args=("import", data.name, *given), **told.allowed(store, "path", able=bool(given)),
            )  # fmt: skip


def bounded() -> dict[str, Any]:
    """How a place for uploads is drawn: for who may bring something, and as much as they may."""
    limits = store.by.limits
    return told.allowed(store, "bring") | ({"max_upload_size": max(1, limits.upload)} if limits else {})


def bring() -> None:
    """Import the visitor's own images."""
    with st.container(border=True):
        st.header("Your own images", anchor=False)
        st.markdown(
            "A folder with one folder of images per class, `train/` and `val/` above if you have a split, or a zip of "
            "it. JPEG, PNG, WebP, BMP and GIF. What cannot be read is listed and left out."
        )
        name = st.text_input("Name for the set", max_chars=64, key="own name")
        upload, folder = st.columns(2, gap="large")
        zipped = upload.file_uploader("A zip, from your computer", type="zip", key="own zip", **bounded())
        path = folder.text_input(
            "Or a folder or zip on the machine that runs Faces", key="own path", **told.allowed(store, "path")
        )
        ready = bool(name.strip() and (zipped or path.strip()))
        if st.button(
            "Import", key="import own", type="primary", icon=":material/add_photo_alternate:",
            **told.allowed(store, "bring", able=ready),
        ):  # fmt: skip
            try:
                take("import", clean_name(name), zipped, path.strip())
                st.rerun()
            except (ValueError, OSError) as error:
                st.error(told.plain(sentence(error)))


def take(kind: str, name: str, upload: Any, path: str, *words: str) -> None:
    """Queue a job for a file: an upload, kept in the home until the job is done with it, or one at a path."""
    if upload is None:
        store.ask_data(kind, name, path, *words)
    else:
        store.ask_with_upload(kind, name, Path(upload.name).suffix.lower(), upload.getbuffer(), *words)


def bring_embeddings() -> None:
    """Bring embeddings that were made elsewhere, to look at them without training."""
    with st.container(border=True):
        st.header("Your own embeddings", anchor=False)
        st.markdown(
            "A table of numbers with labels, from any model: seen, scored by KNN, inspected and compared like a run, "
            "without training. **CSV** or **Parquet** with a column `class` or `label`, or **NPZ** with `embeddings` "
            "and `labels`. A column `split` says which rows are known (`train`) and which are asked (`val`); without "
            "one each row is named by all others. A column `index` ties rows to the images of a dataset here."
        )
        left, middle, right = st.columns(3, gap="large")
        name = left.text_input("What made them", max_chars=64, key="brought name", placeholder="CLIP")
        on = middle.text_input("What they are of", max_chars=64, key="brought on", placeholder="my photographs")
        label = right.text_input("Column of labels, if it has another name", max_chars=64, key="brought label")
        upload, place = st.columns(2, gap="large")
        table = upload.file_uploader(
            "A table, from your computer", type=["csv", "tsv", "npz", "parquet"], key="brought", **bounded()
        )
        where, may = "Or a file on the machine that runs Faces", told.allowed(store, "path")
        path = place.text_input(where, key="brought path", **may).strip()
        ready = bool(name.strip() and (table or path))
        may = told.allowed(store, "bring", able=ready)
        if st.button("Bring", key="bring", type="primary", icon=":material/upload_file:", **may):
            try:
                said = [f"--on={clean_name(on or 'embeddings')}"]
                said += [f"--label={label.strip()}"] if label.strip() else []
                take("embeddings", clean_name(name), table, path, *said)
                st.session_state["said"] = f"{name} is being read; the top of this page says how it went."
                st.rerun()
            except (ValueError, OSError) as error:
                st.error(told.plain(sentence(error)))


def work() -> bool:
    """Data jobs that run, and how the last ones ended. True when none is left to run."""
    jobs = store.jobs()
    for job in jobs[:3]:
        what, progress = " ".join(job["arguments"][:2]), job["progress"]
        if job["state"] in OPEN:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.progress(*(told.work(progress) if progress else (0.0, f"Waiting to {told.plain(what)}.")))
                st.button(
                    "Stop", key=f"stop {job['id']}", icon=":material/stop:", on_click=told.tried,
                    args=(store.stop_job, job["id"]), **told.allowed(store, "stop", job["owner"]),
                )  # fmt: skip
        elif job["state"] == "failed":
            st.error(told.plain(f"{what}: {job['reason']}"), icon=":material/error:")
        elif job["state"] == "finished" and job is jobs[0]:
            first, *rest = str(job["progress"].get("said", "Done.")).split("\n")
            st.success(told.plain(first), icon=":material/check:")
            if job["arguments"][0] == "embeddings":
                st.page_link("manage/runs.py", label="Look at them under Runs", icon=":material/history:")
            if rest:
                st.code("\n".join(rest), language=None)
    return not any(job["state"] in OPEN for job in jobs)


st.title("Which images can heads be trained on?")
st.markdown(
    "Digits are always here. Imagewoof and your own images are decoded once per size, and then open at once. "
    "Embeddings that another model made need no training: bring them at the end of this page."
)
if said := st.session_state.pop("said", ""):
    st.toast(told.plain(said), icon=":material/hourglass_top:")
live(work, any(job["state"] in OPEN for job in store.jobs()))
for data in available().values():
    shelf(data)
bring()
bring_embeddings()
