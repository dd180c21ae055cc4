"""Clinical columns are read by what the training rows show and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outerfold.pipelines.rows.tabular import NetworkColumns, TabularColumns
from outerfold.storage.records import Column, FloatArray
from tests.factories import COLUMNS
from tests.pipelines.rows.fold_factories import prepared

NAN = float("nan")
AGE = Column("age")
HISTORY = Column("family_history", "binary", ("no", "yes"))
TISSUE = Column("tissue", "categorical", ("fat", "mixed", "dense"))


def fit(column: Column, *values: float) -> TabularColumns:
    return TabularColumns.fit((column,), np.array(values)[:, None])


def encode(encoder: TabularColumns, *values: float) -> list[list[float]]:
    return encoder.transform(np.array(values)[:, None]).tolist()


def test_a_numeric_column_is_scaled_by_the_training_rows_mean_and_spread() -> None:
    encoder = fit(AGE, 40, 50, 60, 70)
    spread = np.std([40, 50, 60, 70])
    assert encode(encoder, 40, 55, 200) == [
        [pytest.approx((40 - 55) / spread), 0],
        [0, 0],
        [pytest.approx(145 / spread), 0],
    ]


def test_a_missing_number_is_the_training_median_and_marked() -> None:
    encoder = fit(AGE, 40, NAN, 50, 90)
    (column,) = encoder.columns
    assert column.fill == 50
    assert column.mean == pytest.approx(np.mean([40, 50, 50, 90]))
    missing, observed = encode(encoder, NAN, 50)
    assert missing == [observed[0], 1]
    assert observed[1] == 0


def test_a_binary_column_keeps_zero_and_one_and_fills_with_the_most_frequent() -> None:
    encoder = fit(HISTORY, 1, 1, 0, NAN)
    assert encode(encoder, 0, 1, NAN) == [[0, 0], [1, 0], [1, 1]]


def test_a_categorical_column_becomes_one_number_a_level() -> None:
    encoder = fit(TISSUE, 0, 2, 2, 1)
    assert encode(encoder, 0, 1, 2, NAN) == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
    ]


def test_a_level_that_no_training_row_had_is_all_zeros_and_not_missing() -> None:
    encoder = fit(TISSUE, 0, 0, 2)
    assert encode(encoder, 1) == [[0, 0, 0, 0]]


@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3, 1e-9, 0.0, 1e12])
@pytest.mark.parametrize("times", [1, 3, 6, 7, 13])
def test_a_constant_column_says_nothing_and_an_unseen_value_stays_small(
    value: float, times: int
) -> None:
    """The spread of three times 0.1 is 1.4e-17: divided by that, 0.2 would become 10 ** 16."""
    encoder = fit(AGE, *[value] * times)
    seen, other, missing = encode(encoder, value, value + 1, NAN)
    assert seen == [pytest.approx(0, abs=1e-3), 0]
    assert other == [pytest.approx(1, abs=1e-3), 0]
    assert missing == [pytest.approx(0, abs=1e-3), 1]


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (AGE, [[61, 0], [0, 1]]),
        (HISTORY, [[1, 0], [0, 1]]),
        (TISSUE, [[0, 0, 0, 0], [0, 0, 0, 1]]),
    ],
)
def test_a_column_missing_in_every_training_row_is_zeros_and_a_mark(
    column: Column, wanted: list[list[float]]
) -> None:
    encoder = fit(column, NAN, NAN)
    assert encode(encoder, 61 if column is AGE else 1, NAN) == wanted


def test_no_columns_are_no_numbers() -> None:
    encoder = TabularColumns.fit((), np.zeros((4, 0)))
    assert encoder.width == 0
    assert encoder.transform(np.zeros((3, 0))).shape == (3, 0)


def tables(rows: int) -> st.SearchStrategy[FloatArray]:
    """(rows, 3) values of ``COLUMNS``, some missing."""
    age = st.one_of(st.just(NAN), st.floats(-1e6, 1e6, width=32))
    code = st.one_of(st.just(NAN), st.sampled_from([0.0, 1.0]))
    level = st.one_of(st.just(NAN), st.sampled_from([0.0, 1.0, 2.0]))
    return st.lists(st.tuples(age, code, level), min_size=rows, max_size=rows).map(np.array)


@settings(max_examples=60, deadline=None)
@given(tables(7), tables(3))
def test_every_row_becomes_as_many_finite_numbers_as_the_encoder_says(
    training: FloatArray, new: FloatArray
) -> None:
    encoder = TabularColumns.fit(COLUMNS, training)
    for table in (training, new):
        found = encoder.transform(table)
        assert found.shape == (len(table), encoder.width) == (len(table), 2 + 2 + 4)
        assert np.isfinite(found).all()
        marks = found[:, [1, 3, 7]].astype(bool)
        assert np.array_equal(marks, np.isnan(table))


@settings(max_examples=60, deadline=None)
@given(tables(7))
def test_what_was_observed_can_be_read_back(training: FloatArray) -> None:
    encoder = TabularColumns.fit(COLUMNS, training)
    found = encoder.transform(training)
    age, code, level = training.T
    fitted = encoder.columns[0]
    back = found[:, 0] * fitted.scale + fitted.mean
    np.testing.assert_allclose(back[~np.isnan(age)], age[~np.isnan(age)], rtol=1e-6, atol=1e-6)
    assert np.array_equal(found[~np.isnan(code), 2], code[~np.isnan(code)])
    seen = ~np.isnan(level)
    assert np.array_equal(found[seen][:, 4:7].argmax(axis=1), level[seen])
    assert (found[seen][:, 4:7].sum(axis=1) == 1).all()


def test_a_folds_scalers_and_encoders_are_fitted_on_its_own_training_rows_alone() -> None:
    rows = prepared()
    data = rows.train
    for fold in rows.folds:
        own = TabularColumns.fit(data.features.columns, data.features.tabular[fold.fit])
        assert fold.encoder == own
        fitting = rows.images[fold.fit]
        np.testing.assert_allclose(fold.scaler.mean, fitting.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fold.scaler.scale, fitting.std(axis=0), rtol=1e-5)
    assert len({fold.encoder.columns[0].mean for fold in rows.folds}) == len(rows.folds)


def test_noise_in_the_rows_that_validate_changes_no_scaler_encoder_or_made_row() -> None:
    plain = prepared(folds=(0.3,))
    noisy = prepared(folds=(0.3,))
    val = plain.folds[0].val
    noisy.train.features.tabular[val] = 1e6
    noisy.source.values[:, val] = 1e6  # type: ignore[attr-defined]
    noisy = type(noisy)(
        noisy.train, [noisy.folds[0].fold], noisy.source, tokens=False, seed=noisy.seed
    )
    assert plain.folds[0].encoder == noisy.folds[0].encoder
    assert plain.folds[0].scaler.mean.tolist() == noisy.folds[0].scaler.mean.tolist()
    made, again = (rows.resampled(0, "smote_tomek") for rows in (plain, noisy))
    assert made.synthetic.tobytes() == again.synthetic.tobytes()
    assert made.rows.tolist() == again.rows.tolist()
    assert noisy.folds[0].tabular[val].max() > 1e3, "the noise is there to be seen"


def test_equal_encoders_of_a_stack_are_one_and_others_are_kept() -> None:
    one, same, other = (
        TabularColumns.fit((Column("age"),), np.array(ages)[:, None])
        for ages in ([30.0, 50.0], [30.0, 50.0], [30.0, 60.0])
    )
    assert NetworkColumns.of([one]).each == (one,)
    assert (NetworkColumns.of([one]).width, NetworkColumns.of([one]).columns) == (
        2,
        (Column("age"),),
    )
    assert NetworkColumns.of([one, same]).each == (one,)
    assert NetworkColumns.of([one, same, other]).each == (one, same, other)
    assert NetworkColumns.of([other, one, same]).each == (other, one, same)
    assert NetworkColumns.of([one, other]).transform(np.zeros((3, 1))).shape == (2, 3, 2)


def test_a_column_of_small_numbers_is_scaled_too() -> None:
    for unit in (1.0, 1e-6, 1e-20):
        encoder = fit(AGE, 1 * unit, 2 * unit, 3 * unit)
        assert encoder.columns[0].scale == pytest.approx(np.sqrt(2 / 3) * unit, rel=1e-9)
    assert fit(AGE, 0, 0, 0).columns[0].scale == 1.0
    assert fit(AGE, 5, 5, 5 + 1e-9).columns[0].scale == 1.0
