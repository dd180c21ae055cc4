"""Runs and reports that several tests read; none of them writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence
from outerfold.reports.write import write_report
from tests.reports.run_factory import BINARY, FOUR, make_run, unfinished


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
def folder(binary: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report of the binary run."""
    out = tmp_path_factory.mktemp("report")
    write_report(binary.run, out)
    return out
