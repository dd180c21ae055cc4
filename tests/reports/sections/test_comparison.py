"""Two runs of the same splits: what is compared, what is refused, and what the words say."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from docx import Document

from outerfold.objectives.metrics import METRICS
from outerfold.reports.results.predictions import test_rows as rows_of
from outerfold.reports.sections.comparison import (
    Comparison,
    compare_runs,
    comparison_table,
    comparison_words,
    comparisons_csv,
)
from outerfold.reports.sections.comparison import comparison_sentence as said
from outerfold.reports.sections.terminal import comparison_lines
from outerfold.reports.write_comparison import write_comparisons
from outerfold.storage.records import DataError, FoldResult, Run
from tests.reports.run_factory import BINARY, FOUR, make_run, unfinished


def blurred(run: Run, share: float, seed: int = 5) -> Run:
    """The same run by a model that knows less: probabilities drawn towards chance."""
    rng = np.random.default_rng(seed)

    def worse(study: FoldResult) -> FoldResult:
        assert study.test is not None
        noise = rng.dirichlet(np.ones(len(run.classes)), len(study.test))
        mixed = (1 - share) * study.test.probabilities + share * noise
        test = replace(study.test, probabilities=mixed, predicted=mixed.argmax(1))
        return replace(study, test=test)

    return replace(run, name="blurred", outer=tuple(worse(study) for study in run.outer))


@pytest.mark.parametrize("classes", [BINARY, FOUR])
@pytest.mark.parametrize("repeats", [1, 2])
def test_a_run_that_knows_less_is_told_apart_and_the_signs_turn_with_the_order(
    classes: tuple[str, ...], repeats: int
) -> None:
    good = make_run(classes, repeats=repeats)
    bad = blurred(good, 0.8)
    found, turned = compare_runs(good, bad), compare_runs(bad, good)
    assert (
        comparison_words(found, "roc_auc")
        == comparison_words(turned, "roc_auc")
        == "example is better"
    )
    assert comparison_words(found, "brier") == "example is better"  # the smaller is the better
    for metric, each in found.entries.items():
        assert each["difference"]["estimate"] == pytest.approx(
            -turned.entries[metric]["difference"]["estimate"]
        )
        if metric != "ece":  # its difference is taken before correction for bias
            assert each["difference"]["estimate"] == pytest.approx(each["a"] - each["b"])
    assert ("sensitivity" in found.entries) == (len(classes) == 2)


def test_runs_that_know_the_same_are_not_told_apart() -> None:
    run = make_run()
    found = compare_runs(blurred(run, 0.5), replace(blurred(run, 0.5, seed=6), name="other"))
    assert comparison_words(found, "roc_auc") == "no clear difference"
    assert "show no clear difference between the two" in said(found)


def test_a_run_against_itself_has_no_interval_and_says_why() -> None:
    run = make_run()
    found = compare_runs(run, replace(run, name="twin"))
    assert {each["difference"]["estimate"] for each in found.entries.values()} == {0.0}
    assert comparison_words(found, "roc_auc").startswith("no interval: the difference is the same")


def test_the_difference_in_accuracy_is_that_of_the_shares_decided_rightly() -> None:
    good = make_run()
    bad = blurred(good, 0.6)
    rows = [rows_of(run) for run in (good, bad)]
    found = compare_runs(good, bad)
    right = [float((each.predicted == each.labels).mean()) for each in rows if each is not None]
    assert found.entries["accuracy"]["difference"]["estimate"] == pytest.approx(right[0] - right[1])
    assert (found.patients, found.images) == (110, len(rows[0] or ()))


def test_other_splits_and_unfinished_runs_are_refused_by_name() -> None:
    run = make_run()
    with pytest.raises(DataError, match="needs the same"):
        compare_runs(run, make_run(seed=1))
    with pytest.raises(DataError, match=r"compare needs finished runs: example is not"):
        compare_runs(run, unfinished(run))


def test_bias_synthetic_data_and_other_columns_are_said_first() -> None:
    run = make_run()
    flat = replace(
        blurred(run, 0.1),
        protocol={**run.protocol, "protocol": "non-nested"},
        dataset={**run.dataset, "fingerprint": "other"},
    )
    found = compare_runs(flat, run)
    assert [warning.split(".")[0] for warning in found.warnings] == [
        "SYNTHETIC DATA",
        "BIASED",
        "The two runs have the same rows, but read different images or columns for them",
    ]
    assert compare_runs(make_run(synthetic=False), make_run(synthetic=False)).warnings == ()


def test_what_is_written_holds_every_metric_of_every_comparison(tmp_path: Path) -> None:
    good = make_run()
    found: list[Comparison] = [compare_runs(good, blurred(good, share)) for share in (0.3, 0.8)]
    place = write_comparisons(found, tmp_path)
    rows = list(csv.DictReader(StringIO(comparisons_csv(found))))
    assert (tmp_path / "comparison.csv").read_text() == comparisons_csv(found)
    assert len(rows) == sum(len(one.entries) for one in found)
    assert {row["metric"] for row in rows} == set(METRICS)
    first = next(row for row in rows if row["metric"] == "roc_auc")
    assert float(first["low"]) < float(first["difference"]) < float(first["high"])
    assert len(Document(str(place)).tables) == 2
    assert (tmp_path / "comparison.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_the_terminal_shows_warnings_table_and_sentence() -> None:
    good = make_run()
    warning, table, text = comparison_lines(compare_runs(good, blurred(good, 0.8)))
    assert "SYNTHETIC DATA" in str(warning)
    assert comparison_table(compare_runs(good, blurred(good, 0.8))).rows[0][0] == "ROC-AUC"
    assert str(text).endswith("Example is better.")
    assert table.row_count == 11  # type: ignore[union-attr]
