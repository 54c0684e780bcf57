"""The pages of assets/guide: every recipe is run as it stands there, or is named here with what keeps a test from it.

Those for nginx are run in test_nginx.py. Ray, Postgres and S3 need tests/requirements-cluster.txt and, one of them, a
Postgres on this machine.
"""

import contextlib
import importlib.util
import os
import re
import shlex
import sys
import tempfile

import psutil
import pytest

from tests import test_nginx
from tests.helpers import ROOT, until
from tests.proxy import free
from tests.recipes import PAGES, block, blocks, copied, meant, running, said, taken
from tests.test_files_elsewhere import bucket, needs_extra  # noqa: F401
from tests.test_postgres import postgres  # noqa: F401
from tests.test_postgres import pytestmark as needs_postgres
from trainer import RunConfig
from trainer.__main__ import main, parser
from trainer.store import Store

AS_ROOT = "wants root, and changes this machine"
NOT_RUN = {
    ("class", "1. Install", 1): f"{AS_ROOT}; downloads packages",
    ("class", "3. Start with the machine", 2): f"{AS_ROOT}; the unit's command is run without systemd",
    ("class", "4. One address, with TLS", 1): "Let's Encrypt must reach this machine by its name",
    ("class", "4. One address, with TLS", 4): f"{AS_ROOT}; an nginx of the test takes the recipe",
    ("class", "More than fifty viewers", 1): f"{AS_ROOT}; the unit's command is run a second time",
    ("cluster", "Ray", 1): "downloads packages",
    ("cluster", "The queue in Postgres", 1): "downloads packages",
    ("cluster", "The files on object storage", 1): "downloads packages",
    ("laptop", "Without the app", 2): "wants Imagewoof, and hours",
}
START, DOCTOR = (block("laptop", "On a laptop", place) for place in (1, 2))
OPEN = block("laptop", "For the people in the room")
ALONE, PYTHON = block("laptop", "Without the app", 1), block("laptop", "Without the app", 3)
LOOK = block("class", "1. Install", 2)
HEAD, NODE, APP, SERVE = (block("cluster", "Ray", place) for place in (2, 3, 4, 5))
CREATE, IN_POSTGRES = (block("cluster", "The queue in Postgres", place) for place in (2, 3))
IN_BUCKET, ON_DISK = (block("cluster", "The files on object storage", place) for place in (2, 3))
MANY, MANY_START = (block("cluster", "A million classes, and ten", place) for place in (1, 2))
WORDS = re.compile(r"(?:\.venv/bin/)?python -m trainer(?: [^#\n]*)?")
pytestmark = [
    pytest.mark.xdist_group("guide"),
    pytest.mark.skipif(os.name == "nt", reason="The recipes are for a shell of Unix."),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A folder of Faces."""
    return copied(tmp_path_factory.mktemp("guide") / "faces")


def test_every_recipe_is_run_or_said_not_to_be():
    assert test_nginx  # which takes its own
    assert taken | set(NOT_RUN) == set(blocks())
    assert not taken & set(NOT_RUN)


@pytest.mark.parametrize("command", sorted({line for code in blocks().values() for line in WORDS.findall(code)}))
def test_the_trainer_knows_the_words(command, capsys):
    words = shlex.split(command.strip().rstrip("'"))
    words = words[words.index("trainer") + 1 :]
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            parser().parse_args(words)
    else:
        assert parser().parse_args(words).command


def test_the_server_is_set_up_as_the_readme_says_and_extras_have_the_versions_of_their_tests():
    (start, _) = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert start.rpartition(" && ")[0] in blocks()["class", "1. Install", 1]
    pins = (ROOT / "tests" / "requirements-cluster.txt").read_text("utf-8").splitlines()
    extras = [
        line for code in blocks().values() for line in code.splitlines() if "uv pip install --python .venv" in line
    ]
    assert len(extras) == 3
    for line in extras:
        *names, option, file, hashed = shlex.split(line)[5:]
        assert (option, file, hashed) == ("-c", "tests/hashes-cluster.txt", "--require-hashes")
        assert {*names} <= {*pins}


def test_links_of_the_guide_and_to_it_lead_somewhere():
    for page in [ROOT / "README.md", *PAGES]:
        for link in re.findall(r"\]\((?!https?:|#)([^)# ]+)[^) ]*\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), link


# ---- a laptop


@pytest.mark.parametrize("recipe", [START, OPEN], ids=["alone", "open"])
def test_a_laptop_with_a_screen_starts_without_a_question(app, tmp_path, recipe):
    port = free()
    name = "my-laptop.local" if recipe == OPEN else "localhost"
    here = {"HOME": str(tmp_path), "FACES_HOME": str(tmp_path / "home"), "STREAMLIT_SERVER_PORT": str(port)}
    with running(recipe, app, port, tmp_path / "log", name, DISPLAY=":9", BROWSER="true", **here):
        listening = {one.laddr.ip for one in psutil.net_connections() if one.laddr and one.laddr.port == port}
    assert ("0.0.0.0" in listening) == (recipe == OPEN)


def told(recipe: str, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    """What the trainer prints in this process, which has loaded torch already, for lines that name it."""
    for line in recipe.splitlines():
        words = shlex.split(line.removeprefix("export "), comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            patch.setenv(*words.pop(0).split("=", 1))
        if words:
            assert words[:3] == [".venv/bin/python", "-m", "trainer"]
            with contextlib.suppress(SystemExit):  # of --help
                assert main(words[3:]) == 0
    return capsys.readouterr().out


def test_faces_works_without_the_app(tmp_path, faces_home, monkeypatch, capsys):
    """Each line by itself, with as little training as it takes."""
    recipe = meant(ALONE, {"--epochs 5": "--epochs 1 --batch 256 --dim 8 --probe 100", "--to .": f"--to {tmp_path}"})
    found = {}
    for line in recipe.splitlines():
        line = line.replace(" RUN ", f" {found.get('submit', '').partition(' ')[0]} ")
        found[re.search(r"trainer (?:runs |sweep )?(\w+)", line)[1]] = told(line, monkeypatch, capsys)
    assert "KNN" in found["train"]
    assert "finished" in found["list"]
    assert "usage:" in found["start"]
    assert list(tmp_path.glob("*.html"))
    assert f"home         {faces_home}" in told(DOCTOR, monkeypatch, capsys)
    server = shlex.split(LOOK)[-1].replace("/srv/faces/data", str(tmp_path / "data"))
    assert f"home         {tmp_path}/data" in told(server.partition(" && ")[2], monkeypatch, capsys)


def test_the_example_in_python_trains(faces_home, capsys):
    exec(PYTHON, {})
    assert len(capsys.readouterr().out.splitlines()) >= 2


# ---- a cluster


def test_centers_spread_over_processes_train(app, tmp_path):
    small = meant(MANY, {"1_000_000": "1_000", "range(10)": "range(3)"})
    (app / "many.py").write_text(small)
    told = said(
        meant(MANY_START, {"=8": "=2", "torchrun": f"torchrun --master-port={free()}"}), app, OMP_NUM_THREADS="1"
    )
    assert [line.split()[0] for line in told.splitlines()] == ["0", "1", "2"]


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform == "win32",
    reason="Ray is not installed; `uv pip install -r tests/requirements-cluster.txt` installs it.",
)
def test_a_cluster_of_ray_trains_what_the_app_is_asked_for(app, tmp_path):
    """Two machines are two nodes on this one. Its name for the cluster's files is short: Ray's sockets lie there."""
    files, head, port = tempfile.mkdtemp(prefix="faces"), free(), free()
    home = tmp_path / "home"
    here = {
        "HOME": str(tmp_path), "RAY_TMPDIR": files, "RAY_worker_niceness": "0", "FACES_OF_TEST": files,
        "STREAMLIT_SERVER_PORT": str(port), "FACES_DEVICE": "cpu",
    }  # fmt: skip
    shared = {"/shared/faces": str(home)}
    try:
        said(meant(HEAD, {"6379": str(head)}), app, **here)
        token = tmp_path / ".ray" / "auth_token"
        assert token.stat().st_mode & 0o777 == 0o600
        said(meant(NODE, {"HEAD:6379": f"127.0.0.1:{head}", "ray start": "ray start --num-cpus=1"}), app, **here)
        settings = HEAD.splitlines()[1] + "\n"  # in the same shell
        with running(settings + meant(APP, shared), app, port, tmp_path / "log", "localhost", **here):
            until(lambda: (home / "supervisor.log").exists())
            store = Store(home)
            name = store.submit(RunConfig(head="CosFace", epochs=1, batch=256, dim=8, probe=100))
            until(lambda: store.run(name).state == "finished", 240)
            assert "already serves" not in (home / "supervisor.log").read_text()  # the only trainer is on Ray
        assert (tmp_path / "log").read_text().count(" node_") == 2
        said(settings + meant(SERVE, {**shared, "--gpus 0.5": "--gpus 0 --idle 1"}), app, **here)
    finally:
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get("FACES_OF_TEST") == files:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


@needs_postgres[0]
@needs_postgres[1]
def test_doctor_finds_the_store_that_the_guide_makes(app, tmp_path, postgres, monkeypatch, capsys):  # noqa: F811
    """The server of the test belongs to somebody called faces already."""
    folder = postgres.partition("host=")[2]
    monkeypatch.setenv("PGHOST", folder)
    said(meant(CREATE, {"faces": "guide"}), app, PGUSER="faces")
    assert str(tmp_path) in told(
        meant(IN_POSTGRES, {"faces@/faces": "guide@/guide", "/shared/faces": str(tmp_path)}), monkeypatch, capsys
    )
    assert not (tmp_path / "meta.db").exists()


@needs_extra
def test_doctor_writes_to_the_bucket(bucket, tmp_path, monkeypatch, capsys):  # noqa: F811
    theirs = {"http://minio.school.example:9000": os.environ["AWS_ENDPOINT_URL"], "s3://bucket/": "s3://faces/"}
    recipe = meant(IN_BUCKET, {**theirs, "/shared/faces": str(tmp_path)})
    assert "s3://faces/faces" in told(recipe, monkeypatch, capsys)


def test_doctor_writes_to_another_disk(tmp_path, monkeypatch, capsys):
    recipe = meant(ON_DISK, {"/mnt/faces": str(tmp_path / "disk"), "/shared/faces": str(tmp_path / "home")})
    assert str(tmp_path / "disk") in told(recipe, monkeypatch, capsys)
