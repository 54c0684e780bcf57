"""Compare heads: the same images, start and budget, two to seven heads side by side."""

from statistics import fmean

import numpy as np
import streamlit as st

from faces.datasets import find
from faces.figures import still_lines
from faces.knobs import fixed_scale
from pages.components import runs as told
from pages.components.feasibility import feasibility
from pages.components.picture import pending, picture, projection_choice
from pages.components.session import head_colors, the_store
from pages.components.settings import ask_budget, ask_dataset
from trainer import comparison
from trainer.store import Run
from trainer.worker import sentence

MOST = 7  # panels

store = the_store()


def train_all(knobs: dict[str, float], budget: dict, seeds: int) -> None:
    """Queue the seven heads and show them."""
    try:
        st.session_state["together"] = comparison.submit_all(store, knobs, budget, seeds)
        st.session_state["source"] = "Trained together"
    except ValueError as error:
        st.toast(sentence(error), icon=":material/error:")


def ask_all(first: bool) -> None:
    """The shared settings of the seven heads, and the button that trains them."""
    with st.expander("Train all seven heads", icon=":material/playlist_play:", expanded=first):
        left, right = st.columns(2, gap="large")
        with left:
            dataset = ask_dataset()
            classes = len(find(dataset).class_names)
            word = "for every head that has one"
            s = st.slider(
                f"s · scale of the logits, {word}", 0.5, 64.0, fixed_scale(classes), 0.01, key=f"all.s{classes}",
                bind="query-params",
            )  # fmt: skip
            m = st.slider(f"m · margin, {word}", 0.0, 1.0, 0.25, 0.01, key="all.m", bind="query-params")
            below = st.container()
            seeds = st.slider("Seeds: trainings of each head", 1, 5, 1, key="seeds", bind="query-params")
            st.caption("The spread between seeds is chance: one seed shows pictures, three or more support a ranking.")
        with right:
            budget = ask_budget(dataset, seed=False)
        with below:
            feasibility(comparison.shared({"s": s, "m": m}, classes), classes, budget["dim"])
        here = find(dataset).counts is not None
        if not here:
            word = f"Get {find(dataset).title} on the Data page"
            st.page_link("manage/data.py", label=word, icon=":material/photo_library:")
        label = "Train all seven" + (f" × {seeds} seeds" if seeds > 1 else "")
        st.button(
            label, type="primary", icon=":material/play_arrow:", disabled=not here, on_click=train_all,
            args=({"s": s, "m": m}, budget, seeds),
        )  # fmt: skip


def ask_runs(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Which runs to compare, and which of them to draw."""
    groups = comparison.together(runs)
    sources = ["Trained together", "Chosen runs"]
    source = st.segmented_control(
        "Compare", sources, default=sources[not groups], required=True, key="source", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    if source == sources[0] and groups:
        notes = list(groups)
        if st.session_state.get("together") not in groups:
            linked = st.query_params.get("group", "")
            st.session_state["together"] = linked if linked in groups else notes[0]
        note = st.selectbox("Trained together", notes, key="together")
        remember("group", note)
        chosen = groups[note]
        seeds = sorted({run.config.seed for run in chosen})
        seed = seeds[0]
        if len(seeds) > 1:
            seed = st.segmented_control(
                "Seed in the picture", seeds, default=seeds[0], required=True, key="drawn", bind="query-params"
            )
        return chosen, [run for run in chosen if run.config.seed == seed][:MOST]
    by_id = {run.id: run for run in runs}
    if "chosen" not in st.session_state:
        asked = [name for name in dict.fromkeys(st.query_params.get("runs", "").split(",")) if name in by_id]
        st.session_state["chosen"] = asked[:MOST] or comparison.alike(runs)[:2]
    st.session_state["chosen"] = [name for name in st.session_state["chosen"] if name in by_id]
    names = st.multiselect(
        "Runs, two to seven", list(by_id), max_selections=MOST, key="chosen",
        format_func=lambda name: offered(by_id[name]),
    )  # fmt: skip
    remember("runs", ",".join(names))
    return [by_id[name] for name in names], [by_id[name] for name in names]


def remember(name: str, value: str) -> None:
    """Put a value into the URL, unless it is there: writing can undo what the browser changes at that moment."""
    if st.query_params.get(name) != value:
        st.query_params[name] = value


def offered(run: Run) -> str:
    """A run in the list of runs to choose from."""
    return f"{told.title(run.config)} · {told.subtitle(run.config)} · {run.state}"


@told.forgiving
def show(chosen: list[str], drawn: list[str], projection: str, axes: int) -> None:
    """The live part: progress, pictures and the table."""
    runs = {name: store.run(name) for name in chosen}
    latest = store.latest(runs)
    still = [run for run in runs.values() if run.open]
    if still:
        done = sum(facts["step"] / facts["steps"] for facts in latest.values()) / len(runs)
        st.progress(done, f"{len(runs) - len(still)} of {len(runs)} runs are done.")
    newest = {name: facts["step"] for name, facts in latest.items()}
    height = 430 if len(drawn) <= 4 else 720
    settled = picture([runs[name] for name in drawn], newest, projection, axes, height=height, key="pictures")
    table(list(runs.values()), latest)
    if st.session_state.get("polling") and settled and not still:
        st.rerun()  # once, so that the polling ends


def table(runs: list[Run], latest: dict[str, dict]) -> None:
    """DNN and KNN accuracy of each head, with the spread over its seeds, and what chance alone can do."""
    rows = []
    for group in comparison.siblings(runs, latest):
        begun = [latest[run.id] for run in group if run.id in latest]
        facts = [one for one in begun if one["step"] == one["steps"]] or begun
        config, metrics = group[0].config, [one["metrics"] for one in facts]
        knobs = ", ".join(f"{name} {value:.4g}" for name, value in told.shown(config) if not isinstance(value, str))
        rows.append(
            {
                "Head": config.head + (" (turned)" if facts and facts[0]["turned"] else ""),
                "Knobs": knobs or "–",
                "DNN accuracy": comparison.spread([one["dnn_accuracy"] for one in metrics]),
                "KNN accuracy, k = 5": comparison.spread(
                    [one["knn_accuracy"] for one in metrics if "knn_accuracy" in one]
                ),
                "Seeds": len(group),
                "Training time": told.duration(fmean(one["seconds"] for one in facts)) if facts else "–",
                "Done": fmean(one["step"] / one["steps"] for one in begun) if begun else 0.0,
                "State": ", ".join(sorted({run.state for run in group})),
            }
        )
    done = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    st.dataframe(rows, hide_index=True, width="stretch", column_config={"Done": done})
    scores = [facts["metrics"] for facts in latest.values()]
    if scores:
        asked = min(one["asked"] for one in scores)
        near = 100 * comparison.chance(fmean(one["dnn_accuracy"] for one in scores), asked)
        st.caption(
            f"Counted on {asked:,.0f} validation images: two scores nearer than {near:.1f} points may differ by chance "
            "alone. ± is the standard deviation over seeds. DNN accuracy: the largest inference logit, which never saw "
            "the label. KNN accuracy: a vote of the 5 nearest training images by cosine."
        )


def curves(drawn: list[Run], latest: dict[str, dict]) -> None:
    """Explained variance and KNN accuracy against k, one line per head."""
    found = {run.config.head: arrays(run.id, latest[run.id]["step"]) for run in drawn if run.id in latest}
    if not found:
        return
    colors = head_colors(found)
    few, many, by_k = st.columns(3)
    plain = {"displayModeBar": False}
    with few:
        st.markdown("**Explained variance, to 16 components**")
        lines = {head: (range(1, 17), variance[:16]) for head, (variance, _) in found.items()}
        st.plotly_chart(still_lines(lines, colors, "components", ""), key="to 16", config=plain)
    with many:
        st.markdown("**Explained variance, to 128**")
        lines = {head: (range(1, len(variance) + 1), variance) for head, (variance, _) in found.items()}
        st.plotly_chart(still_lines(lines, colors, "components", "", log=True), key="to 128", config=plain)
    with by_k:
        st.markdown("**KNN accuracy against k**")
        lines = {head: (knn[:, 0], knn[:, 1]) for head, (_, knn) in found.items() if len(knn)}
        if lines:
            st.plotly_chart(still_lines(lines, colors, "k nearest images", "", log=True), key="by k", config=plain)
        else:
            st.caption("Measured after the first epoch.")
    st.caption(
        "**What to notice.** Do the heads really need different numbers of components? Does the order by KNN accuracy "
        "hold for every k, and is it larger than chance?"
    )


@st.cache_data(max_entries=500, show_spinner=False)
def arrays(name: str, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative explained variance, and rows of (k, KNN accuracy), of a snapshot."""
    snapshot = the_store().snapshot(name, step)
    return np.cumsum(snapshot.variance), snapshot.knn


st.title("Which head makes the better embeddings?")
st.markdown(
    "Seven heads, one camera. All start from the same encoder, see the same images in the same order, and get the same "
    "budget, so what differs comes from the head, and from chance."
)
runs = store.runs()
ask_all(first=not comparison.together(runs))
if not runs:
    st.info("Nothing has been trained here yet. Train all seven heads above.", icon=":material/arrow_upward:")
    st.stop()
with st.container():  # keeps the places of what follows: a widget that moves drops out of the URL
    chosen, drawn = ask_runs(runs)
    if not chosen:
        st.info("Choose two or more runs.", icon=":material/arrow_upward:")
        st.stop()
    if different := comparison.unequal(chosen):
        word = f"These runs are not on equal terms: they differ in {', '.join(different)}. Read no ranking from them."
        st.warning(word, icon=":material/balance:")
    if any(run.config.pretrained for run in chosen):
        st.warning(
            "Pretrained weights have seen most of these validation images with their labels.", icon=":material/warning:"
        )

projection, axes = projection_choice()
latest = store.latest([run.id for run in chosen])
newest = {name: facts["step"] for name, facts in latest.items()}
moving = any(run.open for run in chosen) or pending(drawn, newest, projection, axes)
st.session_state["polling"] = moving
ids = [run.id for run in chosen], [run.id for run in drawn]
st.fragment(show, run_every=told.POLL if moving else None)(*ids, projection, axes)
told.forgiving(curves)(drawn, latest)
