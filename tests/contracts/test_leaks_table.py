"""The table of leaks names tests that there are."""

from __future__ import annotations

import ast
import re

import pytest

from tests.places import ROOT

TABLE = ROOT / "docs" / "leaks.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)?)`")
PROMISED = 32
"""Leaks that the table told of when it was first written; it may only grow."""


def collected(source: str) -> set[str]:
    """``test_name`` and ``TestClass::test_name`` of a test file, as pytest would collect them."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inner = (each.name for each in node.body if isinstance(each, ast.FunctionDef))
            found |= {f"{node.name}::{name}" for name in inner}
    return {name for name in found if name.split("::")[-1].startswith("test_")}


def leaks() -> list[tuple[str, list[tuple[str, str]]]]:
    """What leaks, and the tests that plant it, of each row whose table has such a column."""
    rows, planted = [], False
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            planted = False
        elif cells[-1] == "Planted by":
            planted = True
        elif planted and not cells[0].startswith("---"):
            rows.append((cells[0], NAMED.findall(cells[-1])))
    return rows


def test_no_leak_is_dropped_from_the_table() -> None:
    names = [name for name, _ in leaks()]
    assert len(names) >= PROMISED
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("leak", "named"), leaks(), ids=[name for name, _ in leaks()])
def test_every_leak_names_tests_that_exist(leak: str, named: list[tuple[str, str]]) -> None:
    assert named, f"{leak}: no test is named"
    for path, name in named:
        assert (ROOT / path).is_file(), f"{leak}: {path} is no file"
        found = collected((ROOT / path).read_text(encoding="utf-8"))
        assert name in found, f"{leak}: {path} has no {name}"


def test_a_test_that_does_not_exist_would_be_missed() -> None:
    source = "def test_a(): ...\ndef helper(): ...\nclass TestB:\n    def test_c(self): ...\n"
    assert collected(source) == {"test_a", "TestB::test_c"}
