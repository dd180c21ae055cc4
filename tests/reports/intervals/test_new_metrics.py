"""Metrics that are added by one record, and their intervals on every kind of scale."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss, matthews_corrcoef

from outerfold.objectives.measures.metric import (
    CORRELATION,
    POSITIVE,
    REAL,
    Metric,
    Sums,
    Whole,
)
from outerfold.objectives.metrics import METRICS
from outerfold.reports.intervals.bootstrap import patient_bootstrap
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.leave_one_out import overall_leave_outs
from outerfold.reports.intervals.overall import corrected_t, overall, paired_difference
from outerfold.storage.errors import DataError
from outerfold.storage.registry import adding_for, withdraw_all
from tests.reports.prediction_factory import make, take


def surprise(labels, probabilities, predicted):
    """Term of the log loss of each row."""
    return -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1.0))


LOG_LOSS = Metric(
    name="log_loss",
    label="Log loss",
    direction="minimize",
    needs="probabilities",
    how=Sums(surprise),
    scale=POSITIVE,
    rows="all",
)


@pytest.fixture
def add():
    """Function that adds metrics until the end of the test, as a plugin would."""

    def _add(*metrics):
        for metric in metrics:
            METRICS.add(metric)

    with adding_for("test"):
        yield _add
    withdraw_all("test")


@pytest.mark.parametrize(("classes", "repeats"), [(2, 1), (3, 2)])
def test_one_record_with_a_term_a_row_is_left_out_as_sklearn_would(add, classes, repeats):
    add(LOG_LOSS)
    rows = make(classes=classes, repeats=repeats, rarest=9)
    leave = overall_leave_outs(code_rows(rows))["log_loss"]

    def plain(these):
        each = [take(these, these.repeat == r) for r in np.unique(these.repeat)]
        return np.mean([log_loss(o.labels, o.probabilities, labels=range(classes)) for o in each])

    assert leave.estimate == pytest.approx(plain(rows))
    for i, patient in list(enumerate(np.unique(rows.patients)))[::7]:
        assert leave.without[i] == pytest.approx(plain(take(rows, rows.patients != patient)))


def test_a_number_without_an_upper_bound_has_intervals_that_are_not_clipped(add):
    far = Metric(
        name="thousandths",
        label="Thousandths of log loss",
        direction="minimize",
        needs="probabilities",
        how=Sums(lambda *rows: 1000 * surprise(*rows)),
        scale=POSITIVE,
    )
    gain = Metric(
        name="gain",
        label="Gain",
        direction="maximize",
        needs="probabilities",
        how=Sums(lambda *rows: -surprise(*rows)),
        scale=REAL,
    )
    add(LOG_LOSS, far, gain)
    rows = make(rarest=20)
    found = overall(rows, tuned=True)
    one, other, below = (found[name] for name in ("log_loss", "thousandths", "gain"))
    assert "log" in one.method
    assert 0 < one.low < one.estimate < one.high
    assert (other.low, other.high) == pytest.approx((1000 * one.low, 1000 * one.high))
    assert one.low * one.high == pytest.approx(one.estimate**2)  # symmetric in logarithms
    assert below.low + below.high == pytest.approx(2 * below.estimate)
    assert below.high < 0 or below.low < 0
    corrected = corrected_t(rows)
    assert corrected["log_loss"].low < one.estimate < corrected["log_loss"].high
    assert corrected["gain"].low < corrected["gain"].high < 0
    same = paired_difference(rows, rows, tuned=True)["gain"]
    assert same.reason == "the difference is the same without each patient, so there is no spread"
    sharper = replace(
        rows, probabilities=rows.probabilities**2 / (rows.probabilities**2).sum(1)[:, None]
    )
    change = paired_difference(sharper, rows, tuned=True)["thousandths"]
    assert change.low < change.estimate < change.high
    assert change.high - change.low > 2  # no bound of 0 to 1 cuts it


def test_a_number_without_spread_or_logarithm_has_no_interval_and_says_why(add):
    def constant(value):
        return Sums(lambda labels, *_: np.full(len(labels), value))

    fields = {"label": "Constant", "direction": "maximize", "needs": "probabilities"}
    add(
        Metric(name="same", how=constant(7.0), scale=REAL, **fields),
        Metric(name="none", how=constant(0.0), scale=POSITIVE, **fields),
    )
    found = overall(make(rarest=20), tuned=True)
    assert found["same"].estimate == 7
    assert "the same without each patient" in found["same"].reason
    assert found["none"].low is None


@pytest.mark.parametrize("name", ["f1", "brier", "roc_auc"])
def test_the_slow_general_way_equals_the_quick_one(add, name):
    quick = METRICS[name]
    slow = Metric(
        name="slow",
        label="Slow",
        direction=quick.direction,
        needs=quick.needs,
        how=Whole(quick.score),
        scale=quick.scale,
    )
    add(slow)
    rows = make(patients=60, rarest=25, repeats=2)
    found = overall_leave_outs(code_rows(rows))
    for field in ("estimate", "without", "by_fold", "pooled", "moved"):
        expected = getattr(found[name], field)
        np.testing.assert_allclose(getattr(found["slow"], field), expected, rtol=1e-12, atol=1e-15)
    drawn = patient_bootstrap(rows, resamples=20)
    assert drawn["slow"].low == pytest.approx(drawn[name].low)
    assert drawn["slow"].high == pytest.approx(drawn[name].high)


def test_an_interval_of_a_correlation_stays_between_minus_one_and_one(add):
    add(
        Metric(
            name="mcc",
            label="Matthews correlation",
            direction="maximize",
            needs="decisions",
            how=Whole(lambda labels, _, predicted: matthews_corrcoef(labels, predicted)),
            scale=CORRELATION,
            proper=True,
        )
    )
    rows = make(patients=60, rarest=25)
    found = overall(rows, tuned=True)["mcc"]
    assert -1 < found.low < found.estimate < found.high < 1
    # Half the length on Fisher's scale is the quantile times the error there.
    assert np.arctanh(found.low) + np.arctanh(found.high) == pytest.approx(
        2 * np.arctanh(found.estimate)
    )


def test_a_name_that_is_taken_or_no_option_is_refused(add):
    add(LOG_LOSS)
    with pytest.raises(DataError, match="metric 'log_loss' is added twice, or is there already"):
        METRICS.add(LOG_LOSS)
    odd = Metric(
        name="Log loss",
        label="Log loss",
        direction="minimize",
        needs="probabilities",
        how=Sums(surprise),
    )
    with pytest.raises(DataError, match=re.escape("metric 'Log loss': a name consists of letters")):
        METRICS.add(odd)
    with pytest.raises(DataError, match="unknown metric 'log_los'; did you mean 'log_loss'"):
        METRICS.named("log_los")
