"""A Word file of a journal or an institute, in whose page and styles a report is set."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import docx
from docx.document import Document
from docx.enum.style import WD_STYLE_TYPE
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.oxml.simpletypes import ST_TwipsMeasure
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.section import _Footer, _Header
from docx.shared import Inches, Length
from docx.text.paragraph import Paragraph as DocxParagraph

from outerfold.storage.errors import DataError, first_line

HEADINGS = ("Title", "Heading 1", "Caption")
"""Styles of the paragraphs that a template dresses; one that it lacks is added as plain text."""
LEAST_WIDTH = 4.0
"""Inches between the margins that tables and figures need."""
USUAL_GAP = "720"
"""Twentieths of a point between two columns of text that name no gap."""
TEXT_WIDTH = 6.5
"""Inches between the margins of a report's own page."""
PAGE = {
    "page_width": Inches(8.27),
    "page_height": Inches(11.69),
    "left_margin": Inches((8.27 - TEXT_WIDTH) / 2),
    "right_margin": Inches((8.27 - TEXT_WIDTH) / 2),
    "top_margin": Inches(0.9),
    "bottom_margin": Inches(0.9),
}
"""A report's own page, and that of a template that names none."""
_DRESS = ("w:rFonts", "w:sz", "w:color", "w:b")
_READ_ERRORS = (PackageNotFoundError, zipfile.BadZipFile, KeyError, ValueError, SyntaxError)


def read_template(path: Path) -> bytes:
    """Contents of a Word file that can be a template.

    Raises:
        DataError: it cannot be read, is no DOCX, or leaves too little room for tables.
    """
    try:
        contents = path.read_bytes()
        sheet = open_template(contents)
        widths = column_widths(sheet)
    except OSError as error:
        raise DataError(f"--docx-template {path}: cannot be read ({error.strerror})") from None
    except _READ_ERRORS as error:
        raise DataError(
            f"--docx-template {path}: is no Word document ({first_line(error)}); save the template "
            "as .docx"
        ) from None
    if min(widths) < LEAST_WIDTH:
        where = "in a column of its text" if len(widths) > 1 else "between its margins"
        raise DataError(
            f"--docx-template {path}: leaves {min(widths):.1f} inches {where}, and tables need "
            f"{LEAST_WIDTH}; set its last section in one column with smaller margins"
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
    if not len(sheet.sections):
        body.append(OxmlElement("w:sectPr"))
    last = sheet.sections[-1]
    for side, usual in PAGE.items():
        if getattr(last, side) is None:
            setattr(last, side, usual)
    return sheet


def text_width(sheet: Document) -> float:
    """Inches of the narrowest column of a document's last section, which names its page."""
    return min(column_widths(sheet))


def column_widths(sheet: Document) -> list[float]:
    """Inches of each column of text of a document's last section; one where it names none."""
    last = sheet.sections[-1]
    margins = (last.left_margin or 0) + (last.right_margin or 0) + (last.gutter or 0)
    inches = float(Length((last.page_width or 0) - margins).inches)
    columns = last._sectPr.find(qn("w:cols"))
    if columns is None:
        return [inches]
    named = [_inches(column, "w:w", "0") for column in columns.findall(qn("w:col"))]
    if named and columns.get(qn("w:equalWidth")) in ("0", "false", "off"):
        return named
    count = max(int(columns.get(qn("w:num")) or 1), 1)
    gaps = (count - 1) * _inches(columns, "w:space", USUAL_GAP)
    return [(inches - gaps) / count] * count


def _inches(element: BaseOxmlElement, name: str, usual: str) -> float:
    """Inches of an attribute: a number of twentieths of a point, or a length with a unit."""
    found = ST_TwipsMeasure.convert_from_xml(element.get(qn(name)) or usual)
    return float(Length(found).inches)


def running_lines(sheet: Document) -> tuple[list[_Header], list[_Footer]]:
    """Headers and footers that pages show: also those of first and of even pages of their own."""
    headers, footers = list[_Header](), list[_Footer]()
    for section in sheet.sections:
        headers.append(section.header)
        footers.append(section.footer)
        if section.different_first_page_header_footer:
            headers.append(section.first_page_header)
            footers.append(section.first_page_footer)
        if sheet.settings.odd_and_even_pages_header_footer:
            headers.append(section.even_page_header)
            footers.append(section.even_page_footer)
    return headers, footers


def has_text(part: _Header | _Footer) -> bool:
    """Whether a header or a footer says anything, also within a content control or a table."""
    return _says(part._element)


def free_line(part: _Header | _Footer) -> DocxParagraph:
    """An empty paragraph of a header or a footer, which is added where there is none."""
    free = (line for line in part.paragraphs if not _says(line._element))
    return next(free, None) or part.add_paragraph()


def _says(element: BaseOxmlElement) -> bool:
    texts = element.xpath(".//w:t | .//w:instrText")
    return any((text.text or "").strip() for text in texts)


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
