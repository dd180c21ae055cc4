"""A Word file of a journal or an institute, in whose page and styles a report is set."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import docx
from docx.document import Document
from docx.enum.style import WD_STYLE_TYPE
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.ns import qn

from outerfold.storage.errors import DataError, first_line

HEADINGS = ("Title", "Heading 1", "Caption")
"""Styles of the paragraphs that a template dresses; one that it lacks is added as plain text."""
LEAST_WIDTH = 4.0
"""Inches between the margins that tables and figures need."""
_DRESS = ("w:rFonts", "w:sz", "w:color", "w:b")
_READ_ERRORS = (PackageNotFoundError, zipfile.BadZipFile, KeyError, ValueError, SyntaxError)


def read_template(path: Path) -> bytes:
    """Contents of a Word file that can be a template.

    Raises:
        DataError: it cannot be read, is no DOCX, or leaves too little room between its margins.
    """
    try:
        contents = path.read_bytes()
        sheet = open_template(contents)
    except OSError as error:
        raise DataError(f"--docx-template {path}: cannot be read ({error.strerror})") from None
    except _READ_ERRORS as error:
        raise DataError(
            f"--docx-template {path}: is no Word document ({first_line(error)}); save the template "
            "as .docx"
        ) from None
    width = text_width(sheet)
    if width < LEAST_WIDTH:
        raise DataError(
            f"--docx-template {path}: leaves {width:.1f} inches between its margins, and tables "
            f"need {LEAST_WIDTH}; set its last section in one column with smaller margins"
        )
    return contents


def open_template(contents: bytes) -> Document:
    """Empty document with the page, the styles, the header and the footer of a template."""
    sheet = docx.Document(BytesIO(contents))
    body = sheet.element.body
    for element in list(body):
        if element.tag != qn("w:sectPr"):
            body.remove(element)
    there = {style.name for style in sheet.styles}
    for name in HEADINGS:
        if name not in there:
            sheet.styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH, builtin=True)
    return sheet


def text_width(sheet: Document) -> float:
    """Inches between the margins of a document's last section; those of A4 where it names none."""
    last = sheet.sections[-1]
    sides = (last.left_margin, last.right_margin)
    if last.page_width is None or None in sides:
        return 6.5
    return float((last.page_width - sum(side for side in sides if side)) / 914400)


def follow_styles(sheet: Document, body: int) -> None:
    """Leave fonts, sizes and colours of titles, captions and text to the styles of the document.

    Args:
        sheet: document that was written with its own.
        body: size of its text, in points; smaller letters, as of notes, keep their size.
    """
    for paragraph in sheet.paragraphs:
        dressed = paragraph.style is not None and paragraph.style.name in HEADINGS
        for run in paragraph.runs:
            dress = run._element.rPr
            if dress is None:
                continue
            usual = run.font.size is not None and run.font.size.pt == body
            for tag in _DRESS if dressed else ("w:sz",) if usual else ():
                for element in dress.findall(qn(tag)):
                    dress.remove(element)
