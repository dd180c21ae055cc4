"""Workbooks (XLSX) of tables, one sheet a table; equal tables give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from io import BytesIO

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter

from outerfold.reports.blocks import Table
from outerfold.reports.render.archive import without_dates

_NAME_LETTERS = 31  # a sheet's name cannot be longer
_WIDEST = 48
_PROPERTIES = "docProps/core.xml"
_CHANGED = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*(<)")
_PREFIX = "Table_"


def workbook(tables: Mapping[str, Table], date: str) -> bytes:
    """Bytes of a workbook with a sheet for each table: caption, header, rows, notes.

    Every cell is text, so that no name becomes a formula and no interval a date.

    Args:
        tables: tables by the name of their file, such as ``Table_Test_Fold_Metrics``.
        date: date of the file in ISO format; empty for none.
    """
    book = Workbook()
    book.remove(book.active)
    for name, table in tables.items():
        _add_sheet(book, name.removeprefix(_PREFIX)[:_NAME_LETTERS], table)
    made = datetime.fromisoformat(date).replace(tzinfo=None) if date else datetime(1980, 1, 1)
    book.properties.created = made
    target = BytesIO()
    book.save(target)
    stamp = f"{made:%Y-%m-%dT%H:%M:%SZ}"

    def date_it(name: str, body: bytes) -> bytes:
        # openpyxl writes the present time as that of the last change.
        return _CHANGED.sub(rf"\g<1>{stamp}\g<2>".encode(), body) if name == _PROPERTIES else body

    return without_dates(target.getvalue(), date_it)


def _add_sheet(book: Workbook, name: str, table: Table) -> None:
    sheet = book.create_sheet(name)
    notes = [(note,) for note in table.notes]
    lines = [(table.caption,), table.header, *table.rows, (), *notes]
    for row, cells in enumerate(lines, start=1):
        for column, text in enumerate(cells, start=1):
            cell = sheet.cell(row, column, text)
            cell.data_type = "s"  # also of a text like a formula
            cell.alignment = Alignment(wrap_text=1 < row < 3 + len(table.rows), vertical="top")
            cell.font = Font(bold=row <= 2)
    for column, title in enumerate(table.header):
        texts = [title, *(row[column] for row in table.rows)]
        longest = max(len(line) for text in texts for line in text.split("\n"))
        sheet.column_dimensions[get_column_letter(column + 1)].width = min(_WIDEST, longest + 2)
    sheet.freeze_panes = "B3"
