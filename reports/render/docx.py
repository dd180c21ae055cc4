"""DOCX files made of blocks and figures, in journal style."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from io import BytesIO

import docx
from docx.document import Document
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Inches, Pt, RGBColor
from docx.table import Table as DocxTable
from docx.table import _Cell
from docx.text.paragraph import Paragraph as DocxParagraph
from PIL import Image

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture, Table

_BODY, _SMALL = 10, 8  # points
_PAGE_WIDTH = 6.5  # inches between margins
_PAGE_HEIGHT = 7.2  # inches left for a figure above its caption
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip entry can carry
_ALARM = RGBColor(0xB3, 0x26, 0x1E)


def document(
    blocks: Sequence[Block],
    *,
    title: str = "",
    properties_title: str = "",
    images: dict[str, bytes] | None = None,
) -> bytes:
    """Bytes of a DOCX file with these blocks; equal blocks give equal bytes.

    Args:
        title: title printed above the blocks; empty for none.
        properties_title: title in the file's properties if no title is printed.
        images: file contents of every ``Picture`` among the blocks, by name.
    """
    sheet = _new_document(title, title or properties_title)
    for block in blocks:
        match block:
            case Heading(text):
                _style_heading(sheet.add_heading(text, level=1), 13)
            case Paragraph(text, strong):
                _add_paragraph(sheet, text, strong=strong)
            case Table():
                _add_table(sheet, block)
            case Picture():
                _add_picture(sheet, block, (images or {})[block.name])
    target = BytesIO()
    sheet.save(target)
    return _remove_dates(target.getvalue())


def _new_document(title: str, called: str) -> Document:
    sheet = docx.Document()
    for section in sheet.sections:
        section.page_width, section.page_height = Inches(8.27), Inches(11.69)
        section.left_margin = section.right_margin = Inches((8.27 - _PAGE_WIDTH) / 2)
        section.top_margin = section.bottom_margin = Inches(0.9)
    normal = sheet.styles["Normal"]
    normal.font.name, normal.font.size = "Arial", Pt(_BODY)
    normal.paragraph_format.space_after = Pt(6)
    properties = sheet.core_properties
    properties.author, properties.title, properties.comments = "outerfold", called, ""
    if title:
        _style_heading(sheet.add_heading(title, level=1), 16)
    return sheet


def _style_heading(heading: DocxParagraph, size: int) -> None:
    """Set a heading in black Arial, since Word's headings are blue; ``size`` is in points."""
    heading.paragraph_format.space_before = Pt(10)
    for run in heading.runs:
        run.font.name, run.font.size = "Arial", Pt(size)
        run.font.color.rgb = RGBColor(0, 0, 0)
        fonts = run._element.get_or_add_rPr().get_or_add_rFonts()
        for theme in ("asciiTheme", "hAnsiTheme"):  # a theme font would override the name
            fonts.attrib.pop(qn(f"w:{theme}"), None)


def _add_paragraph(
    sheet: Document, text: str, *, size: int = _BODY, strong: bool = False, bold: bool = False
) -> DocxParagraph:
    paragraph = sheet.add_paragraph()
    run = paragraph.add_run(text)
    run.font.size, run.bold = Pt(size), strong or bold
    if strong:
        run.font.color.rgb = _ALARM
    return paragraph


def _add_picture(sheet: Document, picture: Picture, image: bytes) -> None:
    with Image.open(BytesIO(image)) as opened:
        shape = opened.height / opened.width
    wide = min(_PAGE_WIDTH, _PAGE_HEIGHT / shape)
    sheet.add_picture(BytesIO(image), width=Inches(wide))
    sheet.paragraphs[-1].paragraph_format.keep_with_next = True
    _add_paragraph(sheet, picture.caption, bold=True)
    if picture.description:
        _add_paragraph(sheet, picture.description)


def _add_table(sheet: Document, table: Table) -> None:
    caption = _add_paragraph(sheet, table.caption, bold=True)
    caption.paragraph_format.keep_with_next = True
    made = sheet.add_table(rows=1 + len(table.rows), cols=len(table.header))
    made.alignment = WD_TABLE_ALIGNMENT.LEFT
    size = _SMALL if len(table.header) > 4 else 9
    for index, texts in enumerate((table.header, *table.rows)):
        _fill_row(made, index, texts, size)
    _add_rules(made)
    _repeat_header(made)
    for number, note in enumerate(table.notes):
        paragraph = _add_paragraph(sheet, note, size=_SMALL)
        paragraph.paragraph_format.space_after = Pt(1)
        paragraph.paragraph_format.space_before = Pt(4 if number == 0 else 0)
    if not table.notes:
        _add_paragraph(sheet, "", size=4)


def _fill_row(made: DocxTable, index: int, texts: tuple[str, ...], size: int) -> None:
    for cell, text in zip(made.rows[index].cells, texts, strict=True):
        paragraph = cell.paragraphs[0]
        paragraph.paragraph_format.space_after = Pt(1)
        paragraph.paragraph_format.keep_with_next = index < len(made.rows) - 1
        run = paragraph.add_run(text)
        run.font.size, run.bold = Pt(size), index == 0


def _add_rules(made: DocxTable) -> None:
    """Draw lines above and below the header and below the last row; no vertical lines."""
    for cell in made.rows[0].cells:
        _set_border(cell, top=12, bottom=6)
    for cell in made.rows[-1].cells:
        _set_border(cell, top=6 if len(made.rows) == 2 else None, bottom=12)


def _set_border(cell: _Cell, **eighths: int | None) -> None:
    """Set a cell's borders; Word's unit for their thickness is an eighth of a point."""
    borders = OxmlElement("w:tcBorders")
    for edge, thickness in eighths.items():
        if thickness is None:
            continue
        line = OxmlElement(f"w:{edge}")
        for key, setting in (("val", "single"), ("sz", str(thickness)), ("color", "000000")):
            line.set(qn(f"w:{key}"), setting)
        borders.append(line)
    cell._element.get_or_add_tcPr().append(borders)


def _repeat_header(made: DocxTable) -> None:
    """Repeat the header row on every page of the table; no row is split between pages."""
    mark = OxmlElement("w:tblHeader")
    made.rows[0]._tr.get_or_add_trPr().append(mark)
    for row in made.rows:
        row._tr.get_or_add_trPr().append(OxmlElement("w:cantSplit"))


def _remove_dates(archive: bytes) -> bytes:
    """Copy of a zip archive (a DOCX is one) without the times of its entries."""
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(archive)) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            fresh = zipfile.ZipInfo(entry.filename, _EPOCH)
            fresh.compress_type = zipfile.ZIP_DEFLATED
            fresh.external_attr = entry.external_attr
            new.writestr(fresh, old.read(entry.filename))
    return target.getvalue()
