"""Explain this number: what a measure counts, its formula, the values that went in, and where it comes from."""

from collections.abc import Mapping, Sequence

from trainer.comparison import MEASURES

COUNTED = ("knn_accuracy", "dnn_accuracy", "dnn_accuracy_with_labels", "ncm_accuracy")  # shares of the images asked
LOSS = "What training makes smaller, margin included. Losses of different heads are not comparable."
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
}  # fmt: skip


def formula(name: str) -> tuple[str, str]:
    """LaTeX and source of a measure."""
    family = "tar" if name.startswith("tar_at_far") else "angle" if name.endswith("_angle") else name
    return FORMULAS[family]


def explain(name: str, metrics: Mapping[str, float]) -> str:
    """A number as Markdown: what it counts, the formula with this look's values put in, and the source.

    `metrics` are those of one snapshot. A measure that they lack is explained without values.
    """
    latex, source = formula(name)
    measure = MEASURES.get(name)
    meaning = f"{measure.meaning[0].upper()}{measure.meaning[1:]}." if measure else LOSS
    value = ""
    if name in metrics and measure:
        value = f" = {measure.said(metrics[name])}"
        if name in COUNTED and metrics.get("asked"):
            right = round(metrics[name] * metrics["asked"])
            value = f" = {right:,} / {metrics['asked']:,.0f}{value}"
    elif name in metrics:
        value = f" = {metrics[name]:.3f}"
    return f"{meaning}\n\n${latex}${value}\n\nSource: {source}."


def explain_mean(name: str, scores: Mapping[str, Sequence[float]]) -> str:
    """The same for means over seeds, one line per head, with the scores that they are made of."""
    measure = MEASURES[name]
    lines = [
        f"{head}: ({' + '.join(measure.said(score, unit=False) for score in row)}) / {len(row)} = {measure.about(row)}"
        for head, row in scores.items()
    ]
    return "\n\n".join([explain(name, {}), "Over the seeds, ± their standard deviation:", *lines])
