"""What no file of the app may contain: whatever runs what somebody else has written, and HTML that is not escaped."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "app.py", *(file for room in ("faces", "pages", "trainer") for file in (ROOT / room).rglob("*.py"))]
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
}  # all run what they read
NAMES = {"eval", "exec", "system", "popen", "read_pickle", "to_pickle"}
KEYWORDS = {  # the only value that each may be given
    "allow_pickle": False, "weights_only": True, "unsafe_allow_html": False, "unsafe_allow_javascript": False,
    "shell": False, "verify": True, "trust_remote_code": False,
}  # fmt: skip
OWN = {  # files that evaluate what stands in our own source, never what a user has typed
    "faces/feasibility.py": {"eval"},
    "faces/catalogue.py": {"eval"},
}


def findings(source: str, allowed: frozenset[str] | set[str] = frozenset()) -> Iterator[str]:
    """What is forbidden in a piece of source, with its line."""
    for node in ast.walk(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module] if node.module and node.module.partition(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
            bare = isinstance(node.func, ast.Name)
            of = getattr(getattr(node.func, "value", None), "id", "")
            if called in NAMES and (bare or called not in ("eval", "exec")):  # model.eval() is another matter
                found = [called]
            if called == "load" and of == "torch":
                found = ["torch.load"]
            for given in node.keywords:
                right = isinstance(given.value, ast.Constant) and given.value.value is KEYWORDS.get(given.arg or "")
                if given.arg in KEYWORDS and not right:
                    found.append(given.arg)
        yield from (f"line {node.lineno}: {word}" for word in found if word not in allowed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_file_runs_what_others_wrote(file):
    allowed = OWN.get(file.relative_to(ROOT).as_posix(), set())
    assert list(findings(file.read_text(encoding="utf-8"), allowed)) == []


def test_every_exception_is_needed():
    for name, words in OWN.items():
        said = " ".join(findings((ROOT / name).read_text(encoding="utf-8")))
        assert all(word in said for word in words)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch; torch.load(file)",
        "np.load(file, allow_pickle=True)",
        "np.load(file, allow_pickle=trusted)",
        "torch.load(file, weights_only=False)",
        "st.markdown(name, unsafe_allow_html=True)",
        "subprocess.run(line, shell=True)",
        "requests.get(url, verify=False)",
        "pandas.read_pickle(file)",
        "os.system(line)",
        "eval(text)",
    ],
)
def test_the_gate_can_fail(line):
    assert list(findings(line))


def test_the_gate_lets_through_what_is_meant():
    fine = "model.eval(); load(file); np.load(file, allow_pickle=False); json.load(file); st.markdown('x')"
    assert list(findings(fine)) == []
