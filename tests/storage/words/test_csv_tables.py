"""No cell of a table runs in a spreadsheet, and each text is read back as it was."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pytest

from outerfold.storage.words.csv_tables import csv_text, plain_cell, read_cell, read_csv_rows

FORMULAS = (
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+49 170",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "＝1+1",
)
PLAIN = ("P001", "7", "-0.5", "+1e-3", "+", "-", "", "a=b", "O'Neil", "x-1", "7.0")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_shown_as_text(text: str) -> None:
    (row,) = csv.reader(StringIO(csv_text([text], [])))
    assert row == [f"'{text}"]


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_and_numbers_stay(text: str) -> None:
    assert plain_cell(text) == text


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN, "'=1", "''=1", "'", "'-1", "''", "'+"])
def test_every_text_is_read_back(tmp_path: Path, text: str) -> None:
    assert read_cell(str(plain_cell(text))) == text
    (tmp_path / "a.csv").write_text(
        csv_text(["id", "rest"], [[text, -0.25]]), encoding="utf-8", newline=""
    )
    assert read_csv_rows(tmp_path / "a.csv") == [{"id": text, "rest": "-0.25"}]


def test_a_row_with_more_cells_than_the_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\na,b\n")
    with pytest.raises(ValueError, match="more cells than the header"):
        read_csv_rows(tmp_path / "a.csv")
