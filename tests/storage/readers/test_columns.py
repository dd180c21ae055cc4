import numpy as np
import pytest

from outerfold.storage.readers.columns import encode_value, parse_column
from outerfold.storage.records import Column, DataError


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["40,5", "41,5", "42"], [40.5, 41.5, 42]),
        (["061Y", "40Y", "018M"], [61, 40, 1.5]),
        (["61 years", "40 yrs", "50y"], [61, 40, 50]),
        (["None", "40", "#N/A", ".", "--", "41"], [np.nan, 40, np.nan, np.nan, np.nan, 41]),
        (["1e3", "2"], [1000, 2]),
    ],
)
def test_numbers_and_gaps_in_numeric_columns(texts: list[str], values: list[float]) -> None:
    column, found, notes = parse_column("size", texts)
    assert column.kind == "numeric"
    np.testing.assert_array_equal(found, values)
    assert notes == ()


@pytest.mark.parametrize(
    ("name", "numbers", "missing"),
    [
        ("age", [40, 50, 60, 999, 999], {999}),
        ("age", [40, 50, 60, -9, -9], {-9}),
        ("density", [1, 2, 3, 4, 99, 99], {99}),
        ("size", [4, 5, 6, -1, -1, -99, -99], {-1, -99}),
        ("age", [40, 50, 150], {150}),
        ("size", [1, 2, float("inf")], {float("inf")}),
    ],
)
def test_sentinels_and_impossible_values_are_missing_and_said(
    name: str, numbers: list[float], missing: set[float]
) -> None:
    _, found, notes = parse_column(name, [str(n) for n in numbers])
    assert {n for n, v in zip(numbers, found, strict=True) if np.isnan(v)} == missing
    assert notes
    assert all("read as missing" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("age", [40, 50, 99, 99]),  # two old patients
        ("age", [40, 50, 60, 88, 99]),
        ("z", [-2, -1, 0, 1, -9, -9]),  # negative numbers belong here
        ("size", [1, 2, 3, 999]),  # once only
        ("year", [1999, 2001, 1999, 2003]),
    ],
)
def test_plausible_values_stay(name: str, numbers: list[float]) -> None:
    _, found, notes = parse_column(name, [str(n) for n in numbers])
    np.testing.assert_array_equal(found, numbers)
    assert notes == ()


def test_none_is_no_in_histories_and_a_gap_elsewhere() -> None:
    assert parse_column("family_history", ["yes", "None", "?"])[1].tolist()[:2] == [1, 0]
    assert np.isnan(parse_column("smoker", ["yes", "None", "no"])[1][1])
    column, _, _ = parse_column("symptoms", ["None", "pain", "lump"])
    assert column.levels == ("lump", "None", "pain")


def test_commas_that_may_be_thousands_are_refused() -> None:
    with pytest.raises(DataError, match="may be thousands or have three decimals"):
        parse_column("volume", ["1,234", "2,500"])
    assert parse_column("volume", ["1,234", "2,5"])[1].tolist() == [1.234, 2.5]


def test_a_new_value_is_read_as_the_column_was() -> None:
    assert encode_value(Column("age"), "061Y") == 61
    assert np.isnan(encode_value(Column("age"), "None"))
    assert encode_value(Column("age"), "40,5") == 40.5
