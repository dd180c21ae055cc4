"""Rows of new images: numbers that stand for missing are no values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.rows.tabular import NetworkColumns, TabularColumns
from outerfold.pipelines.saved.files import _describe_columns
from outerfold.pipelines.saved.model import Origin, StudyModel, _read_column
from outerfold.pipelines.saved.predictor import ShippedModel, new_features, new_rows
from outerfold.storage.images.framing import Framing
from outerfold.storage.records import Column, DataError

COLUMNS = (
    Column("age"),
    Column("density", gaps=(0.0, 9.0)),
    Column("smoker", "binary", ("n", "y")),
)
IMAGE = Path("image.png")


def _fitted() -> TabularColumns:
    return TabularColumns.fit(COLUMNS, np.array([[40, 1, 0], [60, 2, 1]], dtype=np.float64))


def _shipped() -> ShippedModel:
    origin = Origin("family:model", "", "", Framing("stretch", "none"))
    columns = NetworkColumns((_fitted(),))
    decision = Decision(1.0, 0.5, 0.0)
    member = StudyModel(torch.nn.Identity(), columns, False, 0, decision, {}, origin)
    return ShippedModel("multimodal", ("other", "cancer"), (member,), 0.5, "", False)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("age", "999", "is no age in years"),
        ("age", "1961", "is no age in years"),
        ("age", "-5", "is no age in years"),
        ("density", "0", "stands for missing in the data of the run"),
        ("density", "9.0", "stands for missing in the data of the run"),
    ],
)
def test_a_number_that_is_no_value_is_refused_or_becomes_missing(
    name: str, text: str, why: str
) -> None:
    with pytest.raises(DataError, match=f"--{name}: {text} {why}.*; give another value, or leave"):
        new_features(_shipped(), [IMAGE], {name: text})
    said: list[str] = []
    rows = [{name: text, "smoker": "y"}, {name: "2"}, {name: text}]
    found = new_rows(_shipped(), [IMAGE.with_stem(f"i{n}") for n in range(3)], rows, said.append)
    at = [column.name for column in COLUMNS].index(name)
    np.testing.assert_array_equal(found.tabular[:, at], [np.nan, 2, np.nan])
    assert len(said) == 1
    assert said[0].startswith(f"column '{name}': {float(text):g} (2 rows) {why}")


def test_values_stay() -> None:
    given = {"age": "0", "density": "4", "smoker": "n"}
    assert new_features(_shipped(), [IMAGE], given).tabular.tolist() == [[0, 4, 0]]
    assert np.isnan(new_features(_shipped(), [IMAGE], {"age": "unknown"}).tabular).all()


def test_a_saved_model_keeps_the_numbers_that_stand_for_missing() -> None:
    kept = _describe_columns(NetworkColumns((_fitted(),)))["columns"]
    assert [own["column"].get("gaps") for own in kept] == [None, (0.0, 9.0), None]
    assert tuple(_read_column(own).column.gaps for own in kept) == ((), (0.0, 9.0), ())
