from pathlib import Path

import openpyxl
import pytest

from outerfold.storage.records import DataError
from outerfold.storage.words.sheets import read_sheet, unread_sheets

TABLE = {"file": ("a.png", "b.png"), "age": ("1", "2")}


@pytest.mark.parametrize(
    "content",
    [
        b"file,age\na.png,1\nb.png,2\n",
        b"file,age\na.png,1\nb.png,2\n,\n\n",
        b"sep=;\nfile;age\na.png;1\nb.png;2\n",
        b"sep=;\r\nfile;age\r\na.png;1\r\nb.png;2\r\n",
        b"\xef\xbb\xbffile|age\na.png|1\nb.png|2",
        "file\tage\na.png\t1\nb.png\t2".encode("utf-16"),
        b"file,age,\na.png,1,\nb.png,2,\n",
        b'file,age\n"a.png",1\nb.png,"2\x0b"\n',
    ],
)
def test_sheets_as_spreadsheets_save_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    assert read_sheet(tmp_path / "m.csv") == TABLE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,age,age\na,1,2\n", "two columns are called 'age'"),
        (b"file,age\na,1\nb,2,3\n", "line 3 has 3 fields and the header has 2"),
        (b"file,age\na,1\nb\n", "line 3 has 1 fields"),
        ("file,größe\na,1\n".encode("latin-1"), "line 1 is not UTF-8, .* save it as CSV UTF-8"),
        (b"EXPORT,,\nfile,age,x\na,1,2\n", "line 1 names 1 of 3 columns .* remove titles above it"),
        (b"file,age\n", "has no rows"),
        (b"", "it is empty"),
        (b'f,l,p,a\n1,b,"P1,7\n2,c,P2,8\n3,b,"P3,9\n4,c,P4,1\n', "close the quote before it"),
        (b"file\0,age\na,1\n", "NUL"),
    ],
)
def test_damage_is_named_by_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_sheet(tmp_path / "m.csv")


def test_a_damaged_workbook_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.xlsx").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(DataError, match="cannot be read as an Excel sheet"):
        read_sheet(tmp_path / "m.xlsx")


def _book(path: Path, *sheets: list[list[object]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for at, rows in enumerate(sheets):
        sheet = book.create_sheet(f"s{at}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return book


def test_of_a_workbook_the_first_sheet_with_rows_is_read_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    rows: list[list[object]] = [["file", "age"], ["a.png", 1], ["b.png", 2.0]]
    _book(tmp_path / "m.xlsx", [["see the next sheet"]], rows, rows[:2])
    assert read_sheet(tmp_path / "m.xlsx") == TABLE
    assert unread_sheets(tmp_path / "m.xlsx") == ["s2"]
    assert unread_sheets(tmp_path / "m.csv") == []


def test_a_merged_cell_stands_for_each_cell_that_it_covers(tmp_path: Path) -> None:
    book = _book(tmp_path / "m.xlsx", [["file", "patient"], ["a", "P1"], ["b", None], ["c", "P2"]])
    book["s0"].merge_cells("B2:B3")
    book.save(tmp_path / "m.xlsx")
    assert read_sheet(tmp_path / "m.xlsx")["patient"] == ("P1", "P1", "P2")


def test_formulas_without_results_are_refused(tmp_path: Path) -> None:
    _book(tmp_path / "m.xlsx", [["file", "age"], ["a", "=40+1"], ["b", 50]])
    with pytest.raises(DataError, match=r"cells \['B2'\].*hold formulas without their results"):
        read_sheet(tmp_path / "m.xlsx")


def test_numbers_that_a_workbook_rounds_are_refused(tmp_path: Path) -> None:
    _book(tmp_path / "m.xlsx", [["file", "patient"], ["a", 12345678901234567], ["b", 7]])
    with pytest.raises(DataError, match=r"cells \['B2'\].*more than 15 digits"):
        read_sheet(tmp_path / "m.xlsx")


def test_a_remark_of_several_lines_is_no_open_quote(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('file,age,note,x\na.png,1,"seen,\nagain",2\n')
    assert read_sheet(tmp_path / "m.csv")["note"] == ("seen, again",)
