"""Explore one head: train it, turn its knobs while it trains, and watch its embeddings move."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from faces.datasets import find
from faces.figures import GREY, history_curve, lines
from faces.heads import HEADS, margined, scored
from faces.knobs import Choice, Knob
from faces.projections import PROJECTIONS
from pages.components import runs as told
from pages.components.explained import added, explain, put_in, put_in_all, why
from pages.components.feasibility import feasibility
from pages.components.live import live
from pages.components.picture import Look, pending, picture, projection_choice
from pages.components.session import echart, head_colors, the_store
from pages.components.settings import adopt, ask_budget, ask_dataset, ask_head, ask_held_out, ask_knobs, mark
from pages.components.shown import arrays
from pages.components.taking import taking
from trainer.brought import counted
from trainer.comparison import MEASURES
from trainer.config import RunConfig
from trainer.store import Run
from trainer.telling import sentence

DEMO = RunConfig(dataset="digits", **find("digits").terms, epochs=20)  # what a first visitor finds training

SCORES = {
    "loss": ("Training loss", ".3f"),
    "dnn_accuracy": ("DNN accuracy", ".1%"),
    "knn_accuracy": ("KNN accuracy, k = 5", ".1%"),
    "ncm_accuracy": ("Class-mean accuracy", ".1%"),
}
COMPONENTS = (2, 3, 16, 128)  # whose share of the variance is said

store = the_store()


def current() -> Run | str:
    """The run that the URL names, else the newest that has begun; on a first visit one that starts by itself.

    A sentence where the URL names one that is not here.
    """
    if name := st.query_params.get("run"):
        try:
            return store.run(name)
        except ValueError as error:
            return str(error)
    if not store.count():
        if why := store.why_not("submit"):
            return f"Nothing has been trained here yet. {why}"
        try:
            store.submit_first(DEMO, "first visit")
        except (ValueError, OSError) as error:  # larger than a student's may be, or a full disk
            return f"Nothing has been trained here yet. {sentence(error)}"
        st.session_state["welcome"] = True
    runs = store.runs()
    newest = next((run for run in runs if run.state != "queued"), runs[0])
    st.query_params["run"] = newest.id
    return newest


def open_run(name: str) -> None:
    """Show this run from now on."""
    st.query_params["run"] = name


def turn(knob: str, key: str) -> None:
    """Hand a turned knob to the run that trains."""
    try:
        run = store.run(st.query_params["run"])
        same = run.open and run.config.head == st.session_state.get("head", "ArcFace")
        if same and not store.why_not("turn", run.owner):  # sliders of who only looks set a run of their own
            store.turn(run.id, **{knob: st.session_state[key]})
            st.toast(f"{told.said(knob, st.session_state[key])} from the next step on", icon=":material/tune:")
    except (ValueError, OSError) as error:
        st.toast(told.plain(sentence(error)), icon=":material/error:")


found = current()
run = found if isinstance(found, Run) else None
if run and "adopted" not in st.session_state:
    adopt(run.config, over=False)
st.session_state["adopted"] = True

st.title("What does this head do to the embeddings?")
st.markdown(
    "Train a head on top of a small encoder and watch where it puts the validation images. "
    "Turn **s** and **m** while it trains: they take effect at the next step."
)
with st.container():  # holds its place when it is empty: a widget that moves on the page drops out of the URL
    if st.session_state.pop("welcome", False):
        st.info(
            "Nothing had been trained here yet, so a short training on digits has just begun.",
            icon=":material/waving_hand:",
        )

controls, view = st.columns([1, 2.6], gap="large")
with controls:
    dataset = ask_dataset()
    head = ask_head()
    turns = run is not None and run.open and run.config.head == head and not store.why_not("turn", run.owner)
    numbers = st.container()  # filled when it is known how many classes there are to train on
    with st.expander("Encoder, epochs, seed", icon=":material/settings:"):
        choices = st.container()
        budget = {**ask_budget(dataset, ramp=margined(head)), "held_out": ask_held_out(dataset)}
    classes = len(find(dataset).class_names) - budget["held_out"]
    with choices:
        knobs = ask_knobs(head, classes, Choice, turn if run else None)
    with numbers:
        knobs |= ask_knobs(head, classes, Knob, turn if run else None)
        feasibility({head: knobs}, classes, budget["dim"])
    mark({"head": head, "knobs": knobs, **budget}, run.config if run else None)
    here = find(dataset).counts is not None
    if not here:
        st.info(f"{find(dataset).title} is not on this machine yet.", icon=":material/download:")
        st.page_link("manage/data.py", label="Get it on the Data page", icon=":material/photo_library:")
    may = told.allowed(store, "submit", able=here)
    if st.button("Train", type="primary", icon=":material/play_arrow:", width="stretch", **may):
        try:
            open_run(store.submit(RunConfig(head=head, knobs=knobs, **budget)))
            st.rerun()
        except (ValueError, OSError) as error:
            st.error(told.plain(sentence(error)))
    if run and run.open:
        st.button(
            "Stop", icon=":material/stop:", width="stretch", on_click=told.tried, args=(store.stop, run.id),
            **told.allowed(store, "stop", run.owner),
        )  # fmt: skip
        if turns:
            st.caption(":material/tune: The sliders above turn this run while it trains.")
    elif run and run.state in ("stopped", "failed", "interrupted"):
        st.button(
            "Resume", icon=":material/resume:", width="stretch", on_click=told.tried, args=(store.resume, run.id),
            **told.allowed(store, "resume", run.owner),
        )  # fmt: skip


@told.forgiving
def show(run_id: str, look: Look) -> bool:
    """The live part: how far the run is, its scores, its picture, its curves. True when nothing moves any more."""
    run = store.run(run_id)
    history = store.history(run_id)
    facts = history[-1] if history else None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(told.plain(told.title(run.config)), width="content", anchor=False)
        told.badge("brought" if told.brought(run.config) else run.state)
    st.caption(told.subtitle(run.config))
    told.progress(store, run, facts)
    scores(run, history)
    settled = picture([run], {run.id: facts} if facts else {}, look, height=520, key="picture")
    st.caption(f"**{PROJECTIONS[look.projection].title}.** {PROJECTIONS[look.projection].notice} {sample(run, facts)}")
    curves(run, history)
    if history:
        measured(history[-1]["metrics"])
    return settled and not run.open


def scores(run: Run, history: list[dict]) -> None:
    """The newest value of each score, with what it was counted on."""
    metrics: dict[str, float] = {}
    looks: dict[str, dict[str, float]] = {}  # the look that each was counted at
    for facts in history:
        metrics |= facts["metrics"]
        looks |= dict.fromkeys(facts["metrics"], facts["metrics"])
    with st.container(horizontal=True, key="scores"):
        for name, (label, form) in SCORES.items():
            value = f"{metrics[name]:{form}}" if name in metrics else "–"
            help = explain(name, put_in(name, {"": [looks.get(name, {})]}))
            if name == "loss" and told.brought(run.config):
                continue
            if name == "dnn_accuracy" and not told.has_logits(run.config):
                value, help = "none", told.NOT_TRAINED if told.brought(run.config) else told.NO_LOGITS
            st.metric(label, value, help=help, width="content")
        for name in ("s", "t"):
            if name in metrics and name not in run.config.knobs:
                st.metric(name, f"{metrics[name]:.3f}", help="Learned by the head while it trains.", width="content")
        if history and not told.brought(run.config):
            st.metric("Training time", told.duration(history[-1]["seconds"]), width="content")


def sample(run: Run, facts: dict | None) -> str:
    """How many images a picture and its scores stand on."""
    if not facts:
        return ""
    if told.brought(run.config):
        return counted(facts["metrics"])
    asked, known = facts["metrics"]["asked"], facts["metrics"].get("known")
    return f"Scores on {asked:,.0f} validation images" + (f", {known:,.0f} training images known." if known else ".")


def curves(run: Run, history: list[dict]) -> None:
    """Loss and accuracies over the epochs, and the variance explained now."""
    if not history:
        return
    ink = head_colors([run.config.head])[run.config.head]
    if told.brought(run.config):
        by_k(run, history, ink)
        return
    left, middle, right = st.columns(3)
    with left:
        st.markdown("**Training loss**")
        curve = history_curve(history, "loss")
        echart(
            lines({"loss": curve}, {"loss": ink}, "epoch", ""), height=230, key="loss", alt=alt("Training loss", curve)
        )
    with middle:
        st.markdown("**Validation accuracy**")
        two = told.accuracies(run.config, history)
        chart = lines(two, dict.fromkeys(two, GREY) | {"KNN": ink}, "epoch", "", percent=True)
        echart(chart, height=230, key="accuracy", alt=alt("KNN accuracy", two["KNN"]))
    components(right, run, history, ink)
    turned = [f"{told.said(name, value)} at step {step}" for step, name, value in history[-1]["turned"]]
    if turned:
        st.caption(f":material/tune: Turned while training: {', '.join(turned)}. Compare lists it apart.")


def by_k(run: Run, history: list[dict], ink: str) -> None:
    """What there is to draw of embeddings that were made elsewhere: KNN accuracy against k, and explained variance."""
    left, right = st.columns([2, 1])
    with left:
        st.markdown("**KNN accuracy against k**")
        _, knn = arrays(run.id, history[-1]["step"])
        chart = lines({"KNN": (knn[:, 0], knn[:, 1])}, {"KNN": ink}, "k nearest rows", "", percent=True, dots=True)
        said = ", ".join(f"{share:.1%} at k = {k:.0f}" for k, share in knn.tolist())
        echart(chart, height=230, key="by k", alt=f"KNN accuracy: {said}.")
        st.caption("Made elsewhere: no training, hence no loss and no DNN accuracy.")
    components(right, run, history, ink)


def components(place: Any, run: Run, history: list[dict], ink: str) -> None:
    """The share of the variance that the first components explain."""
    with place:
        st.markdown("**Explained variance**")
        shares, _ = arrays(run.id, history[-1]["step"])
        explained = np.cumsum(shares)
        first = {"variance": (range(1, len(explained[:16]) + 1), explained[:16])}
        chart = lines(first, {"variance": ink}, "components", "", percent=True, dots=True)
        said = ", ".join(f"{explained[k - 1]:.0%} in {k}" for k in COMPONENTS if k <= len(explained))
        echart(chart, height=230, key="variance", alt=f"Cumulative explained variance: {said}.")
        st.caption(f"{said} components.")
        put = [added(shares, k) for k in COMPONENTS if k <= len(shares)]
        why({"explained_variance": put}, "variance", "Explain")


def measured(metrics: Mapping[str, float]) -> None:
    """Every measure of the newest look, with what it counts."""
    rows = [
        {"Measure": measure.title, "Value": measure.said(metrics[name]), "What it counts": measure.meaning}
        for name, measure in MEASURES.items()
        if name in metrics
    ]
    if len(rows) > 3:  # else nothing that is not on the page already
        with st.expander("All measures, on all validation images", icon=":material/straighten:"):
            st.dataframe(rows, hide_index=True, width="stretch")
            why(put_in_all([name for name in MEASURES if name in metrics], {"": [metrics]}), "measures")


def alt(name: str, curve: tuple) -> str:
    """A chart in a sentence."""
    return f"{name}: {curve[1][0]:.3g} at first, {curve[1][-1]:.3g} now." if len(curve[1]) else f"{name}: nothing yet."


with view:
    if run is None:
        st.warning(f"{found} Choose settings and press Train, or open another run.", icon=":material/link_off:")
        st.page_link("manage/runs.py", label="What has been trained here", icon=":material/history:")
    else:
        with st.container():
            if (run.config.head, run.config.dataset) != (head, dataset):
                st.caption(
                    f":material/info: Shown is an earlier run. Press Train to see {head} on {find(dataset).title}."
                )
        look = projection_choice()
        live(show, run.open or pending([run], store.latest([run.id]), look), run.id, look)
        taking([run], "explored")
        if run.config.head in HEADS:
            word = "loss of an image is" if not scored(run.config.head) else "training logits are"
            about = HEADS.about(run.config.head)  # the formula in the line, where it breaks instead of scrolling
            st.markdown(f"**What to notice.** {about.notice} The {word}\n\n${about.formula}$")
