"""The scoreboard: heads over several seeds, by any measure, with what chance can do."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import streamlit as st

from faces import figures
from pages.components import runs as told
from pages.components.experiment import ask_experiment, ask_group, ask_noise
from pages.components.explained import meaning, over_seeds, put_in_all, why
from pages.components.live import POLL, live
from pages.components.session import head_colors, plot, the_store
from trainer import comparison
from trainer.comparison import MEASURES, Measure, Ranking
from trainer.store import OPEN, Run

LABELLED = "dnn_accuracy_with_labels"
RATES = np.logspace(-4, 0, 121)  # false accept rates of a ROC curve
Latest = Mapping[str, Mapping[str, Any]]

store = the_store()


def done(runs: Sequence[Run], latest: Latest) -> list[Run]:
    """The runs that are complete."""
    return [run for run in runs if run.id in latest and latest[run.id]["step"] == latest[run.id]["steps"]]


def ask_metric(runs: Sequence[Run], latest: Latest) -> str:
    """Which of the measures that these runs have."""
    there = {name for run in runs for name in latest[run.id]["metrics"]}
    titles = {measure.title: name for name, measure in MEASURES.items() if name in there and name != LABELLED}
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    title = left.selectbox("Measure", list(titles), key="metric", bind="query-params")
    name = titles.get(title or "", "knn_accuracy")
    measure = MEASURES[name]
    right.caption(f"{meaning(name)} {'More' if measure.higher else 'Less'} is better.")
    return name


def show_ranking(runs: Sequence[Run], latest: Latest) -> None:
    """Every seed as a dot, means with their intervals, ties, and the table."""
    metric = ask_metric(runs, latest)
    measure, ranked = MEASURES[metric], comparison.ranking(runs, latest, metric)
    st.header(comparison.verdict(ranked), anchor=False)
    if not ranked.standings:
        return
    colors = head_colors(standing.head for standing in ranked.standings)
    rows = [
        {
            "head": one.head, "color": colors[one.head], "rank": f"rank {one.rank}" if one.ranks else "",
            "scores": [measure.times * score for score in one.scores], "mean": measure.times * one.mean,
            "within": measure.times * one.within if one.within is not None else None, "tied": one.tied,
        }
        for one in ranked.standings
    ]  # fmt: skip
    chart = figures.still_ranking(rows, measure.title, measure.unit, measure.digits)
    plot(chart, key="ranking", config=figures.PLAIN, alt=f"{measure.title} of each head, a dot per seed")
    st.dataframe(table(ranked, measure), hide_index=True, width="stretch")
    why({metric: over_seeds(metric, {one.head: one.scores for one in ranked.standings})}, "ranking")
    said = f"Seeds that every head has finished: {', '.join(map(str, ranked.seeds))}."
    if ranked.missing:
        said += f" Without this score: {', '.join(ranked.missing)}."
    if len(ranked.seeds) > 1:
        said += (
            " ± is the standard deviation over seeds. The bar around a mean is the 95 % interval of its difference to "
            "the best mean, seed by seed (paired t; all bars hold together, Bonferroni). "
            "**What to notice.** A bar that crosses the dotted line is a tie, shaded, however far apart the dots are."
        )
    st.caption(said)


def table(ranked: Ranking, measure: Measure) -> list[dict[str, str]]:
    """A ranking as rows."""
    rows = []
    for place, one in enumerate(ranked.standings):
        row = {"Rank": one.rank, "Head": one.head, measure.title: measure.about(one.scores)}
        if one.within is not None:
            low, high = (measure.said(one.gap + side * one.within, sign=True, unit=False) for side in (-1, 1))
            gap = measure.said(one.gap, sign=True, unit=False)
            row["Difference to the best"] = f"{gap} [{low}, {high}]" if place else "best mean"
        row["By seed"] = ", ".join(measure.said(score, unit=False) for score in one.scores)
        rows.append(row)
    return rows


def show_verification(runs: Sequence[Run], latest: Latest) -> None:
    """ROC curves of classes that no training saw."""
    curves: dict[str, list[np.ndarray]] = {}
    runs = comparison.fair(runs)
    for run in runs:
        tars = roc(run.id, latest[run.id]["step"])
        if tars is not None:
            curves.setdefault(run.config.head, []).append(tars)
    if not curves:
        st.info(
            "Verification asks whether two pictures show the same class, of classes that no training saw. This "
            "experiment kept none out. Set Held-out classes above (3, say) and train.",
            icon=":material/arrow_upward:",
        )
        return
    chart = figures.still_roc(curves, head_colors(curves), RATES)
    plot(chart, key="roc", config=figures.PLAIN, alt="ROC curves of each head on held-out classes")
    names = ["tar_at_far_0.1", "tar_at_far_0.01", "tar_at_far_0.001", "eer", "rank1"]
    found = {name: comparison.scores(runs, latest, name) for name in names}
    st.dataframe(
        [
            {"Head": head}
            | {MEASURES[name].title: MEASURES[name].about(list(found[name][head].values())) for name in names}
            for head in curves
        ],
        hide_index=True,
        width="stretch",
    )
    scores = {name: {head: found[name][head].values() for head in curves} for name in names}
    why({name: over_seeds(name, row) for name, row in scores.items()}, "verification")
    st.caption(
        "A thin line is one seed, which also draws the held-out classes; a bold one is the mean of its head. Only "
        "angles between embeddings count here, no class center does. Ranking has these numbers seed by seed, with "
        "intervals. **What to notice.** Left is where a door lock works: hardly any stranger may pass. Do the heads "
        "part there more than the seeds do?"
    )


@st.cache_data(max_entries=500, show_spinner="Reading embeddings")
def roc(name: str, step: int) -> np.ndarray | None:
    """The true accept rate at each of `RATES` among images of held-out classes; None when there are none."""
    snapshot = the_store().snapshot(name, step)
    unseen, labels = (np.asarray(getattr(snapshot, name, ())) for name in ("unseen", "unseen_labels"))
    if not len(unseen):
        return None
    from faces import verification

    far, tar, *_ = verification.roc(unseen, labels)
    return figures.at_rates(far, tar, RATES)


def show_angles(runs: Sequence[Run], latest: Latest) -> None:
    """How the angles to the own and to the nearest other center spread, head by head."""
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    fair = comparison.fair(runs)
    for run in fair:
        found.setdefault(run.config.head, []).append(angles(run.id, latest[run.id]["step"]))
    without = [head for head, each in found.items() if not all(each)]
    spreads = {
        head: {which: np.mean([one[which] for one in each], 0) for which in each[0]}
        for head, each in found.items()
        if head not in without
    }
    if spreads:
        st.markdown(
            "**How far is an image from the center of its class, and from the nearest other one?** Areas are "
            "validation images, lines training images; coloured to the own center, grey to the nearest other."
        )
        colors = head_colors(spreads)
        top = max(float(spread.max()) for each in spreads.values() for spread in each.values())
        with st.grid(min_column_width=290):
            for head, each in spreads.items():
                with st.container(gap="xsmall"):
                    st.markdown(f"**{head}**")
                    chart = figures.still_angles(each, colors[head], top)
                    plot(chart, key=f"angles {head}", config=figures.PLAIN, alt=f"Angles of {head}")
        st.caption(
            "Degrees, a mean over the seeds, all pictures to one scale. **What to notice.** A margin asks for a gap "
            "between the coloured and the grey. How much of the gap in training is left on validation images?"
        )
        looks = {head: [latest[run.id]["metrics"] for run in fair if run.config.head == head] for head in spreads}
        why(put_in_all(("own_angle", "other_angle", "train_own_angle", "train_other_angle"), looks), "angles")
    if without:
        st.caption(f"Without class centers, so without these angles: {', '.join(without)}.")


@st.cache_data(max_entries=500, show_spinner="Reading embeddings")
def angles(name: str, step: int) -> dict[str, np.ndarray]:
    """How a snapshot's angles to centers spread, for `still_angles`; empty when its head has no centers."""
    from faces import evaluation

    snapshot = the_store().snapshot(name, step)
    if len(np.unique(snapshot.center_labels)) < 2:
        return {}
    spreads: dict[str, np.ndarray] = {}
    for word, embeddings, labels in (
        ("", snapshot.embeddings, snapshot.labels), ("train ", snapshot.known, snapshot.known_labels),
    ):  # fmt: skip
        if len(embeddings):
            own, other = evaluation.angles(embeddings, labels, snapshot.centers, snapshot.center_labels)
            spreads |= {f"{word}own": figures.per_degree(own), f"{word}other": figures.per_degree(other)}
    return spreads


def show_noise(runs: Sequence[Run], latest: Latest) -> None:
    """Scores against wrong labels, and whether several centers per class help with them."""
    if len({run.config.noise for run in runs}) < 2:
        st.info(
            "All of these runs trained at one level of label noise. Choose several under Wrong training labels above; "
            "Imagewoof has 0, 1, 5, 25 and 50 %.",
            icon=":material/arrow_upward:",
        )
        return
    metric = ask_metric(runs, latest)
    measure, found = MEASURES[metric], comparison.by_noise(runs, latest, metric)
    times = measure.times
    curves = {
        head: {
            level: (times * fmean(row.values()), times * stdev(row.values()) if len(row) > 1 else 0.0)
            for level, row in levels.items()
        }
        for head, levels in found.items()
    }
    chart = figures.still_noise(curves, head_colors(curves), measure.title, measure.unit, measure.digits)
    plot(chart, key="noise", config=figures.PLAIN, alt=f"{measure.title} against wrong training labels")
    st.caption("Means over seeds with their standard deviation. Validation labels are true at every level.")
    scores = {
        f"{head}, {level} % wrong": [row[seed] for seed in sorted(row)]
        for head, levels in found.items()
        for level, row in levels.items()
    }
    why({metric: over_seeds(metric, scores)}, "noise")
    st.header("Does SubCenterArcFace earn its K?", anchor=False)
    left, right = st.columns(2, gap="large")
    with left:
        leads = comparison.lead(found.get("SubCenterArcFace", {}), found.get("ArcFace", {}))
        if leads:
            rows = []
            for level, (gap, within) in leads.items():
                span = "one seed" if within == np.inf else " to ".join(
                    measure.said(gap + side * within, sign=True, unit=False) for side in (-1, 1)
                )  # fmt: skip
                rows.append(
                    {
                        "Wrong labels": f"{level} %",
                        "SubCenterArcFace less ArcFace": measure.said(gap, sign=True, unit=False),
                        "95 % interval": span,
                        "So": "a tie" if abs(gap) <= within else "ahead" if (gap > 0) == measure.higher else "behind",
                    }
                )
            st.dataframe(rows, hide_index=True, width="stretch")
            unit = f" in{measure.unit}" if measure.unit else ""
            st.caption(f"{measure.title}{unit}, seed by seed (paired t); all intervals hold together.")
        else:
            st.caption("The answer takes both SubCenterArcFace and ArcFace.")
    with right:
        shares = comparison.center_shares(done(runs, latest), latest)
        if shares:
            chart = figures.still_shares(shares, head_colors(["SubCenterArcFace"])["SubCenterArcFace"])
            plot(chart, key="shares", config=figures.PLAIN, alt="Share of images won by each sub-center")
            st.caption(
                "Training images that each sub-center of a class wins, largest first, mean over classes and seeds. "
                "**What to notice.** A center that wins hardly any costs memory and does nothing. If the others are "
                "there for the wrong labels, their share grows with the noise."
            )
        else:
            st.caption("Shares of the sub-centers have not been measured in these runs.")


def show_two_ways(runs: Sequence[Run], latest: Latest) -> None:
    """DNN accuracy from inference logits beside that from logits that saw the label."""
    ways = [comparison.ranking(runs, latest, name) for name in ("dnn_accuracy", LABELLED)]
    honest, labelled = ({one.head: one for one in ranked.standings} for ranked in ways)
    both = [head for head in honest if head in labelled]
    st.markdown(
        "The article's evaluation handed the true labels to the head, so the margin was taken off the right answer "
        "before the largest logit was looked for. CosFace takes its whole m off at every angle, ArcFace hardly "
        "anything near 0°: very probably why the published DNN ranking has CosFace last."
    )
    if not both:
        st.info(
            "Accuracy with labels has not been measured in these runs; new ones measure it.", icon=":material/info:"
        )
        return
    names = ("inference logits", "logits that saw the label")
    rows = [(head, honest[head].mean, labelled[head].mean) for head in both]
    plot(
        figures.still_two_ways(rows, head_colors(both), names), key="two ways", config=figures.PLAIN,
        alt="DNN accuracy of each head by two ways of counting",
    )  # fmt: skip
    measure = MEASURES["dnn_accuracy"]
    st.dataframe(
        [
            {
                "Head": head,
                "Rank": honest[head].rank,
                "Inference logits": measure.about(honest[head].scores),
                "Rank, the article's way": labelled[head].rank,
                "Logits that saw the label": measure.about(labelled[head].scores),
                "Lost by counting": measure.said(honest[head].mean - labelled[head].mean),
            }
            for head in both
        ],
        hide_index=True,
        width="stretch",
    )
    scores = {"dnn_accuracy": honest, LABELLED: labelled}
    why({name: over_seeds(name, {head: own[head].scores for head in both}) for name, own in scores.items()}, "two ways")
    st.caption(
        "Filled: inference logits, as everywhere in Faces. Hollow: training logits, which saw the label. "
        "**What to notice.** Nothing was trained anew between the two dots. Heads without a margin do not move."
    )


VIEWS = {
    "Ranking": show_ranking,
    "Verification": show_verification,
    "Angles": show_angles,
    "Label noise": show_noise,
    "The article's way": show_two_ways,
}

st.title("Which head is best?")
st.markdown(
    "Train the same head twice with different seeds and you get two scores. A head is better only if it wins by more "
    "than that, seed by seed, and by a measure you care about."
)
groups = comparison.together(store.runs())
ask_experiment(first=not groups, seeds=5)
if not groups:
    st.info("Nothing has been ranked here yet. Train some heads above.", icon=":material/arrow_upward:")
    st.stop()
group = ask_group(groups)


def progress(names: list[str]) -> bool:
    """How many runs are done. True when there are more, or will be no more."""
    count = len(done(group, store.latest(names)))
    st.progress(count / len(names), f"{count} of {len(names)} runs are done.")
    ended = not {run.id for run in store.runs(OPEN)} & set(names)
    before, st.session_state["scored"] = st.session_state.get("scored", count), count
    return count != before or ended


with st.container():  # keeps the places of what follows: a widget that moves drops out of the URL
    if any(run.open for run in group):
        live(progress, True, [run.id for run in group], every=2 * POLL)
view = st.segmented_control(
    "Show", list(VIEWS), default="Ranking", required=True, key="view", bind="query-params", label_visibility="collapsed"
)
with st.container():
    chosen = group if view == "Label noise" else ask_noise(group)
    if different := [name for name in comparison.unequal(chosen) if name != "noise"]:
        word = f"These runs are not on equal terms: they differ in {', '.join(different)}. Read no ranking from them."
        st.warning(word, icon=":material/balance:")
    if any(run.config.pretrained for run in chosen):
        st.warning(
            "Pretrained weights have seen most of these validation images with their labels.", icon=":material/warning:"
        )
latest = store.latest([run.id for run in chosen])
finished = done(chosen, latest)
if not finished:
    st.info("No run of this experiment is done yet; scores count only when a training is complete.")
    st.stop()
told.forgiving(VIEWS[view or "Ranking"])(finished, latest)
