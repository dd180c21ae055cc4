"""Files that `outerfold report` adds for a submission."""

from __future__ import annotations

import csv
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from openpyxl import load_workbook

from outerfold.reports.blocks import Table
from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.figures.style import vectors
from outerfold.reports.render.sheets import workbook
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.submission import write_whole_report
from outerfold.reports.write import SUBMISSION, table_blocks, write_report
from tests.reports.small_pictures import draw_small

DATE = "2026-03-04T05:06:07+00:00"
TABLE = Table("Table 1. Odd names", ("name", "value"), (("=1+1", "0.5\n(0.4–0.6)"),), ("Note.",))


def test_a_workbook_holds_texts_and_no_time_of_its_making() -> None:
    body = workbook({"Table_Odd": TABLE}, DATE)
    assert body == workbook({"Table_Odd": TABLE}, DATE)
    book = load_workbook(BytesIO(body))
    sheet = book["Odd"]
    assert [[cell.value for cell in row] for row in sheet["A1:B3"]] == [
        ["Table 1. Odd names", None],
        ["name", "value"],
        ["=1+1", "0.5\n(0.4–0.6)"],
    ]
    assert sheet["A3"].data_type == "s"
    assert sheet["A5"].value == "Note."
    assert book.properties.modified.isoformat() == DATE[:19]


def test_a_vector_figure_is_the_same_when_it_is_drawn_again(binary: Evidence) -> None:
    draw = FIGURES["Figure_Class_Distribution_All"].draw
    made = vectors(draw, binary)
    assert made == vectors(draw, binary)
    assert made["svg"].startswith(b"<?xml")
    assert made["pdf"].startswith(b"%PDF")


def test_the_whole_report_has_every_table_and_checklist_and_a_later_report_keeps_none_of_them(
    binary: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_small(monkeypatch)
    for left in ("Table_Subgroups.docx", "Table_Subgroups.jpg", "Table_Mine.docx"):
        (tmp_path / left).touch()
    told: list[tuple[int, int, str]] = []
    write_whole_report(
        binary.run, tmp_path, {"ethics": "Waived by the board."}, lambda *step: told.append(step)
    )
    assert told[0] == (0, 1, "numbers")
    assert [done for done, _, _ in told[1:]] == list(range(len(told) - 1))
    assert {total for _, total, _ in told[1:]} == {len(told) - 1}
    assert {"Figure_Performance", "Report.docx", "Table_Net_Benefit.jpg"} < {n for _, _, n in told}
    folder = tmp_path / SUBMISSION
    tables = [name for name, _ in table_blocks(binary.numbers)]
    assert {"Table_Operating_Points", "Table_Net_Benefit"} < set(tables)
    pictures = {path.stem for path in tmp_path.glob("Table_*.jpg")}
    assert pictures == set(tables)
    found = {path.name for path in folder.iterdir()}
    assert {f"{name}.csv" for name in tables} <= found
    lists = [
        f"Checklist_{name}.{kind}"
        for name in ("TRIPOD_AI", "CLAIM_2024", "STARD_AI")
        for kind in ("csv", "docx")
    ]
    assert set(lists) <= found
    assert {f"Figure_Test_ROC_PR.{kind}" for kind in ("svg", "pdf")} <= found
    rows = list(csv.reader(StringIO((folder / "Checklist_TRIPOD_AI.csv").read_text())))
    assert ["17", "Waived by the board.", "paper.toml: ethics"] in [
        [row[0], row[2], row[3]] for row in rows
    ]
    assert len(load_workbook(folder / "Tables.xlsx").sheetnames) == len(tables)
    write_report(binary.run, tmp_path)
    assert not folder.exists()
    singles = {path.name for path in tmp_path.glob("Table_*")}
    assert singles >= {f"{name}.docx" for name in tables}
    assert "Table_Net_Benefit.jpg" not in singles
    assert not any(name.startswith("Table_Subgroups") for name in singles)
    assert "Table_Mine.docx" in singles
