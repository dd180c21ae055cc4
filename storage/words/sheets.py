"""Sheets as columns of texts: CSV with any common separator, and Excel; damage is named by line."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from outerfold.storage.errors import DataError, first_three
from outerfold.storage.words.texts import clean

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

TEXT_SUFFIXES = frozenset({".csv", ".tsv"})
EXCEL_SUFFIXES = frozenset({".xlsx", ".xlsm"})
SHEET_SUFFIXES = TEXT_SUFFIXES | EXCEL_SUFFIXES
"""Lower-case suffixes of files that may hold a sheet."""

TextTable = dict[str, tuple[str, ...]]
"""Texts of every column of a table, by column name."""

_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_SEPARATORS = ",;\t|"
_EXACT = 10**15
"""Numbers of a workbook from which on digits are lost."""


def read_sheet(path: Path) -> TextTable:
    """Columns of a sheet as texts, empty where missing; control characters become blanks.

    CSV may be separated by comma, semicolon, tab or bar, begin with ``sep=;``, and be UTF-8 or
    UTF-16. Empty rows at the end are left out. Of an Excel file the first sheet that has rows is
    read; a merged cell stands for each cell that it covers.

    Raises:
        DataError: the file cannot be read, has no rows, two columns of one name, a row of another
            length, or formulas without results; the message names the line or the cells.
    """
    if path.suffix.lower() in EXCEL_SUFFIXES:
        return _to_table(path, _excel_rows(path))
    return _to_table(path, _text_rows(path))


def _text_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Cells of each row that is not empty, with the number of its line."""
    text = _decode(path)
    first, _, rest = text.partition("\n")
    start, separator = 0, ""
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        start, separator, text = 1, first.strip()[4], rest
        first = rest.partition("\n")[0]
    separator = separator or max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        rows = [(start + reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    _refuse_open_quotes(path, rows, separator)
    return [(line, row) for line, row in rows if any(cell.strip() for cell in row)]


def _refuse_open_quotes(path: Path, rows: list[tuple[int, list[str]]], separator: str) -> None:
    """Refuse a cell that swallowed the line behind it, as one does whose quote is not closed."""
    fields = len(rows[0][1]) if rows else 0
    for line, row in rows[1:]:
        for cell in row:
            behind = cell.partition("\n")[2]
            if fields > 2 and behind.count(separator) >= fields - 2:
                raise DataError(
                    f"{path}: a cell that ends in line {line} holds a whole line of the table "
                    f"({behind[:40]!r}); close the quote before it"
                )


def _decode(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a table ({error.strerror})") from error
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8-sig")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line} is not {encoding.removesuffix('-sig').upper()}, as a sheet in "
            "Latin-1 or Windows-1252 is; save it as CSV UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: cannot be read as a table (it holds NUL characters)")
    return text


def unread_sheets(path: Path) -> list[str]:
    """Names of the sheets of an Excel file that ``read_sheet`` leaves out; empty for CSV."""
    if path.suffix.lower() not in EXCEL_SUFFIXES or len(_sheet_names(path)) < 2:
        return []
    written = _written_sheets(_open_book(path))
    return [sheet.title for sheet in written[1:]]


def _excel_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Cells of the first sheet that has any; a merged cell stands for each cell that it covers."""
    sheets = _written_sheets(_open_book(path))
    if not sheets:
        return []
    sheet = sheets[0]
    formulas = [cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
    results = _open_book(path, results=True)[sheet.title] if formulas else sheet
    unsaved = [one.coordinate for one in formulas if results[one.coordinate].value is None]
    if unsaved:
        raise DataError(
            f"{path}: cells {first_three(unsaved)} of sheet {sheet.title!r} hold formulas without "
            "their results; open the file in a spreadsheet program and save it"
        )
    long = [
        cell.coordinate
        for row in results.iter_rows()
        for cell in row
        if isinstance(cell.value, int | float) and abs(cell.value) >= _EXACT
    ]
    if long:
        raise DataError(
            f"{path}: cells {first_three(long)} of sheet {sheet.title!r} hold numbers of more than "
            "15 digits, which a workbook rounds; write such ids as text"
        )
    grid = [[_cell_text(cell.value) for cell in row] for row in results.iter_rows()]
    for merged in sheet.merged_cells.ranges:
        text = grid[merged.min_row - 1][merged.min_col - 1]
        for row, column in merged.cells:
            grid[row - 1][column - 1] = text
    return [(at, row) for at, row in enumerate(grid, 1) if any(cell.strip() for cell in row)]


def _open_book(path: Path, *, results: bool = False) -> Workbook:
    """The Excel file with its formulas, or with the results that a program saved for them."""
    from openpyxl import load_workbook

    try:
        return load_workbook(path, data_only=results)
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an Excel sheet ({error})") from error


def _sheet_names(path: Path) -> list[str]:
    """Names of the sheets of a workbook that could be read; its cells are not."""
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True)
    try:
        return list(book.sheetnames)
    finally:
        book.close()


def _written_sheets(book: Workbook) -> list[Worksheet]:
    """Sheets with several rows; the first of all where none has them."""
    return [one for one in book.worksheets if one.max_row > 1] or book.worksheets[:1]


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _to_table(path: Path, rows: Sequence[tuple[int, Sequence[str]]]) -> TextTable:
    if not rows:
        raise DataError(f"{path}: cannot be read as a table (it is empty)")
    header = [clean(name) for name in rows[0][1]]
    while header and not header[-1] and not any("".join(r[len(header) - 1 :]) for _, r in rows[1:]):
        header.pop()  # a separator at the end of every line
    if header.count("") > 1:
        named = [name for name in header if name]
        raise DataError(
            f"{path}: line {rows[0][0]} names {len(named)} of {len(header)} columns "
            f"({first_three(named)}); the first line names every column: remove titles above it "
            "and columns without a name"
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: two columns are called {twice[0]!r} (line {rows[0][0]}); rename or remove one"
        )
    if len(rows) == 1:
        raise DataError(f"{path}: has no rows; a table of images needs at least a header and rows")
    for line, row in rows[1:]:
        if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
            raise DataError(
                f"{path}: line {line} has {len(row)} fields and the header has {len(header)}; a "
                "text with the separator in it needs quotes, and each row needs every field"
            )
    return {name: tuple(clean(row[at]) for _, row in rows[1:]) for at, name in enumerate(header)}
