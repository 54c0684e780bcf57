"""Lessons: every file is whole, every number is worked out, every link opens what it says, and a guess is locked."""

import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces import lessons
from faces.curves import Sketch
from faces.knobs import fixed_scale
from faces.worksheet import inline, worksheet
from pages.components import teaching
from tests.test_pages import ROOT, button, opened
from trainer import lessons as numbers
from trainer import recorded
from trainer.lessons import WORDS
from trainer.store import Store

ALL = [lessons.read(file, number) for number, file in enumerate(lessons.files(), 1)]
each = pytest.mark.parametrize("lesson", ALL, ids=lambda lesson: lesson.file)
TYPED = re.compile(r"(?<![\w.{])\d+(?:\.\d+)?(?: ± | %|−)")  # a result, as people read it


def words(lesson):
    return WORDS | {name: knob.start(2) for name, knob in lesson.turns.items()}


def broken(tmp_path, change):
    """A lesson file with a change, read."""
    folder = tmp_path / "lessons"
    folder.mkdir(exist_ok=True)
    text = lessons.files()[2].read_text(encoding="utf-8")
    assert change(text) != text
    (folder / "03.md").write_text(change(text), encoding="utf-8")
    return lessons.read(folder / "03.md", 3)


def test_there_are_eleven_lessons_in_order():
    assert [lesson.file.split("/")[1][:2] for lesson in ALL] == [f"{number:02}" for number in range(1, 12)]


@each
def test_a_lesson_is_whole_and_all_its_numbers_can_be_worked_out(lesson):
    for section, text in (
        ("Predict", lesson.predict.text), ("Try", lesson.task), ("Explain", lesson.explain),
        ("Check", lesson.check.text), ("Check", lesson.why),
    ):  # fmt: skip
        told = lesson.tell(section, text, words(lesson))
        assert told
        assert "{{" not in told
    assert "$" in lesson.explain  # a formula
    assert "{{" in lesson.explain  # with numbers
    for section in ("Predict", "Check"):
        assert lesson.answer(section, words(lesson))


@each
def test_no_result_is_typed(lesson):
    for text in (lesson.explain, lesson.why):
        typed = TYPED.findall(
            re.sub(r"\{\{.+?\}\}", "", text).replace("25 %", "").replace("95 %", "").replace("50 %", "")
        )
        assert not typed


@each
def test_a_question_is_answered_by_the_right_answer_and_not_by_another(lesson):
    for section, question in (("Predict", lesson.predict), ("Check", lesson.check)):
        if question.options:
            judged = [lesson.right(section, place, words(lesson)) for place in range(len(question.options))]
            assert judged.count(True) == 1
        else:
            number = float(lesson.answer(section, words(lesson)))
            assert lesson.right(section, number + 0.9 * question.within, words(lesson))
            assert not lesson.right(section, number + 1.1 * question.within, words(lesson))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("## Check", "## Chek"), "sections"),
        (lambda text: text.replace("- [x]", "- [ ]"), "Check: 0 of 3 options are marked"),
        (lambda text: text.replace("Answer: ", "Answer "), "Predict: there are no answers"),
        (lambda text: text.replace(" ± 0.08", ""), "Predict: a number and how far off"),
        (lambda text: text.replace("[Margin lab](lab", "[Margin lab] (lab"), "Try: it has 0 links"),
        (lambda text: text.replace("Turn: s = 3.107, 1.0", "Turn: s 3.107, 1.0"), "Explain: 'Turn: s 3.107"),
        (lambda text: text.replace("Why: ", "Because "), "Check: after the answers a line"),
    ],
)
def test_a_broken_file_is_told_in_one_sentence_that_names_file_and_section(tmp_path, change, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        broken(tmp_path, change)
    assert str(error.value).startswith("lessons/03.md")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("best_probabilty(10, 3)", "'best_probabilty' is unknown to lessons. They know: "),
        ("best_probability(10)", "cannot be worked out"),
        ("best_probability(1, 3)", "cannot be worked out"),
        ("score('heads-on-cats', 'ArcFace', 'knn_accuracy')", "There are no recorded runs 'heads-on-cats'"),
        ("score('heads-on-digits', 'Triplet', 'dnn_accuracy')", "was not measured"),
        ("score('heads-on-digits', 'ArcFace', 'beauty')", "is no measure"),
        ("mean('heads-on-digits', 'ArcFace', 'knn_accuracy', 25)", "have none of ArcFace"),
        ("__import__('os')", "unknown to lessons"),
        ("score.__globals__", "no calculation that lessons know"),
        ("[1, 2]", "no calculation that lessons know"),
        ("1 +", "no calculation"),
        ("'a':.3f", "format code"),
    ],
)
def test_a_number_that_cannot_be_worked_out_says_why_and_where(inside, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        ALL[2].tell("Explain", f"a {{{{{inside}}}}} b", WORDS)
    assert str(error.value).startswith("lessons/03-scale.md, Explain: ")


def test_a_page_with_a_broken_lesson_shows_the_others(faces_home, tmp_path, monkeypatch):
    folder = tmp_path / "lessons"
    shutil.copytree(lessons.FOLDER, folder)
    (folder / "02-length.md").write_text("# Half\n\n## Predict\n\nWhat?", encoding="utf-8")
    monkeypatch.setattr(lessons, "FOLDER", folder)
    app = opened("learn/lessons.py")
    assert "lessons/02-length.md" in app.warning[0].value
    assert not app.exception
    assert sum(one.key.startswith("open ") for one in app.button if one.key) == len(ALL) - 1


@given(s=st.floats(0.5, 64), theta=st.floats(1, 179), m=st.floats(0, 0.5))
def test_probabilities_and_pulls_are_those_of_the_heads(s, theta, m):
    angle = np.array([math.radians(theta)])
    head = Sketch("NormFace", 10, 128, {"s": s})
    assert numbers.probability(10, s, theta) == pytest.approx(head.probability(angle)[0], abs=1e-6)
    assert numbers.best_probability(10, s) == pytest.approx(head.best(), abs=1e-6)
    assert numbers.pull(10, s, theta) == pytest.approx(head.pull(angle)[0][0], abs=1e-4)
    if theta / 180 * math.pi + m < math.pi:
        arcface = Sketch("ArcFace", 10, 128, {"s": s, "m": m})
        assert numbers.probability(10, s, theta, m) == pytest.approx(arcface.probability(angle)[0], abs=1e-6)
    cosface = Sketch("CosFace", 10, 128, {"s": s, "m": m})
    if math.cos(angle[0]) - m > -1:
        assert numbers.band(m, theta) == pytest.approx(math.degrees(cosface.boundary(angle)[0]) - theta, abs=0.01)


@given(t=st.floats(0, 1), other=st.floats(5, 85))
def test_the_push_of_a_hard_class_is_that_of_the_heads(t, other):
    s, theta, off = fixed_scale(10), np.array([math.radians(89)]), math.radians(other)
    head = Sketch("CurricularFace", 10, 128, {"m": 0.25}, {"t": t})
    assert numbers.push(t, 89, other, s) == pytest.approx(head.pull(theta, off)[1][0], abs=1e-5)
    assert numbers.push_of_arcface(89, other, s) == pytest.approx(
        Sketch("ArcFace", 10, 128, {"m": 0.25}).pull(theta, off)[1][0], abs=1e-5
    )


def test_numbers_by_hand():
    assert numbers.half(10, fixed_scale(10)) == pytest.approx(45)
    assert numbers.half(10, 30) == pytest.approx(85.8, abs=0.05)
    assert numbers.probability(10, fixed_scale(10), 0) == pytest.approx(0.713, abs=5e-4)
    assert numbers.best_probability(10, fixed_scale(10)) == pytest.approx(0.778, abs=5e-4)
    assert numbers.largest("ArcFace", 10, 2) == pytest.approx(math.pi / 5)
    assert numbers.largest("CosFace", 8, 2) == pytest.approx(0.293, abs=5e-4)
    assert numbers.cosface_for(math.pi / 4, 45) == pytest.approx(math.cos(math.pi / 4))


def test_recorded_numbers_are_those_of_the_opened_runs(faces_home):
    store, file = Store(faces_home), numbers.place("label-noise-on-Imagewoof")
    names = recorded.bring(store, file.read_bytes())
    latest = store.latest(names)
    for name, (run, history) in recorded.told(file).items():
        assert store.run(name) == run
        assert history[-1]["metrics"] == latest[name]["metrics"]
    found = [
        latest[run.id]["metrics"]["knn_accuracy"]
        for run in map(store.run, names)
        if run.config.head == "ArcFace" and run.config.noise == 25
    ]
    assert numbers.mean(file.stem, "ArcFace", "knn_accuracy", 25) == pytest.approx(np.mean(found))


def test_the_answers_about_recorded_runs_are_what_they_say():
    """The options that a lesson marks are typed; here they are held against the runs."""
    dogs, noise = "heads-on-Imagewoof", "label-noise-on-Imagewoof"
    seven = numbers.comparison.SEVEN
    for metric in ("dnn_accuracy", "knn_accuracy"):  # lesson 8
        tied = [one.head for one in numbers.ranked(dogs, metric, *seven).standings if one.tied]
        assert "CosFace" in tied
        assert len(tied) > 1
    assert sum(one.tied for one in numbers.ranked(dogs, "knn_accuracy").standings) >= 3  # lesson 11
    assert numbers.share(noise, 1, 25) > numbers.share(noise, 1, 0)  # lesson 6
    digits = [numbers.mean("heads-on-digits", head, "map_at_r") for head in ("Classification", "NormFace")]
    assert digits[0] < digits[1]  # lesson 1
    with_labels = numbers.mean(dogs, "CosFace", "dnn_accuracy_with_labels")
    assert with_labels < numbers.mean(dogs, "CosFace", "dnn_accuracy") - 0.1  # lesson 8
    broken = numbers.values("heads-on-the-circle", "ArcFace", "dnn_accuracy", m=1.0)  # lesson 5
    assert [score < 0.5 for score in sorted(broken)] == [True, False, False]
    for metric in ("dnn_accuracy", "knn_accuracy"):  # lessons 1 and 11
        assert not [one for one in numbers.ranked(dogs, metric).standings if one.head == "NormFace" and not one.tied]
    assert all(numbers.mean(dogs, head, "dnn_accuracy") < 0.5 for head in ("Classification", "NormFace"))
    fixed_scale_pushes = [numbers.push(0, 60, 55, fixed_scale(10)), numbers.push_of_arcface(60, 55, fixed_scale(10))]
    assert fixed_scale_pushes[0] < fixed_scale_pushes[1]  # lesson 7


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which all recorded runs that lessons lead to are open."""
    place = tmp_path_factory.mktemp("opened")
    store, asked = Store(place), [lesson.query(WORDS) for lesson in ALL]
    for file in recorded.files():
        told = recorded.told(file)
        notes = {run.note for run, _ in told.values()}
        named = {name for query in asked for name in f"{query.get('run', '')},{query.get('runs', '')}".split(",")}
        names = sorted(named & set(told))
        if notes & {query.get("group") for query in asked}:  # two heads and seeds of it are enough
            few = ("ArcFace", "SubCenterArcFace")
            names = [name for name, (run, _) in told.items() if run.config.head in few and run.config.seed < 2]
        with recorded.zipfile.ZipFile(file) as archive:
            for name in names:
                recorded.bring_one(store, name, archive)
    return place


@each
def test_a_link_opens_a_page_that_understands_all_of_it(lesson, home, monkeypatch):
    monkeypatch.setenv("FACES_HOME", str(home))
    query = {**lesson.query(WORDS), "lesson": str(lesson.number)}
    (page,) = (ROOT / "pages").glob(f"*/{lesson.link.page}.py")
    app = opened(page.relative_to(ROOT / "pages").as_posix(), **query)
    assert not app.exception
    assert not app.warning
    keys = {widget.key for kind in CONTROLS for widget in app.get(kind)}
    stay = set(query.pop("teach").split(","))
    assert 1 <= len(stay) <= 2
    assert stay <= keys | {teaching.MAIN}
    assert any(lesson.title in text.value for text in app.markdown)
    for name, value in query.items():
        if name in ("run", "runs", "group", "lesson"):
            assert app.query_params[name] in (value, [value])
        else:
            assert str(app.session_state[name]) == value


CONTROLS = (
    "selectbox",
    "slider",
    "segmented_control",
    "button_group",
    "toggle",
    "checkbox",
    "number_input",
    "multiselect",
)


@each
def test_a_guess_is_locked_before_anything_is_shown(lesson, faces_home):
    app = opened("learn/lessons.py", lesson=str(lesson.number), step="Explain")
    assert app.button(key="step Explain").disabled
    assert app.button(key="next").disabled
    shown = " ".join(text.value for text in app.markdown)
    assert lesson.tell("Explain", lesson.explain, words(lesson))[:60] not in shown
    assert app.button(key="lock guess").disabled
    if lesson.predict.options:
        app.radio[0].set_value(0).run()
    else:
        app.number_input[0].set_value(0.5).run()
    app.button(key="lock guess").click().run()
    assert not app.exception
    assert app.query_params["step"] in ("Try", ["Try"])
    app.button(key="step Predict").click().run()
    given = app.radio[0] if lesson.predict.options else app.number_input[0]
    assert given.disabled
    app.button(key="step Explain").click().run()
    assert not app.exception
    said = [*app.success, *app.info]
    assert any("You said" in one.value for one in said)
    assert any(lesson.tell("Explain", lesson.explain, words(lesson))[:60] in text.value for text in app.markdown)
    app.button(key="step Check").click().run()
    app.radio[0].set_value(lesson.check.right).run()
    app.button(key="lock check").click().run()
    assert not app.exception
    assert "That is right" in app.success[0].value


def test_numbers_follow_a_turned_slider(faces_home):
    app = opened("learn/lessons.py", lesson="3")
    app.number_input[0].set_value(0.9).run()
    app.button(key="lock guess").click().run()
    app.button(key="step Explain").click().run()
    app.slider[0].set_value(30.0).run()
    assert any("0.073" in text.value for text in app.markdown)  # ln 9 / 30


def test_recorded_runs_are_opened_where_a_lesson_needs_them(faces_home):
    app = opened("learn/lessons.py", lesson="6")
    app.radio[0].set_value(0).run()
    app.button(key="lock guess").click().run()
    button(app, "Open the recorded runs").click().run()
    assert not app.exception
    store = Store(faces_home)
    assert all(store.known(name) for name in recorded.names(numbers.place("label-noise-on-Imagewoof")))
    assert "Open the recorded runs" not in [one.label for one in app.button]


def test_a_worksheet_is_whole_and_needs_nothing_else():
    every = {name: value for lesson in ALL for name, value in words(lesson).items()}
    sheet = worksheet(ALL, every)
    for lesson in ALL:
        assert lesson.title in sheet
        for option in (*lesson.predict.options, *lesson.check.options):
            assert inline(lesson.tell("Check", option, every)) in sheet
    assert not re.search(r"\$|\{\{|https?:|src=|<script|<link", sheet)
    assert "Answers" not in sheet
    solved = worksheet(ALL, every, answers=True)
    assert solved.count("Predict: ") == len(ALL)
    assert "<h1>Lesson 4: " in worksheet(ALL[3:4], every)


def test_a_worksheet_shows_text_as_it_is():
    sheet = worksheet([replace(ALL[1], title="<b> & co", task="**bold** *slanted* 2 < 3")], words(ALL[1]))
    assert "&lt;b&gt; &amp; co" in sheet
    assert "<b>bold</b> <i>slanted</i> 2 &lt; 3" in sheet


def test_what_a_link_hides_is_told_by_keys_alone():
    style = teaching.hiding(["ArcFace.m", "x{} *"])
    assert ".st-key-ArcFace-m" in style
    assert ".st-key-x----" in style  # nothing from a link is read as a style
    assert "display: none" in style
    assert "display: none" not in teaching.hiding([], lock=True)


def test_a_link_can_name_every_button_of_the_picture(faces_home):
    text = (ROOT / "assets" / "faceview.js").read_text("utf-8")
    parts = re.findall(r'\.part = "(\w+)"', text) + re.findall(
        r"(\w+): (?:this\.\w+|files)[,} ]", re.search(r".*one.part = part.*", text)[0]
    )
    assert sorted(parts) == sorted(teaching.BUTTONS)
    app = opened("learn/circle.py", hide="save,x}{,time")
    style = next(one.proto.body for one in app.get("html") if "::part" in one.proto.body)
    assert re.findall(r"::part\((.*?)\)", style) == ["save", "time"]
    app.button(key="all controls").click().run()
    assert "hide" not in app.query_params


def test_a_link_leaves_controls_and_their_values(faces_home):
    app = opened("learn/lab.py", teach="lab.theta", lab="CosFace", **{"lab.CosFace.m": "0.4"})
    assert not app.exception
    assert app.slider(key="lab.CosFace.m").value == 0.4
    app.button(key="all controls").click().run()
    assert "teach" not in app.query_params
    assert app.slider(key="lab.CosFace.m").value == 0.4
