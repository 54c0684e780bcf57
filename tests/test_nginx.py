"""The guide's recipes for a class on one server, run as they stand there: secrets, unit, certificate, nginx."""

import asyncio
import base64
import os
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import fields

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from pages.components import blocks
from tests.provider import CLIENT, SECRET, provided
from tests.proxy import MISSING, RECIPE, WHY, Proxy, free, proxied
from tests.recipes import NAME, PAGES, block, copied, meant, running, said, service
from tests.test_signing_in import ADA, seen
from tests.wire import opened
from trainer.rights import Limits

COMES_IN, STARTS, PASSWORD, MORE = (
    "2. Who comes in", "3. Start with the machine", "One password instead of a class", "More than fifty viewers",
)  # fmt: skip
INSTALL, CODES, SIGN_IN = (block("class", COMES_IN, place) for place in (1, 2, 3))
UNIT, HEALTH = block("class", STARTS, 1), block("class", STARTS, 3)
CHECKS = block("class", "4. One address, with TLS", 5)
ASKED, SET = block("class", PASSWORD, 1), block("class", PASSWORD, 2)
ABOVE, INSIDE = block("class", MORE, 2), block("class", MORE, 3)
LINE = "        proxy_pass http://127.0.0.1:8501;\n"  # of the recipe for one server
KNOWN = {"Authorization": f"Basic {base64.b64encode(b'class:woof').decode()}"}
RUN = "/faces/facts/01ARZ3NDEKTSV4RRFFQ69G5FAV/0.bin"  # of nobody
FRAME = "frame-ancestors 'self'"
pytestmark = [pytest.mark.skipif(MISSING, reason=WHY), pytest.mark.xdist_group("nginx")]


@contextmanager
def served(folder, secrets=""):
    """A function that starts the unit in a folder of Faces with these secrets, and returns its port."""
    (folder / "srv").mkdir()
    app = copied(folder / "srv" / "app")
    if secrets:
        said(meant(INSTALL, {"/srv/faces": f"{folder}/srv", "-o faces ": ""}), folder)
        assert (app / ".streamlit" / "secrets.toml").stat().st_mode & 0o777 == 0o600
        (app / ".streamlit" / "secrets.toml").write_text(secrets)
    with ExitStack() as kept:

        def start() -> int:
            port = free()
            command = service(UNIT, port, {"/srv/faces": f"{folder}/srv"})
            kept.enter_context(running(command, folder, port, folder / f"log{port}", HOME=str(folder)))
            return port

        yield start


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two servers of a class with codes, and their folder."""
    folder = tmp_path_factory.mktemp("class")
    with served(folder, CODES) as start:
        yield [start(), start()], folder


@pytest.fixture(scope="module")
def inside(site, tmp_path_factory):
    """The class behind nginx."""
    with proxied(tmp_path_factory.mktemp("nginx"), RECIPE, {":8501": f":{site[0][0]}"}) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server without a class behind nginx with a password, which is woof."""
    folder = tmp_path_factory.mktemp("guarded")
    users = {"/etc/nginx/faces.users": str(folder / "users")}
    said(meant(SET, {"-apr1": "-apr1 woof", **users}), folder)
    recipe = meant(RECIPE, {"    location / {": f"{ASKED}    location / {{"})
    with served(folder) as start, proxied(folder, recipe, {":8501": f":{start()}", **users}) as proxy:
        yield proxy


class Through(httpx.BaseTransport):
    """Leads to an nginx of this machine who asks for the name of the recipe, whose certificate must be right."""

    def __init__(self, proxy: Proxy):
        self.port, self.wire = proxy.port, httpx.HTTPTransport(verify=proxy.trust())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url, known = request.url, {"sni_hostname": NAME}
        if url.host == NAME:
            assert url.scheme == "https"
            url = url.copy_with(host="127.0.0.1", port=self.port)
        asked = httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=known)
        return self.wire.handle_request(asked)


def browser(proxy: Proxy, **more) -> httpx.Client:
    """Cookies and redirects, as a browser has them."""
    through = Through(proxy)
    return httpx.Client(base_url=f"https://{NAME}", transport=through, follow_redirects=True, timeout=30, **more)


def socket(proxy: Proxy) -> dict:
    """How a page's socket finds the nginx."""
    return {"host": "127.0.0.1", "port": proxy.port, "ssl": proxy.trust()}


async def visit(proxy: Proxy, headers: dict[str, str], origin: str = f"https://{NAME}") -> str:
    """Open the first page, until its script has ended; how it ended."""
    async with opened(NAME, **socket(proxy), origin=origin, additional_headers=headers) as page:
        return str([told async for told in page.run()][-1].script_finished)


def come_in(client: httpx.Client) -> httpx.Response:
    """Fill in the form, as a student with the code of the guide."""
    told = {"code": "a code for the class", "name": "Ada", "word": "engine", "to": "/"}
    return client.post("/faces/enter", data=told, headers={"origin": f"https://{NAME}"})


# ---- a class


def test_a_class_comes_in_by_its_code(inside):
    client = browser(inside)
    assert "Come into the class" in client.get("/", headers={"accept": "text/html"}).text
    assert "What does this head do" not in seen(client, **socket(inside))[0]
    assert client.get(RUN).status_code == 403
    assert come_in(client).url.path == "/"
    assert client.get(RUN).status_code == 404
    said, _ = seen(client, **socket(inside))
    assert "Ada · student" in told_in_words(said)
    assert "What does this head do" in said


def told_in_words(said: str) -> str:
    """What a page says, whose messages print letters beyond ASCII as numbers."""
    return re.sub(r"(?:\\\d{3})+", lambda n: bytes(int(o, 8) for o in n[0].split("\\")[1:]).decode(), said)


def test_no_other_site_frames_any_page_and_who_comes_without_tls_is_led_to_it(inside):
    with browser(inside) as client:
        for path in ("/", "/compare", "/faces/enter", "/_stcore/health", RUN):
            assert FRAME in client.get(path).headers.get_list("content-security-policy")
    answer = httpx.get(f"http://127.0.0.1:{inside.plain}/compare?runs=x", headers={"Host": NAME})
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{NAME}/compare?runs=x")


def test_what_the_guide_checks_is_so(inside, site):
    (port, _), folder = site
    assert said(meant(HEALTH, {"127.0.0.1:8501": f"127.0.0.1:{port}"}), folder) == "ok"
    found = f"curl --cacert {inside.certificate} --connect-to {NAME}:443:127.0.0.1:{inside.port}"
    assert re.fullmatch(f"ok.*{FRAME}\n403\n", said(meant(CHECKS, {"curl": found}), folder), re.S)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="There is no systemd here.")
def test_systemd_takes_the_unit(site, tmp_path):
    unit = tmp_path / "faces@.service"
    unit.write_text(meant(UNIT, {"/srv/faces": f"{site[1]}/srv", "User=faces": "User=root"}))
    command = ["systemd-analyze", "verify", "--man=no", "faces@8501.service"]
    here = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    found = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
    assert (found.returncode, [line for line in found.stderr.splitlines() if "faces" in line]) == (0, [])


def test_the_guide_tells_the_limits_of_students():
    (page,) = [page.read_text("utf-8") for page in PAGES if page.stem == "class"]
    told = {name: int(number) for name, number in re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.M)}
    assert told == {field.name: field.default for field in fields(Limits)}


# ---- several servers


def test_a_cookie_keeps_a_browser_with_its_server_and_the_other_knows_whom_it_takes_over(site, tmp_path):
    """Two servers of a class share no secret that anybody wrote."""
    first, second = site[0]
    recipe = ABOVE + meant(RECIPE, {LINE: INSIDE})
    (tmp_path / "gone").mkdir()
    with proxied(tmp_path, recipe, {":8501": f":{first}", ":8502": f":{second}"}) as proxy:
        client = browser(proxy)
        client.cookies.set("faces", "1", domain=NAME)
        come_in(client)
        assert client.get(RUN).status_code == 404
        assert client.cookies["faces"] == "1"
    with proxied(tmp_path / "gone", recipe, {":8501": f":{free()}", ":8502": f":{second}"}) as proxy:
        client = browser(proxy, cookies=client.cookies)
        assert client.get(RUN).status_code == 404
        assert client.cookies["faces"] == "2"
        assert "Ada" in seen(client, **socket(proxy))[0]


# ---- signing in


def test_people_sign_in_at_the_provider_and_others_look(tmp_path):
    with provided() as provider:
        theirs = {
            "https://accounts.google.com": provider.address,
            'client_id = "from the provider"': f'client_id = "{CLIENT}"',
            'client_secret = "from the provider"': f'client_secret = "{SECRET}"',
        }
        (tmp_path / "nginx").mkdir()
        with (
            served(tmp_path, meant(SIGN_IN, theirs)) as start,
            proxied(tmp_path / "nginx", RECIPE, {":8501": f":{start()}"}) as proxy,
        ):
            for user, role in (
                (ADA, "Ada Lovelace · teacher"),
                (ADA | {"sub": "2", "email": "bob@school.example"}, "student"),
                (ADA | {"sub": "3", "email": "eve@else.example"}, "viewer"),
            ):
                provider.user, client = user, browser(proxy)
                assert client.get(RUN).status_code == 403
                client.get(seen(client, "Sign in", **socket(proxy))[1])
                assert role in told_in_words(seen(client, **socket(proxy))[0])
                assert client.get(RUN).status_code == 404


# ---- one password


@pytest.mark.parametrize("path", ["/", blocks.SCRIPT, "/_stcore/health"])
def test_only_who_knows_the_password_gets_in(guarded, path):
    with browser(guarded) as client:
        assert client.get(path).status_code == 401
        assert client.get(path, auth=("class", "meow")).status_code == 401
        known = client.get(path, auth=("class", "woof"))
        assert known.status_code == 200
        assert known.content


def test_a_page_lives_through_nginx_and_not_without_the_password(guarded):
    assert asyncio.run(visit(guarded, KNOWN)) == "0"  # FINISHED_SUCCESSFULLY
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(visit(guarded, {}))
    assert refused.value.response.status_code == 401


def test_a_foreign_page_gets_no_socket_through_nginx_either(guarded):
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(visit(guarded, KNOWN, "http://evil.example"))  # with the password that a browser remembers
    assert refused.value.response.status_code == 403
