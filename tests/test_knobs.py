"""Knobs check what they are given, and catalogues tell the truth about classes without importing them."""

import math
import subprocess
import sys

import pytest

from faces.catalogue import DECLARATIONS, catalogue
from faces.encoders import ENCODERS
from faces.heads import HEADS
from faces.knobs import Choice, Knob, fixed_scale, scale_bound, settle

KNOBS: dict[str, Knob | Choice] = {
    "s": Knob(fixed_scale, 0.5, 64.0, "scale of the logits, no unit"),
    "k": Knob(3, 1, 8, "centers per class, a whole number", live=False),
    "seam": Choice(("flat", "steep"), "what happens past pi"),
}


def test_what_is_not_given_takes_its_default_for_this_many_classes():
    assert settle(KNOBS, {}, 10) == {"s": math.sqrt(2) * math.log(9), "k": 3, "seam": "flat"}
    assert settle(KNOBS, {"s": 30, "seam": "steep"}, 10) == {"s": 30.0, "k": 3, "seam": "steep"}


def test_a_whole_knob_gives_whole_numbers_and_the_others_do_not():
    settled = settle(KNOBS, {"k": 2.0, "s": 30}, 10)
    assert isinstance(settled["k"], int)
    assert isinstance(settled["s"], float)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"margin": 0.5}, r"Unknown knob \['margin'\]\. Knobs here: \['s', 'k', 'seam'\]\."),
        ({"s": 65.0}, r"s = 65\.0 is out of range\. s: scale of the logits, no unit, 0\.5 to 64\.0\."),
        ({"s": 0.0}, "s = 0.0 is out of range"),
        ({"s": "large"}, "s = 'large' is not a number"),
        ({"s": True}, "s = True is not a number"),
        ({"s": math.nan}, "s = nan is not a number"),
        ({"s": math.inf}, "s = inf is not a number"),
        ({"k": 2.5}, "k = 2.5 is not a whole number"),
        ({"k": 9}, "k = 9 is out of range"),
        ({"seam": "round"}, r"seam = 'round' is unknown\. seam: .*, one of \['flat', 'steep'\]\."),
        ({"seam": 1}, "seam = 1 is unknown"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_would(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        settle(KNOBS, given, 10)


def test_the_default_scale_is_the_papers_and_two_classes_can_train():
    assert fixed_scale(10) == pytest.approx(3.1073, abs=1e-4)
    assert fixed_scale(3) == pytest.approx(0.9803, abs=1e-4)
    assert fixed_scale(2) == scale_bound(2, 0.999) == pytest.approx(3.4534, abs=1e-4)
    assert scale_bound(10, 0.99) == pytest.approx(6.11, abs=0.01)
    with pytest.raises(ValueError, match="at least 2 classes to tell apart; 1 given"):
        fixed_scale(1)


@pytest.mark.parametrize("classes", [HEADS, ENCODERS], ids=["heads", "encoders"])
def test_a_catalogue_says_what_the_imported_classes_say(classes):
    for name, imported in classes.items():
        about = classes.about(name)
        assert (about.name, about.module) == (imported.__name__, imported.__module__)
        for declared in DECLARATIONS:
            assert getattr(about, declared, None) == getattr(imported, declared, None), (name, declared)


@pytest.mark.parametrize("classes", [HEADS, ENCODERS], ids=["heads", "encoders"])
def test_a_catalogue_is_in_the_order_of_the_papers(classes):
    born = [classes.about(name).born for name in classes]
    assert born == sorted(born)
    assert len(classes) == len(born) > 0


@pytest.mark.parametrize("package", ["heads", "encoders"])
def test_reading_a_catalogue_imports_no_torch(package):
    code = f"import sys, faces.{package} as p; print([*vars(p)[{package.upper()!r}]]); sys.exit('torch' in sys.modules)"
    read = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown head 'ArkFace'\. There are: Classification, .*ArcFace"):
        HEADS.about("ArkFace")


def test_saving_a_file_is_all_it_takes(tmp_path):
    (tmp_path / "base.py").write_text("import nothing_that_exists\nclass Base:\n    knobs = {}\n")
    (tmp_path / "new.py").write_text(
        'class New(Base):\n    """Newer.\n\n    More."""\n    source, born = "https://paper", "2021-01"\n'
        '    knobs = {"s": Knob(fixed_scale, 0.5, 64.0, "scale, no unit")}\n    other = unknown()\n'
    )
    (tmp_path / "old.py").write_text('class Old:\n    born = "2001-01"\n')
    found = catalogue("package", tmp_path)
    assert list(found) == ["Old", "New"]
    about = found.about("New")
    assert (about.doc, about.source, about.module) == ("Newer.", "https://paper", "package.new")
    assert about.knobs["s"].start(3) == fixed_scale(3)
