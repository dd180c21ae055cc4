from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import confusion_matrix

from outerfold.reports.results.predictions import test_rows as join_tested
from outerfold.reports.results.results import results
from outerfold.reports.sections.page_one import caution_lines, decision_line, headline
from outerfold.reports.sections.summary import data_section
from outerfold.reports.sections.terminal import closing_table
from outerfold.storage.records import SUSPECTED_PAIRS
from tests.reports.results.test_fold_entries import changed
from tests.reports.run_factory import (
    FOUR,
    make_run,
    unfinished,
    without_defaults,
    without_variation,
)

STARTS = ("Question:", "Result:", "Decisions by", "How sure:", "Not shown:")


def texts(run) -> list[str]:
    return [block.text for block in headline(results(run))]


@pytest.mark.parametrize("run", [make_run(), make_run(FOUR), make_run(repeats=2)])
def test_a_healthy_page_begins_with_five_lines_and_no_caution(run):
    lines = texts(run)
    assert len(lines) == 5
    assert all(line.startswith(start) for line, start in zip(lines, STARTS, strict=True))


def test_the_lines_count_as_scikit_learn_does():
    run = make_run()
    rows = join_tested(run)
    (tn, fp), (fn, tp) = confusion_matrix(rows.labels, rows.predicted)
    counts = re.findall(r"\[(\d+) of (\d+)\]", decision_line(results(run)))
    expected = [(tp, tp + fn), (tn, tn + fp), (tp, tp + fp), (tn, tn + fn)]
    assert [tuple(map(int, pair)) for pair in counts] == expected
    positives = len({p for p, label in zip(rows.patients, rows.labels, strict=True) if label})
    first = texts(run)[0]
    assert f"cancer in {positives} of 110 patients" in first
    assert f"{int(rows.labels.sum())} of {len(rows)} images" in first


def test_the_headlines_level_rules_the_decisions():
    run = make_run()
    numbers = results(replace(run, protocol={**run.protocol, "level": "patient"}))
    line = decision_line(numbers)
    assert line.startswith("Decisions by patient")
    (tn, fp), (fn, tp) = numbers["levels"]["patient"]["confusion"]
    assert f"[{tp} of {tp + fn}]" in line
    assert tn + fp + fn + tp == 110


def test_the_class_that_is_found_least_is_named_with_what_is_missed():
    run = make_run(FOUR)
    rows = run.outer[0].test
    for fold, study in enumerate(run.outer):
        rows = study.test
        run = changed(run, fold, predicted=np.where(rows.labels == 2, 1, rows.labels))
    total = sum(int((s.test.labels == 2).sum()) for s in run.outer)
    assert f"Least found is Benign: {total} of {total} are missed." in decision_line(results(run))


def test_patients_with_images_of_several_classes_are_explained():
    run = without_defaults(without_variation(make_run()))
    rows = run.outer[0].test
    several = next(p for p in rows.patients.tolist() if (rows.patients == p).sum() > 1)
    labels = rows.labels.copy()
    labels[np.flatnonzero(rows.patients == several)] = 0
    labels[np.flatnonzero(rows.patients == several)[0]] = 1
    first = texts(changed(run, 0, labels=labels))[0]
    assert (
        "1 of 110 patients have images of several classes and count as cancer by patient" in first
    )
    assert "several classes" not in texts(run)[0]


def test_an_odd_fold_stands_on_the_page_and_in_the_terminal():
    run = make_run()
    size = len(run.outer[3].test)
    planted = changed(run, 3, predicted=np.ones(size, dtype=np.int64))
    lines = texts(planted)
    assert "odd: outer-3 (of 5 folds), see below" in lines[3]
    assert len(lines) == 6
    console = Console(file=io.StringIO(), width=200)
    console.print(closing_table(planted))
    shown = console.file.getvalue()
    assert "outer-3 calls every image cancer" in shown
    assert caution_lines(results(run)) == ()


def test_without_a_finished_fold_there_is_one_sentence():
    assert texts(unfinished(make_run(), folds=0)) == [
        "No outer fold has finished; there is no performance to report yet."
    ]


@pytest.mark.parametrize("begin", ["near-identical ", ""])
def test_patients_are_said_to_be_apart_only_where_no_pair_is_suspected(begin):
    run = make_run()
    suspected = f"{begin}{SUSPECTED_PAIRS} that share a picture: a ~ b"
    data = {**run.dataset, "audit": [suspected]}

    def first(of):
        return next(
            b.text for b in data_section(results(of)) if "Fingerprint" in getattr(b, "text", "")
        )

    assert "No patient is on both sides of any split." in first(run)
    text = first(replace(run, dataset=data))
    assert "No patient is on both sides" not in text
    assert "may be one patient" in text
