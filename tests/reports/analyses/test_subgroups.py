"""Subgroups, readers, classes of the source, and errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outerfold.reports.analyses.columns_of_rows import Ask, by_unit, groups_of
from outerfold.reports.analyses.errors import mistakes
from outerfold.reports.analyses.originals import by_original
from outerfold.reports.analyses.readers import against_reader
from outerfold.reports.analyses.subgroups import _pair_leave_out, subgroups
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.storage.records import Column, DataError, Dataset, Features
from tests.reports.prediction_factory import make, take

ROWS = make(patients=70, rarest=25, folds=3, seed=2)
HALF = np.array(["odd" if int(p[1:]) % 2 else "even" for p in ROWS.patients.tolist()])


def pairs(rows, at) -> float:
    """Share of concordant pairs within folds, counted one by one."""
    won = total = 0.0
    for i in np.flatnonzero(at & (rows.labels == 1)):
        for j in np.flatnonzero(at & (rows.labels == 0) & (rows.fold == rows.fold[i])):
            a, b = rows.probabilities[i, 1], rows.probabilities[j, 1]
            won, total = won + (a > b) + 0.5 * (a == b), total + 1
    return won / total


def test_the_roc_auc_of_a_subgroup_counts_its_pairs_within_folds():
    even, odd = subgroups(ROWS, HALF, ["even", "odd"])
    assert even.roc_auc.estimate == pytest.approx(pairs(ROWS, HALF == "even"))
    assert odd.roc_auc.estimate == pytest.approx(pairs(ROWS, HALF == "odd"))
    assert even.difference is None
    assert odd.difference.estimate == pytest.approx(odd.roc_auc.estimate - even.roc_auc.estimate)
    assert odd.difference.low < odd.difference.estimate < odd.difference.high
    assert even.rows + odd.rows == len(ROWS)
    assert even.patients + odd.patients == 70


def test_leaving_a_patient_out_of_a_subgroup_is_deleting_its_rows():
    leave, names = _pair_leave_out(code_rows(ROWS), HALF == "even"), np.unique(ROWS.patients)
    for patient in (0, 2, 30):
        kept = ROWS.patients != names[patient]
        expected = pairs(take(ROWS, kept), HALF[kept] == "even")
        assert leave.without[patient] == pytest.approx(expected)
    assert np.isnan(leave.without[1])


def test_a_subgroup_of_few_patients_has_no_interval():
    values = np.where(np.isin(ROWS.patients, np.unique(ROWS.patients)[:3]), "few", "many")
    few, many = subgroups(ROWS, values, ["few", "many"])
    assert few.roc_auc.low is None
    assert "needs 5" in few.roc_auc.reason
    assert many.difference.low is None


def test_model_and_reader_are_compared_on_the_rows_that_were_read():
    calls = np.where(np.arange(len(ROWS)) % 4 == 0, 1 - ROWS.labels, ROWS.labels)
    for metric, label in (("sensitivity", 1), ("specificity", 0)):
        reader, change = against_reader(ROWS, calls, {}, "model")[metric]
        at = ROWS.labels == label
        assert reader == pytest.approx((calls[at] == label).mean())
        own = (ROWS.predicted[at] == label).mean()
        assert change.estimate == pytest.approx(own - reader)
        assert change.low < change.estimate < change.high
    _, nothing = against_reader(ROWS, ROWS.predicted, {}, "model")["sensitivity"]
    assert nothing.estimate == 0


def test_classes_of_the_source_have_shares_of_their_own():
    names = np.where(ROWS.labels == 1, "cancer", np.where(HALF == "odd", "benign", "normal"))
    found = {one.name: one for one in by_original(ROWS, names, {}, "model")}
    for name in ("benign", "normal"):
        at = names == name
        expected = (ROWS.predicted[at] == 0).mean()
        assert found[name].share.estimate == pytest.approx(expected)
        assert found[name].share.low < expected < found[name].share.high
        assert found[name].merged == "a"
    assert sum(one.right for one in found.values()) == (ROWS.predicted == ROWS.labels).sum()


def test_errors_are_ranked_within_their_fold():
    found = mistakes(ROWS)
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    for one in found:
        label, fold = ROWS.labels[one.row], ROWS.fold[one.row]
        truth = ROWS.probabilities[:, label]
        wrong = (ROWS.fold == fold) & (ROWS.labels == label) & (ROWS.predicted != label)
        assert ROWS.predicted[one.row] != label
        assert one.of == wrong.sum()
        assert (truth[wrong] < truth[one.row]).sum() == one.rank - 1


def table(**facts: list[str]) -> Dataset:
    n = len(next(iter(facts.values())))
    ids = np.array([f"i{row}" for row in range(n)])
    features = Features(ids, ids, np.arange(n, dtype=float)[:, None], (Column("age"),))
    labels = np.arange(n) % 2
    texts = {name: np.array(one) for name, one in facts.items()}
    return Dataset(features, labels, ids, ("a", "b"), "", facts=texts)


DATA = table(view=["MLO", "CC", "MLO", "", "CC", "CC", "MLO", "CC", "CC"], grade=list("123123123"))


def test_limits_values_and_medians_make_subgroups():
    assert groups_of(DATA, Ask.parse("age:3|6"))[1] == ["<3", "3 to <6", "≥6"]
    assert groups_of(DATA, Ask.parse("age"))[1] == ["<4", "≥4"]
    assert groups_of(DATA, Ask.parse("grade"))[1] == ["1", "2", "3"]
    groups, names = groups_of(DATA, Ask.parse("view"))
    assert names == ["CC", "MLO"]
    assert groups[3] == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age:6|3", "limits in rising order"),
        ("age:old", "limits in rising order"),
        ("vieuw", "unknown column 'vieuw'; did you mean 'view'"),
        ("view:3", "holds no numbers, so it has no limits"),
        ("age:99", "subgroups need 2 to 8 values, found 1"),
    ],
)
def test_a_column_without_subgroups_is_refused(text: str, message: str):
    with pytest.raises(DataError, match=message):
        groups_of(DATA, Ask.parse(text))


def test_a_column_is_found_by_its_exact_name_first():
    data = table(密度=list("121212121"), 年龄=list("343434343"), Age=list("565656565"))
    assert groups_of(data, Ask.parse("密度"))[1] == ["1", "2"]
    assert groups_of(data, Ask.parse("年龄"))[1] == ["3", "4"]
    assert groups_of(data, Ask.parse("Age"))[1] == ["<4", "≥4"]  # the model's column has its name
    with pytest.raises(DataError, match="unknown column '高度'"):
        groups_of(data, Ask.parse("高度"))
    both = table(age=list("343434343"), Age=list("565656565"))
    assert groups_of(both, Ask.parse("Age"))[1] == ["5", "6"]
    assert groups_of(both, Ask.parse("age"))[1] == ["<4", "≥4"]
    with pytest.raises(DataError, match=r"\['age', 'Age'\] have one name.*--subgroups"):
        groups_of(both, Ask.parse("AGE"))


def test_a_patient_with_images_of_several_subgroups_is_in_none():
    groups = {"a": "CC", "b": "MLO", "c": "CC", "d": ""}
    assert by_unit(groups, {"P": ["a", "c"], "Q": ["d"]}) == {"P": "CC", "Q": ""}
    assert by_unit(groups, {"P": ["a", "b"]}) is None


def test_no_training_side_has_the_columns_for_reports():
    from tests.factories import make_config, make_rows, splits_of

    data, _ = make_rows(patients=30, signal=0.3)
    with_facts = replace(
        data,
        facts={"birads": np.full(len(data), "4")},
        originals=np.full(len(data), "benign"),
    )
    study = splits_of(with_facts, make_config()).outer[0]
    side = study.train_side(with_facts)
    assert (dict(side.facts), len(side.originals)) == ({}, 0)
    assert len(with_facts.select(study.train).originals) == len(study.train)


def test_a_run_keeps_columns_that_answer_and_none_that_name():
    from outerfold.storage.readers.columns import find_facts

    many = [f"text {row}" for row in range(40)]
    table = {
        "Patient ID": many,
        "file": many,
        "comment": many,
        "age": [str(40 + row) for row in range(40)],
        "view": ["CC", "MLO"] * 20,
    }
    assert list(find_facts(table)) == ["age", "view"]
