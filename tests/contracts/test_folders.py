"""Rules of the folders that an import linter cannot state."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.places import ROOT

FOLDERS = ("study", "reports", "objectives", "pipelines", "storage")
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
    users = {
        p.relative_to(ROOT).as_posix() for p in FILES if "sklearn.model_selection" in imported(p)
    }
    assert users == {"study/splits.py"}


@pytest.mark.parametrize("folder", ["pipelines", "reports"])
def test_no_optuna_where_models_learn_and_numbers_are_told(folder: str) -> None:
    users = [p.name for p in FILES if p.is_relative_to(ROOT / folder) and "optuna" in imported(p)]
    assert users == []


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=str)
def test_a_package_is_one_sentence_and_imports_nothing(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize(
    "package",
    ["optuna", "torch", "torchvision", "clip", "timm", "sklearn", "imblearn", "albumentations",
     "pandas", "numpy", "matplotlib", "seaborn", "docx", "kagglehub", "joblib"],
)  # fmt: skip
def test_every_promised_package_is_used(package: str) -> None:
    assert any(name.split(".")[0] == package for path in FILES for name in imported(path))
