"""The campaign's generators make what they say, and no generated input ends in a traceback."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.faults import mutants
from benchmarks.faults.doors import DOORS, try_doors
from benchmarks.faults.mutants import list_faults

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


def test_a_fault_is_shown_to_the_tests_that_execute_its_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a room of its own: one test that reaches a branch, one that does not, and a constant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(mutants, "READ_SOURCES", ())
    (tmp_path / "roomy.py").write_text(
        "LIMIT = 3\n\n\ndef f(a):\n    if a > 5:\n        return a + 1\n    return a < LIMIT\n"
    )
    (tmp_path / "tests" / "roomy").mkdir(parents=True)
    (tmp_path / "tests" / "roomy" / "test_f.py").write_text(
        "from roomy import f\n\n\ndef test_small():\n    assert f(2) and not f(3)\n\n\n"
        "def test_large():\n    assert f(9) > 5\n\n\ndef test_other():\n    pass\n"
    )
    tests = mutants.trace_tests("roomy", ["roomy.py"])
    lines = {test.name.split("::")[1]: test.lines.get("roomy.py", []) for test in tests}
    assert lines == {"test_small": [5, 7], "test_large": [5, 6], "test_other": []}
    tried, survivors = mutants.try_file("roomy.py", tests, 40, 1, 60.0)
    said = {(fault.before, fault.after) for fault in survivors}
    assert tried == 6  # two of them noticed: the constant's, and "<="
    assert said == {("a > 5", "(a >= 5)"), ("5", "6"), ("a + 1", "(a - 1)"), ("1", "2")}
    assert "roomy.py:6" in capsys.readouterr().out
