"""The pictures over angles, as a browser draws them."""

import json

import numpy as np
import pytest
from playwright.sync_api import expect
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route

from faces.figures import Dot, Line, angle_gauge, over_angles
from pages.components import blocks
from tests.browser.stage import staged

X = np.linspace(0, 180, 61)


def told(m=0.0, **more):
    lines = [
        Line("lower", X, np.cos(np.radians(X)) - 1 - m, "#8a929c", dash="dash"),
        Line("head", X, np.cos(np.radians(X)) - m, "#3f90da"),
        Line("short", X[40:], X[40:] * 0, "#c9b458", faint=True),
    ]
    drawn = over_angles(
        lines, [Dot(60.0, 0.5, "#3f90da", "a word")], -3.0, 1.0, 1.0, {120.0: "θ + m = π"}, {0.5: "best"}
    )
    return {**drawn, "question": "Who?", "words": f"m is {m}.", "alt": "Two lines", "tall": 290, "file": "a", **more}


@pytest.fixture
def page(chromium):
    blank, asked = Route("/blank", lambda request: HTMLResponse(BLANK)), []

    def drawn(request):
        asked.append(json.loads(request.query_params["asked"])["knobs"]["m"])
        return JSONResponse({"pictures": [told(asked[-1])]}) if asked[-1] < 1 else PlainTextResponse("No.", 404)

    more = [blank, Route("/drawn", drawn)]
    with staged(lambda request: {}, *[lambda *asked: None] * 5, more=more) as address:
        page, errors = chromium.new_page(viewport={"width": 700, "height": 500}), []
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(f"{address}/blank")
        page.evaluate(
            """async (script) => {
                window.module = await import(script);
                const parentElement = document.getElementById("host").attachShadow({ mode: "open" });
                window.show = (...pictures) => module.default({ parentElement, data: { pictures } });
                window.sent = (picture, m) => module.default({ parentElement, data: { pictures: [picture], followed:
                    { address: "/drawn", asked: { name: "A", knobs: { m } }, sliders: { knob: ["knobs", "m"] } } } });
                window.slide = (m) => document.querySelector("input").setAttribute("value", m);
            }""",
            blocks.script("curves.js"),
        )
        page.asked, page.quiet = asked, errors
        yield page
        page.close()
        assert not errors


BLANK = (
    '<!doctype html><link rel=icon href="data:,"><div class=knob><input type=range min=0 max=2 step=0.01 value=0.1>'
    "</div><div id=host></div>"
)


def show(page, *pictures):
    page.evaluate("(pictures) => show(...pictures)", list(pictures))
    page.locator("figure svg[role=img] text").first.wait_for()


def ends(page):
    """The last place of each line, in pixels of the picture."""
    drawn = page.locator("svg svg path").evaluate_all("(paths) => paths.map((one) => one.getAttribute('d'))")
    return [tuple(float(number) for number in path.rpartition("L")[2].split()) for path in drawn]


def test_a_value_between_two_angles_is_between_theirs_and_nothing_is_said_beyond(page):
    ask = "([xs, ys, angle]) => module.valueAt(xs, ys, angle) ?? null"
    asked = [([0, 10, 20], [0, 1, None], angle) for angle in (0, 2.5, 10, 15, 21)]
    assert [page.evaluate(ask, list(one)) for one in asked] == [0, 0.25, 1, None, None]
    assert page.evaluate(ask, [[10, 20], [1, 2], 9]) is None
    assert page.evaluate("module.path([0, 1, 2, 3], [0, null, 2, 3], (x) => x, (y) => y)") == "M0.0 0.0M2.0 2.0L3.0 3.0"


def test_a_step_moves_the_lines_and_leaves_axes_and_parts_as_they_were(page):
    show(page, told(), told())
    lines, parts = ends(page), page.locator("figure *").count()
    labels = page.locator("figure text").all_text_contents()
    assert {"1", "−3", "180°", "best", "θ + m = π", "a word"} <= set(labels)
    assert page.get_by_role("img", name="Two lines").count() == 2
    show(page, told(1.0), told())
    assert page.locator("figure *").count() == parts
    assert page.locator("figure text").all_text_contents() == labels
    moved = ends(page)
    fallen = [new[1] - old[1] for new, old in zip(moved, lines, strict=True)]
    step = (290 - 20 - 42) / 4  # pixels of one, between the edges
    assert fallen == pytest.approx([step, step, 0, 0, 0, 0], abs=0.2)
    assert page.locator("figcaption").first.text_content() == "m is 1.0."


def test_the_pointer_is_told_what_the_lines_are_there_highest_first_also_after_a_step(page):
    show(page, told())
    plot = page.locator(".plot").bounding_box()
    place = page.locator("svg circle").bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, plot["y"] + 100)
    tip = page.locator(".tip")
    assert tip.locator("b").text_content() == "60°"
    assert tip.locator("span").all_text_contents() == ["head", "lower"]  # the short one begins at 120
    assert tip.locator("i").all_text_contents() == ["0.5", "−0.5"]
    show(page, told(0.25))
    assert tip.locator("i").all_text_contents() == ["0.25", "−0.75"]
    page.mouse.move(plot["x"] + plot["width"] - 14, plot["y"] + 100)
    assert "short" in tip.locator("span").all_text_contents()
    assert tip.bounding_box()["x"] >= plot["x"]
    page.mouse.move(5, 5)
    assert tip.is_hidden()


def test_a_picture_is_saved_by_itself(page, tmp_path):
    show(page, told(file="ArcFace who"))
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save this picture as SVG").click()
    assert saved.value.suggested_filename == "ArcFace who.svg"
    text = saved.value.path().read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in text
    assert not [word for word in ("NaN", "undefined", "var(") if word in text]


def test_a_gauge_has_no_upright_axis_and_tells_nothing_at_the_pointer(page):
    show(page, {**angle_gauge(45.0, 90.0, "#3f90da"), "question": "", "words": "", "alt": "45 of 90", "tall": 64})
    assert page.locator("figure text").all_text_contents() == [
        "0°",
        "30°",
        "60°",
        "90°",
        "120°",
        "150°",
        "180°",
        "90.0°",
    ]
    (there, _), (asked, _) = ends(page)
    start = page.locator("svg svg path").first.evaluate("(path) => path.getPointAtLength(0).x")
    assert asked - start == pytest.approx((there - start) / 2, abs=0.2)
    page.locator("figure svg[role=img]").hover()
    assert page.locator(".tip").is_hidden()
    assert page.get_by_role("heading").count() == 0


def test_on_a_phone_pictures_stand_below_one_another_and_nothing_is_wider_than_the_screen(page):
    page.set_viewport_size({"width": 360, "height": 700})
    show(page, told(), told())
    boxes = [box.bounding_box() for box in page.locator("figure").all()]
    assert boxes[0]["x"] == boxes[1]["x"]
    assert boxes[0]["y"] + boxes[0]["height"] < boxes[1]["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_pictures_follow_their_slider_before_the_page_is_run(page):
    page.evaluate("(picture) => sent(picture, 0.1)", told(0.1))
    expect(page.locator("figcaption")).to_have_text("m is 0.1.")
    page.evaluate("(picture) => sent(picture, 0.1037)", told(0.1037))  # its slider says 0.1, as near as it can
    expect(page.locator("figcaption")).to_have_text("m is 0.1037.")
    assert page.asked == []  # what the page has sent is there
    before = ends(page)
    page.evaluate("slide(0.5)")
    expect(page.locator("figcaption")).to_have_text("m is 0.5.")
    assert ends(page) != before
    page.evaluate("(picture) => sent(picture, 0.5)", told(0.5))  # the page comes to the same
    assert page.asked == [0.5]
    page.evaluate("(picture) => { for (let m = 51; m < 80; m++) slide(m / 100); }")
    expect(page.locator("figcaption")).to_have_text("m is 0.79.")
    assert len(page.asked) <= 3  # one question at a time, and the last is answered
    page.evaluate("(picture) => sent(picture, 0.3)", told(0.3))  # of a moment ago: the slider is further
    page.wait_for_timeout(300)
    expect(page.locator("figcaption")).to_have_text("m is 0.79.")


def test_what_cannot_be_drawn_leaves_the_pictures_to_the_page(page):
    page.evaluate("(picture) => sent(picture, 0.1)", told(0.1))
    page.evaluate("slide(1.2)")
    page.wait_for_timeout(300)
    expect(page.locator("figcaption")).to_have_text("m is 0.1.")
    assert page.asked == [1.2]
    assert len(page.quiet) == 1  # a browser tells a 404 on the console by itself
    page.quiet.clear()
    page.evaluate("(picture) => sent(picture, 1.2)", told(1.2))
    expect(page.locator("figcaption")).to_have_text("m is 1.2.")


def asked(page, expected):
    """Wait until these have been asked for, and see that no more is."""
    for _ in range(50):
        if len(page.asked) >= len(expected):
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(400)
    assert page.asked == expected


def said(page):
    return page.evaluate("document.querySelector('#host').shadowRoot.querySelector('figcaption').textContent")


def test_the_steps_beside_the_slider_in_use_are_known_before_they_are_made(page):
    page.evaluate("(picture) => sent(picture, 0.1)", told(0.1))
    asked(page, [])  # nobody has touched the slider
    page.locator("input").focus()
    asked(page, [0.11, 0.09])
    page.evaluate("slide(0.11)")
    assert said(page) == "m is 0.11."  # at once
    page.evaluate("(picture) => sent(picture, 0.11)", told(0.11))
    asked(page, [0.11, 0.09, 0.12])  # what is known is not asked for again
    page.evaluate("slide(0)")
    asked(page, [0.11, 0.09, 0.12, 0, 0.01])  # less than the slider's least is no step


def test_a_step_that_nobody_foresaw_does_not_wait_for_those_that_are_asked_for_ahead(page):
    held = []
    page.route("**/drawn*0.11*", lambda route: held.append(route))
    page.evaluate("(picture) => sent(picture, 0.1)", told(0.1))
    page.locator("input").focus()
    page.wait_for_timeout(400)
    assert len(held) == 1
    page.evaluate("slide(0.5)")
    expect(page.locator("figcaption")).to_have_text("m is 0.5.")
    held[0].continue_()


def test_a_next_step_that_cannot_be_drawn_is_asked_for_once_until_the_page_is_run(page):
    page.locator("input").focus()
    page.evaluate("slide(0.99)")
    page.evaluate("(picture) => sent(picture, 0.99)", told(0.99))
    asked(page, [1, 0.98])
    page.evaluate("(picture) => sent(picture, 0.99)", told(0.99))
    asked(page, [1, 0.98, 1])
    assert len(page.quiet) == 2  # a browser tells a 404 on the console by itself
    page.quiet.clear()


def test_pictures_of_another_formula_take_the_place_of_those_that_are_known(page):
    page.evaluate("(picture) => sent(picture, 0.1)", told(0.1))
    page.locator("input").focus()
    asked(page, [0.11, 0.09])
    page.evaluate("(picture) => sent(picture, 0.1)", told(0.1, words="Another."))
    assert said(page) == "Another."
    asked(page, [0.11, 0.09, 0.11, 0.09])


def test_what_streamlit_ends_late_does_not_end_what_came_after(page):
    page.evaluate("(picture) => { window.first = sent(picture, 0.1); }", told(0.1))
    page.evaluate("(picture) => { window.second = sent(picture, 0.2); }", told(0.2))
    page.evaluate("first()")
    page.evaluate("slide(0.5)")
    expect(page.locator("figcaption")).to_have_text("m is 0.5.")
    page.evaluate("second()")
    page.evaluate("slide(0.6)")
    page.wait_for_timeout(300)
    assert said(page) == "m is 0.5."  # nobody is there any more


def test_a_picture_drawn_again_is_the_same_as_one_drawn_afresh(page):
    show(page, told(0.4))
    afresh = page.locator("svg[role=img]").evaluate("(one) => one.innerHTML")
    few = {**told(0.2), "lines": told(0.2)["lines"][:1], "upright": [], "dots": []}
    for other in (told(), few, {**told(0.2), "y": {**told()["y"], "step": 0.5}}):
        show(page, other)
        show(page, told(0.4))
        assert page.locator("svg[role=img]").evaluate("(one) => one.innerHTML") == afresh
