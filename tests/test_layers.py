"""Which room may load what, seen in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.engines.children import ENVIRONMENT

ROOT = Path(__file__).parents[1]


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(' '.join(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


LOOKING = ["torch", "streamlit", "trainer", "sklearn", "umap", "numba"]


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (["faces.heads", "faces.encoders", "faces.datasets", "faces.figures"], LOOKING),
        (["faces.projections", "faces.evaluation", "faces.palette"], LOOKING),
        (["faces.model", "faces.heads.arcface", "faces.encoders.resnet9"], ["streamlit", "trainer", "plotly"]),
        (["trainer", "trainer.store", "trainer.supervisor", "trainer.__main__"], ["torch", "streamlit", "plotly"]),
        (["trainer.exports", "trainer.making", "trainer.brought"], ["torch", "streamlit", "plotly", "onnx", "pyarrow"]),
        (["trainer.training", "trainer.worker", "trainer.pictures"], ["streamlit", "plotly"]),
        (["pages.components.picture", "pages.components.settings", "app"], ["torch", "umap", "sklearn"]),
        (["app"], ["sqlalchemy", "pandas"]),  # with which it would answer later
    ],
    ids=["declarations", "looking", "computing", "trainer", "taking", "training", "pages", "answering"],
)  # fmt: skip
def test_a_room_loads_only_what_it_may(modules, forbidden):
    assert loaded_by(*modules) & set(forbidden) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only there workers are forked")
def test_what_the_nursery_imports_starts_no_thread_that_a_fork_would_lose():
    code = "import os; from trainer.worker import load, load_more; load(); load_more(); "
    code += "print(len(os.listdir('/proc/self/task')))"
    environment = {**os.environ, **ENVIRONMENT}
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert told.stdout.split()[-1:] == ["1"]


def test_a_figure_waits_until_another_thread_has_loaded_pandas():
    code = """
import sys, threading
import plotly.graph_objects
from faces import figures
assert "pandas" not in sys.modules
other = threading.Thread(target=__import__, args=("pandas",))
other.start()
while "pandas" not in sys.modules:
    pass
figures.still_two_ways([("ArcFace", 0.5, 0.6)], {"ArcFace": "#112233"}, ("trained", "frozen"))
other.join()
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_the_check_of_rooms_can_fail():
    assert "torch" in loaded_by("faces.model")
