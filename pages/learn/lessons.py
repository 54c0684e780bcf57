"""The lessons: predict, try, explain, check. Texts are in assets/lessons, progress is kept in the browser."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import streamlit as st

from faces.lessons import Lesson, Question, files, read
from faces.worksheet import worksheet
from pages.components.kept import forget, keep, kept
from pages.components.knobs import sliders
from pages.components.recorded import needed, open_file
from pages.components.runs import allowed
from pages.components.session import remember, the_store
from pages.components.teaching import CHOOSE, PAGES, carried
from trainer.lessons import WORDS

STEPS = ("Predict", "Try", "Explain", "Check")
NARROW = 760  # pixels: a line that is read without turning the head; in large type as many letters are wider
WIDE = 1040
Record = Mapping[str, Any]


def all_lessons() -> tuple[list[Lesson], list[str]]:
    """The lessons, and what is wrong with those that cannot be read."""
    found: list[Lesson] = []
    wrong: list[str] = []
    for number, file in enumerate(files(), 1):
        try:
            found.append(read(file, number))
        except ValueError as error:
            wrong.append(str(error))
    return found, wrong


def go(lesson: Lesson | None, step: str = STEPS[0]) -> None:
    """Show a step of a lesson, or the list."""
    for name, value in {"lesson": str(lesson.number), "step": step}.items() if lesson else ():
        remember(name, value)
    if lesson is None:
        for name in ("lesson", "step"):
            st.query_params.pop(name, None)


def overview(lessons: list[Lesson], progress: Mapping[str, Record]) -> None:
    """The list, with how far each has come."""
    st.title("What will happen, and why?")
    st.markdown(
        "Say first what you expect. Then try it on the real pages, read why, and check yourself. Six to ten minutes "
        "each; everything works from recorded runs, without a GPU."
    )
    done = sum("check" in progress[lesson.file] for lesson in lessons)
    if done:
        st.progress(done / len(lessons), f"{done} of {len(lessons)} lessons done")
    with st.container(gap="xxsmall"):
        for lesson in lessons:
            record = progress[lesson.file]
            icon = "check_circle" if "check" in record else "lock" if "guess" in record else "radio_button_unchecked"
            st.button(
                f"{lesson.number} · {lesson.title}", key=f"open {lesson.number}", icon=f":material/{icon}:",
                type="tertiary", on_click=go, args=(lesson, reached(record)),
            )  # fmt: skip
    st.download_button(
        "Worksheet to print", lambda: worksheet(lessons, words(lessons)), "faces-worksheet.html", "text/html",
        icon=":material/print:", on_click="ignore",
    )  # fmt: skip
    for_teachers(lessons, any(progress.values()))


def for_teachers(lessons: list[Lesson], begun: bool) -> None:
    """Links with fewer controls, large type, the worksheet with answers, and a fresh start."""
    with st.expander("For teachers", icon=":material/school:"):
        st.markdown(
            "**A link with fewer controls.** Open a page here, set it as you want it, choose which controls and which "
            "of the picture's own buttons stay, and copy the link. Hidden controls keep what you set."
        )
        with st.container(horizontal=True):
            for file in sorted(PAGES.glob("*/*.py")):
                if file.parent.name in ("explore", "learn") and file.stem != "lessons":
                    page = file.relative_to(PAGES).as_posix()
                    st.page_link(page, query_params={"teach": CHOOSE, **carried()})
        st.toggle(
            "Large type, for a projector", "large" in st.query_params, key="large type", on_change=_enlarge,
            help="Or add large=1 to any link. PageUp and PageDown, the keys of a presenter, then go from step to step.",
        )  # fmt: skip
        with st.container(horizontal=True):
            st.download_button(
                "Worksheet with answers", lambda: worksheet(lessons, words(lessons), answers=True),
                "faces-worksheet-answers.html", "text/html", icon=":material/print:", on_click="ignore",
            )  # fmt: skip
            if begun:
                st.button(
                    "Forget this browser's progress", icon=":material/restart_alt:", on_click=forget, args=("lessons",)
                )


def _enlarge() -> None:
    if st.session_state["large type"]:
        st.query_params["large"] = "1"
    else:
        st.query_params.pop("large", None)


def reached(record: Record) -> str:
    """The step at which a lesson is taken up again."""
    return "Check" if "check" in record else "Try" if "guess" in record else "Predict"


def words(lessons: list[Lesson]) -> dict[str, Any]:
    """What numbers are made of, all that can be turned being at its start."""
    return WORDS | {name: knob.start(2) for lesson in lessons for name, knob in lesson.turns.items()}


def sound(lesson: Lesson, record: Record) -> Record:
    """What a browser keeps of a lesson, without answers that are none (any more)."""
    asked = {"guess": lesson.predict, "check": lesson.check}
    return {
        name: given
        for name, given in record.items()
        if name in asked and isinstance(given, int | float)
        and (not asked[name].options or given in range(len(asked[name].options)))
    }  # fmt: skip


def card(lesson: Lesson, lessons: list[Lesson], record: Record) -> None:
    """One lesson, one step of it."""
    step = st.query_params.get("step", STEPS[0])
    if step not in STEPS or ("guess" not in record and step != "Predict"):
        step = STEPS[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All lessons", icon=":material/arrow_back:", type="tertiary", on_click=go, args=(None,))
        st.caption(f"Lesson {lesson.number} of {len(lessons)}", width="content")
        st.download_button(
            "Worksheet", lambda: worksheet([lesson], words([lesson])), f"faces-lesson-{lesson.number}.html",
            "text/html", icon=":material/print:", on_click="ignore", type="tertiary",
        )  # fmt: skip
    st.title(lesson.title)
    with st.container(horizontal=True, gap="small"):
        for number, name in enumerate(STEPS, 1):
            st.button(
                f"{number} {name}", key=f"step {name}", type="primary" if name == step else "tertiary",
                disabled=name != "Predict" and "guess" not in record, on_click=go, args=(lesson, name),
            )  # fmt: skip
    with st.container(key=f"card {step}", border=True, gap="medium"):
        {"Predict": predict, "Try": attempt, "Explain": explain, "Check": check}[step](lesson, record)
    walk(lesson, lessons, record, step)


def walk(lesson: Lesson, lessons: list[Lesson], record: Record, step: str) -> None:
    """Back and on, by button and by key."""
    back, on = ("PageUp", "PageDown") if "large" in st.query_params else ("Left", "Right")
    places = [(each, name) for each in lessons for name in STEPS]
    at = places.index((lesson, step))
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.button(
            "Back", key="back", shortcut=back, disabled=at == 0, on_click=go,
            args=places[max(at - 1, 0)],
        )  # fmt: skip
        last = step == STEPS[-1]
        st.button(
            "Next lesson" if last and at + 1 < len(places) else "Next", key="next", shortcut=on, on_click=go,
            args=places[min(at + 1, len(places) - 1)], disabled=at + 1 == len(places) or "guess" not in record,
        )  # fmt: skip


def ask(lesson: Lesson, section: str, question: Question, given: float | None, word: str, name: str) -> None:
    """A question, its answers, and the button that locks one; once locked it stays."""
    st.markdown(lesson.tell(section, question.text, words([lesson])))
    key = f"{lesson.file} {name}"
    said: float | None
    if question.options:
        options = [lesson.tell(section, one, words([lesson])) for one in question.options]
        said = st.radio(
            "Your answer", range(len(options)), index=None if given is None else int(given), key=f"{key} {given}",
            format_func=options.__getitem__, disabled=given is not None, label_visibility="collapsed",
        )  # fmt: skip
    else:
        said = st.number_input(
            "Your answer", value=None if given is None else float(given), key=f"{key} {given}",
            disabled=given is not None, placeholder="a number", step=0.01, format="%g", width=180,
        )  # fmt: skip
    if given is None:
        st.button(
            word, type="primary", icon=":material/lock:", key=f"lock {name}", disabled=said is None, on_click=lock,
            args=(lesson, name, said),
        )  # fmt: skip


def lock(lesson: Lesson, name: str, said: float) -> None:
    """Keep an answer; a guess leads on to the next step."""
    keep("lessons", lesson.file, {name: said})
    if name == "guess":
        go(lesson, "Try")


def judged(lesson: Lesson, section: str, given: float, question: Question) -> None:
    """What was said, and what is right."""
    own = lesson.tell(section, question.options[int(given)], words([lesson])) if question.options else f"{given:g}"
    if lesson.right(section, given, words([lesson])):
        st.success(f"You said: {own}. That is right.", icon=":material/check:")
    else:
        st.info(f"You said: {own}. Right is: {lesson.answer(section, words([lesson]))}.", icon=":material/lightbulb:")


def predict(lesson: Lesson, record: Record) -> None:
    """The question, before anything is shown."""
    ask(lesson, "Predict", lesson.predict, record.get("guess"), "Lock my guess", "guess")
    if "guess" in record:
        st.caption(":material/lock: Locked. Now try it.")


def attempt(lesson: Lesson, record: Record) -> None:
    """What to do on a real page, and the way there."""
    st.markdown(lesson.tell("Try", lesson.task, WORDS))
    query = lesson.query(WORDS)
    if file := needed(query):
        st.caption("It takes recorded runs, which are opened once on this server. No GPU, no images are needed.")
        may = allowed(the_store(), "open")
        if st.button("Open the recorded runs", type="primary", icon=":material/movie:", **may):
            with OPENING:
                open_file(file)
            st.rerun()
        return
    page = next(PAGES.glob(f"*/{lesson.link.page}.py")).relative_to(PAGES).as_posix()
    if st.button(f"Open: {lesson.link.label}", type="primary", icon=":material/arrow_forward:", key="try"):
        st.switch_page(page, query_params={**query, "lesson": str(lesson.number), **carried()})


@st.cache_resource
def _opening() -> Lock:
    return Lock()


OPENING = _opening()


def explain(lesson: Lesson, record: Record) -> None:
    """The guess and what is right; why, with numbers that may be turned."""
    judged(lesson, "Predict", record["guess"], lesson.predict)
    turned = sliders(lesson.turns, 2, f"turn{lesson.number}")
    st.markdown(lesson.tell("Explain", lesson.explain, WORDS | turned))


def check(lesson: Lesson, record: Record) -> None:
    """A last question, and its answer once one was given."""
    given = record.get("check")
    ask(lesson, "Check", lesson.check, given, "Answer", "check")
    if given is not None:
        judged(lesson, "Check", given, lesson.check)
        st.markdown(lesson.tell("Check", lesson.why, words([lesson])))


lessons, wrong = all_lessons()
page = st.container(width=WIDE if "large" in st.query_params else NARROW)
records = kept("lessons")  # below the page: it has nothing to show, and would push the page while it loads
progress = {lesson.file: sound(lesson, records.get(lesson.file, {})) for lesson in lessons}
asked = st.query_params.get("lesson", "")
chosen = next((lesson for lesson in lessons if str(lesson.number) == asked), None)
with page:
    if chosen:
        card(chosen, lessons, progress[chosen.file])
    else:
        overview(lessons, progress)
    for word in wrong:
        st.warning(word, icon=":material/error:")
