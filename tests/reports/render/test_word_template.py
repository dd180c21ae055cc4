"""A report in the page, the styles and the running lines of a Word file."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import docx
import pytest
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Inches, Pt, RGBColor

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.render.docx import document
from outerfold.reports.render.word_template import read_template
from outerfold.storage.errors import DataError

BLOCKS: list[Block] = [
    Heading("Results"),
    Paragraph("A sentence."),
    Table("Table 1. Numbers", ("Metric", "Estimate"), (("ROC-AUC", "0.80"),), ("A note.",)),
]


def write_template(path: Path, *, margin: float = 1.5, header: str = "Our institute") -> Path:
    sheet = docx.Document()
    section = sheet.sections[0]
    section.page_width, section.page_height = Inches(8.5), Inches(11)
    section.left_margin = section.right_margin = Inches(margin)
    section.header.paragraphs[0].text = header
    style = sheet.styles["Heading 1"]
    style.font.size, style.font.color.rgb = Pt(22), RGBColor(0x80, 0, 0)
    sheet.add_paragraph("Replace this text.")
    sheet.save(str(path))
    return path


def test_page_styles_and_header_are_those_of_the_template(tmp_path: Path) -> None:
    template = read_template(write_template(tmp_path / "own.docx"))
    made = document(BLOCKS, title="A study", stamp="SYNTHETIC DATA", template=template)
    sheet = docx.Document(BytesIO(made))
    texts = [paragraph.text for paragraph in sheet.paragraphs]
    assert texts[:3] == ["A study", "Results", "A sentence."], "the template's own text is gone"
    heading, note = sheet.paragraphs[1], sheet.paragraphs[-1]
    assert (heading.style.name, heading.style.font.size.pt) == ("Heading 1", 22)
    assert heading.runs[0].font.size is heading.runs[0].font.color.rgb is None
    assert (sheet.paragraphs[2].runs[0].font.size, note.runs[0].font.size.pt) == (None, 8)
    section = sheet.sections[0]
    assert section.page_height == Inches(11)
    assert [one.text for one in section.header.paragraphs] == ["Our institute", "SYNTHETIC DATA"]
    assert sum(column.width.inches for column in sheet.tables[0].columns) <= 5.51
    assert made == document(BLOCKS, title="A study", stamp="SYNTHETIC DATA", template=template)


def test_a_style_that_the_template_lacks_is_added(tmp_path: Path) -> None:
    path = write_template(tmp_path / "bare.docx")
    sheet = docx.Document(str(path))
    for name in ("Title", "Caption"):
        sheet.styles[name].delete()
    sheet.save(str(path))
    made = docx.Document(BytesIO(document(BLOCKS, title="A", template=read_template(path))))
    assert [p.style.name for p in made.paragraphs][:1] == ["Title"]
    assert "Caption" in [p.style.name for p in made.paragraphs]


def test_what_can_be_no_template_is_refused(tmp_path: Path) -> None:
    text, dotx = tmp_path / "a.docx", tmp_path / "b.dotx"
    text.write_text("no zip", encoding="utf-8")
    usual = write_template(tmp_path / "c.docx")
    with zipfile.ZipFile(usual) as old, zipfile.ZipFile(dotx, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"document.main", b"template.main"))
    for path, found in (
        (text, "is no Word document"),
        (dotx, r"is no Word document .*save the template as \.docx"),
        (tmp_path / "none.docx", "cannot be read"),
        (tmp_path, "cannot be read"),
        (write_template(tmp_path / "d.docx", margin=2.5), r"leaves 3\.5 inches"),
    ):
        with pytest.raises(DataError, match=found):
            read_template(path)


def test_the_stamp_is_on_first_and_even_pages_and_a_number_is_not_written_twice(
    tmp_path: Path,
) -> None:
    path = write_template(tmp_path / "own.docx")
    sheet = docx.Document(str(path))
    section = sheet.sections[0]
    section.different_first_page_header_footer = True
    sheet.settings.odd_and_even_pages_header_footer = True
    section.first_page_header.paragraphs[0].text = "Letterhead"
    control = OxmlElement("w:sdt")  # as Word writes the page numbers that it offers
    control.append(OxmlElement("w:sdtContent"))
    control[0].append(section.footer.add_paragraph("Page 1 of 2")._element)
    section.footer._element.insert(0, control)
    sheet.save(str(path))
    made = document(BLOCKS, stamp="SYNTHETIC DATA", template=read_template(path))
    section = docx.Document(BytesIO(made)).sections[0]
    for header in (section.header, section.first_page_header, section.even_page_header):
        assert "SYNTHETIC DATA" in [line.text for line in header.paragraphs]
    texts = section.footer._element.xpath(".//w:t | .//w:instrText")
    assert [text.text for text in texts] == ["Page 1 of 2"]
    fields = section.first_page_footer._element.xpath(".//w:instrText")
    assert [field.text.strip() for field in fields] == ["PAGE", "NUMPAGES"]


def test_a_template_without_a_section_gets_the_usual_page(tmp_path: Path) -> None:
    path = write_template(tmp_path / "own.docx")
    sheet = docx.Document(str(path))
    sheet.element.body.remove(sheet.element.body.sectPr)
    sheet.save(str(path))
    made = docx.Document(BytesIO(document(BLOCKS, template=read_template(path))))
    assert made.sections[0].page_width.inches == pytest.approx(8.27, abs=1e-3)


@pytest.mark.parametrize(
    ("columns", "each", "found"),
    [
        ({"num": "2"}, [], r"leaves 2\.5 inches in a column of its text"),
        ({"num": "2", "space": "0"}, [], r"leaves 2\.8 inches in a column"),
        ({"num": "2", "equalWidth": "0"}, [5760, 1440], r"leaves 1\.0 inches in a column"),
        ({"num": "2", "space": "0.5in"}, [], r"leaves 2\.5 inches in a column"),
        ({"num": "2", "space": "wide"}, [], "is no Word document"),
        ({"num": "1"}, [], None),
        ({}, [], None),
        ({"num": "1", "equalWidth": "0"}, [7920], None),
    ],
)
def test_a_column_too_narrow_for_tables_is_refused(
    tmp_path: Path, columns: dict[str, str], each: list[int], found: str | None
) -> None:
    path = write_template(tmp_path / "own.docx")
    sheet = docx.Document(str(path))
    section = sheet.sections[-1]._sectPr
    for old in section.findall(qn("w:cols")):
        section.remove(old)
    told = OxmlElement("w:cols", {qn(f"w:{name}"): value for name, value in columns.items()})
    for width in each:
        told.append(OxmlElement("w:col", {qn("w:w"): str(width)}))
    section.append(told)
    sheet.save(str(path))
    if found is None:
        assert read_template(path)
        return
    with pytest.raises(DataError, match=found):
        read_template(path)


def test_a_gutter_takes_room_as_a_margin_does(tmp_path: Path) -> None:
    path = write_template(tmp_path / "own.docx")
    sheet = docx.Document(str(path))
    sheet.sections[-1].gutter = Inches(3)
    sheet.save(str(path))
    with pytest.raises(DataError, match=r"leaves 2\.5 inches between its margins"):
        read_template(path)
