"""Rules of the folders that an import linter cannot state."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.places import ROOT

FOLDERS = ("study", "reports", "objectives", "pipelines", "storage")
MOST_FILES = 10
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules named in import statements of a file, wherever they stand."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_only_the_splits_cut_rows() -> None:
    """No other file takes a splitter, ours or scikit-learn's."""
    splitters = {
        "sklearn.model_selection",
        "outerfold.study.splits.group_folds",
        "outerfold.study.splits.partition",
    }
    assert [p.relative_to(ROOT).as_posix() for p in FILES if splitters & imported(p)] == []


@pytest.mark.parametrize("folder", ["pipelines", "reports"])
def test_no_optuna_where_models_learn_and_numbers_are_told(folder: str) -> None:
    users = [p.name for p in FILES if p.is_relative_to(ROOT / folder) and "optuna" in imported(p)]
    assert users == []


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=str)
def test_a_package_is_one_sentence_and_imports_nothing(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(body[0], ast.Expr)
    name = path.parent.relative_to(ROOT).as_posix()
    guard = [f"if __name__ != 'outerfold.{name}':"] if name in FOLDERS else []
    assert [ast.unparse(node).splitlines()[0] for node in body[1:]] == guard


@pytest.mark.parametrize("folder", [*FOLDERS, "benchmarks", "tests", "outerfold"])
def test_no_folder_holds_more_than_ten_files(folder: str) -> None:
    """Files that lie flat in a folder; more are not taken in at one look."""
    inside = [path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
    counted = Counter(path.parent.relative_to(ROOT).as_posix() for path in inside)
    assert {name: count for name, count in counted.items() if count > MOST_FILES} == {}


def code_lines(node: ast.FunctionDef, lines: list[str]) -> int:
    """Lines of a function without its docstring, comments and blank lines."""
    first = node.body[0]
    told = isinstance(first, ast.Expr) and ast.get_docstring(node) is not None
    docstring = range(first.lineno, (first.end_lineno or 0) + 1) if told else range(0)
    numbers = range(node.lineno, (node.end_lineno or 0) + 1)
    texts = [lines[number - 1].strip() for number in numbers if number not in docstring]
    return sum(bool(text) and not text.startswith("#") for text in texts)


def test_at_most_ten_functions_are_longer_than_thirty_lines_and_each_says_why() -> None:
    long, silent = 0, []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and code_lines(node, text.splitlines()) > 30:
                long += 1
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                if "# Longer than 30 lines: " not in text.splitlines()[first - 2]:
                    silent.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert silent == []
    assert long <= 10


def test_tests_stand_in_the_rooms_of_what_they_test() -> None:
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in FILES}
    tested = {
        path.parent.relative_to(ROOT / "tests").as_posix()
        for folder in FOLDERS
        for path in (ROOT / "tests" / folder).rglob("test_*.py")
    }
    assert tested <= rooms


def test_all_is_imported_under_one_name() -> None:
    trees = (*FOLDERS, "tests", "benchmarks", "outerfold")
    every = [path for folder in trees for path in (ROOT / folder).rglob("*.py")]
    old = {
        path.relative_to(ROOT).as_posix()
        for path in every
        if any(name.split(".")[0] in FOLDERS for name in imported(path))
    }
    assert old == set()


@pytest.mark.parametrize(
    "package",
    [
        "optuna",
        "torch",
        "torchvision",
        "clip",
        "timm",
        "sklearn",
        "imblearn",
        "albumentations",
        "pandas",
        "numpy",
        "matplotlib",
        "seaborn",
        "docx",
        "kagglehub",
        "joblib",
    ],
)
def test_every_promised_package_is_used(package: str) -> None:
    assert any(name.split(".")[0] == package for path in FILES for name in imported(path))


def possessive(pattern: str) -> bool:
    """Whether a pattern has a possessive quantifier or an atomic group."""
    parts = re._parser.parse(pattern)  # type: ignore[attr-defined]
    return any(name in repr(parts.data) for name in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"))


def test_no_pattern_is_possessive() -> None:
    """Python 3.11.2, which Debian 12 has, matches such patterns wrongly."""
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            named = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            texts = [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]
            if named and any(possessive(text) for text in texts if isinstance(text, str)):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert possessive("a++b")
    assert possessive("(?>a|b)")
    assert not possessive(r"[a++]+b")
    assert found == []
