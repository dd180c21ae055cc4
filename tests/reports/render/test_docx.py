"""What a DOCX carries beside its text: captions, alternative texts, pages, dates."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import datetime

import docx
import pytest
from PIL import Image

from outerfold.reports.blocks import Heading, Picture, Table
from outerfold.reports.figures.catalogue import figures_of
from outerfold.reports.render.docx import document, fit_columns


def _image() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (40, 20), "white").save(target, "PNG")
    return target.getvalue()


BLOCKS = [
    Heading("Results"),
    Table("Table 3. Numbers", ("a", "b"), (("1", "2"),), ("a note",)),
    Picture("one", "Figure 2. A curve.", "How to read it."),
]


def made(**how) -> docx.document.Document:
    return docx.Document(io.BytesIO(document(BLOCKS, images={"one": _image()}, **how)))


def parts(of: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(of)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".xml")]
        return "\n".join(archive.read(name).decode() for name in names)


def test_a_picture_has_an_alternative_text():
    (shape,) = made().inline_shapes
    assert shape._inline.docPr.get("descr") == "Figure 2. A curve. How to read it."


def test_captions_are_captions_with_a_number_that_word_keeps():
    captions = [p for p in made().paragraphs if p.style.name == "Caption"]
    assert [p.text for p in captions] == ["Table 3. Numbers", "Figure 2. A curve."]
    text = parts(document(BLOCKS, images={"one": _image()}))
    assert re.findall(r"SEQ (\w+) \\\* ARABIC \\r (\d)", text) == [("Table", "3"), ("Figure", "2")]


def test_every_page_has_its_number_of_all_and_the_stamp():
    text = parts(document(BLOCKS, images={"one": _image()}, stamp="SYNTHETIC DATA"))
    assert "NUMPAGES" in text
    assert made(stamp="SYNTHETIC DATA").sections[0].header.paragraphs[0].text == "SYNTHETIC DATA"
    assert made().sections[0].footer.paragraphs[0].text == "Page 1 of 1"


def test_the_title_stands_above_the_headings():
    styles = [p.style.name for p in made(title="Report").paragraphs]
    assert styles[:2] == ["Title", "Heading 1"]


def test_a_table_stays_with_its_first_note():
    sheet = made()
    assert all(
        cell.paragraphs[0].paragraph_format.keep_with_next
        for row in sheet.tables[0].rows
        for cell in row.cells
    )


@pytest.mark.parametrize("date", ["2026-03-04T05:06:07+00:00", ""])
def test_the_dates_are_those_of_the_run_and_not_of_a_template(date):
    found = made(date=date).core_properties
    if date:
        assert found.created.replace(tzinfo=None) == datetime(2026, 3, 4, 5, 6, 7)
        assert found.modified == found.created
    else:
        assert "2013" not in parts(document(BLOCKS, images={"one": _image()}))
    assert document(BLOCKS, images={"one": _image()}, date=date) == document(
        BLOCKS, images={"one": _image()}, date=date
    )


def test_the_whole_report_has_every_figure_and_numbered_tables(folder, binary):
    sheet = docx.Document(str(folder / "Report.docx"))
    assert len(sheet.inline_shapes) == len(figures_of(binary.numbers))
    captions = [p.text for p in sheet.paragraphs if p.style.name == "Caption"]
    tables = [int(n) for n in re.findall(r"^Table (\d+)\.", "\n".join(captions), re.MULTILINE)]
    assert tables == list(range(1, len(sheet.tables) + 1))
    text = "\n".join(p.text for p in sheet.paragraphs)
    for said in ("Question:", "Methods", "tree-structured Parzen", "References"):
        assert said in text


def test_a_column_is_as_wide_as_its_longest_word_and_a_long_text_gets_the_rest():
    rows = [("Item", "Sensitivity", "Answer"), ("1", "0.78 (0.47–0.93)", "a long answer " * 20)]
    size, widths = fit_columns(rows)
    assert sum(widths) == pytest.approx(6.5)
    assert widths[2] > 3 * widths[0]
    assert widths[1] * 72 / (0.56 * size) >= len("Sensitivity")
    many = tuple(f"Column{number}" for number in range(12))
    assert fit_columns([many, many])[0] < size
