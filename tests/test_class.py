"""A class on one server: its codes, its door, what each role finds on the pages, and what lies behind the gate."""

import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit import config as options
from streamlit.testing.v1 import AppTest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from faces.home import home
from pages.components import who
from tests.helpers import ROOT, listening, until
from trainer import RunConfig, classroom, recorded, train
from trainer.classroom import Classroom, home_key
from trainer.pictures import draw
from trainer.rights import Limits, Pace, RefusedError
from trainer.store import Store

CODES = {"teacher": "chalk and board", "student": "woof woof", "viewer": "just looking"}
CLASS = "[class]\n" + "".join(f'{role} = "{code}"\n' for role, code in CODES.items()) + "limits = { queued = 2 }\n"
KEY = bytes(32)
PAGES = sorted(file for folder in ("explore", "learn", "manage") for file in (ROOT / "pages" / folder).glob("*.py"))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No class, and no wrong codes, of another test."""
    monkeypatch.setattr(classroom, "WRONG", Pace(3, 60.0))
    monkeypatch.setattr(classroom, "WRONG_OF_ALL", Pace(5, 60.0))
    before = options.get_option("secrets.files")
    yield
    options.set_option("secrets.files", before)
    who._begun.clear()


@pytest.fixture
def secrets(tmp_path, faces_home):
    """The file of secrets of a class with codes, in force."""
    file = tmp_path / "secrets.toml"
    file.write_text(CLASS)
    options.set_option("secrets.files", [str(file)])
    return file


def room(**section) -> Classroom:
    """A class by its secrets; with codes unless it says otherwise."""
    return Classroom.read({"class": section or CODES})


def signed(address: str, verified: object = True, **more) -> dict:
    """What is known of who signed in with an address."""
    told = {"is_logged_in": True, "sub": address, "iss": "https://id.example", "email": address, "name": "Some One"}
    return told | {"email_verified": verified} | more


# ---- codes


@pytest.mark.parametrize("role", CODES)
def test_a_code_makes_a_person_of_its_role(role):
    claims = room().admit(f" {CODES[role]} ", "Ada Lovelace", "engine", KEY, "here")
    person = room().person({**claims, "is_logged_in": True}, KEY)
    assert (person.name, person.role) == ("Ada Lovelace", role)
    assert person.limits == (None if role == "teacher" else Limits())
    assert person.minutes == (0 if role == "teacher" else Limits().minutes)
    assert CODES[role] not in str(claims)
    assert "engine" not in str(claims)
    assert room().person(claims, KEY) is None  # without is_logged_in


def test_the_same_name_and_word_are_the_same_person_and_no_others_are():
    tag = lambda name, word, key=KEY: room().admit(CODES["student"], name, word, key, "")["tag"]  # noqa: E731
    assert tag("Ada", "engine") == tag(" ada", "engine ")
    others = [
        tag("Ada", "other"),
        tag("Bob", "engine"),
        tag("Ada", ""),
        tag("Ada", ""),
        tag("Ada", "engine", b"k" * 32),
    ]
    assert len({tag("Ada", "engine"), *others}) == 6


@given(st.text(max_size=80))
def test_whatever_a_name_holds_what_is_kept_of_it_is_plain(name):
    try:
        kept = room().admit(CODES["student"], name, "w", KEY, "")["name"]
    except ValueError:
        return
    assert 1 <= len(kept) <= 64
    assert all(letter.isalnum() or letter in " ._-" for letter in kept.replace("_", ""))
    assert "#" not in kept


def test_wrong_codes_are_refused_and_after_a_few_of_an_address_all_are(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(classroom, "WRONG", Pace(3, 60.0, lambda: now[0]))
    monkeypatch.setattr(classroom, "WRONG_OF_ALL", Pace(5, 60.0, lambda: now[0]))
    for wrong in ("", "woof", CODES["student"].upper()):
        with pytest.raises(RefusedError, match="no code of this class"):
            room().admit(wrong, "Eve", "", KEY, "there")
    with pytest.raises(RefusedError, match="Too many wrong codes"):
        room().admit(CODES["student"], "Eve", "", KEY, "there")
    room().admit(CODES["student"], "Ada", "", KEY, "here")
    for _ in range(2):
        with pytest.raises(RefusedError, match="no code"):
            room().admit("wrong", "Eve", "", KEY, "elsewhere")
    with pytest.raises(RefusedError, match="Too many"):
        room().admit(CODES["student"], "Ada", "", KEY, "here")
    now[0] = 61.0
    room().admit(CODES["student"], "Eve", "", KEY, "there")


def test_a_new_code_sends_away_who_came_by_the_old_one():
    claims = {**room().admit(CODES["student"], "Ada", "w", KEY, ""), "is_logged_in": True}
    assert room(**CODES | {"teacher": "another one"}).person(claims, KEY).role == "student"
    assert room(**CODES | {"student": "another one"}).person(claims, KEY) is None
    assert room(teacher=CODES["teacher"]).person(claims, KEY) is None
    assert room().person({**claims, "code": ""}, KEY) is None
    assert room().person({**claims, "tag": ""}, KEY) is None
    assert room().person({"is_logged_in": True}, KEY) is None
    assert room().person(claims, b"another key".ljust(32)) is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"student": "short"}, "too short; take 6"),
        ({"student": "same same", "teacher": "same same"}, "same code"),
        ({"students": ["@x.example"]}, "knows no 'students' without"),
        ({"studnet": "woof woof"}, "knows no 'studnet'"),
        ({"student": "woof woof", "limits": {"queue": 3}}, "limits of .class. are numbers by name"),
        ({"student": "woof woof", "limits": {"queued": -3}}, "queued is a whole number"),
        ({"student": "woof woof", "limits": 3}, "are numbers by name"),
        ({"student": "woof woof", "people": 0}, "a whole number from 1, not 0"),
        ({"student": "woof woof", "people": "many"}, "a whole number from 1, not 'many'"),
    ],
)
def test_wrong_secrets_are_named(section, said):
    with pytest.raises(ValueError, match=said):
        Classroom.read({"class": section})
    with pytest.raises(ValueError, match="is a section"):
        Classroom.read({"class": "woof"})


def test_without_a_class_there_is_none_and_limits_are_those_of_the_secrets():
    assert Classroom.read({"other": {}}) is None
    assert room(student="woof woof", limits={"queued": 2, "epochs": 9}).limits == Limits(queued=2, epochs=9)
    assert room(student="woof woof", people=9).people == 9


# ---- who signs in


def test_roles_go_by_verified_addresses():
    lists = {"teachers": ["Tea@School.example"], "students": ["@school.example"], "viewers": ["eye@else.example"]}
    school = Classroom.read({"auth": {}, "class": lists})
    role = lambda *words, **more: (found := school.person(signed(*words, **more), KEY)) and found.role  # noqa: E731
    assert role("tea@school.example") == "teacher"
    assert role("ADA@school.example") == "student"
    assert role("eye@else.example") == "viewer"
    for nobody in ("eve@else.example", "@school.example@evil.example", "evil.example", "", "ada@notschool.example"):
        assert role(nobody, sub="eve") is None
    for unverified in (False, None, "false", 0):
        assert role("tea@school.example", unverified) is None
    assert role("tea@school.example", sub="") is None
    assert Classroom.read({"auth": {}}).person(signed("tea@school.example"), KEY) is None
    others = Classroom.read({"auth": {}, "class": {**lists, "others": "viewer"}})
    assert others.person(signed("tea@school.example", False), KEY).role == "viewer"
    trusting = Classroom.read({"auth": {}, "class": {**lists, "unverified": True}})
    assert trusting.person(signed("tea@school.example", None), KEY).role == "teacher"
    with pytest.raises(ValueError, match="no role"):
        Classroom.read({"auth": {}, "class": {"others": "headmaster"}})
    with pytest.raises(ValueError, match="knows no 'teacher' with"):
        Classroom.read({"auth": {}, "class": CODES})


def test_who_signs_in_is_known_by_the_providers_id_and_no_address_is_kept():
    school = Classroom.read({"auth": {}, "class": {"students": ["@school.example"]}})
    ada = school.person(signed("ada@school.example"), KEY)
    married = school.person(signed("ada@school.example", email="king@school.example", name="Ada King"), KEY)
    assert ada.tag == married.tag
    assert ada.owns(married.owner)
    assert school.person(signed("bob@school.example"), KEY).tag != ada.tag
    assert "school" not in ada.owner
    assert school.person(signed("ada@school.example", name="<#>"), KEY).name == "Somebody"


def test_a_code_is_no_sign_in_and_a_sign_in_no_code():
    school = Classroom.read({"auth": {}, "class": {"others": "student"}})
    assert school.person({**room().admit(CODES["student"], "Ada", "w", KEY, ""), "is_logged_in": True}, KEY) is None
    assert room().person(signed("ada@school.example"), KEY) is None


def test_the_key_of_a_home_is_made_once_and_for_its_user_alone(tmp_path):
    key = home_key(tmp_path / "home")
    assert len(key) == 32
    assert home_key(tmp_path / "home") == key != home_key(tmp_path / "other")
    assert (tmp_path / "home" / "key").stat().st_mode & 0o077 in (0, 0o066)  # the second: Windows has no such bits
    (tmp_path / "home" / "key").write_bytes(b"")
    with pytest.raises(ValueError, match="is no key"):
        home_key(tmp_path / "home")


# ---- the secrets' file


def test_secrets_count_from_the_moment_they_are_written(secrets):
    assert who.classroom().codes == CODES
    secrets.write_text(CLASS.replace("woof woof", "meow meow meow"))
    assert who.classroom().codes["student"] == "meow meow meow"


def test_secrets_without_a_time_are_secrets_all_the_same(secrets):
    os.utime(secrets, (0, 0))
    assert who.classroom().codes == CODES


def test_secrets_that_are_broken_or_gone_open_no_door(secrets, client):
    who.classroom()
    for broken in ("[class", "[class]\nstudent = 3\n", '[class]\nstudents = "x"\n'):
        secrets.write_text(broken)
        with pytest.raises(ValueError, match=r"nobody comes in|too short|knows no"):
            who.classroom()
        assert opened("explore/explore.py", None).error
        with pytest.raises(ValueError, match=r"nobody comes in|too short|knows no"):
            who.person()
    secrets.unlink()
    with pytest.raises(ValueError, match="gone from this server"):
        who.classroom()
    app = opened("explore/explore.py", None)
    assert "nobody comes in" in app.error[0].value
    assert not app.title
    assert client.get("/faces/points/x.bin").status_code == 503


def test_without_a_class_the_page_is_as_it_was(faces_home, client):
    app = opened("explore/explore.py", None)
    assert app.title
    assert not app.sidebar.button
    assert client.get("/faces/points/x.bin").text == "inside"
    assert client.get("/faces/enter").headers["location"] == "/"
    assert not (home() / "key").exists()


# ---- the door


@pytest.fixture
def served():
    """The gate and its form before a server that answers everything with "inside"."""

    def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("inside")

    async def follow(socket: WebSocket) -> None:
        await socket.accept()
        with suppress(WebSocketDisconnect):
            await socket.receive_text()

    rest = Route("/{all:path}", answer, methods=["GET", "PUT", "DELETE"])
    routes = [*who.routes, WebSocketRoute("/_stcore/stream", follow), rest]
    with listening(Starlette(routes=routes, middleware=[Middleware(who.Gate)])) as address:
        yield address


@pytest.fixture
def client(served):
    """A browser that has not come in."""
    with httpx.Client(base_url=served) as client:
        yield client


def come_in(client: httpx.Client, code: str, origin: str | None = None, **more: str) -> httpx.Response:
    """Fill in the form; on its own page, unless it is said where."""
    told = {"code": code, "name": "Ada", "word": "engine", "to": "/compare?runs=A,B", **more}
    origin = str(client.base_url).rstrip("/") if origin is None else origin
    return client.post("/faces/enter", data=told, headers={"origin": origin})


INSIDE = ["/faces/points/R/1/pca-2.bin", "/faces/facts/R/1.bin", "/faces/images/R/1/-/0.webp", "/media/x.csv",
          "/faces/inspected/R/1/2.json", "/_stcore/metrics", "/_stcore/upload_file/a/b"]  # fmt: skip


def test_data_lies_behind_the_gate(secrets, client):
    for path in INSIDE:
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (403, "This is for the class alone; come in first.")
    assert client.put(INSIDE[-1]).status_code == 403
    assert client.get("/_stcore/health").text == "inside"
    assert come_in(client, CODES["viewer"]).status_code == 303
    for path in INSIDE:
        assert client.get(path).text == "inside"
    secrets.write_text(CLASS.replace(CODES["viewer"], "another code"))
    for path in INSIDE:
        assert client.get(path).status_code == 403


def following(client: httpx.Client) -> ClientConnection:
    """The socket of a page in this browser."""
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    address = str(client.base_url.copy_with(scheme="ws", path="/_stcore/stream"))
    return connect(address, additional_headers={"Cookie": cookies} if cookies else {})


def test_who_is_one_too_many_is_told_so_and_a_teacher_comes_in(secrets, client, monkeypatch):
    monkeypatch.setattr(who, "HOLD", 0.3)
    secrets.write_text(f"{CLASS}people = 1\n")
    page = {"accept": "text/html,*/*"}
    with following(client), pytest.raises(InvalidStatus):  # who has not come in takes no place of the class
        following(client)
    come_in(client, CODES["student"])
    with following(client), following(client):
        assert client.get("/compare", headers=page).text == "inside"  # the page loaded anew
        come_in(client, CODES["student"], name="Bob")
        full = client.get("/compare", headers=page)
        assert (full.status_code, full.headers["refresh"]) == (503, str(who.AGAIN))
        assert "as may be at once: 1." in full.text
        assert client.get(INSIDE[0]).text == "inside"
        with pytest.raises(InvalidStatus):
            following(client)
        come_in(client, CODES["teacher"])
        assert client.get("/compare", headers=page).text == "inside"
        with following(client):
            pass
    come_in(client, CODES["student"], name="Bob")
    until(lambda: client.get("/compare", headers=page).text == "inside")
    with following(client):
        pass


def test_who_loads_a_page_anew_keeps_the_place(secrets, client):
    secrets.write_text(f"{CLASS}people = 1\n")
    page = {"accept": "text/html,*/*"}
    come_in(client, CODES["teacher"])
    with following(client):  # takes no place
        come_in(client, CODES["student"])
        with following(client):
            pass
        with httpx.Client(base_url=client.base_url) as other:
            come_in(other, CODES["student"], name="Bob")
            assert other.get("/compare", headers=page).status_code == 503
        assert client.get("/compare", headers=page).text == "inside"
        with following(client):
            pass


def test_one_person_has_so_many_pages_and_no_more(secrets, client, monkeypatch):
    monkeypatch.setattr(who, "PAGES", 2)
    come_in(client, CODES["student"])
    with following(client), following(client):
        assert "close one" in client.get("/compare", headers={"accept": "text/html"}).text
        with pytest.raises(InvalidStatus):
            following(client)


def test_who_wants_to_sign_in_is_told_when_there_is_no_place(secrets, client):
    secrets.write_text('[auth]\nclient_id = "x"\n[class]\npeople = 1\n')
    page = {"accept": "text/html,*/*"}
    with following(client):
        assert client.get("/compare", headers=page).status_code == 503
    until(lambda: client.get("/compare", headers=page).text == "inside")


@pytest.mark.parametrize("cookie", ["", "x", "e30.aaaa.bbbb", "{}"])
def test_a_forged_cookie_opens_nothing(secrets, cookie, client):
    client.cookies.set("_streamlit_user", cookie)
    assert client.get(INSIDE[0]).status_code == 403


def test_a_page_asks_for_the_code_and_leads_back_to_itself(secrets, client):
    page = {"accept": "text/html,*/*"}
    asked = client.get("/compare?runs=A,B", headers=page)
    assert asked.status_code == 303
    form = client.get(asked.headers["location"], headers=page)
    assert 'value="/compare?runs=A,B"' in form.text
    assert "default-src 'none'" in form.headers["content-security-policy"]
    let = come_in(client, CODES["student"])
    assert (let.status_code, let.headers["location"]) == (303, "/compare?runs=A,B")
    cookie = let.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert client.get("/compare?runs=A,B", headers=page).text == "inside"


def test_a_wrong_code_is_told_and_the_name_stays(secrets, client):
    answer = come_in(client, "wrong", name='Ada "><script>')
    assert answer.status_code == 403
    assert "This is no code of this class." in answer.text
    assert "Ada &quot;&gt;&lt;script&gt;" in answer.text
    assert "set-cookie" not in answer.headers
    assert "<script" not in answer.text
    assert "is no name" in come_in(client, CODES["student"], name="!?").text


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\nb", "evil"])
def test_who_comes_in_stays_on_this_server(secrets, to, client):
    assert come_in(client, CODES["student"], to=to).headers["location"] == "/"


@pytest.mark.parametrize("origin", ["", "http://evil.example", "null"])
def test_the_form_of_another_site_is_not_taken(secrets, origin, client):
    answer = come_in(client, CODES["student"], origin)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_more_than_a_form_is_not_read(secrets, client):
    assert come_in(client, CODES["student"], word="x" * 20_000).status_code == 413


# ---- pages


def opened(page: str, role: str | None, name: str = "Ada", **query: str) -> AppTest:
    """A page as somebody of the class sees it; None has not come in."""
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    if role:
        claims = who.classroom().admit(CODES[role], name, "engine", who._key(home()), "")
        app.user = {**claims, "is_logged_in": True}
    app.run()
    return app.switch_page(f"{page}").run() if page != "explore/explore.py" else app


@pytest.fixture
def full(furnished, secrets):
    """A store in which nothing is missing on a page: runs that finished, train, wait and failed, and a data job."""
    shutil.copytree(furnished, home())
    return Store()


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """The home of that store, to be copied."""
    store = Store(tmp_path_factory.mktemp("furnished"))
    home_key(store.path)
    ended = RunConfig(epochs=1, batch=256, dim=8, probe=100)
    last = list(train(ended))[-1]
    for note in ("", "Circle · ArcFace · then"):
        name = store.submit(ended, note)
        attempt = store.claim().attempt
        folder = store.folder(name)
        folder.begin("", [str(digit) for digit in range(10)])
        folder.keep(attempt, last)
        points = draw(folder, last, "pca-2")
        store.index(name, attempt)
        store.end(name, attempt, "finished")
        points = folder.points("pca-2", last.step)._replace(refining=points.refining if points else last.variance[:0])
        folder.keep_points("tsne-2", last.step, points)
    failed = store.submit(RunConfig(seed=1))
    store.end(failed, store.claim().attempt, "failed", "The loss is no number.")
    store.submit(RunConfig(seed=2))
    store.claim()
    store.submit(RunConfig(seed=3))
    store.ask_data("fetch", "imagewoof")
    store._reader.dispose()
    return store.path


def everything(store: Store) -> list:
    """All that a person can change: rows and files, but for pictures that somebody waits for."""
    with sqlite3.connect(store.path / "meta.db") as db:
        rows = [db.execute(f"SELECT * FROM {name}").fetchall() for name in ("runs", "jobs", "audit")]
    files = [file for file in store.path.rglob("*") if file.is_file() and "meta.db" not in file.name]
    return [rows, sorted((str(file), file.read_bytes()) for file in files if file.suffix != ".lock")]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_who_has_not_come_in_sees_no_page(full, page):
    before = everything(full)
    app = opened(page.relative_to(ROOT / "pages").as_posix(), None)
    assert [title.value for title in app.title] == ["Come into the class"]
    assert not app.button
    assert everything(full) == before


@pytest.mark.parametrize("role", ["viewer", "student"])
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_pressing_every_button_changes_nothing_of_others(full, page, role, monkeypatch):
    """A viewer changes nothing at all; a student adds runs, and leaves those that are there as they are."""
    name = page.relative_to(ROOT / "pages").as_posix()
    if role == "student":
        monkeypatch.setattr(recorded, "files", list)  # opening them takes its time
    before = everything(full)
    runs = {run.id for run in full.runs()}
    for index in range(len(opened(name, role).button)):
        app = opened(name, role)
        button = app.button[index]
        if button.disabled or button.label == "Leave":
            continue
        button.click().run()
        assert not app.exception, (button.label, app.exception)
        if role == "viewer":
            assert everything(full) == before, button.label
    after = full.runs()
    assert runs <= {run.id for run in after}
    assert all(run.owner.startswith("Ada#") for run in after if run.id not in runs)

    def theirs(all_of_it: list) -> list:
        rows, files = all_of_it
        return [[row for row in rows[0] if row[0] in runs], [one for one in files if runs & {*Path(one[0]).parts}]]

    assert theirs(everything(full)) == theirs(before)


def labels(app: AppTest) -> dict[str, bool]:
    """The buttons of a page, each with whether it can be pressed."""
    return {button.label: not button.disabled for button in app.button}


def test_each_role_finds_its_buttons(full):
    runs = {role: labels(opened("manage/runs.py", role)) for role in CODES}
    for word in ("Stop", "Resume", "Pin", "Delete"):
        assert [runs[role][word] for role in ("viewer", "student", "teacher")] == [False, False, True], word
    data = {role: labels(opened("manage/data.py", role)) for role in CODES}
    assert [data[role]["Download"] for role in ("viewer", "student", "teacher")] == [False, False, True]
    places = opened("manage/data.py", "viewer"), opened("manage/data.py", "student")
    assert [one.disabled for app in places for one in app.get("file_uploader")] == [True, True, False, False]
    train = {role: labels(opened("explore/explore.py", role))["Train"] for role in CODES}
    assert train == {"viewer": False, "student": True, "teacher": True}
    help = next(button.help for button in opened("manage/runs.py", "viewer").button if button.label == "Stop")
    assert "Only students and teachers may stop work here" in help.replace("\\", "")


def test_a_student_trains_stops_and_deletes_what_is_theirs_and_no_more_than_they_may(full):
    app = opened("explore/explore.py", "student")
    for _ in range(2):
        next(button for button in app.button if button.label == "Train").click().run()
    mine = [run for run in full.runs() if run.owner]
    assert len(mine) == 2
    next(button for button in app.button if button.label == "Train").click().run()
    assert "may have 2 runs that wait or train here, and you have 2" in app.error[0].value
    app = opened("manage/runs.py", "student")
    stop = [button for button in app.button if button.label == "Stop"]
    assert [button.key.split()[-1] for button in stop if not button.disabled] == [run.id for run in mine]
    app.button(key=f"stop {mine[0].id}").click().run()
    app.button(key=f"delete {mine[0].id}").click().run()
    assert [run.id for run in full.runs() if run.owner] == [mine[1].id]
    assert any("by Ada" in caption.value for caption in app.caption)
    namesake = opened("manage/runs.py", "student", name="Bob")
    assert namesake.button(key=f"stop {mine[1].id}").disabled


def test_where_a_students_run_may_not_begin_by_itself_the_page_says_why_and_is_there(secrets):
    secrets.write_text(CLASS.replace("queued = 2", "epochs = 5"))
    app = opened("explore/explore.py", "student")
    assert not app.exception
    said = [one.value for kind in ("info", "warning", "error") for one in app.get(kind)]
    assert any("Nothing has been trained here yet. epochs = 20 is more than students may have" in one for one in said)
    assert any(button.label == "Train" for button in app.button)
    assert not Store().count()


def test_embeddings_may_have_any_name_and_a_datasets_images_may_not(full):
    student = full.asked_by(who.classroom().person({**who.classroom().admit(
        CODES["student"], "Ada", "engine", who._key(home()), ""), "is_logged_in": True}, who._key(home())))  # fmt: skip
    file = student.keep_upload(".csv", b"a,b")
    assert student.ask_data("embeddings", "imagewoof", str(file))
    with pytest.raises(RefusedError, match="Only teachers"):
        student.ask_with_upload("import", "imagewoof", ".zip", b"PK")
    assert list(full.uploads.iterdir()) == [file]  # nothing is left of what was refused


def test_a_role_that_is_lost_counts_from_the_next_press_on(full, secrets):
    run = full.asked_by(who.classroom().person({**who.classroom().admit(
        CODES["student"], "Ada", "engine", who._key(home()), ""), "is_logged_in": True}, who._key(home()))).submit(
        RunConfig(seed=9))  # fmt: skip
    app = opened("manage/runs.py", "student")
    secrets.write_text(CLASS.replace(CODES["student"], "another code"))
    app.button(key=f"stop {run}").click().run()
    assert full.run(run).state == "queued"
    assert [title.value for title in app.title] == ["Come into the class"]


def test_leaving_is_one_press(secrets):
    app = opened("explore/explore.py", "student")
    assert "Ada · student" in [caption.value for caption in app.sidebar.caption]
    next(button for button in app.sidebar.button if button.label == "Leave").click().run()
    assert [title.value for title in app.title] == ["Come into the class"]


def test_who_signs_in_but_is_in_no_class_is_told_so(secrets):
    secrets.write_text('[auth]\nclient_id = "x"\n[class]\nstudents = ["@school.example"]\n')
    app = opened("explore/explore.py", None)
    assert [button.label for button in app.button] == ["Sign in"]
    app.user = signed("eve@else.example")
    app.run()
    assert "not in this class" in app.warning[0].value
    assert [button.label for button in app.button] == ["Sign out"]
    app.user = signed("ada@school.example")
    app.run()
    assert "Some One · student" in [caption.value for caption in app.sidebar.caption]


def test_a_secret_is_in_no_file_of_the_home(full, client):
    come_in(client, CODES["student"], word="a word of my own")
    opened("explore/explore.py", "student").button[0].click().run()
    for file in Path(full.path).rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(word.encode() in content for word in (*CODES.values(), "a word of my own")), file
