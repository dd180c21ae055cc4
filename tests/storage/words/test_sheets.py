from pathlib import Path

import pytest

from outerfold.storage.records import DataError
from outerfold.storage.words.sheets import read_sheet

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
        (b"file,age\n", "has no rows"),
        (b"", "it is empty"),
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
