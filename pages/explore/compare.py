"""Compare heads: the same images, start and budget, two to seven heads side by side."""

from statistics import fmean

import numpy as np
import streamlit as st

from faces.figures import dashes, still_lines
from pages.components import runs as told
from pages.components.experiment import ask_experiment, ask_group, ask_noise
from pages.components.explained import added, put_in_all, why
from pages.components.live import live
from pages.components.picture import Look, pending, picture, projection_choice
from pages.components.session import head_colors, plot, remember, the_store
from pages.components.shown import arrays
from pages.components.taking import taking
from trainer import comparison
from trainer.config import RunConfig
from trainer.store import Run

MOST = 7  # panels
COMPONENTS = (2, 16, 128)  # whose share of the variance is explained

store = the_store()


def ask_runs(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Which runs to compare, and which of them to draw."""
    groups = comparison.together(runs)
    sources = ["Trained together", "Chosen runs"]
    row = st.container(horizontal=True, vertical_alignment="bottom")
    source = row.segmented_control(
        "Compare", sources, default=sources[not groups], required=True, key="source", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    if source == sources[0] and groups:
        with row:
            chosen = ask_noise(ask_group(groups, label_visibility="collapsed", width=320))
        seeds = sorted({run.config.seed for run in chosen})
        seed = seeds[0]
        if len(seeds) > 1:
            seed = row.segmented_control(
                "Seed in the picture", seeds, default=seeds[0], required=True, key="drawn", bind="query-params",
                format_func=lambda seed: f"Seed {seed}", label_visibility="collapsed",
            )  # fmt: skip
        shown = [run for run in chosen if run.config.seed == seed]
        if len(shown) > MOST:
            st.caption(f"The first {MOST} of {len(shown)} are drawn; choose others under Chosen runs.")
        return chosen, shown[:MOST]
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


def offered(run: Run) -> str:
    """A run in the list of runs to choose from."""
    return f"{told.title(run.config)} · {told.subtitle(run.config)} · {run.state}"


@told.forgiving
def show(chosen: list[str], drawn: list[str], look: Look) -> bool:
    """The live part: progress, pictures and the table. True when nothing moves any more."""
    runs = {name: store.run(name) for name in chosen}
    latest = store.latest(runs)
    still = [run for run in runs.values() if run.open]
    if still:
        done = sum(facts["step"] / facts["steps"] for facts in latest.values()) / len(runs)
        st.progress(done, f"{len(runs) - len(still)} of {len(runs)} runs are done.")
    height = 430 if len(drawn) <= 4 else 720
    settled = picture([runs[name] for name in drawn], latest, look, height=height, key="pictures")
    table(list(runs.values()), latest)
    return settled and not still


def table(runs: list[Run], latest: dict[str, dict]) -> None:
    """DNN and KNN accuracy of each head, with the spread over its seeds, and what chance alone can do."""
    groups = comparison.siblings(runs, latest)
    rows, looks = [], dict[str, list[dict[str, float]]]()
    for group, name in zip(groups, told.names([group[0] for group in groups]), strict=True):
        begun = [latest[run.id] for run in group if run.id in latest]
        facts = [one for one in begun if one["step"] == one["steps"]] or begun
        config, metrics = group[0].config, [one["metrics"] for one in facts]
        looks[name] = metrics
        none = "no classifier" if told.brought(config) else "no class logits"
        knobs = ", ".join(f"{name} {value:.4g}" for name, value in told.shown(config) if not isinstance(value, str))
        rows.append(
            {
                "Head": config.head + (" (turned)" if facts and facts[0]["turned"] else ""),
                "Knobs": knobs or "–",
                "DNN accuracy": spread(metrics, "dnn_accuracy") if told.has_logits(config) else none,
                "KNN accuracy, k = 5": spread(metrics, "knn_accuracy"),
                "Class-mean accuracy": spread(metrics, "ncm_accuracy"),
                "Seeds": len(group),
                "Training time": trained(config, facts),
                "Done": fmean(one["step"] / one["steps"] for one in begun) if begun else 0.0,
                "State": ", ".join(sorted({run.state for run in group})),
            }
        )
    done = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    st.dataframe(rows, hide_index=True, width="stretch", column_config={"Done": done})
    why(put_in_all(("knn_accuracy", "dnn_accuracy", "ncm_accuracy"), looks), "table")
    scores = [facts["metrics"] for facts in latest.values()]
    if shares := [one[name] for name in ("dnn_accuracy", "knn_accuracy") for one in scores if name in one]:
        asked = min(one["asked"] for one in scores)
        near = 100 * comparison.chance(fmean(shares), asked)
        st.caption(
            f"Counted on {asked:,.0f} validation images: two scores nearer than {near:.1f} points may differ by chance "
            "alone. ± is the standard deviation over seeds. Heads without class logits have no DNN accuracy."
        )


def trained(config: RunConfig, facts: list[dict]) -> str:
    """How long training took, a mean over the seeds."""
    if told.brought(config) or not facts:
        return "–"
    return told.duration(fmean(one["seconds"] for one in facts))


def spread(metrics: list[dict[str, float]], name: str) -> str:
    """Mean and spread of one score over the runs that have it."""
    return comparison.spread([one[name] for one in metrics if name in one])


def curves(drawn: list[Run], latest: dict[str, dict]) -> None:
    """Explained variance and KNN accuracy against k, one line per head."""
    drawn = [run for run in drawn if run.id in latest]
    if not drawn:
        return
    heads, names = [run.config.head for run in drawn], told.names(drawn)
    found = {name: arrays(run.id, latest[run.id]["step"]) for name, run in zip(names, drawn, strict=True)}
    colors = {name: head_colors([head])[head] for name, head in zip(names, heads, strict=True)}
    dash = dict(zip(names, dashes(heads), strict=True))
    few, many, by_k = st.columns(3)
    plain = {"displayModeBar": False}
    with few:
        st.markdown("**Explained variance, to 16 components**")
        lines = {name: (range(1, 17), np.cumsum(variance[:16])) for name, (variance, _) in found.items()}
        plot(still_lines(lines, colors, "components", "", dash=dash), key="to 16", config=plain)
    with many:
        st.markdown("**Explained variance, to 128**")
        lines = {name: (range(1, len(variance) + 1), np.cumsum(variance)) for name, (variance, _) in found.items()}
        chart = still_lines(lines, colors, "components", "", log=True, dash=dash)
        plot(chart, key="to 128", config=plain)
    with by_k:
        st.markdown("**KNN accuracy against k**")
        lines = {name: (knn[:, 0], knn[:, 1]) for name, (_, knn) in found.items() if len(knn)}
        if lines:
            chart = still_lines(lines, colors, "k nearest images", "", log=True, dash=dash)
            plot(chart, key="by k", config=plain)
        else:
            st.caption("Measured after the first epoch.")
    explained = [
        f"{told.plain(name)}: {added(variance, k)}"
        for k in COMPONENTS
        for name, (variance, _) in found.items()
        if k <= len(variance)
    ]
    why({"explained_variance": explained}, "variance")
    st.caption(
        "**What to notice.** Do the heads really need different numbers of components? Does the order by KNN accuracy "
        "hold for every k, and is it larger than chance?"
    )


st.title("Which head makes the better embeddings?")
st.markdown(
    "Seven heads, one camera. All start from the same encoder, see the same images in the same order, and get the same "
    "budget, so what differs comes from the head, and from chance."
)
runs = store.runs()
ask_experiment(first=not comparison.together(runs), seeds=1)
if not runs:
    st.info("Nothing has been trained here yet. Train some heads above.", icon=":material/arrow_upward:")
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

look = projection_choice()
latest = store.latest([run.id for run in chosen])
moving = any(run.open for run in chosen) or pending(drawn, latest, look)
live(show, moving, [run.id for run in chosen], [run.id for run in drawn], look)
taking(chosen, "compared", drawn)
told.forgiving(curves)(drawn, latest)
