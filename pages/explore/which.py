"""Which Face should I use: the article's questions, answered from the runs at hand, beside the article's own advice."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from faces.feasibility import Room, limits, scale_needed
from faces.heads import HEADS, scored
from faces.knobs import fixed_scale, settle
from pages.components import runs as told
from pages.components.explained import over_seeds, why
from pages.components.recorded import offer
from pages.components.session import remember, the_store
from trainer import advice, comparison
from trainer.advice import PURPOSES, Experiment
from trainer.comparison import MEASURES
from trainer.store import Run

Latest = Mapping[str, Mapping[str, Any]]
WISHED = 0.99  # probability of the true class that the least s is told for

store = the_store()


def answer(
    question: str, short: str, why: str, beside: str = "", link: tuple[str, str, dict[str, str]] | None = None
) -> None:
    """One question: the answer in a sentence, what it stands on, what was said before, and where to look further."""
    with st.container(border=True):
        st.header(question, anchor=False)
        st.markdown(f"**{short}**")
        if why:
            st.markdown(why)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(beside)
            if link:
                page, label, params = link
                st.page_link(page, label=label, icon=":material/arrow_forward:", query_params=params)


def which_head(found: Experiment, metric: str) -> None:
    """The leaders of the ranking, and the plainest of them."""
    measure, leaders = MEASURES[metric], found.leaders
    pick = advice.plainest([head for head in leaders if head in HEADS] or leaders)
    best = found.ranked.standings[0]
    if len(leaders) == 1:
        short = f"{best.head}, by more than chance."
    else:
        every = "all" if len(leaders) == len(found.ranked.standings) else str(len(leaders))
        short = f"Of the {len(found.ranked.standings)} here {every} share the lead; the plainest of these is {pick}."
    rows = {one.head: measure.about(one.scores) for one in found.ranked.standings}
    why = f"{measure.title}: {best.head} has the best mean, {rows[best.head]}"
    others = [head for head in leaders if head != best.head]
    why += f"; chance alone may have put {told.listed(others)} behind it" if 0 < len(others) < 8 else ""
    why += f"; chance alone may have put {len(others)} others behind it" if len(others) > 7 else ""
    why += f". {pick} has {rows[pick]} and the fewest knobs to choose." if others else "."
    last = found.ranked.standings[-1]
    if not last.tied and last is not best:
        why += f" {last.head} is shown to be behind, with {rows[last.head]}."
    answer(
        "Which head?", short, why,
        "The article (2021): begin with ArcFace or CosFace; ArcMarginProduct is the upgrade of one line.",
        ("explore/scoreboard.py", "The whole ranking", {"group": found.note, "metric": measure.title}),
    )  # fmt: skip


def what_a_margin_adds(found: Experiment, metric: str) -> None:
    """Margins against the same cosines without one."""
    ranked = found.ranked
    best = advice.duel(ranked, advice.margins(ranked), advice.PLAIN)
    if best is None:
        missing = "a head with a margin" if not advice.margins(ranked) else "NormFace or ArcMarginProduct, without one"
        short, why = "This experiment cannot say.", f"It would take {missing}, trained beside the others."
    elif not best.told_apart:
        short = "Nothing that these seeds can show."
        why = f"{advice.said(best, metric)} The best margin against the best without, the choice of both allowed for."
    else:
        helps = (best.gap > 0) == MEASURES[metric].higher
        short = "It helps here." if helps else "It does harm here."
        why = f"{advice.said(best, metric)} The best margin against the best without, the choice of both allowed for."
    article = "The article (2021): CosFace has the best KNN accuracy, and the worst DNN accuracy of all."
    link = ("explore/scoreboard.py", "How that came about", {"group": found.note, "view": "The article's way"})
    answer("What does the margin add?", short, why, article, link)


def which_s_and_m(classes: int, dim: int) -> None:
    """What arithmetic says for one's own number of classes and dimensions."""
    about = {head: HEADS.about(head) for head in ("ArcFace", "CosFace")}
    s, needed = fixed_scale(classes), scale_needed(WISHED, classes / (classes - 1), classes)
    rooms = {
        head: next(iter(limits(one, settle(one.knobs, {}, classes), classes, dim).values()))
        for head, one in about.items()
    }
    fits = " and ".join(f"{room.largest['m']:.2f} for {head}" for head, room in rooms.items())
    best = max(room.probability for room in rooms.values() if isinstance(room, Room))
    short = f"s from {s:.1f} to {max(needed, s):.1f}, m up to {fits}: that is what fits. Within it, measure."
    why = (
        f"For C = {classes} classes in D = {dim} dimensions √2·ln(C−1) is {s:.2f}; with it and m = 0.25 the classes' "
        f"probabilities in training cannot be above {best:.2f} on average. {WISHED} for all takes s ≥ {needed:.1f} "
        f"(CosFace's bound). Centers stand at most "
        f"{math.degrees(next(iter(rooms.values())).spacing.angle):.0f}° apart, which is what limits m."
    )
    answer(
        "Which s and m?", short, why,
        "The article (2021): s = √2·ln(C−1), which is 3.11 for ten classes; its runs had m = 0.25.",
        ("learn/lab.py", "Try them in the margin lab", {"lab.C": str(classes), "lab.D": str(dim)}),
    )  # fmt: skip


def supervised_or_metric(found: Experiment, metric: str) -> None:
    """Heads with class logits against metric learning."""
    names = [one.head for one in found.ranked.standings]
    faces, metrics = [name for name in names if scored(name)], [name for name in names if not scored(name)]
    best = advice.duel(found.ranked, faces, metrics)
    article = (
        "The article (2021) takes metric learning, by triplets or quadruplets, for the alternative to all of these."
    )
    link = (
        "explore/scoreboard.py", "Train both", {"heads": ",".join([*names[:2], "Triplet", "SupCon"])},
    )  # fmt: skip
    if metric == "dnn_accuracy":
        short, why = "Supervised.", "Metric learning has no class logits and so no DNN accuracy."
        answer("Supervised or metric learning?", short, why, article)
    elif best is None:
        short, why = "This experiment cannot say.", "It has only one of the two kinds."
        answer("Supervised or metric learning?", short, why, article, link)
    else:
        short = (
            "Either."
            if not best.told_apart
            else "Supervised."
            if (best.gap > 0) == MEASURES[metric].higher
            else "Metric learning."
        )
        why = f"{advice.said(best, metric)} The best of each kind, the choice of both allowed for."
        answer("Supervised or metric learning?", short, why, article)


def wrong_labels(runs: Sequence[Run], latest: Latest) -> None:
    """Sub-centers against one center, at the noisiest level that some experiment has."""
    noisy = [group for group in comparison.together(runs).values() if len({run.config.noise for run in group}) > 1]
    article = "SubCenterArcFace's paper (2020): with K centers for a class, wrong labels gather at one of their own."
    leads: dict[int, tuple] = {}
    for group in noisy:
        levels = comparison.by_noise(group, latest, "knn_accuracy")
        leads = comparison.lead(levels.get("SubCenterArcFace", {}), levels.get("ArcFace", {}))
        if leads:  # the newest that can say
            break
    if not leads:
        short, why = (
            "No run at hand can say.",
            "It would take ArcFace and SubCenterArcFace at several levels of wrong labels.",
        )
    else:
        measure = MEASURES["knn_accuracy"]
        clear = [noise for noise, (gap, within) in leads.items() if abs(gap) > within]
        short = (
            f"Sub-centers change something at {told.listed([f'{noise} %' for noise in clear])} wrong labels."
            if clear else "No gain of sub-centers is shown."
        )  # fmt: skip
        why = (
            "SubCenterArcFace less ArcFace, KNN accuracy: "
            + ", ".join(
                f"{measure.said(gap, sign=True)} at {noise} %" + ("" if math.isfinite(within) else " (one seed)")
                for noise, (gap, within) in leads.items()
            )
            + "."
        )
    answer("Are some of your labels wrong?", short, why, article)


st.title("Which Face should I use?")
st.markdown(
    "Answers from the runs at hand, each with what chance can do to it, beside the advice of the article that this app "
    "began with. They hold for the images, encoder and budget they were measured on; yours may differ."
)
purpose = st.segmented_control(
    "What for?", list(PURPOSES), default=next(iter(PURPOSES)), required=True, key="purpose", bind="query-params"
)
with st.container(horizontal=True):
    classes = st.number_input("Your classes C", 2, 1000, 10, key="C", bind="query-params", width=140)
    dim = st.number_input("Dimensions D", 2, 512, 128, key="D", bind="query-params", width=140)
metric = PURPOSES[purpose or next(iter(PURPOSES))]
runs = store.runs(("finished",))
latest = store.latest([run.id for run in runs if comparison.NOTE.match(run.note)])
found = {one.note: one for one in advice.experiments(runs, latest, metric)}


def show(found: Mapping[str, Experiment]) -> None:
    """The questions that an experiment answers, and those that it does not need."""
    if found:
        notes = list(found)
        if st.session_state.get("experiment") not in found:
            linked = st.query_params.get("from", "")
            st.session_state["experiment"] = linked if linked in found else notes[0]
        note = st.selectbox("Answers from", notes, key="experiment")
        remember("from", note)
        one = found[note]
        config, seeds = one.runs[0].config, len(one.ranked.seeds)
        st.caption(
            f"{len(one.ranked.standings)} heads, {seeds} seeds, {told.plain(told.dataset_title(config.dataset))} at "
            f"{config.size} px, {config.encoder}, {config.epochs} epochs each. Differences are seed by seed, in square "
            "brackets their 95 % interval."
        )
        why({metric: over_seeds(metric, {own.head: own.scores for own in one.ranked.standings})}, "answers")
        which_head(one, metric)
        what_a_margin_adds(one, metric)
    else:
        st.info(
            f"No experiment at hand has {MEASURES[metric].title} for two heads and two seeds or more. Open recorded "
            "runs here, or train some heads on the page Which head is best"
            + (" with some classes held out." if metric.startswith("tar") else "."),
            icon=":material/arrow_downward:",
        )
        offer()
    which_s_and_m(int(classes), int(dim))
    if found:
        supervised_or_metric(one, metric)
    wrong_labels(runs, latest)


told.forgiving(show)(found)
