"""What all tests of the trials' storage share."""

from pathlib import Path

import optuna
import pytest

from outerfold.storage.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")
