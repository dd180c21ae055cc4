"""DOCX files made of blocks and figures, in journal style."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO

import docx
from docx.document import Document
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Inches, Pt, RGBColor
from docx.table import Table as DocxTable
from docx.table import _Cell
from docx.text.paragraph import Paragraph as DocxParagraph
from PIL import Image

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture, Table
from outerfold.reports.journal_style import printed_style
from outerfold.reports.render.archive import without_dates
from outerfold.reports.render.word_template import (
    PAGE,
    TEXT_WIDTH,
    follow_styles,
    free_line,
    has_text,
    open_template,
    running_lines,
    text_width,
)

_BODY, _SMALL, _TINY = 10, 8, 6  # points
_MARGINS = 0.16  # inches to the left and right of a cell's text, together
_LETTER = 0.56  # mean width of a letter over its size
_SHORT = 20  # letters: a cell of so many is better left in one line
_LONG = 4000  # letters: a table with more does not fit on one page
_WORD = re.compile(r"[^\s–/]+[–/]?")  # a line may be broken after these signs
_ROUNDING = 1e-3  # inches, of margins that are whole units of Word
_PAGE_HEIGHT = 7.2  # inches left for a figure above its caption
_NUMBERED = re.compile(r"(Figure|Table) (\d+)(\..*)", re.DOTALL)
_ALARM = RGBColor(0xB3, 0x26, 0x1E)


def document(
    blocks: Sequence[Block],
    *,
    title: str = "",
    properties_title: str = "",
    images: dict[str, bytes] | None = None,
    date: str = "",
    stamp: str = "",
    template: bytes = b"",
) -> bytes:
    """Bytes of a DOCX file with these blocks; equal blocks give equal bytes.

    Args:
        title: title printed above the blocks; empty for none.
        properties_title: title in the file's properties if no title is printed.
        images: file contents of every ``Picture`` among the blocks, by name.
        date: date of the file in ISO format, such as the end of the run; empty for none.
        stamp: warning at the top of every page; empty for none.
        template: Word file whose page, styles and running lines are used; empty for none.
    """
    sheet = _new_document(title, title or properties_title, template)
    _set_date(sheet, date)
    _add_running_lines(sheet, stamp)
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
    if template:
        follow_styles(sheet, _BODY)
    target = BytesIO()
    sheet.save(target)
    return without_dates(target.getvalue())


def _new_document(title: str, called: str, template: bytes) -> Document:
    sheet = open_template(template) if template else _plain_document()
    properties = sheet.core_properties
    properties.author, properties.title, properties.comments = "outerfold", called, ""
    if title:
        _style_heading(sheet.add_paragraph(title, style="Title"), 16)
    return sheet


def _plain_document() -> Document:
    sheet = docx.Document()
    for section in sheet.sections:
        for side, value in PAGE.items():
            setattr(section, side, value)
    normal = sheet.styles["Normal"]
    normal.font.name, normal.font.size = printed_style().face, Pt(_BODY)
    normal.paragraph_format.space_after = Pt(6)
    return sheet


def _set_date(sheet: Document, date: str) -> None:
    """Set the file's dates; without one, remove that of the template, which is of 2013."""
    properties = sheet.core_properties
    if date:
        properties.created = properties.modified = datetime.fromisoformat(date)
        return
    for element in list(properties._element):
        if element.tag in (qn("dcterms:created"), qn("dcterms:modified")):
            properties._element.remove(element)


def _add_running_lines(sheet: Document, stamp: str) -> None:
    """Write the stamp above every page, and its number of all pages below it.

    Lines of a template stay; a footer with text of its own gets no numbers.
    """
    headers, footers = running_lines(sheet)
    for header in headers if stamp else ():
        run = free_line(header).add_run(stamp)
        run.bold, run.font.size, run.font.color.rgb = True, Pt(_SMALL), _ALARM
    for footer in footers:
        if has_text(footer):
            continue
        foot = free_line(footer)
        foot.alignment = WD_ALIGN_PARAGRAPH.RIGHT
        for text, field in (("Page ", "PAGE"), (" of ", "NUMPAGES")):
            foot.add_run(text).font.size = Pt(_SMALL)
            _add_field(foot, field, "1", _SMALL)


def _add_field(paragraph: DocxParagraph, instruction: str, shown: str, size: int) -> None:
    """Add a field that Word computes; ``shown`` stands there until it does."""
    for kind, text in (
        ("begin", ""),
        ("", instruction),
        ("separate", ""),
        ("t", shown),
        ("end", ""),
    ):
        run = paragraph.add_run(text if kind == "t" else "")
        run.font.size = Pt(size)
        if kind == "t":
            continue
        if kind:
            mark = OxmlElement("w:fldChar")
            mark.set(qn("w:fldCharType"), kind)
        else:
            mark = OxmlElement("w:instrText")
            mark.set(qn("xml:space"), "preserve")
            mark.text = f" {text} "
        run._element.append(mark)


def _add_caption(sheet: Document, text: str) -> DocxParagraph:
    """Add a caption whose number is a field, so that it can be referred to and listed."""
    paragraph = sheet.add_paragraph(style="Caption")
    found = _NUMBERED.match(text)
    if found is None:
        paragraph.add_run(text)
    else:
        kind, number, rest = found.groups()
        paragraph.add_run(f"{kind} ")
        _add_field(paragraph, f"SEQ {kind} \\* ARABIC \\r {number}", number, _BODY)
        paragraph.add_run(rest)
    for run in paragraph.runs:
        run.font.size, run.bold, run.font.color.rgb = Pt(_BODY), True, RGBColor(0, 0, 0)
    return paragraph


def _style_heading(heading: DocxParagraph, size: int) -> None:
    """Set a heading in black, since Word's headings are blue; ``size`` is in points."""
    heading.paragraph_format.space_before = Pt(10)
    for run in heading.runs:
        run.font.name, run.font.size = printed_style().face, Pt(size)
        run.font.color.rgb = RGBColor(0, 0, 0)
        fonts = run._element.get_or_add_rPr().get_or_add_rFonts()
        for theme in ("asciiTheme", "hAnsiTheme"):  # a theme font would override the name
            fonts.attrib.pop(qn(f"w:{theme}"), None)


def _add_paragraph(
    sheet: Document, text: str, *, size: int = _BODY, strong: bool = False
) -> DocxParagraph:
    paragraph = sheet.add_paragraph()
    run = paragraph.add_run(text)
    run.font.size, run.bold = Pt(size), strong
    if strong:
        run.font.color.rgb = _ALARM
    return paragraph


def _add_picture(sheet: Document, picture: Picture, image: bytes) -> None:
    with Image.open(BytesIO(image)) as opened:
        shape = opened.height / opened.width
    wide = min(_room(sheet), _PAGE_HEIGHT / shape)
    shown = sheet.add_picture(BytesIO(image), width=Inches(wide))
    shown._inline.docPr.set("descr", f"{picture.caption} {picture.description}".strip())
    sheet.paragraphs[-1].paragraph_format.keep_with_next = True
    _add_caption(sheet, picture.caption)
    if picture.description:
        _add_paragraph(sheet, picture.description)


def _room(sheet: Document) -> float:
    """Inches that a table or a figure may take."""
    return min(TEXT_WIDTH, text_width(sheet) + _ROUNDING)


def _add_table(sheet: Document, table: Table) -> None:
    caption = _add_caption(sheet, table.caption)
    caption.paragraph_format.keep_with_next = True
    made = sheet.add_table(rows=1 + len(table.rows), cols=len(table.header))
    made.alignment = WD_TABLE_ALIGNMENT.LEFT
    size, widths = fit_columns((table.header, *table.rows), _room(sheet))
    made.autofit = False
    for column, width in zip(made.columns, widths, strict=True):
        column.width = Inches(width)  # LibreOffice reads this one, Word that of the cells
    whole = sum(len(cell) for row in table.rows for cell in row) <= _LONG
    for index, texts in enumerate((table.header, *table.rows)):
        last = index == len(table.rows)
        joined = bool(table.notes) if last else whole or index == 0
        _fill_row(made, index, texts, size, joined=joined)
        for cell, width in zip(made.rows[index].cells, widths, strict=True):
            cell.width = Inches(width)
    _add_rules(made)
    _repeat_header(made)
    for number, note in enumerate(table.notes):
        paragraph = _add_paragraph(sheet, note, size=_SMALL)
        paragraph.paragraph_format.space_after = Pt(1)
        paragraph.paragraph_format.space_before = Pt(4 if number == 0 else 0)
        paragraph.paragraph_format.keep_with_next = number < len(table.notes) - 1
    if not table.notes:
        _add_paragraph(sheet, "", size=4)


def fit_columns(
    rows: Sequence[tuple[str, ...]], width: float = TEXT_WIDTH
) -> tuple[int, list[float]]:
    """Size of a table's letters, in points, and width of each column, in inches.

    A short cell, such as an estimate with its interval, is not broken where all of them fit; a
    word never is. The rest of the page goes to the columns by the number of letters they hold.

    Args:
        rows: cells of every row, the header first.
        width: inches between the margins.
    """
    columns = list(zip(*rows, strict=True))
    words, cells = ([_least(column, whole) for column in columns] for whole in (0, _SHORT))
    first = _SMALL if len(columns) > 4 else 9
    size, least = next(
        (
            (size, least)
            for least, last in ((cells, first - 1), (words, _TINY))
            for size in range(first, last - 1, -1)
            if sum(least) <= _letters(size, len(columns), width)
        ),
        (_TINY, words),
    )
    spare = max(0.0, _letters(size, len(columns), width) - sum(least))
    held = [sum(map(len, column)) for column in columns]
    chosen = [one + spare * some / sum(held) for one, some in zip(least, held, strict=True)]
    room = width - _MARGINS * len(columns)
    return size, [_MARGINS + room * one / sum(chosen) for one in chosen]


def _least(column: tuple[str, ...], whole: int) -> int:
    """Letters of the longest part of a column that is not broken.

    Args:
        whole: length up to which a cell below the header is one part.
    """
    head, *body = column
    parts = [line for cell in body for line in cell.split("\n") if len(line) <= whole]
    words = [word for cell in (head, *body) for word in _WORD.findall(cell)]
    return 1 + max(map(len, (*parts, *words)), default=0)


def _letters(size: int, columns: int, width: float) -> float:
    """Number of letters of a size that a row of so many columns holds."""
    return (width - _MARGINS * columns) * 72 / (_LETTER * size)


def _fill_row(
    made: DocxTable, index: int, texts: tuple[str, ...], size: int, *, joined: bool
) -> None:
    """Fill a row; a joined one stays on the page of what follows it."""
    for cell, text in zip(made.rows[index].cells, texts, strict=True):
        paragraph = cell.paragraphs[0]
        paragraph.paragraph_format.space_after = Pt(1)
        paragraph.paragraph_format.keep_with_next = joined
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
