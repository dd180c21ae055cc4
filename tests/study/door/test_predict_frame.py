"""Columns of a frame that the shipped model reads, with a model that keeps what it is given."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from outerfold.pipelines.saved import predictor
from outerfold.storage.records import Column, DataError, FloatArray
from outerfold.study.door.result import RunResult
from tests.storage.images.image_factories import write_picture


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Function from a frame's columns to the table (n, 3) that the model gets."""
    tables: list[FloatArray] = []

    def score(features, cache, say):
        tables.append(features.tabular)
        return np.full((len(features), 2), 0.5), None

    columns = (Column("age"), Column("density"), Column("ER-"))
    shipped = SimpleNamespace(columns=columns, classes=("a", "b"), synthetic=False, score=score)
    monkeypatch.setattr(predictor, "read_shipped_model", lambda folder: shipped)
    images = [str(write_picture(tmp_path / f"{seed}.png", seed)) for seed in range(2)]

    def table(values: dict) -> list[list[float]]:
        frame = pd.DataFrame({"file": images, **values})
        RunResult(tmp_path, None).predict_proba(frame)
        return tables[-1].tolist()

    return table


def test_columns_are_found_by_name_in_another_spelling(read) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read({"Age": [50, 61.0], " DENSITY": [1, 2], "er-": [3, 4], "ER+": [9, 9]})
    assert found == [[50, 1, 3], [61, 2, 4]]


def test_an_exact_name_comes_first_and_an_absent_column_is_warned_of(read) -> None:
    with pytest.warns(UserWarning, match="no column 'density' and no column 'ER-'"):
        found = read({"Age": [1, 2], "age": [50, None], "ER+": [9, 9]})
    np.testing.assert_array_equal(found, [[50, np.nan, np.nan], [np.nan] * 3])


def test_two_columns_that_may_be_one_of_the_model_are_refused(read) -> None:
    with pytest.raises(DataError, match=r"\['Age', 'AGE'\] have one name"):
        read({"Age": [1, 2], "AGE": [3, 4]})


def test_values_of_the_command_line_are_named_alike() -> None:
    assert predictor.name_columns(["family_history", "ER-"], {"Family-History": "no"}) == {
        "family_history": "no"
    }
    with pytest.raises(DataError, match="--er: the model has no such column"):
        predictor.name_columns(["family_history", "ER-"], {"er": "1"})
