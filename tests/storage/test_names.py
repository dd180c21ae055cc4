"""Names that are one but for their spelling, and names that are not."""

from __future__ import annotations

import pytest

from outerfold.storage.audit.leaking_columns import is_verdict
from outerfold.storage.names import match_name, normalise
from outerfold.storage.readers._base import find_column, pick_column
from outerfold.storage.readers.columns import choose_columns
from outerfold.storage.records import DataError


@pytest.mark.parametrize(
    "names",
    [
        ("年龄", "密度", "高度"),
        ("возраст", "плотность"),
        ("größe", "gr_e"),
        ("ER", "ER+", "ER-", "ER%"),
        ("age<50", "age>50", "age>=50", "age_50"),
        ("आयु", "आय"),
        ("体积 (left)", "体积 (right)", "left"),
        ("+", "-", "%"),
    ],
)
def test_different_names_stay_different(names: tuple[str, ...]) -> None:
    assert len({normalise(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "names",
    [
        (
            "patient_id",
            "Patient-ID",
            " PATIENT  ID ",
            "patient.id",
            "Patient – ID",
            "ｐａｔｉｅｎｔ＿ｉｄ",
        ),
        ("Größe", "GRÖSSE", "gro\u0308ße"),
        ("ER-", "er\u2212", "ER\u2013"),
        ("age < 50", "Age <50"),
        ("density (%)", "Density"),
    ],
)
def test_spellings_of_a_name_are_one(names: tuple[str, ...]) -> None:
    assert len({normalise(name) for name in names}) == 1


def test_a_name_in_any_script_finds_its_own_column_or_none() -> None:
    available = ["密度", "年龄", "ER+", "ER-"]
    assert choose_columns(available, ["年龄", "er-"], "m.csv") == (("年龄", "年龄"), ("ER-", "ER-"))
    with pytest.raises(DataError, match="column '高度' is not in"):
        choose_columns(available, ["高度"], "m.csv")
    with pytest.raises(DataError, match=r"--patient-column .不存在.: .* has no such column"):
        pick_column({name: () for name in available}, "--patient-column", "不存在", (), "m.csv")


def test_columns_of_one_name_are_asked_about_unless_one_is_named_exactly() -> None:
    table = {"patient_id": ("1",), "Patient-ID": ("2",), "age": ("3",), "Age": ("4",)}
    for named in ("", "PATIENT_ID"):
        with pytest.raises(DataError, match=r"'patient_id', 'Patient-ID'.*--patient-column"):
            pick_column(table, "--patient-column", named, ["patient_id"], "m.csv")
    exact = pick_column(table, "--patient-column", "Patient-ID", ["patient_id"], "m.csv")
    assert exact == "Patient-ID"
    assert choose_columns(list(table), ["Age", "age"], "") == (("Age", "Age"), ("age", "age"))
    with pytest.raises(DataError, match=r"'age', 'Age'.*--columns"):
        choose_columns(list(table), ["AGE"], "")
    assert find_column(table, ["file"]) is None
    assert match_name(["Age"], "age") == "Age"


def test_a_sign_does_not_hide_a_verdict() -> None:
    assert all(map(is_verdict, ("BI-RADS", "cancer+", "Malignant %", "x_LEAKY")))
    assert not is_verdict("年龄")
