"""Teaching by link, on any page.

    ?teach=head,ArcFace.m   of the controls only these are there, by their names in the URL; "train" is the main button
    ?hide=time,save         of the picture's own buttons these are not there: time, colour, lengths, lasso, trails,
                            tour, save; a key does no more than its button
    &lock=1                 what would be hidden is seen but cannot be moved
    &large=1                large type, for a projector
    &lesson=4               what it is for: the task of a lesson stands above the page, with a way back
    ?teach=choose           a form that makes such a link from the page as it is

Controls are hidden by the browser: they stay what the link set them to, and the page knows nothing of it. What explains
a number stays always.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from faces.lessons import Lesson, files, read
from trainer.lessons import WORDS

PAGES = Path(__file__).parents[1]
CHOOSE, MAIN = "choose", "train"
KINDS = (
    "Selectbox", "MultiSelect", "Slider", "NumberInput", "TextInput", "ButtonGroup", "Checkbox", "Button", "Radio",
    "DownloadButton", "PageLink", "FileUploader",
)  # fmt: skip
BOXES = ("Expander", "Popover")  # controls that hold others
EXPLAIN = "[class*=st-key-explain]"  # a box that only says something
BUTTONS = ("time", "colour", "lengths", "lasso", "trails", "tour", "save")  # the picture's, parts in assets/faceview.js
PICTURE = ".stMain [data-testid=stBidiComponentIsolated]"
LOCKED = "opacity: .5; pointer-events: none; interactivity: inert;"
SHOWN = "canvas, .stDataFrame, .stMetric, .stPlotlyChart, [data-testid^=stEChart], [data-testid^=stBidiComponent]"
LARGE = (  # 22 instead of 16: all else, and the words of charts, is told from it
    "html { font-size: 22px !important; } [data-testid=stSidebarNavLink] * { white-space: normal !important; } "
)
_choose = st.components.v2.component("teaching", js=(PAGES.parent / "assets" / "teaching.js").read_text("utf-8"))


def kept_controls() -> list[str] | None:
    """The keys of the controls that the link leaves, or None when it leaves all."""
    asked = st.query_params.get("teach")
    return None if asked in (None, CHOOSE) else [key for key in asked.split(",") if key]


def hidden_buttons() -> list[str]:
    """Those of the picture's buttons that the link hides."""
    choosing = st.query_params.get("teach") == CHOOSE
    return [] if choosing else [name for name in st.query_params.get("hide", "").split(",") if name in BUTTONS]


def frame() -> None:
    """What a link wishes of every page: call it before the page is drawn."""
    stay, gone, lock = kept_controls(), hidden_buttons(), "lock" in st.query_params
    style = LARGE if "large" in st.query_params else ""
    style += "" if stay is None else hiding(stay, lock)
    style += " ".join(f"{PICTURE}::part({name}) {{ {LOCKED if lock else 'display: none;'} }}" for name in gone)
    with st.container(key="teaching"):  # keeps the place of the page below, and is not hidden itself
        if style:
            st.html(f"<style>{style}</style>")
        if st.query_params.get("teach") == CHOOSE:
            _choose(key="choosing", data=[{"kinds": ", ".join(f".st{kind}" for kind in KINDS)}])
        elif stay is not None or gone:
            _bar()


def _bar() -> None:
    """What is to be done here, and the ways out."""
    lesson = asked_lesson()
    words = "Some controls are set aside, so that the others can be watched."
    if lesson:
        words = f"**Lesson {lesson.number} · {lesson.title}.** {lesson.tell('Try', lesson.task, WORDS)}"
    with st.container(border=True, gap="xsmall"):
        st.markdown(words)
        with st.container(horizontal=True, vertical_alignment="center"):
            if lesson:
                st.page_link(
                    "learn/lessons.py", label="Back to the lesson", icon=":material/school:",
                    query_params={"lesson": str(lesson.number), "step": "Explain", **carried()},
                )  # fmt: skip
            st.button("All controls", icon=":material/tune:", type="tertiary", key="all controls", on_click=_all)


def _all() -> None:
    for name in ("teach", "hide", "lock"):
        st.query_params.pop(name, None)


def asked_lesson() -> Lesson | None:
    """The lesson that the URL names, or None."""
    number, found = st.query_params.get("lesson", ""), files()
    if not number.isdigit() or not 1 <= int(number) <= len(found):
        return None
    try:
        return read(found[int(number) - 1], int(number))
    except ValueError:
        return None


def carried() -> dict[str, str]:
    """What links between lessons and pages hand on."""
    return {"large": "1"} if "large" in st.query_params else {}


def mark(key: str) -> str:
    """A key as Streamlit writes it into a class; a link may name a control by either."""
    return re.sub(r"[^a-zA-Z0-9_-]", "-", key)


def hiding(stay: Sequence[str], lock: bool = False) -> str:
    """A style that hides, or locks, all controls of a page but those with these keys.

    Streamlit marks what has a key with a class made of it; a box stays when it holds one that stays.
    """
    marks = ", ".join(f".st-key-{mark(key)}" for key in ("teaching", *stay))
    kinds, boxes = (", ".join(f".st{kind}" for kind in some) for some in (KINDS, BOXES))
    main = ", :has([data-testid=stBaseButton-primary])" if MAIN in stay else ""
    where = (
        f".stMain .stElementContainer:has({kinds}):not({marks}, .st-key-teaching *{main}), "
        f".stMain :is({boxes}):not(:has({marks}), {EXPLAIN} *)"
    )
    if lock:
        return f"{where} {{ {LOCKED} }}"
    alone = f".stMain .stColumn:has({kinds}):not(:has({marks}, {SHOWN}))"  # a column of which only captions are left
    return f"{where}, {alone} {{ display: none !important; }} "


@contextmanager
def folded(label: str, icon: str, *holds: str) -> Iterator[None]:
    """A popover; where a link leaves one of the controls that it holds, these lie open instead."""
    if {mark(key) for key in kept_controls() or ()} & {mark(key) for key in holds}:
        with st.container(width=460):
            yield
    else:
        with st.popover(label, icon=icon):
            yield
