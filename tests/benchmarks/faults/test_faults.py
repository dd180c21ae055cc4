"""The campaign's generators make what they say, and no generated input ends in a traceback."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.faults.doors import DOORS, try_doors
from benchmarks.faults.mutants import list_faults, list_tests
from tests.places import ROOT

CODE = '''"""Docstring 1 < 2."""
def f(a, b):
    """Not 3."""
    if a < b and not b:
        return "é" if a else a + 1
    return [x for x in b if x == 2.5]
'''


def test_no_generated_input_ends_in_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    found = try_doors(tmp_path, 60, seed=3)
    assert list(found) == list(DOORS)
    assert [sum(ends.values()) for ends in found.values()] == [15, 15, 15, 15]
    ends = {end for kind in found.values() for end in kind}
    assert ends <= {"done", "refused"}
    assert "refused" in ends


def test_each_planted_fault_is_one_change_of_code_that_can_be_read() -> None:
    faults = list_faults(CODE)
    planted = [fault.plant(CODE) for fault in faults]
    assert len(set(planted)) == len(faults) == 8
    for text in planted:
        ast.parse(text)
        assert text != CODE
        assert '"""Docstring 1 < 2."""' in text
        assert '"""Not 3."""' in text
    said = {(fault.line, fault.before, fault.after) for fault in faults}
    assert (4, "a < b", "(a <= b)") in said
    assert (4, "not b", "(b)") in said
    assert (5, "a + 1", "(a - 1)") in said
    assert (6, "2.5", "3.5") in said


def test_the_tests_of_a_file_begin_with_those_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = list_tests("storage/trials/journal.py")
    assert found[0] == "tests/storage/trials/test_journal.py"
    assert "tests/storage/trials/test_seals.py" in found
