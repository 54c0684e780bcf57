"""A student walks through all lessons in a real browser; a teacher's link leaves the controls that it names.

The walk takes about 40 seconds on two busy cores; "Try" is followed for three of the eleven lessons.
"""

import re
import zipfile

import pytest

from faces import lessons
from tests.helpers import ROOT, Server, end, until
from trainer.lessons import WORDS, place
from trainer.recorded import bring, bring_one
from trainer.store import Store

ALL = [lessons.read(file, number) for number, file in enumerate(lessons.files(), 1)]
TRIED = {3: "s · scale of the logits", 6: "Measure", 10: "Shuffle the labels"}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The app on a home where the small files of recorded runs, and one run on digits, are open."""
    home = tmp_path_factory.mktemp("lessons")
    store, digits = Store(home), place("heads-on-digits")
    bring(store, place("label-noise-on-Imagewoof").read_bytes())
    with zipfile.ZipFile(digits) as archive:
        bring_one(store, ALL[9].query(WORDS)["run"], archive)
    server = Server(ROOT, home / "server.log", {"FACES_HOME": str(home), "FACES_DEVICE": "cpu"})
    yield server.address
    end(server.process, 40)


@pytest.fixture
def student(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    yield page
    context.close()


def press(page, name):
    page.get_by_role("button", name=name).first.click()


def answer(page, question, right):
    """Give the right answer, or another, to the question on the page."""
    if question.options:
        place = question.right if right else (question.right + 1) % len(question.options)
        page.get_by_role("radiogroup").locator("label").nth(place).click()
    else:
        page.get_by_label("Your answer").fill("0.999")
        page.get_by_label("Your answer").press("Tab")


def arrives(page, step):
    page.wait_for_url(re.compile(f"step={step}"))
    page.locator(f".st-key-card-{step}").wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()  # keys mean the new step now


def visible(page):
    """The words over the controls that can be seen, without the bar above the page."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".stMain [data-testid=stWidgetLabel]")]
            .filter((one) => one.checkVisibility() && !one.closest(".st-key-teaching")).map((one) => one.innerText)"""
    )


def test_a_student_walks_through_all_lessons_and_finds_them_done_after_a_reload(address, student):
    page = student
    page.goto(f"{address}/lessons")
    for lesson in ALL:
        press(page, re.compile(rf"^\W*(radio_button_unchecked)?\W*{lesson.number} · "))
        page.get_by_role("heading", name=lesson.title).wait_for()
        assert page.get_by_role("button", name="3 Explain").is_disabled()
        answer(page, lesson.predict, right=lesson.number % 2)
        press(page, "Lock my guess")
        arrives(page, "Try")
        if lesson.number in TRIED:
            press(page, f"Open: {lesson.link.label}")
            page.get_by_text(f"Lesson {lesson.number} · {lesson.title}.").wait_for()
            until(lambda lesson=lesson: any(TRIED[lesson.number] in words for words in visible(page)))
            until(lambda: len(visible(page)) <= 2)
            page.get_by_role("link", name="Back to the lesson").click()
        else:
            press(page, "3 Explain")
        page.get_by_text("You said: ").wait_for()
        if not lesson.number % 2:
            page.get_by_text("Right is: ").wait_for()
        page.locator(".katex").first.wait_for()
        press(page, "4 Check")
        answer(page, lesson.check, right=True)
        press(page, re.compile("Answer$"))
        page.get_by_text("That is right.").wait_for()
        press(page, "All lessons")
        page.get_by_text(f"{lesson.number} of {len(ALL)} lessons done").wait_for()
    page.reload()
    page.get_by_text(f"{len(ALL)} of {len(ALL)} lessons done").wait_for()
    press(page, re.compile("4 · Add a margin"))
    press(page, "1 Predict")
    page.get_by_text("Locked. Now try it.").wait_for()
    assert page.get_by_role("radio").first.is_disabled()
    press(page, "All lessons")
    page.get_by_text("For teachers").click()
    press(page, "Forget this browser")
    page.get_by_text("lessons done").wait_for(state="detached")
    page.reload()
    page.get_by_text("11 · Which Face").wait_for()
    page.wait_for_timeout(1000)
    assert not page.get_by_text("lessons done").count()
    assert page.wrong == []


def test_another_browser_knows_nothing_of_it(address, student):
    student.goto(f"{address}/lessons")
    student.get_by_text("11 · Which Face").wait_for()
    student.wait_for_timeout(1000)
    assert not student.get_by_text("lessons done").count()


def test_keys_lead_from_step_to_step_and_choose_answers(address, student):
    page = student
    page.goto(f"{address}/lessons?lesson=4")
    page.get_by_role("radio").first.wait_for()
    page.keyboard.press("ArrowRight")  # nothing is shown before the guess
    page.get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    until(page.get_by_role("button", name="Lock my guess").is_enabled)
    page.keyboard.press("ArrowDown")
    until(page.get_by_role("radio").nth(1).is_checked)
    page.keyboard.press("Tab")
    until(lambda: "Lock my guess" in page.evaluate("document.activeElement.innerText"))
    page.keyboard.press("Enter")
    arrives(page, "Try")
    for key, there in (
        ("ArrowRight", "Explain"),
        ("ArrowRight", "Check"),
        ("ArrowLeft", "Explain"),
        ("ArrowLeft", "Try"),
    ):
        page.wait_for_timeout(100)
        page.keyboard.press(key)
        arrives(page, there)
    page.goto(f"{address}/lessons?lesson=4&step=Try&large=1")  # a presenter's keys
    page.get_by_text("Open: Margin lab").wait_for()
    page.keyboard.press("PageDown")
    arrives(page, "Explain")


def test_a_teacher_makes_a_link_that_leaves_one_control_and_large_type(address, student, chromium):
    page = student
    page.goto(f"{address}/lab?lab=CosFace&lab.CosFace.m=0.4&teach=choose")
    page.get_by_label(re.compile("^m · margin")).first.wait_for()
    form = page.locator(".form")
    form.get_by_label("θ · a sample's angle to its class").check()
    form.get_by_label("Large type").check()
    link = form.get_by_label("The link").input_value()
    assert "teach=lab-theta" in link
    other = chromium.new_context(viewport={"width": 390, "height": 844}).new_page()
    other.goto(link)
    other.get_by_text("At 60°").first.wait_for()
    until(lambda: visible(other) == ["θ · a sample's angle to its class"])
    assert other.evaluate("getComputedStyle(document.documentElement).fontSize") == "22px"
    assert other.evaluate("document.documentElement.scrollWidth") <= 390
    other.get_by_role("button", name="All controls").click()
    until(lambda: len(visible(other)) > 5)
    assert "teach=" not in other.url
    assert "lab.CosFace.m=0.4" in other.url
    other.context.close()
    page.goto(link.replace("teach=", "lock=1&teach="))
    page.get_by_text("At 60°").first.wait_for()
    until(lambda: len(visible(page)) > 5)
    locked = page.locator(".st-key-lab-CosFace-m")
    assert locked.evaluate("one => getComputedStyle(one).pointerEvents") == "none"


def test_a_box_that_is_pressed_stays_where_it_is_while_another_control_arrives(address, student):
    page = student
    page.goto(f"{address}/lab?teach=choose")
    page.get_by_label(re.compile("^m · margin")).first.wait_for()
    box = page.locator(".form").get_by_label("θ · a sample's angle to its class")
    box.check()
    box.focus()
    there, boxes = box.element_handle(), page.locator(".form .controls input").count()
    page.evaluate("""() => {
        const one = document.querySelector('.st-key-lab-theta'), late = one.cloneNode(true);
        late.classList.replace('st-key-lab-theta', 'st-key-lab-late');
        one.before(late);
    }""")
    until(lambda: page.locator(".form .controls input").count() == boxes + 1)
    assert there.evaluate("one => one.isConnected && one.checked && one.getRootNode().activeElement === one")


def test_a_teacher_hides_or_locks_the_buttons_of_the_picture(address, student):
    page, run = student, ALL[9].query(WORDS)["run"]
    page.goto(f"{address}/?run={run}&teach=choose")
    page.locator(".panel[data-url]").wait_for()
    form = page.locator(".form")
    for name in ("Time", "Save"):
        form.get_by_label(name, exact=True).uncheck()
    link = form.get_by_label("The link").input_value()
    assert "hide=time%2Csave" in link
    page.goto(link)
    page.locator(".panel[data-url]").wait_for()
    bar, save, colour = (page.locator(f"[part={name}]").first for name in ("time", "save", "colour"))
    assert colour.is_visible()
    assert not bar.is_visible()
    assert not save.is_visible()
    assert page.get_by_role("button", name="Explain").first.is_visible()
    page.locator(".stage").focus()
    page.keyboard.press("Home")  # as the hidden slider would
    page.wait_for_timeout(500)
    assert "at=" not in page.url
    page.goto(link.replace("hide=", "lock=1&hide="))
    page.locator(".panel[data-url]").wait_for()
    assert bar.is_visible()
    assert bar.evaluate("one => getComputedStyle(one).pointerEvents") == "none"
    page.get_by_role("button", name="All controls").click()
    until(lambda: bar.evaluate("one => getComputedStyle(one).pointerEvents") != "none")
    assert "hide=" not in page.url
    page.locator(".stage").focus()
    page.keyboard.press("Home")
    page.wait_for_url("**at=0*")
    assert page.wrong == []
