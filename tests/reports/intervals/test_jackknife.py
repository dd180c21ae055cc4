"""Intervals from leave-out estimates alone, number by number: formulas, scales and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from outerfold.objectives.measures.metric import GAP, POSITIVE, PROPORTION, REAL, UNIT, Scale
from outerfold.reports.intervals.jackknife import (
    NO_SPREAD,
    WIDENINGS,
    TotalError,
    Widening,
    add_variances,
    fixed_model_interval,
    interval_bounds,
    jackknife_error,
    jackknife_interval,
    logit_interval,
    model_variance,
    paired_interval,
    t_quantile,
    total_error,
    unbounded_interval,
    wilson_interval,
)
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.reports.intervals.support import Support
from tests.places import ROOT

PATIENTS = 40
BASIS = Support(UNIT, PATIENTS, 80, 20, "with 'cancer'")


def leave_out(estimate: float = 0.7, size: float = 0.01, **changes: Any) -> LeaveOut:
    draw = np.random.default_rng(1)
    without = estimate + size * draw.standard_normal(PATIENTS)
    folds = estimate + 0.05 * draw.standard_normal(5)
    return LeaveOut(estimate, without, folds, pooled=False, **changes)


def measured(**changes: Any) -> LeaveOut:
    draw = np.random.default_rng(2)
    inner = 0.7 + 0.03 * draw.standard_normal((5, 3))
    alone = tuple(0.7 + 0.002 * draw.standard_normal(8) for _ in range(5))
    return leave_out(inner=inner, alone=alone, **changes)


def stretched(leave: LeaveOut, by: float, start: float = 0.0) -> LeaveOut:
    """The same metric in another unit."""
    return replace(
        leave,
        estimate=start + by * leave.estimate,
        without=start + by * leave.without,
        by_fold=start + by * leave.by_fold,
        moved=by**2 * leave.moved,
        inner=None if leave.inner is None else start + by * leave.inner,
        alone=tuple(start + by * fold for fold in leave.alone),
        ahead=by * leave.ahead,
    )


def test_the_error_is_the_jackknifes_and_its_freedom_follows_the_kurtosis() -> None:
    without = leave_out().without
    gaps = without - without.mean()
    error, df = jackknife_error(without)
    assert error == pytest.approx(np.sqrt((PATIENTS - 1) / PATIENTS * (gaps**2).sum()))
    kurtosis = np.mean(gaps**4) / np.mean(gaps**2) ** 2
    assert df == pytest.approx(2 * PATIENTS / (kurtosis - 1))
    assert 1.5 < df < PATIENTS - 1
    one = np.zeros(PATIENTS)
    one[0] = 1.0
    assert 1.5 < jackknife_error(one)[1] < 2.5  # one patient decides
    assert jackknife_error(np.append(one, np.zeros(400)))[1] == pytest.approx(2.0, rel=0.02)
    assert jackknife_error(np.tile([0.0, 1.0], 20))[1] == PATIENTS - 1  # no kurtosis above 1
    assert jackknife_error(np.array([0.0, 1.0, 1.0]))[1] == pytest.approx(2.0)
    assert jackknife_error(np.array([0.0, 1.0]))[1] == 1.0  # as many as there are


def test_an_error_below_rounding_is_none() -> None:
    assert jackknife_error(np.full(5, 0.3)) == (0.0, 4.0)
    for spread, there in ((NO_SPREAD / 10, False), (NO_SPREAD * 10, True)):
        assert (jackknife_error(np.tile([0.0, 2 * spread], 20))[0] > 0) is there


@pytest.mark.parametrize("of", ["model", "procedure"])
@pytest.mark.parametrize(
    "leave", [leave_out(), leave_out(moved=0.002), measured(), measured(ahead=0.01)]
)
@pytest.mark.parametrize("tuned", [True, False])
def test_the_error_is_in_units_of_the_range(leave: LeaveOut, of: Any, tuned: bool) -> None:
    one = total_error(leave, BASIS, tuned=tuned, unit=1.0, of=of)
    three = total_error(stretched(leave, 3.0), BASIS, tuned=tuned, unit=3.0, of=of)
    for name in ("size", "df", "models", "ahead"):
        assert getattr(three, name) == pytest.approx(getattr(one, name), rel=1e-9), name
    assert three.words == one.words


def test_without_inner_models_the_thresholds_are_added_with_the_folds_freedom() -> None:
    se, df = jackknife_error(leave_out().without)
    for tuned, factor in ((True, 1.4), (False, 1.25)):
        plain = total_error(leave_out(), BASIS, tuned=tuned, unit=1.0)
        assert (plain.size, plain.df) == pytest.approx((factor * se, df))
        assert (plain.models, plain.words) == (0.0, f"standard error × {factor:g}")
        moved = total_error(leave_out(moved=0.002), BASIS, tuned=tuned, unit=1.0)
        joint = add_variances((factor * se) ** 2, df, 0.002, 4.0)
        assert (moved.size, moved.df) == pytest.approx(joint)
        assert moved.words == f"standard error × {factor:g}, variance of fold thresholds added"
    alone = replace(leave_out(moved=0.002), by_fold=np.array([0.7]))
    one = total_error(alone, BASIS, tuned=True, unit=1.0)
    assert one.df == pytest.approx(add_variances((1.4 * se) ** 2, df, 0.002, 1.0)[1])


@pytest.mark.parametrize("of", ["model", "procedure"])
@pytest.mark.parametrize("probabilities", [True, False])
def test_inner_models_are_added_with_their_own_freedom(of: Any, probabilities: bool) -> None:
    leave, wide = measured(), WIDENINGS[of]
    found = total_error(
        leave, replace(BASIS, probabilities=probabilities), tuned=True, unit=1.0, of=of
    )
    factor = wide.probabilities if probabilities else wide.patients
    se, df = jackknife_error(leave.without)
    added = model_variance(leave, wide)
    size, joint = add_variances((factor * se) ** 2, df, added, 10.0)
    assert (found.size, found.df) == pytest.approx((size, joint))
    assert found.models == pytest.approx(np.sqrt(added))
    assert added > 0
    assert found.words == f"standard error × {factor:g}, measured variation of models added"
    ahead = total_error(measured(ahead=-0.02), BASIS, tuned=True, unit=1.0, of=of)
    assert ahead.ahead == -0.02
    assert ahead.words.endswith(", lengthened for the gain from more patients")


def test_the_factors_are_those_that_the_documents_state() -> None:
    text = (ROOT / "docs" / "intervals.md").read_text(encoding="utf-8")
    table = text[text.index("| Interval | Factor of the patients'") :].splitlines()[2:4]
    stated = [[float(cell) for cell in line.split("|")[2:6]] for line in table]
    assert [line.split("|")[1] for line in table] == [
        " of the delivered model ",
        " of models made this way ",
    ]
    for own, of in zip(stated, ("model", "procedure"), strict=True):
        wide = WIDENINGS[of]
        assert own == [wide.patients, wide.probabilities, wide.within, wide.between]


def test_the_variance_of_models_is_never_negative() -> None:
    noisy = replace(measured(), alone=tuple(np.linspace(0.2, 0.9, 8) for _ in range(5)))
    assert model_variance(noisy, Widening(1.0, 1.0, within=0.0, between=0.5)) == 0.0
    assert model_variance(measured(), Widening(1.0, 1.0, within=1.0, between=0.0)) > 0


def test_variances_add_and_freedom_is_satterthwaites() -> None:
    assert add_variances(0.0, 7.0, 0.0, 3.0) == (0.0, 7.0)
    assert add_variances(4.0, 7.0, 0.0, 3.0) == (2.0, 7.0)
    assert add_variances(0.0, 7.0, 4.0, 3.0) == (2.0, 3.0)
    assert add_variances(9.0, 6.0, 16.0, 8.0) == pytest.approx((5.0, 625 / (81 / 6 + 256 / 8)))


def test_quantiles_and_intervals_of_one_number() -> None:
    assert t_quantile(4, 0.95) == pytest.approx(stats.t.ppf(0.975, 4))
    assert logit_interval(0.7, 0.1) == pytest.approx(
        (expit(logit(0.7) - 0.1 / 0.21), expit(logit(0.7) + 0.1 / 0.21))
    )
    assert unbounded_interval(2.0, 0.5, REAL) == (1.5, 2.5)
    assert unbounded_interval(2.0, 0.5, POSITIVE) == pytest.approx(
        (2 * np.exp(-0.25), 2 * np.exp(0.25))
    )
    assert wilson_interval(0.0, 10, 1.96)[0] == 0.0
    assert wilson_interval(1.0, 10, 1.96)[1] == 1.0
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="level must be between 0 and 1"):
            t_quantile(4, level)


ERROR = TotalError(0.05, 12.0, 0.0, "words")
Q = float(stats.t.ppf(0.975, 12))


@pytest.mark.parametrize(
    ("scale", "expected", "words"),
    [
        (UNIT, logit_interval(0.7, Q * 0.05), "logit, words"),
        (GAP, (0.7 - Q * 0.05, 0.7 + Q * 0.05), "linear, words"),
        (PROPORTION, wilson_interval(0.7, 0.21 / 0.05**2, Q), "Wilson, words"),
    ],
)
def test_bounds_lie_on_the_scale_that_the_method_names(
    scale: Scale, expected: tuple[float, float], words: str
) -> None:
    low, high, method = interval_bounds(
        leave_out(), replace(BASIS, scale=scale, images=10**6), ERROR, 0.95
    )
    assert (low, high) == pytest.approx(expected)
    assert method == f"patient jackknife, {words}"
    # The same in another unit.
    wide = replace(scale, low=-1.0, high=2.0)
    moved = interval_bounds(
        stretched(leave_out(), 3.0, -1.0), replace(BASIS, scale=wide, images=10**6), ERROR, 0.95
    )
    assert moved[:2] == pytest.approx((3 * low - 1, 3 * high - 1))


def test_a_proportion_counts_no_more_than_its_images_and_no_less_than_one() -> None:
    basis = replace(BASIS, scale=PROPORTION)
    for size, images in ((1e-4, 80), (0.9, 1)):
        found = interval_bounds(leave_out(), basis, replace(ERROR, size=size), 0.95)
        assert found[:2] == pytest.approx(wilson_interval(0.7, images, Q))


@pytest.mark.parametrize("scale", [UNIT, PROPORTION, GAP])
def test_without_spread_each_patient_is_a_row(scale: Scale) -> None:
    basis = replace(BASIS, scale=scale)
    expected = wilson_interval(0.7, PATIENTS, 1.959964)
    low, high, method = interval_bounds(leave_out(), basis, replace(ERROR, size=0.0), 0.95)
    assert (low, high) == pytest.approx(expected)
    assert method == "Wilson, 40 patients"


@pytest.mark.parametrize(("estimate", "share"), [(-0.1, 0.0), (1.2, 1.0)])
def test_without_spread_an_estimate_outside_its_range_is_its_end(
    estimate: float, share: float
) -> None:
    basis = replace(BASIS, scale=GAP)
    found = interval_bounds(leave_out(estimate), basis, replace(ERROR, size=0.0), 0.95)
    assert found[:2] == pytest.approx(wilson_interval(share, PATIENTS, 1.959964))


@pytest.mark.parametrize("estimate", [0.0, 1.0])
def test_at_an_end_of_the_range_each_patient_is_a_row_but_not_on_a_linear_scale(
    estimate: float,
) -> None:
    for scale in (UNIT, PROPORTION):
        low, high, method = interval_bounds(
            leave_out(estimate), replace(BASIS, scale=scale), ERROR, 0.95
        )
        assert (low, high) == pytest.approx(wilson_interval(estimate, PATIENTS, 1.959964))
        assert method == "Wilson, 40 patients"
    found = interval_bounds(leave_out(estimate), replace(BASIS, scale=GAP), ERROR, 0.95)
    assert found[:2] == pytest.approx((max(0, estimate - Q * 0.05), min(1, estimate + Q * 0.05)))


def test_a_linear_interval_below_its_range_is_its_end() -> None:
    low, high, _ = interval_bounds(
        replace(leave_out(), estimate=-0.4), replace(BASIS, scale=GAP), ERROR, 0.95
    )
    assert (low, high) == (0.0, 0.0)


@pytest.mark.parametrize(("ahead", "side"), [(0.1, 1), (-0.1, 0)])
@pytest.mark.parametrize("scale", [UNIT, REAL, POSITIVE])
def test_a_gain_lengthens_one_side(ahead: float, side: int, scale: Scale) -> None:
    basis = replace(BASIS, scale=scale)
    plain = interval_bounds(leave_out(), basis, ERROR, 0.95)[:2]
    found = interval_bounds(leave_out(), basis, replace(ERROR, ahead=ahead), 0.95)[:2]
    expected = list(plain)
    expected[side] += ahead
    assert found == pytest.approx(tuple(expected))
    far = interval_bounds(leave_out(), basis, replace(ERROR, ahead=9 * np.sign(ahead)), 0.95)
    ends = (max(scale.low, plain[0] - 9), min(scale.high, plain[1] + 9))
    assert far[side] == pytest.approx(ends[side])


def test_reasons_why_there_is_no_interval() -> None:
    def reason(leave: LeaveOut, **changes: Any) -> str | None:
        basis = replace(BASIS, **changes)
        found = jackknife_interval(leave, basis, tuned=True, level=0.95)
        assert fixed_model_interval(leave, basis, level=0.95).reason == found.reason
        assert (found.low is None) is (found.reason is not None) is (found.procedure is None)
        return found.reason

    flat = replace(leave_out(), without=np.full(PATIENTS, 0.7))
    assert reason(leave_out()) is None
    assert reason(flat) is None  # the range stands in for the spread
    assert reason(leave_out(), fewest=5) is None
    assert reason(leave_out(), fewest=4) == "4 patients with 'cancer', but an interval needs 5"
    assert reason(leave_out(), patients=0) == "no image is predicted as this class"
    assert "a class is missing" in (reason(replace(leave_out(), estimate=np.nan)) or "")
    gone = replace(leave_out(), without=np.append(leave_out().without, np.nan))
    assert reason(gone) == "the estimate is undefined without one of the patients"
    for scale in (REAL, POSITIVE):
        assert "so there is no spread" in (reason(flat, scale=scale) or "")
        assert reason(leave_out(), scale=scale) is None
    assert reason(leave_out(-0.7), scale=REAL) is None
    assert "no logarithm" in (reason(leave_out(0.0), scale=POSITIVE) or "")


def test_cautions_of_few_patients_and_of_unstable_models() -> None:
    def notes(leave: LeaveOut, **changes: Any) -> tuple[str, ...]:
        found = jackknife_interval(
            leave, replace(BASIS, **changes), tuned=True, level=0.95, notes=("first",)
        )
        return found.notes

    assert notes(leave_out()) == ("first",)
    assert notes(leave_out(), fewest=15) == ("first",)
    assert notes(leave_out(), fewest=14) == ("first", "caution: only 14 patients with 'cancer'")
    se = jackknife_error(leave_out().without)[0]
    assert notes(leave_out(moved=(1.01 * se) ** 2))[1].startswith("unstable: standard deviation of")
    assert notes(leave_out(moved=(0.99 * se) ** 2)) == ("first",)
    apart = replace(measured(size=1e-4), inner=np.tile([0.5, 0.7, 0.9], (5, 1)))
    assert "from the variation of models alone" in notes(apart)[1]
    assert notes(replace(measured(size=1e-4))) == ("first",)  # less than 0.05


def test_the_interval_of_the_model_holds_that_of_the_procedure() -> None:
    found = jackknife_interval(measured(), BASIS, tuned=True, level=0.95)
    mine = jackknife_interval(measured(), BASIS, tuned=True, level=0.95, of="procedure")
    assert found.procedure == mine.procedure == (mine.low, mine.high)
    assert found.low is not None
    assert found.high is not None
    assert found.procedure is not None
    assert found.low < found.procedure[0] < found.estimate < found.procedure[1] < found.high
    assert (found.of, mine.of, found.level) == ("model", "procedure", 0.95)


def test_a_model_given_has_the_plain_jackknife() -> None:
    leave = stretched(leave_out(), 3.0, -1.0)
    basis = replace(BASIS, scale=Scale("logit", -1.0, 2.0))
    found = fixed_model_interval(leave, basis, level=0.9)
    size, df = jackknife_error(leave_out().without)
    low, high = logit_interval(0.7, size * float(stats.t.ppf(0.95, df)))
    assert (found.low, found.high) == pytest.approx((3 * low - 1, 3 * high - 1))
    assert found.method == "patient jackknife, logit, model fixed"


def test_an_estimate_below_a_linear_range_is_its_end() -> None:
    low = replace(leave_out(), estimate=-0.1)
    assert jackknife_interval(low, replace(BASIS, scale=GAP), tuned=True, level=0.95).estimate == 0
    assert jackknife_interval(leave_out(), BASIS, tuned=True, level=0.95).estimate == 0.7


def test_a_difference_is_linear_and_ends_where_the_range_ends() -> None:
    change = stretched(leave_out(), 1.0, -0.65)
    found = paired_interval(change, BASIS, tuned=True, level=0.95)
    error = total_error(change, BASIS, tuned=True, unit=1.0)
    half = error.size * t_quantile(error.df, 0.95)
    assert (found.low, found.high) == pytest.approx((0.05 - half, 0.05 + half))
    assert found.method == f"paired patient jackknife, linear, {error.words}"
    assert found.procedure == (found.low, found.high)
    far = replace(BASIS, scale=Scale("logit", 0.0, 0.06))
    cut = paired_interval(change, far, tuned=True, level=0.95)
    assert (cut.low, cut.high) == (-0.06, 0.06)
    flat = replace(change, without=np.full(PATIENTS, 0.05))
    assert "no spread" in (paired_interval(flat, BASIS, tuned=True, level=0.95).reason or "")
    few = paired_interval(change, replace(BASIS, fewest=4), tuned=True, level=0.95)
    assert "an interval needs 5" in (few.reason or "")
    some = paired_interval(change, replace(BASIS, fewest=6), tuned=True, level=0.95)
    assert some.notes == ("caution: only 6 patients with 'cancer'",)
