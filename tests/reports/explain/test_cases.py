"""Which rows are looked at is what predictions.csv says."""

from __future__ import annotations

import numpy as np
import pytest

from outerfold.reports.explain.cases import KINDS, Case, choose_cases
from outerfold.storage.records import Predictions
from tests.reports.run_factory import BINARY, FOUR, make_run


def rows(positive: list[float], labels: list[int], cut: float, patients: str) -> Predictions:
    p = np.array(positive)
    n = len(p)
    return Predictions(
        np.array([f"i{k}" for k in range(n)]),
        np.array(list(patients)),
        np.full(n, "outer-0"),
        np.zeros(n, dtype=np.int64),
        np.array(labels),
        np.stack([1 - p, p], axis=1),
        (p >= cut).astype(np.int64),
        ("other", "cancer"),
    )


def names(cases: list[Case], label: int, kind: str) -> list[str]:
    return [case.id for case in cases if (case.label, case.kind) == (label, kind)]


def test_right_wrong_and_borderline_by_the_folds_own_threshold() -> None:
    found = rows([0.9, 0.31, 0.6, 0.05, 0.2, 0.28, 0.8], [1, 1, 1, 1, 0, 0, 0], 0.3, "abcdefg")
    cases = choose_cases(found, {"outer-0": 0.3}, 1)
    assert names(cases, 1, "right") == ["i0"]
    assert names(cases, 1, "wrong") == ["i3"]
    assert names(cases, 1, "borderline") == ["i1"]
    assert names(cases, 0, "right") == ["i4"]
    assert names(cases, 0, "wrong") == ["i6"]
    assert names(cases, 0, "borderline") == ["i5"]


def test_no_kind_shows_a_patient_twice_and_no_image_is_shown_twice() -> None:
    found = rows([0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1], 0.3, "aabb")
    cases = choose_cases(found, {"outer-0": 0.3}, 3)
    assert names(cases, 1, "right") == ["i0", "i2"]
    assert names(cases, 1, "borderline") == ["i3", "i1"]


@pytest.mark.parametrize("classes", [BINARY, FOUR])
def test_cases_are_the_extremes_of_the_predictions(classes: tuple[str, ...]) -> None:
    run = make_run(classes)
    test = run.outer[0].test
    assert test is not None
    cuts = {run.outer[0].name: run.outer[0].threshold}
    cases = choose_cases(test, cuts, 1)
    called = test.probabilities.max(axis=1)  # the factory decides by the largest probability
    for label in range(len(classes)):
        own = test.labels == label
        for kind, among in (
            ("right", own & (test.predicted == label)),
            ("wrong", own & (test.predicted != label)),
        ):
            best = [str(name) for name in test.ids[among][np.argsort(-called[among])][:1]]
            assert names(cases, label, kind) == best
    assert {case.kind for case in cases} == set(KINDS)


def test_of_several_classes_the_closest_call_has_the_smallest_gap() -> None:
    run = make_run(FOUR)
    test = run.outer[0].test
    assert test is not None
    cases = choose_cases(test, {run.outer[0].name: None}, 1)
    shown = {case.id for case in cases if case.kind != "borderline"}
    top = np.sort(test.probabilities, axis=1)
    left = (test.labels == 0) & ~np.isin(test.ids, list(shown))
    nearest = test.ids[left][np.argmin((top[:, -1] - top[:, -2])[left])]
    assert names(cases, 0, "borderline") == [nearest]
