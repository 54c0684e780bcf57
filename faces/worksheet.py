"""A worksheet for lessons: one HTML page that needs nothing else, made to be printed."""

import html
import re
from collections.abc import Sequence

from faces.lessons import Lesson, Question, Words

STYLE = """
body { font: 11pt/1.45 system-ui, sans-serif; color: #1b2430; max-width: 19cm; margin: 1.5cm auto; padding: 0 .5cm; }
h1 { font-size: 18pt; margin: 0 0 .3cm; } h2 { font-size: 13pt; margin: 0 0 .2cm; } p { margin: 0 0 .2cm; }
h3 { font-size: 9pt; letter-spacing: .06em; text-transform: uppercase; color: #5b6775; margin: .35cm 0 .1cm; }
section { border-top: 1px solid #c9d1da; padding: .45cm 0; break-inside: avoid; }
ul { list-style: none; margin: 0; padding: 0; } li { padding-left: 1.6em; text-indent: -1.6em; margin-bottom: .06cm; }
li::before { content: "\\2610"; display: inline-block; width: 1.6em; text-indent: 0; }
.line { border-bottom: 1px solid #9aa5b1; height: .85cm; } .short { display: inline-block; width: 4cm; height: .6cm; }
.name { display: flex; gap: 1cm; margin-bottom: .6cm; } .name span { flex: 1; border-bottom: 1px solid #9aa5b1; }
.answers { break-before: page; }
.answers li::before { content: none; } .answers li { padding: 0 0 .15cm; text-indent: 0; }
footer { font-size: 9pt; color: #5b6775; border-top: 1px solid #c9d1da; padding-top: .2cm; }
@media print { body { margin: 0 auto; } @page { margin: 1.6cm; } }
"""


def worksheet(lessons: Sequence[Lesson], words: Words, answers: bool = False) -> str:
    """The questions of some lessons with room to write; with `answers`, the right ones on a page of their own."""
    cards = "\n".join(card(lesson, words) for lesson in lessons)
    title = "Faces: worksheet" if len(lessons) != 1 else f"Lesson {lessons[0].number}: {plain(lessons[0].title)}"
    solved = solutions(lessons, words) if answers else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f'<h1>{title}</h1><div class="name">Name <span></span> Date <span></span></div>{cards}{solved}'
        "<footer>Predict first, and write it down before you try. Numbers come from formulas and from the "
        "recorded runs that come with Faces.</footer></html>"
    )


def card(lesson: Lesson, words: Words) -> str:
    """One lesson's questions, and lines for what was seen and why."""
    return (
        f"<section><h2>{lesson.number}. {plain(lesson.title)}</h2>"
        f"<h3>Predict</h3>{asked(lesson, 'Predict', lesson.predict, words)}"
        f"<h3>Try: {plain(lesson.link.label)}</h3>{prose(lesson.tell('Try', lesson.task, words))}"
        '<div class="line"></div>'
        '<h3>Explain, in your own words</h3><div class="line"></div><div class="line"></div>'
        f"<h3>Check</h3>{asked(lesson, 'Check', lesson.check, words)}</section>"
    )


def asked(lesson: Lesson, section: str, question: Question, words: Words) -> str:
    """A question with boxes to tick, or a line for a number."""
    options = "".join(f"<li>{inline(lesson.tell(section, one, words))}</li>" for one in question.options)
    room = f"<ul>{options}</ul>" if options else '<p>Answer: <span class="line short"></span></p>'
    return prose(lesson.tell(section, question.text, words)) + room


def solutions(lessons: Sequence[Lesson], words: Words) -> str:
    """The right answers."""
    rows = "".join(
        f"<li><b>{lesson.number}. {plain(lesson.title)}</b> Predict: {inline(lesson.answer('Predict', words))}. "
        f"Check: {inline(lesson.answer('Check', words))}. {inline(lesson.tell('Check', lesson.why, words))}</li>"
        for lesson in lessons
    )
    return f'<section class="answers"><h2>Answers</h2><ul>{rows}</ul></section>'


def prose(text: str) -> str:
    """Paragraphs."""
    return "".join(f"<p>{inline(part)}</p>" for part in re.split(r"\n\s*\n", text.strip()) if part)


def inline(text: str) -> str:
    """One paragraph with its bold and slanted words."""
    said = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", plain(text))
    return re.sub(r"\*(.+?)\*", r"<i>\1</i>", said)


def plain(text: str) -> str:
    """Text as it is where HTML is read."""
    return html.escape(text, quote=False)
