"""The margin lab: one head, its knobs, and four pictures of what they do, without any training.

Every line is drawn by the head's own `forward` and `loss` (faces/curves.py). For that, and only here, torch enters the
web process: once per server, by the first visitor to this page, after its title and controls are painted. It took 5 to
8 seconds and 525 MB with torch 2.15 built for CUDA on a busy machine with two cores, in which other pages were held
up for 0.6 seconds at most. Streamlit collects garbage after every run of a page, which torch's objects would lengthen by
a quarter of a second, so they are frozen. tests/benchmarks/results/lab.md has the times of a slider step.
"""

import gc
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from faces import figures
from faces.feasibility import spacing
from faces.figures import GREY, Dot, Line
from faces.heads import FAMILIES, HEADS, angled
from faces.knobs import Choice, Knob, Value
from pages.components.feasibility import feasibility
from pages.components.knobs import key_of, sliders
from pages.components.session import head_colors

if TYPE_CHECKING:
    from faces.curves import Sketch

DEGREES = np.arange(0.0, 181.0)
TALL = 330  # pixels
NAMES = sorted((name for name in HEADS if angled(name)), key=lambda name: FAMILIES.index(HEADS.about(name).family))
SEAMS = {  # what is said of each rule past theta + m = pi
    "cos_minus_m_sin_m": "falls on, after a step down",
    "keep_theta": "drops the margin: a step up",
    "raw_cos": "rises again: the worst samples look better",
    "clamp_pi": "stays flat: no pull on the worst samples",
    "psi_monotone": "falls on without a step",
}


@st.cache_resource(show_spinner="The heads' own formulas are being loaded, once per server: some seconds")
def curves() -> Any:
    """The module that draws heads, and torch with it."""
    import torch

    from faces import curves

    torch.set_num_threads(1)  # lines of 181 points; the cores belong to the trainings
    gc.collect()
    gc.freeze()
    return curves


@st.fragment
def lab() -> None:
    """Controls and pictures, drawn again at each step of a slider, and nothing else of the page."""
    controls, view = st.columns([1, 2.6], gap="large")
    with controls:
        name = ask_head()
        classes, dim = ask_size()
        knobs, drawn = ask_knobs(name, classes)
        room = st.container()
    with view:
        formula = st.container()
        theta, other = ask_sample()
        pictures = st.container()
    with pictures:
        heads = curves()
    try:
        sketch = heads.Sketch(name, classes, dim, knobs, drawn)
    except ValueError as error:
        pictures.warning(str(error), icon=":material/warning:")
        return
    color = head_colors([name])[name]
    with formula:
        say_formula(name, sketch, theta)
    with pictures, st.grid(min_column_width=340, gap="medium"):
        for show in (show_target, show_plane, show_probability, show_pull):
            with st.container(gap="xsmall"):
                show(name, sketch, theta, other, color)
    with room:
        show_room(name, sketch, knobs, classes, dim, color)


def ask_head() -> str:
    """Which head, of those whose logits are made of angles."""
    name = st.selectbox("Head", NAMES, index=NAMES.index("ArcFace"), key="lab", bind="query-params") or "ArcFace"
    about = HEADS.about(name)
    st.caption(f"{about.family}: {about.title}, [{about.born[:4]}]({about.source})")
    return name


def ask_size() -> tuple[int, int]:
    """How many classes in how many dimensions."""
    left, right = st.columns(2)
    classes = left.number_input(
        "Classes C", 2, 1000, 10, key="lab.C", bind="query-params", help="Two or more: one class has no rival."
    )
    dim = right.number_input("Dimensions D", 2, 512, 128, key="lab.D", bind="query-params")
    return classes, dim


def ask_knobs(name: str, classes: int) -> tuple[dict[str, Value], dict[str, Value]]:
    """The head's live knobs, and what else a drawing of it must know."""
    about = HEADS.about(name)
    undrawn = getattr(about, "undrawn", ())
    live = {letter: knob for letter, knob in about.knobs.items() if knob.live and letter not in undrawn}
    numbers = {letter: knob for letter, knob in live.items() if isinstance(knob, Knob)}
    choices = {letter: knob for letter, knob in live.items() if isinstance(knob, Choice)}
    knobs = sliders(numbers, classes, f"lab.{name}")
    drawn = sliders(getattr(about, "drawn", {}), classes, f"lab.{name}")
    return knobs | sliders(choices, classes, f"lab.{name}"), drawn


def ask_sample() -> tuple[float, float]:
    """Where a sample lies: its angles to its own class and to the nearest other one, in radians."""
    left, right = st.columns(2)
    theta = left.slider(
        "θ · a sample's angle to its own class", 0, 180, 60, 1, "%d°", key="lab.theta", bind="query-params"
    )
    other = right.slider(
        "θ₂ · its angle to the nearest other class", 0, 180, 90, 1, "%d°", key="lab.other", bind="query-params"
    )
    return math.radians(theta), math.radians(other)


def say_formula(name: str, sketch: "Sketch", theta: float) -> None:
    """The formula in letters and in numbers."""
    formula = HEADS.about(name).formula
    values = {**sketch.head.knob_values(), **sketch.drawn, "theta": theta}
    values["mi"] = values.get("m", 0.0)  # ElasticFace's, at its mean
    numbers = curves().in_numbers(formula, values)
    st.latex(rf"\text{{own logit}} = {formula}")
    st.latex(
        rf"= {numbers} = \mathbf{{{sketch.own(np.array([theta]))[0]:.3f}}} \quad \text{{at }} \theta = {math.degrees(theta):.0f}°"
    )


def show_target(name: str, sketch: "Sketch", theta: float, other: float, color: str) -> None:
    """The own logit against the angle, of this head and of all others."""
    heads = curves()
    own, plain = sketch.own(np.radians(DEGREES)), sketch.own(np.radians(DEGREES), margin=False)
    found = {name: own, "no margin": plain}
    for each in NAMES:
        if each not in (name, "ETF"):  # which is NormFace, in C - 1 dimensions or more
            knobs = heads.together(each, sketch.head.knob_values(), sketch.classes)
            found[each] = heads.Sketch(each, sketch.classes, 2, knobs).own(np.radians(DEGREES))
    kinds = heads.alike(found)
    rest = [kind for kind in kinds if kind not in (name, "no margin")]
    colors = head_colors(rest)
    lines = [
        Line(said(kinds[kind]), DEGREES, found[kind], colors[kind], 1.5, dash, faint=True)
        for kind, dash in zip(rest, figures.dashes(rest), strict=True)
    ]
    seam, upright = sketch.seam(), {}
    if seam is not None:
        past = np.linspace(seam, math.pi, 24)[1:]
        upright = {math.degrees(seam): "θ + m = π"}
        lines += [
            Line(rule, np.degrees(past), sketch.past(past, rule), GREY, 1.2, "dotted", named=False)
            for rule in SEAMS
            if rule != sketch.head.seam
        ]
    if "no margin" in kinds:
        lines.append(Line("no margin", DEGREES, plain, GREY, 2, "dashed"))
    lines.append(Line(name, DEGREES, own, color, 3.5))
    here, bare = sketch.own(np.array([theta]))[0], sketch.own(np.array([theta]), margin=False)[0]
    top = nice(plain[0])
    st.markdown("**What does the margin take from the own class?**")
    st.echarts_chart(
        figures.over_angles(lines, [Dot(math.degrees(theta), here, color)], -1.5 * top, top, upright),
        height=TALL + 20, key="target", alt=f"Own logit of {name} against the angle, beside all other heads",
    )  # fmt: skip
    words = f"At {math.degrees(theta):.0f}° the own logit is {here:.2f} instead of {bare:.2f}"
    words += f": {bare - here:.2f} less." if abs(bare - here) > 0.005 else ": nothing is taken."
    if seam is not None:
        words += (
            f" Past {math.degrees(seam):.0f}°, where θ + m > π, it {SEAMS[sketch.head.seam]}; dotted, the other rules."
        )
    if len(kinds[name]) > 1:
        words += f" The same line: {', '.join(kinds[name][1:])}."
    st.caption(words)


def show_plane(name: str, sketch: "Sketch", theta: float, other: float, color: str) -> None:
    """Who wins between two classes."""
    boundary = sketch.boundary(np.radians(DEGREES))
    at_own, at_other = sketch.boundary(np.array([theta, other]))
    band = math.degrees(at_own - theta)
    sample = Dot(math.degrees(theta), math.degrees(other), color)
    st.markdown("**Where is a sample between two classes undecided?**")
    st.echarts_chart(
        figures.angle_plane(DEGREES, np.degrees(boundary), color, sample), height=TALL + 20, key="plane",
        alt=f"{name}: at {sample.x:.0f}° to its own class a sample wins if the other is {math.degrees(at_own):.0f}° off",
    )  # fmt: skip
    verdict = "its own class wins" if other > at_own else "the other class wins" if theta > at_other else "undecided"
    if at_own >= math.pi:
        words = f"At θ₁ = {sample.x:.0f}° no angle to the other class is enough to win in training."
    elif abs(band) < 0.05:
        words = f"At θ₁ = {sample.x:.0f}° the nearer class wins: there is no band."
    elif band > 0:
        words = f"At θ₁ = {sample.x:.0f}° the other class must be {band:.1f}° farther off for the own one to win in training."
    else:
        words = f"At θ₁ = {sample.x:.0f}° the own class wins even if the other is {-band:.1f}° nearer: hard ones hardly count."
    st.caption(f"{words} The dot: {verdict}.")


def show_probability(name: str, sketch: "Sketch", theta: float, other: float, color: str) -> None:
    """How sure the head can be."""
    p, plain = (sketch.probability(np.radians(DEGREES), other, margin) for margin in (True, False))
    here, best = sketch.probability(np.array([theta]), other)[0], sketch.best()
    lines = [Line("no margin", DEGREES, plain, GREY, 2, "dashed"), Line(name, DEGREES, p, color, 3.5)]
    dots = [Dot(math.degrees(theta), here, color)]
    word = "With two classes √2·ln(C − 1) is 0 and would train nothing."
    if sketch.classes > 2:
        s = math.sqrt(2) * math.log(sketch.classes - 1)
        dots.append(Dot(45, 0.5, GREY, "s = √2·ln(C − 1)", filled=False))
        word = f"The ring: with s = √2·ln {sketch.classes - 1} = {s:.3f} and no margin, p = ½ at 45° if all others are at 90°."
    st.markdown("**How sure can the head be?**")
    st.echarts_chart(
        figures.over_angles(lines, dots, 0, 1, level={best: f"best {best:.3f}"}), height=TALL, key="probability",
        alt=f"Probability of the own class against the angle; {here:.2f} at {math.degrees(theta):.0f}°",
    )  # fmt: skip
    half = figures.crossing(DEGREES, p, 0.5)
    words = "p never reaches ½." if half is None else f"p = ½ at {half:.1f}°."
    if name == "SphereFace2":
        word = "SphereFace2 asks yes or no for each class; this softmax of its logits is not what it trains."
    st.caption(f"{words} On its center, all classes as far apart as they can be, p = {best:.3f}. {word}")


def show_pull(name: str, sketch: "Sketch", theta: float, other: float, color: str) -> None:
    """How hard training turns a sample."""
    pull, push = sketch.pull(np.radians(DEGREES), other)
    plain, _ = sketch.pull(np.radians(DEGREES), other, margin=False)
    (here,), (off,) = sketch.pull(np.array([theta]), other)
    lines = [
        Line("no margin", DEGREES, plain, GREY, 2, "dashed"),
        Line("push off the nearest other", DEGREES, push, color, 1.5, "dotted"),
        Line("pull to its own class", DEGREES, pull, color, 3.5),
    ]
    least, most = min(pull.min(), push.min(), 0.0), max(pull.max(), plain.max(), push.max())
    st.markdown("**Who is pulled hardest?**")
    st.echarts_chart(
        figures.over_angles(lines, [Dot(math.degrees(theta), here, color)], -nice(-least) if least < -0.02 else 0, nice(most)),
        height=TALL, key="pull", alt=f"Pull to the own class against the angle; strongest at {pull.argmax()}°",
    )  # fmt: skip
    st.caption(
        f"A sample at {pull.argmax()}° is. The dot is pulled with {here:.2f} and pushed off the nearest other class, at "
        f"{math.degrees(other):.0f}°, with {off:.2f}: slopes of the loss, per radian."
    )


def show_room(name: str, sketch: "Sketch", knobs: dict[str, Value], classes: int, dim: int, color: str) -> None:
    """Whether the margin fits that many classes in that many dimensions."""
    asked, there = sketch.asks(), spacing(classes, dim)
    st.markdown("**Does the margin fit?**")
    st.echarts_chart(
        figures.angle_gauge(math.degrees(asked), math.degrees(there.angle), color), height=78, key="gauge",
        alt=f"Asked for {math.degrees(asked):.1f}°, there are {math.degrees(there.angle):.1f}°",
    )  # fmt: skip
    most = "can be" if there.exact else "can at best be"
    st.caption(
        f"A sample on its center wins by the margin if centers are {math.degrees(asked):.1f}° apart. {classes} classes in "
        f"{dim} dimensions {most} {math.degrees(there.angle):.1f}° apart."
    )
    feasibility({name: sketch.head.knob_values()}, classes, dim)


def said(names: list[str]) -> str:
    """Heads that draw one line, in few words."""
    return names[0] if len(names) == 1 else f"{names[0]} +{len(names) - 1}"


def nice(number: float) -> float:
    """The end of an axis for numbers up to this one, so that small steps of a slider leave it where it is."""
    ends = (step * 10.0**power for power in range(-2, 4) for step in (1, 1.5, 2, 3, 4, 6, 8))
    return next(end for end in ends if end >= number)


st.title("What does the margin do?")
st.markdown(
    "Nothing is trained here: every line is the head's own formula, the one that trains. Move a slider and all pictures "
    "move with it."
)
lab()
