"""Examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import outerfold
from tests.places import ROOT

FILES = sorted(path for folder in outerfold.FOLDERS for path in (ROOT / folder).rglob("*.py"))
SHOWN = [path for path in FILES if ">>> " in path.read_text(encoding="utf-8")]


def module_of(path: Path) -> str:
    return ".".join(("outerfold", *path.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_of_a_module_give_what_they_say(path: Path) -> None:
    module = importlib.import_module(module_of(path))
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0
