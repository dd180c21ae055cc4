import numpy as np
import pytest

from outerfold.storage.readers.columns import encode_value, find_gap, parse_column
from outerfold.storage.records import Column, DataError


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["40,5", "41,5", "42"], [40.5, 41.5, 42]),
        (["061Y", "40Y", "018M"], [61, 40, 1.5]),
        (["61 years", "40 yrs", "50y"], [61, 40, 50]),
        (["61 Jahre", "40 años", "50岁", "732 months"], [61, 40, 50, 61]),
        (["None", "40", "#N/A", ".", "--", "41"], [np.nan, 40, np.nan, np.nan, np.nan, 41]),
        (["1e3", "2"], [1000, 2]),
        (["1 510", "12 300,5"], [1510, 12300.5]),
        (["1.425,3", "1,425.3"], [1425.3, 1425.3]),
        (["1.425", "2.1", "3"], [1.425, 2.1, 3]),
        (["1.425", "2", "3"], [1.425, 2, 3]),
        (["\u22129", "4"], [-9, 4]),
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
        ("density", [1, 2, 3, 4, 9, 9, 9], {9}),
        ("hrt", [0, 1, 0, 9, 9, 9], {9}),
        ("size", [4, 5, 6, -1, -1, -99, -99], {-1, -99}),
        ("age", [40, 50, 150], {150}),
        ("age", [40, 50, 60, 0, 0, 0], {0}),
        ("age", [40, 50, 60, 99, 99, 99], {99}),
        ("size", [1, 2, float("inf")], {float("inf")}),
    ],
)
def test_sentinels_and_impossible_values_are_missing_and_said(
    name: str, numbers: list[float], missing: set[float]
) -> None:
    column, found, notes = parse_column(name, [str(n) for n in numbers])
    for number in numbers:  # a new row is read as these were, but for a value without end
        if np.isfinite(number):
            assert bool(find_gap(column, number)) == (number in missing)
    assert {n for n, v in zip(numbers, found, strict=True) if np.isnan(v)} == missing
    assert notes
    assert all("read as missing" in note and "nan" not in note for note in notes)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("age", [40, 50, 99, 99]),  # two old patients
        ("age", [40, 50, 60, 88, 99]),
        ("age", [1, 3, 5, 0, 0, 0]),  # children
        ("age", [40, 50, 95, 99, 99, 99]),
        ("z", [-2, -1, 0, 1, -9, -9]),  # negative numbers belong here
        ("size", [1, 2, 3, 999]),  # once only
        ("births", [0, 1, 2, 3, 4, 9, 9]),
        ("size", [1, 2, 8, 9, 9, 9]),
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


@pytest.mark.parametrize(
    ("texts", "unit", "values"),
    [
        (["72 mm", "8mm", ""], "mm", [72, 8, np.nan]),
        (["40%", "5,5 %"], "%", [40, 5.5]),
        (["24.5 kg/m2", "31 kg/m2"], "kg/m2", [24.5, 31]),
    ],
)
def test_the_unit_that_all_numbers_share_is_left_out_and_said(
    texts: list[str], unit: str, values: list[float]
) -> None:
    column, found, notes = parse_column("size", texts)
    assert column.kind == "numeric"
    np.testing.assert_array_equal(found, values)
    assert notes == (f"column 'size': numbers with the unit '{unit}', which was left out",)


@pytest.mark.parametrize(
    ("name", "texts", "said"),
    [
        ("size", ["3.2 cm", "35 mm"], "several units, cm, mm"),
        ("size", ["32 mm", "35 mm", "3"], "the unit mm and without a unit"),
        ("age", ["1982-01-12", "1976-11-03"], "holds dates, such as '1982-01-12'"),
        ("seen", ["08/12/1984", "3.11.76", "2001-02-03T10:00"], "holds dates"),
        ("vol", ["2.055", "1.090", "304"], "beside '304' may be thousands"),
        ("age", ["1976", "1958", "40"], "2 of 3 values are no age in years (such as 1976)"),
    ],
)
def test_numbers_that_would_become_names_are_refused(
    name: str, texts: list[str], said: str
) -> None:
    with pytest.raises(DataError) as refused:
        parse_column(name, texts)
    assert said in str(refused.value)


@pytest.mark.parametrize("texts", [["1a", "2b", "1"], ["T1", "T2"], ["1.2.3", "a"], ["12e4f", "x"]])
def test_codes_stay_names(texts: list[str]) -> None:
    column, _, notes = parse_column("stage", texts)
    assert column.kind == "categorical"
    assert notes == ()


def test_yes_no_words_and_bits_are_one_answer() -> None:
    column, found, _ = parse_column("family_history", ["True", "0", "1", "", "no", "1.0"])
    assert column.kind == "binary"
    np.testing.assert_array_equal(found, [1, 0, 1, np.nan, 0, 1])


def test_plus_and_minus_are_yes_and_no() -> None:
    column, found, _ = parse_column("HER2", ["+", "-", "", "+"])
    assert column.kind == "binary"
    np.testing.assert_array_equal(found, [1, 0, np.nan, 1])
    assert np.isnan(parse_column("size", ["4", "-", "5"])[1][1])


@pytest.mark.parametrize("mark", ["<5", "~5", "5*", "5?", "(5)", "≥5"])
def test_marked_numbers_among_numbers_are_no_names(mark: str) -> None:
    with pytest.raises(DataError, match="values are numbers, but not"):
        parse_column("size", ["1", "2", "3", mark, mark])
    assert parse_column("grade", [mark, mark, "1"])[0].kind == "categorical"
