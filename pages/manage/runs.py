"""Runs: everything that has been trained here; open, stop, resume, delete, take away."""

import time
from collections.abc import Sequence

import streamlit as st

from faces.figures import GREY, history_curve, lines
from pages.components import runs as told
from pages.components.explained import put_in_all, why
from pages.components.live import POLL, live
from pages.components.session import echart, head_colors, the_store
from pages.components.settings import adopt
from pages.components.taking import taking
from trainer import rights, tidying
from trainer.brought import counted
from trainer.exports.base import taken
from trainer.exports.tables import as_csv, metrics_table
from trainer.store import ENDED, OPEN, Run
from trainer.tidying import Item, amount

PAGE = 10
SHOWN = {
    "all": OPEN + ENDED,
    "training and waiting": OPEN,
    "finished": ("finished",),
    "stopped or failed": ("stopped", "failed", "interrupted"),
}

store = the_store()

st.title("What has been trained here?")
st.markdown(
    "Every run is kept with its settings and snapshots until you delete it. "
    "A stopped or failed run goes on from its last checkpoint. **Take it away** opens what you can keep of one."
)

which = st.segmented_control(
    "Show", list(SHOWN), default="all", required=True, key="state", bind="query-params", label_visibility="collapsed"
)
states = SHOWN[which or "all"]
matching = store.count(states)
if not matching:
    st.info("No such runs. Train one on the page Explore.", icon=":material/explore:")
    st.page_link("explore/explore.py", label="Explore a head", icon=":material/explore:")
    st.stop()
pages = -(-matching // PAGE)
page = st.pagination(pages, key="page") if pages > 1 else 1
runs = store.runs(states, slice((page - 1) * PAGE, page * PAGE))
names = [run.id for run in runs]


@told.forgiving
def show(names: list[str]) -> bool:
    """The cards, read anew. True when nothing moves any more."""
    latest = store.latest(names)
    place, begun, moving = st.container(), list[Run](), False
    for name in names:
        try:
            run = store.run(name)
        except ValueError:
            continue
        moving |= run.open
        card(run, latest.get(name))
        begun += [run] if name in latest else []
    with place:
        looks = {name: [latest[run.id]["metrics"]] for name, run in zip(called(begun), begun, strict=True)}
        why(put_in_all(("knn_accuracy", "dnn_accuracy", "ncm_accuracy", "loss"), looks), "runs")
    return not moving


def called(runs: Sequence[Run]) -> list[str]:
    """How the explanations name each of these runs: among those of its dataset."""
    found: dict[str, str] = {}
    for dataset in dict.fromkeys(run.config.dataset for run in runs):
        alike = [run for run in runs if run.config.dataset == dataset]
        where = told.dataset_title(dataset)
        found |= {run.id: f"{name} on {where}" for run, name in zip(alike, told.names(alike), strict=True)}
    return [found[run.id] for run in runs]


def card(run: Run, facts: dict | None) -> None:
    """One run."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{told.plain(told.title(run.config))}**", width="content")
            told.badge("brought" if told.brought(run.config) else run.state)
            if facts and facts["turned"]:
                st.badge("turned while training", icon=":material/tune:", color="violet")
            if run.config.pretrained:
                st.badge("pretrained: has seen most validation images", icon=":material/warning:", color="orange")
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
        by = f" · by {told.plain(rights.called(run.owner))}" if run.owner else ""
        st.caption(f"{told.subtitle(run.config)} · {when}{by}" + (f" · {told.plain(run.note)}" if run.note else ""))
        if run.state != "finished":
            told.progress(store, run, facts)
        if facts:
            metrics = facts["metrics"]
            said = [f"loss {metrics['loss']:.3f}"] if "loss" in metrics else []
            if not told.has_logits(run.config):
                said += ["no DNN (no classifier)" if told.brought(run.config) else "no DNN (no class logits)"]
            elif "dnn_accuracy" in metrics:
                said += [f"DNN {metrics['dnn_accuracy']:.1%}"]
            said += [f"KNN {metrics['knn_accuracy']:.1%}"] if "knn_accuracy" in metrics else []
            said += [f"class mean {metrics['ncm_accuracy']:.1%}"] if "ncm_accuracy" in metrics else []
            if told.brought(run.config):
                st.markdown(" · ".join([*said, "not trained here"]))
                st.caption(counted(metrics))
            else:
                said += [f"{told.duration(facts['seconds'])} of training, epoch {facts['epoch']:.1f}"]
                st.markdown(" · ".join(said))
        with st.container(horizontal=True):
            if st.button("Open", key=f"open {run.id}", icon=":material/open_in_new:"):
                adopt(run.config)
                st.session_state["adopted"] = True
                st.switch_page("explore/explore.py", query_params={"run": run.id})
            if run.open:
                st.button(
                    "Stop", key=f"stop {run.id}", icon=":material/stop:", on_click=told.tried,
                    args=(store.stop, run.id), **told.allowed(store, "stop", run.owner),
                )  # fmt: skip
            else:
                if run.state != "finished":
                    st.button(
                        "Resume",
                        key=f"resume {run.id}",
                        icon=":material/resume:",
                        on_click=told.tried,
                        args=(store.resume, run.id),
                        **told.allowed(store, "resume", run.owner),
                    )
                pinned = store.folder(run.id).pinned
                st.button(
                    "Unpin" if pinned else "Pin", key=f"pin {run.id}", on_click=told.tried,
                    args=(store.pin, run.id, not pinned), icon=":material/keep_off:" if pinned else ":material/keep:",
                    **{"help": "A pinned run stays whole when old ones are let go."}
                    | told.allowed(store, "pin", run.owner),
                )  # fmt: skip
                if facts:
                    taking([run], run.id)
                may = told.allowed(store, "delete", run.owner)
                with st.popover("Delete", icon=":material/delete:", **may):
                    st.markdown("Delete this run with all its snapshots?")
                    st.button(
                        "Delete",
                        key=f"delete {run.id}",
                        type="primary",
                        on_click=told.tried,
                        args=(store.delete, run.id),
                        **may,
                    )
        details = st.expander("Curves, settings, log", key=f"details {run.id}", on_change="rerun")
        if details.open:
            with details:
                detail(run)


def detail(run: Run) -> None:
    """Curves, settings and log of one run."""
    history = store.history(run.id)
    if history and not told.brought(run.config):
        left, right = st.columns(2)
        ink = head_colors([run.config.head])[run.config.head]
        chart = lines(
            {"Training loss": history_curve(history, "loss")}, {"Training loss": ink}, "epoch", "Training loss"
        )
        with left:
            echart(chart, height=220, key=f"loss {run.id}", alt="Training loss over the epochs")
        two = told.accuracies(run.config, history)
        chart = lines(two, dict.fromkeys(two, GREY) | {"KNN": ink}, "epoch", "", percent=True)
        with right:
            echart(chart, height=220, key=f"accuracy {run.id}", alt="Accuracies over the epochs")
        st.download_button(
            "Metrics as CSV",
            lambda: as_csv(metrics_table(taken(store, [run.id]))),
            f"{run.id}.csv",
            "text/csv",
            key=f"csv {run.id}",
            on_click="ignore",
        )
    st.json(run.config.to_json(), expanded=1)
    if text := store.folder(run.id).log(run.attempt)[-4000:]:
        st.code(text, language=None)
    st.caption(f"Run {run.id}, attempt {run.attempt}.")


def room() -> None:
    """What all runs take, and letting old ones go, for who may."""
    if store.why_not("tidy"):
        return
    more = st.expander("Room on the disk", icon=":material/hard_drive:", key="room", on_change="rerun")
    if not more.open:
        return
    with more:
        free, _ = tidying.tightest(store.path)
        st.markdown(f"Runs and exports take **{amount(tidying.taken(store))}**; {amount(free)} are free on this disk.")
        keep = st.number_input("Keep at most, GB", 0.0, 10_000.0, tidying.KEEP / 1e9, 0.5, key="keep", width=180)
        items = tidying.plan(store, round(keep * 1e9))
        if not items:
            st.caption("Nothing has to go for that.")
            return
        st.dataframe(
            [
                {"What would go": kind, "How many": count, "Room": amount(size), "What is lost": lost}
                for kind, count, size, lost in tidying.summary(items)
            ],
            hide_index=True,
            width="stretch",
        )
        st.caption("The oldest first. Runs that are pinned, train or wait stay whole.")
        with st.popover("Let these go", icon=":material/delete_sweep:"):
            st.markdown("This cannot be undone.")
            st.button("Let these go", key="let go", type="primary", on_click=told.tried, args=(let_go, items))


def let_go(items: Sequence[Item]) -> None:
    """Let go what was shown."""
    free = amount(tidying.remove(store, items))
    st.toast(f"{free} are free again.", icon=":material/delete_sweep:")


live(show, any(run.open for run in runs), names, every=2 * POLL)
room()
