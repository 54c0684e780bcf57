"""Lessons: one Markdown file each in assets/lessons. A new lesson is a new file.

    # Title
    ## Predict      a question, then `- [ ]` options of which one is `[x]`, or a number: `Answer: 0.7 ± 0.1`
    ## Try          what to do, and a link to a page of Faces, alone on its line: [Margin lab](lab?lab=NormFace)
    ## Explain      why; `Turn: s = 3.1, 1 to 64, scale of the logits` gives the reader a slider
    ## Check        a question like the first, then `Why:` and a sentence or two

A number is not typed but worked out when it is shown: {{best_probability(10, s):.3f}} calls one of the functions that
`tell` is given, with numbers, words and what the reader has turned, and says the result in Python's format. Nothing
else of Python is understood, so a lesson file can do nothing but calculate.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from faces.knobs import Knob, Number

FOLDER = Path(__file__).parents[1] / "assets" / "lessons"
SECTIONS = ("Predict", "Try", "Explain", "Check")
OPTION = re.compile(r"- \[([ x])\] (.+)")
LINK = re.compile(r"\[([^\]]+)\]\((\w+)\?(.*)\)")
TURN = re.compile(r"Turn: (\w+) = ([\d.]+), ([\d.]+) to ([\d.]+), (.+)")
WORKED = re.compile(r"\{\{(.+?)\}\}")
ARITHMETIC = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip

Words = Mapping[str, Any]  # functions by their names, and numbers that a reader has turned


@dataclass(frozen=True)
class Question:
    """What is asked, and what is right: the place of an option, or a number as text, and how far off is right too."""

    text: str
    options: tuple[str, ...]
    right: int
    number: str = ""
    within: float = 0.0


@dataclass(frozen=True)
class Link:
    """A way into a page: its words, the page's name in the address, and what follows the question mark there."""

    label: str
    page: str
    query: Mapping[str, str]


@dataclass(frozen=True)
class Lesson:
    """One lesson: four steps, as text in which numbers are still to be worked out (`tell`)."""

    file: str
    number: int
    title: str
    predict: Question
    task: str
    link: Link
    explain: str
    turns: Mapping[str, Knob]
    check: Question
    why: str

    def tell(self, section: str, text: str, words: Words) -> str:
        """Some text of a section with its numbers. ValueError, naming file and section, for one that cannot be."""
        try:
            return WORKED.sub(lambda found: said(found[1], words), text)
        except ValueError as error:
            raise ValueError(f"{self.file}, {section}: {error}") from error

    def query(self, words: Words) -> dict[str, str]:
        """What follows the question mark in the link."""
        return {name: self.tell("Try", value, words) for name, value in self.link.query.items()}

    def right(self, section: str, guess: Number, words: Words) -> bool:
        """Whether a guess, the place of an option or a number, answers the question of this section."""
        question = self.predict if section == "Predict" else self.check
        if question.options:
            return guess == question.right
        number = float(self.tell(section, question.number, words).replace("−", "-"))
        return abs(guess - number) <= question.within + 1e-9

    def answer(self, section: str, words: Words) -> str:
        """The right answer in words."""
        question = self.predict if section == "Predict" else self.check
        return self.tell(section, question.options[question.right] if question.options else question.number, words)


def files() -> list[Path]:
    """The lesson files, in the order of their names."""
    return sorted(FOLDER.glob("*.md"))


def read(file: Path, number: int) -> Lesson:
    """A lesson from its file. ValueError, in one sentence that names file and section, when something is missing."""
    name = f"{file.parent.name}/{file.name}"
    title, *parts = re.split(r"^## +", file.read_text(encoding="utf-8").strip(), flags=re.MULTILINE)
    found = {part.partition("\n")[0].strip(): part.partition("\n")[2].strip() for part in parts}
    if not title.startswith("# ") or tuple(found) != SECTIONS:
        raise ValueError(f"{name}: it has the sections {list(found)}; `# Title`, then {list(SECTIONS)} make a lesson.")
    part = ""
    try:
        part = "Predict"
        predict, rest = question(found[part])
        if rest:
            raise ValueError(f"after the answers nothing is expected, not {rest[:40]!r}.")
        part = "Try"
        task, link = led(found[part])
        part = "Explain"
        explain, turns = turned(found[part])
        part = "Check"
        check, why = question(found[part])
        if not why.startswith("Why: "):
            raise ValueError("after the answers a line that begins with `Why: ` says why.")
    except ValueError as error:
        raise ValueError(f"{name}, {part}: {error}") from error
    return Lesson(
        name, number, title[2:].strip(), predict, task, link, explain, turns, check, why.removeprefix("Why: ")
    )


def question(text: str) -> tuple[Question, str]:
    """A question, and what stands after its answers."""
    lines = text.splitlines()
    places = [place for place, line in enumerate(lines) if OPTION.fullmatch(line) or line.startswith("Answer: ")]
    if not places:
        raise ValueError("there are no answers; write `- [ ]` options, one of them `- [x]`, or `Answer: 0.7 ± 0.1`.")
    asked, rest = "\n".join(lines[: places[0]]).strip(), "\n".join(lines[places[-1] + 1 :]).strip()
    if lines[places[0]].startswith("Answer: "):
        number, _, within = lines[places[0]].removeprefix("Answer: ").partition(" ± ")
        try:
            return Question(asked, (), -1, number.strip(), float(within)), rest
        except ValueError:
            raise ValueError("a number and how far off is right too make an answer: `Answer: 0.7 ± 0.1`.") from None
    options = [found for place in places if (found := OPTION.fullmatch(lines[place]))]
    right = [place for place, option in enumerate(options) if option[1] == "x"]
    if len(right) != 1 or len(options) < 2:
        raise ValueError(f"{len(right)} of {len(options)} options are marked `[x]`; mark one of two or more.")
    return Question(asked, tuple(option[2] for option in options), right[0]), rest


def led(text: str) -> tuple[str, Link]:
    """What is to be done, and the link where it is done."""
    links = [(line, found) for line in text.splitlines() if (found := LINK.fullmatch(line.strip()))]
    if len(links) != 1:
        raise ValueError(f"it has {len(links)} links alone on a line; one is needed: `[Margin lab](lab?lab=NormFace)`.")
    (line, found), *_ = links
    query = dict(parse_qsl(found[3], keep_blank_values=True))
    return text.replace(line, "").strip(), Link(found[1], found[2], query)


def turned(text: str) -> tuple[str, dict[str, Knob]]:
    """The explanation without its `Turn:` lines, and the knobs that these declare."""
    rest, knobs = [], {}
    for line in text.splitlines():
        if not line.startswith("Turn: "):
            rest.append(line)
        elif found := TURN.fullmatch(line):
            start, low, high = (float(found[place]) if "." in line else int(found[place]) for place in (2, 3, 4))
            knobs[found[1]] = Knob(start, low, high, found[5])
        else:
            raise ValueError(f"{line!r} is no slider; write `Turn: s = 3.1, 1.0 to 64.0, scale of the logits`.")
    return "\n".join(rest).strip(), knobs


def said(inside: str, words: Words) -> str:
    """What stands between {{ and }}, in its format."""
    expression, _, form = inside.partition(":")
    try:
        value = worked_out(ast.parse(expression.strip(), mode="eval").body, words)
        return f"{value:{form}}".replace("-", "−") if form else str(value)
    except SyntaxError:
        raise ValueError(f"{expression.strip()!r} is no calculation.") from None
    except (TypeError, ZeroDivisionError, KeyError) as error:
        raise ValueError(f"{expression.strip()!r} cannot be worked out ({error}).") from error


def worked_out(node: ast.expr, words: Words) -> Any:
    """A number or word from arithmetic and calls of what `words` holds; ValueError for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in words:
            raise ValueError(f"{node.id!r} is unknown to lessons. They know: {', '.join(sorted(words))}.")
        return words[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -worked_out(node.operand, words)
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        return ARITHMETIC[type(node.op)](worked_out(node.left, words), worked_out(node.right, words))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        function: Callable = worked_out(node.func, words)
        named = {one.arg: worked_out(one.value, words) for one in node.keywords if one.arg}
        return function(*(worked_out(one, words) for one in node.args), **named)
    raise ValueError(f"{ast.unparse(node)!r} is no calculation that lessons know.")
