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
    "yaml",
}  # all run what they read
NAMES = {"eval", "exec", "system", "popen", "read_pickle", "to_pickle", "PackageImporter", "extractall"}
KEYWORDS = {  # the only value that each may be given
    "allow_pickle": False, "weights_only": True, "unsafe_allow_html": False, "unsafe_allow_javascript": False,
    "shell": False, "verify": True, "trust_remote_code": False,
}  # fmt: skip
NEEDED = {"get_state_dict": "weights_only", "load_state_dict_from_url": "weights_only"}  # a pickle, unless they say so
PLACES = {
    "st.markdown": 1,
    "st.caption": 1,
    "np.load": 2,
}  # arguments without a name; one more could be one of KEYWORDS
OWN = {  # files that evaluate or show what stands in our own source, never what a user has typed
    "faces/feasibility.py": {"eval"},
    "faces/catalogue.py": {"eval"},
    "pages/components/teaching.py": {"st.html"},
    "pages/router.py": {"st.html"},
}


def torches(tree: ast.AST) -> set[str]:
    """The names that a piece of source has for torch and for what it takes from torch."""
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    of_torch = [
        alias
        for node in taken
        for alias in node.names
        if (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0] == "torch"
    ]
    return {"torch"} | {alias.asname or alias.name.partition(".")[0] for alias in of_torch}


def findings(source: str, allowed: frozenset[str] | set[str] = frozenset()) -> Iterator[str]:
    """What is forbidden in a piece of source, with its line."""
    tree = ast.parse(source)
    torch = torches(tree)
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module] if node.module and node.module.partition(".")[0] in MODULES else []
            if (node.module or "").partition(".")[0] == "torch":
                found = [f"{node.module}.{alias.name}" for alias in node.names if alias.name in ("load", "*")]
        elif isinstance(node, ast.Attribute) and node.attr == "load":
            found = [whole for whole in [ast.unparse(node)] if whole.partition(".")[0] in torch]
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
            bare = isinstance(node.func, ast.Name)
            if called in NAMES and (bare or called not in ("eval", "exec")):  # model.eval() is another matter
                found = [called]
            whole = ast.unparse(node.func)
            if NEEDED.get(called, "") not in ("", *(given.arg for given in node.keywords)):
                found = [f"{called} without {NEEDED[called]}"]
            if whole == "st.html" or len(node.args) > PLACES.get(whole, len(node.args)):
                found = [whole]
            if whole == "getattr" and any(
                isinstance(given, ast.Constant) and given.value == "load" for given in node.args
            ):
                found = ["getattr of load"]
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
        "torch.export.load(file)",
        "torch.jit.load(file)",
        "from torch.export import load",
        "from torch.jit import *",
        "from torch import jit; jit.load(file)",
        "import torch.export as e; e.load(file)",
        "import torch as t; t.load(file)",
        "load = torch.load",
        "torch.package.PackageImporter(file)",
        "weights.get_state_dict(check_hash=True)",
        "torch.hub.load_state_dict_from_url(url)",
        "getattr(torch, 'load')(file)",
        "np.load(file, None, True)",
        "st.markdown(name, True)",
        "st.html(name)",
        "import yaml",
        "archive.extractall(folder)",
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
    fine += "; from safetensors.torch import load; import torch; data.load(torch.float32)"
    assert list(findings(fine)) == []
