"""The guards that are taken out on purpose (tests.faults.seeded) are still in the source."""

import shlex

import pytest

from tests.faults.seeded import BUGS, ROOT


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_guard_stands_in_one_place_and_has_its_tests(bug):
    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.guard) == 1
    assert (ROOT / shlex.split(bug.tests)[0]).exists()
