"""CSV tables that a spreadsheet shows as they are: no text becomes a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import zip_longest
from pathlib import Path

_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠].", re.DOTALL)
"""Beginning of a text that a spreadsheet takes for a formula, or that ``plain_cell`` may have made.
A sign alone, as in the classes + and -, is none."""
_NUMBER = r"[-+−]?\d+(\.\d+)?"
_WITH_INTERVAL = re.compile(rf"{_NUMBER} \({_NUMBER} to {_NUMBER}\)")
"""A signed number and its interval, which no spreadsheet can read as a formula."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text of a table; texts that a spreadsheet would run begin with an apostrophe.

    Example:
        >>> csv_text(["id", "score"], [["=1+1", -0.5]])
        "id,score\\n'=1+1,-0.5\\n"
    """
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([plain_cell(cell) for cell in header])
    table.writerows([plain_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def plain_cell(cell: object) -> object:
    """Cell of a table; a text like a formula gets an apostrophe before it, a number stays.

    Example:
        >>> [plain_cell(cell) for cell in ("@SUM(A1)", "-0.5", "+", "P-1")]
        ["'@SUM(A1)", '-0.5', '+', 'P-1']
        >>> plain_cell("+0.035 (−0.330 to 0.400)")
        '+0.035 (−0.330 to 0.400)'
    """
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _WITH_INTERVAL.fullmatch(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def read_cell(text: str) -> str:
    """Text of which ``plain_cell`` made ``text``.

    Example:
        >>> read_cell("'=1+1")
        '=1+1'
    """
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def read_csv_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table of ``csv_text``, as texts: names may look like numbers or gaps.

    Raises:
        OSError: the file cannot be read.
        csv.Error: it is no CSV.
        ValueError: it is no UTF-8, or a row has more cells than the header.
    """
    with path.open(encoding="utf-8", newline="") as file:
        table = [[read_cell(cell) for cell in row] for row in csv.reader(file) if row]
    if not table:
        return []
    names, *rows = table
    if any(len(row) > len(names) for row in rows):
        raise ValueError("a row has more cells than the header")
    return [dict(zip_longest(names, row, fillvalue="")) for row in rows]
