"""Explain these numbers: what a measure counts, its formula, the values that went in, and where it comes from."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import streamlit as st

from pages.components.runs import plain
from trainer.comparison import MEASURES, Measure

COUNTED = ("knn_accuracy", "dnn_accuracy", "dnn_accuracy_with_labels", "ncm_accuracy")  # shares of the images asked
NEAR = 5  # neighbours in a picture
OTHERS = {  # numbers by which no heads are ranked
    "loss": Measure(
        "Training loss", "what training makes smaller, margin included; losses of different heads are not comparable",
        False, 1, "", 3,
    ),
    "explained_variance": Measure(
        "Explained variance", "share of the validation embeddings' variance along their first k principal axes"
    ),
    "spread": Measure(
        "Spread", "median angle between a validation image and the mean of its class", False, 180 / math.pi, "°"
    ),
    "nearest_two": Measure(
        "Nearest two", "angle between the two class means that lie nearest to each other", True, 180 / math.pi, "°"
    ),
    "trust": Measure(
        "Trustworthiness (trust)", "1 when the 5 nearest points of each point are also among its nearest embeddings "
        "by cosine, about 0.5 when they are anybody", True, 1, "", 2,
    ),
    "picture_knn": Measure(
        "KNN in the picture", "share of points for whose class the 5 nearest other points vote; after “of”, for whose "
        "class the 5 nearest other embeddings do: the gap is what the picture loses",
    ),
    "raw_knn": Measure("KNN", "share of the images drawn for whose class the 5 nearest others of them vote"),
    "picture_variance": Measure("Variance in the picture", "share of the embeddings' variance along the axes shown"),
    "residual": Measure(
        "Residual", "how differently a panel arranges the classes than the first panel does, after the best shift, "
        "turn, mirroring and size: 0 is the same arrangement, 1 the most; ten classes thrown at random are 0.86 apart "
        "on 2 axes and 0.79 on 3 (medians of 2,000 throws)", False, 1, "", 2,
    ),
}  # fmt: skip
EXPLAINED = MEASURES | OTHERS
MIDDLE = "a measure of this page; μ: the direction of the mean of a class' validation embeddings"
AXES = "[Pearson 1901](https://doi.org/10.1080/14786440109462720); λ: variances along the principal axes, largest first"
FORMULAS = {  # LaTeX; the source as Markdown
    "loss": (
        r"-\frac1B\sum_i\ln\frac{e^{z_{i,y_i}}}{\sum_j e^{z_{i,j}}}",
        "cross-entropy of the training logits z, which carry the margin; metric learning has a loss of its own",
    ),
    "knn_accuracy": (
        r"\frac1N\sum_i\big[\,\mathrm{vote}\{y_j : j\in\mathrm{NN}_5(i)\}=y_i\big]",
        "Cover and Hart, Nearest neighbor pattern classification, 1967; neighbours by cosine among training images",
    ),
    "dnn_accuracy": (
        r"\frac1N\sum_i\big[\arg\max_j z_j(x_i)=y_i\big]",
        "top-1 accuracy of the inference logits, s cos θ, which saw no label",
    ),
    "dnn_accuracy_with_labels": (
        r"\frac1N\sum_i\big[\arg\max_j z_j(x_i,y_i)=y_i\big]",
        "the article's way of counting: the logits carry the margin of the true class",
    ),
    "ncm_accuracy": (
        r"\frac1N\sum_i\Big[\arg\max_c\cos\big(x_i,\textstyle\sum_{j:\,y_j=c}x_j\big)=y_i\Big]",
        "[Mensink et al. 2013](https://doi.org/10.1109/TPAMI.2013.83), by cosine; means over training images",
    ),
    "map_at_r": (
        r"\frac1N\sum_i\frac1{R_i}\sum_{k=1}^{R_i}P_i(k)\,\big[\text{the }k\text{-th is of class }y_i\big]",
        "[Musgrave et al. 2020](https://arxiv.org/abs/2003.08505), equations 3 and 4; validation among themselves",
    ),
    "r_precision": (
        r"\frac1N\sum_i\frac{r_i}{R_i}",
        "[Musgrave et al. 2020](https://arxiv.org/abs/2003.08505); r of the R nearest are of the own class",
    ),
    "tar": (
        r"\frac{\#\{\text{pairs of one class}:\cos\ge\tau\}}{\#\{\text{pairs of one class}\}}",
        "NIST's verification: τ is where the named share of pairs of different classes is accepted",
    ),
    "eer": (r"\text{FAR}(\tau)=1-\text{TAR}(\tau)", "the rate at the threshold τ where both errors are equal"),
    "rank1": (
        r"P\big(\arg\max_c\cos(x,g_c)=y\big)",
        "closed-set identification: one random image g of each class is the gallery, a mean over all galleries",
    ),
    "silhouette": (
        r"\frac1N\sum_i\frac{b_i-a_i}{\max(a_i,b_i)}",
        "[Rousseeuw 1987](https://doi.org/10.1016/0377-0427(87)90125-7), by scikit-learn; a, b: mean cosine distance "
        "to the own and to the nearest other class",
    ),
    "effective_rank": (
        r"\exp\Big(-\sum_k p_k\ln p_k\Big),\quad p_k=\sigma_k\big/\textstyle\sum_l\sigma_l",
        "Roy and Vetterli, The effective rank, EUSIPCO 2007; σ: singular values of the centered embeddings",
    ),
    "angle": (r"\frac1N\sum_i\arccos(x_i\cdot w)", "in degrees; w: the nearest center of the own or of another class"),
    "explained_variance": (r"\textstyle\sum_{i\le k}\lambda_i\big/\sum_i\lambda_i", AXES),
    "spread": (r"\mathrm{median}_i\,\arccos(x_i\cdot\mu_{y_i})", MIDDLE),
    "nearest_two": (r"\min_{c\ne d}\,\arccos(\mu_c\cdot\mu_d)", MIDDLE),
    "trust": (
        r"1-\frac{2}{Nk\,(2N-3k-1)}\sum_i\sum_{j\in U_i}(r_{ij}-k)",
        "Venna and Kaski, Neighborhood preservation in nonlinear projection methods, 2001; U: those of the k = 5 "
        "nearest points that are not among the k nearest embeddings, r: how near they are by cosine, 1 the nearest",
    ),
    "picture_knn": (
        r"\frac1N\sum_i\big[\,\mathrm{vote}\{y_j : j\in\mathrm{NN}_5(i)\}=y_i\big]",
        "Cover and Hart, 1967, leaving one out: neighbours among the points drawn, 1,000 at most",
    ),
    "picture_variance": (r"\textstyle\sum_{a}\mathrm{Var}(\text{axis }a)\big/\sum_i\lambda_i", AXES),
    "residual": (
        r"1-\Big(\textstyle\sum_i\sigma_i(A^{\!\top}B)\Big)^2",
        "Gower, Generalized Procrustes Analysis, Psychometrika 40, 1975; A, B: class centroids of the two panels, "
        "centered and of length 1, σ: singular values",
    ),
}  # fmt: skip


def formula(name: str) -> tuple[str, str]:
    """LaTeX and source of a measure."""
    family = "tar" if name.startswith("tar_at_far") else "angle" if name.endswith("_angle") else name
    return FORMULAS["picture_knn" if family == "raw_knn" else family]


def meaning(name: str) -> str:
    """What a measure counts, as a sentence."""
    words = EXPLAINED[name].meaning
    return f"{words[0].upper()}{words[1:]}."


def explain(name: str, lines: Sequence[str] = ()) -> str:
    """A measure as Markdown: what it counts, its formula, the values put in, a line each, and its source."""
    latex, source = formula(name)
    return "\n\n".join([meaning(name), f"${latex}$", *["  \n".join(lines)] * bool(lines), f"Source: {source}."])


def put_in(name: str, looks: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """A measure's values put in, a line for each of `looks`: whose numbers they are, and the metrics of their seeds.

    The metrics are those of one look each, which also say how many images were asked in it; a look without the
    measure is left out. A name may be empty where there is but one.
    """
    measure, found, asked = EXPLAINED[name], list[str](), set[float]()
    for whose, metrics in looks.items():
        here = [one for one in metrics if name in one]
        if len(here) > 1:
            terms = " + ".join(measure.said(one[name], unit=False) for one in here)
            said = f"({terms}) / {len(here)} = {measure.about([one[name] for one in here])}"
            asked |= {one["asked"] for one in here if name in COUNTED and "asked" in one}
        elif here:
            said = counted(name, here[0])
        else:
            continue
        found.append(f"{plain(whose)}: {said}" if whose else f"= {said}")
    if asked:
        span = dict.fromkeys(f"{count:,.0f}" for count in (min(asked), max(asked)))
        found.append(f"Each share is of {' to '.join(span)} images.")
    return found


def counted(name: str, metrics: Mapping[str, float]) -> str:
    """One value; a share of the images asked with its counts, such as 2,013 / 3,929 = 51.2 %."""
    said = EXPLAINED[name].said(metrics[name])
    if name not in COUNTED or not metrics.get("asked"):
        return said
    return f"{round(metrics[name] * metrics['asked']):,} / {metrics['asked']:,.0f} = {said}"


def put_in_all(names: Sequence[str], looks: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, list[str]]:
    """`put_in` for several measures, for `why`."""
    return {name: put_in(name, looks) for name in names}


def over_seeds(name: str, scores: Mapping[str, Iterable[float]]) -> list[str]:
    """`put_in` from the scores of each seed alone."""
    return put_in(name, {whose: [{name: score} for score in row] for whose, row in scores.items()})


def added(shares: np.ndarray, k: int) -> str:
    """The first k shares of the variance added up, such as 31.0 + 20.5 = 51.5 % in 2 components."""
    measure = EXPLAINED["explained_variance"]
    told = shares[:k] if k <= 3 else [*shares[:2], shares[k - 1]]
    terms = [measure.said(share, unit=False) for share in told]
    terms[2:2] = ["…"] * (k > 3)
    return f"{' + '.join(terms)} = {measure.said(float(shares[:k].sum()))} in {k} components"


def kept(quality: np.ndarray, count: int, raw: bool = False) -> dict[str, str]:
    """What a picture keeps, of `trainer.pictures.measured` on so many of its points, values put in; by measure.

    Of a `raw` one, whose axes are those of the embeddings, only what KNN finds in it is told.
    """
    trust, inside, before, variance = [*quality.tolist(), math.nan, math.nan][:4]
    measure = EXPLAINED["picture_knn"]
    shares = [f"{round(one * count):,} / {count:,} = {measure.said(one)}" for one in (inside, before) if one == one]
    if raw:
        return {"raw_knn": shares[0]}
    pairs, most = count * NEAR, 2 * count - 3 * NEAR - 1
    excess = round((1 - trust) * pairs * most / 2)
    told = {
        "trust": f"1 − 2 · {excess:,} / ({count:,} · {NEAR} · {most:,}) = {EXPLAINED['trust'].said(trust)}",
        "picture_knn": " of ".join(shares),
    }
    return told | ({"picture_variance": EXPLAINED["picture_variance"].said(variance)} if variance == variance else {})


def why(lines: Mapping[str, Sequence[str]], key: str, word: str = "Explain these numbers") -> None:
    """A quiet control beside a table or a picture that explains its numbers, one at a time.

    `lines` are the values put in, by measure; `key` is one on the page.
    """
    names = list(lines)
    if not names:
        return
    with st.popover(f":small[{word}]", icon=":material/functions:", type="tertiary", key=f"explain {key}"):
        if len(names) > 1:
            name = st.selectbox(
                "Number", names, key=f"explained {key}", format_func=lambda name: EXPLAINED[name].title,
                label_visibility="collapsed",
            ) or names[0]  # fmt: skip
        else:
            (name,) = names
            st.markdown(f"**{EXPLAINED[name].title}**")
        st.markdown(explain(name, lines[name]))
