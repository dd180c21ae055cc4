from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from outerfold.reports.paper.methods import methods_text
from outerfold.reports.paper.table_one import table_one
from outerfold.reports.results.predictions import unique_rows
from outerfold.reports.results.results import results
from outerfold.reports.sections.model_card import markdown
from outerfold.reports.sections.summary import summary
from outerfold.storage.records import Column, Dataset, Features
from tests.reports.run_factory import make_run

COLUMNS = (Column("age"), Column("family", "binary", ("no", "yes")))


def with_columns():
    """A run whose cancers lack the age more often, and a frame of its patients."""
    run = make_run()
    rows = unique_rows(run)
    rng = np.random.default_rng(0)
    who = np.unique(rows.patients, return_inverse=True)[1]
    age = (50 + 8 * rng.normal(size=who.max() + 1)).round()[who] + 5 * rows.labels
    age[(rows.labels == 1) & (who % 3 == 0)] = np.nan
    family = rng.integers(0, 2, who.max() + 1)[who].astype(float)
    table = np.stack([age, family], axis=1)
    features = Features(rows.ids, np.full(len(rows), "/x.png"), table, COLUMNS)
    data = Dataset(features, rows.labels, rows.patients, run.classes, "f" * 16)
    frame = pd.DataFrame({"who": rows.patients, "label": rows.labels, "age": age, "family": family})
    return replace(run, data=data), frame.groupby("who").first()


def test_the_columns_are_summarised_by_class_at_patient_level():
    run, patients = with_columns()
    age, family = results(run)["dataset"]["columns"]
    for label, name in enumerate(run.classes):
        own = patients[patients.label == label]
        assert age["patients"][name] == len(own)
        assert age["missing"][name] == own.age.isna().sum()
        assert age["values"][name]["mean"] == pytest.approx(own.age.mean())
        assert age["values"][name]["sd"] == pytest.approx(own.age.std())
        assert family["values"]["yes"][name] == own.family.sum()
    groups = [patients[patients.label == label].age for label in (0, 1)]
    pooled = np.sqrt((groups[0].var() + groups[1].var()) / 2)
    assert age["difference"] == pytest.approx((groups[1].mean() - groups[0].mean()) / pooled)


def test_missing_values_are_shown_by_class_and_columns_named():
    run, patients = with_columns()
    numbers = results(run)
    rows = {row[0]: row[1:] for row in table_one(numbers).rows}
    missing = int(patients[patients.label == 1].age.isna().sum())
    total = int((patients.label == 1).sum())
    assert rows["age, missing, n (%)"][1].startswith(f"{missing} ({100 * missing / total:.0f})")
    assert rows["age, missing, n (%)"][0].startswith("0 (0)")
    text = markdown(summary(numbers))
    assert "Clinical columns by class" in text
    assert "Clinical columns: age, family. Missing values were replaced" in methods_text(numbers)


def test_a_run_of_images_alone_has_no_such_table():
    numbers = results(make_run())
    assert numbers["dataset"]["columns"] == []
    assert table_one(numbers) is None
    assert "Clinical columns" not in methods_text(numbers)


def test_a_column_that_one_class_lacks_altogether_is_shown_as_missing():
    run, _ = with_columns()
    features = run.data.features
    table = features.tabular.copy()
    table[run.data.labels == 1, 0] = np.nan
    data = replace(run.data, features=replace(features, tabular=table))
    found = table_one(results(replace(run, data=data)))
    assert found.rows[0][1:][1:] == ("–", "–")
