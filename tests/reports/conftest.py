"""Runs and reports that several tests read; none of them writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence
from outerfold.reports.write import write_report
from tests.reports.run_factory import BINARY, FOUR, make_run, unfinished, with_columns


@pytest.fixture(scope="session")
def binary() -> Evidence:
    return gather_evidence(make_run(BINARY))


@pytest.fixture(scope="session")
def four() -> Evidence:
    return gather_evidence(make_run(FOUR, synthetic=False))


@pytest.fixture(scope="session")
def partial() -> Evidence:
    return gather_evidence(unfinished(make_run(BINARY)))


@pytest.fixture(scope="session")
def nothing() -> Evidence:
    return gather_evidence(unfinished(make_run(BINARY), folds=0))


@pytest.fixture(scope="session")
def asked() -> Evidence:
    """A run of which a report was asked every question of two classes."""
    questions = {
        "prevalence": 0.01,
        "subgroups": ["age:50|65", "site", "view"],
        "reader_column": "BIRADS",
        "reader_positive": "4",
        "level": "patient",
    }
    return gather_evidence(with_columns(make_run(BINARY), **questions))


@pytest.fixture(scope="session")
def folder(binary: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report of the binary run."""
    out = tmp_path_factory.mktemp("report")
    write_report(binary.run, out)
    return out
