from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import docx
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from outerfold.reports.blocks import Heading, Paragraph, Table
from outerfold.reports.figures.catalogue import FIGURES, pictures
from outerfold.reports.render.docx import document
from outerfold.reports.render.palette import DPI, WIDTH
from outerfold.reports.render.picture import draw_page, text_width, wrap_lines
from outerfold.reports.render.svg import kept_drawings
from outerfold.reports.report_page import page, with_figures
from outerfold.reports.results.results import gather_evidence
from outerfold.reports.sections.model_card import markdown, model_card
from outerfold.reports.sections.summary import summary, title
from outerfold.reports.sections.tables import overall_table, per_class_table
from outerfold.reports.sections.terminal import closing_table
from outerfold.reports.wording import number, plural, value
from outerfold.reports.write import write_report
from tests.places import ROOT
from tests.reports.run_factory import BINARY, FOUR, make_run, unfinished

SHOWN = [
    plate
    for plate in FIGURES.values()
    if plate.name not in ("Figure_Subgroups", "Figure_Search_Parameters")
]
"""Figures of a report that was asked for no subgroups and whose search space was not kept."""
GOLDEN = ROOT / "tests" / "golden"
TABLES = [
    f"Table_{side}_{kind}_Metrics"
    for side in ("Validation", "Test")
    for kind in ("Overall", "PerClass")
] + ["Table_Test_Patient_Metrics"]
FOLDS = "Table_Test_Fold_Metrics"
ANSWERS = [
    f"Table_{name}"
    for name in (
        *("Operating_Points", "Calibration", "Fold_Calibration", "Net_Benefit"),
        *("Largest_Errors", "Search_Choices"),
    )
]
"""Tables of which the end of a run writes no picture."""
NUMBER = re.compile(r"\d+\.\d+")
ESTIMATE = re.compile(r"^\d\.\d\d\s\((\d\.\d\d–\d\.\d\d|no interval)\)\W*$")


def known_numbers(thing) -> set[str]:
    """Every number of ``results.json`` at two and three decimals."""
    if isinstance(thing, dict):
        return set().union(*map(known_numbers, thing.values())) if thing else set()
    if isinstance(thing, list):
        return set().union(*map(known_numbers, thing)) if thing else set()
    if isinstance(thing, str):
        return set(NUMBER.findall(thing))
    if isinstance(thing, bool) or thing is None:
        return set()
    return {f"{abs(thing):.{digits}f}" for digits in (2, 3)} | {f"{abs(thing):.3g}"}


def docx_text(path: Path) -> str:
    sheet = docx.Document(str(path))
    cells = [c.text for t in sheet.tables for row in t.rows for c in row.cells]
    return "\n".join([*(p.text for p in sheet.paragraphs), *cells])


def test_every_promised_file_is_written(folder):
    names = {path.name for path in folder.iterdir()}
    expected = {"results.json", "predictions.csv", "report.html", "comprehensive_results.png"}
    expected |= {"decision_curve.csv", "errors.csv"}
    expected |= {f"{p.name}{end}" for p in SHOWN[:-1] for end in (".jpg", ".docx")}
    expected |= {f"{name}{end}" for name in (*TABLES, FOLDS) for end in (".jpg", ".docx")}
    expected |= {f"{name}.docx" for name in ANSWERS}
    expected |= {
        "Report.docx",
        "methods.txt",
        "references.bib",
        "Summary_Experiment.docx",
        "Summary_Experiment.jpg",
    }
    assert names == expected | {"predictions_validation.csv", "predictions_patient.csv"}


@pytest.mark.parametrize("name", [*TABLES, FOLDS, *ANSWERS, "Summary_Experiment"])
def test_every_number_of_a_document_is_in_the_results(name, folder, binary):
    printed = set(NUMBER.findall(docx_text(folder / f"{name}.docx")))
    assert printed
    standing = {"1.4"}  # the stretch, in the name of the method
    assert printed - known_numbers(binary.numbers) <= standing


@pytest.mark.parametrize("name", TABLES)
def test_every_estimate_of_a_table_carries_its_interval(name, folder):
    (table,) = docx.Document(str(folder / f"{name}.docx")).tables
    overall = "PerClass" not in name
    for row in table.rows[1:]:
        for cell in [row.cells[1]] if overall else row.cells[1:]:
            assert ESTIMATE.match(cell.text.rstrip("ᵃᵇᶜᵈᵉᶠᵍʰ")), cell.text


@pytest.mark.parametrize("name", [*TABLES, FOLDS, "Summary_Experiment"])
def test_tables_are_pictures_too(name, folder):
    with Image.open(folder / f"{name}.jpg") as image:
        assert [round(d) for d in image.info["dpi"]] == [300, 300]
        assert image.convert("L").getextrema()[0] < 60


def test_every_document_is_stamped_and_names_its_figure_or_table(folder):
    for path in folder.glob("*.docx"):
        assert "SYNTHETIC DATA" in docx_text(path), path.name
    for index, plate in enumerate(SHOWN[:-1], start=1):
        text = docx_text(folder / f"{plate.name}.docx")
        assert text.lstrip().startswith(f"Figure {index}.")
        assert "110 patients" in text


def test_a_figure_document_holds_its_figure(folder):
    with zipfile.ZipFile(folder / "Figure_Test_ROC_PR.docx") as archive:
        (inside,) = [n for n in archive.namelist() if n.startswith("word/media/")]
        assert archive.read(inside) == (folder / "Figure_Test_ROC_PR.jpg").read_bytes()


def test_validation_is_labelled_optimistic_and_test_is_not(binary):
    assert "optimistic" in overall_table(binary.numbers, "validation").caption
    assert any("Optimistic" in note for note in overall_table(binary.numbers, "validation").notes)
    assert "ptimistic" not in str(per_class_table(binary.numbers, "test"))


def test_a_table_has_three_rules_and_no_vertical_line(folder):
    with zipfile.ZipFile(folder / "Table_Test_Overall_Metrics.docx") as archive:
        text = archive.read("word/document.xml").decode()
    columns = 6
    assert text.count("<w:top ") == columns
    assert text.count("<w:bottom ") == 2 * columns
    assert "<w:left " not in text.split("<w:tbl>")[1].split("</w:tbl>")[0]


def test_the_same_run_gives_the_same_bytes(folder, binary):
    again = gather_evidence(make_run(BINARY)).numbers
    images = {plate.name: (folder / plate.file).read_bytes() for plate in SHOWN}
    kept = (folder / "report.html").read_text(encoding="utf-8")
    assert page(again, images, kept_drawings(kept)) == kept
    glance = pictures(again)["comprehensive_results"]
    shown = [*with_figures(summary(again), again), glance]
    made = document(shown, title=title(again), images=images, stamp="SYNTHETIC DATA")
    assert made == (folder / "Summary_Experiment.docx").read_bytes()


def test_a_run_without_a_finished_fold_still_gets_a_report(nothing, tmp_path):
    write_report(nothing.run, tmp_path)
    text = docx_text(tmp_path / "Summary_Experiment.docx")
    assert "INCOMPLETE. 0 of 5 outer folds have finished" in text
    assert "no performance to report yet" in text


def test_the_page_needs_no_network_and_shows_every_figure(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(https?:)?//", html)
    inline = [plate.name for plate in SHOWN if plate.inline]
    assert list(kept_drawings(html)) == inline
    assert html.count("data:image/jpeg;base64,") == len(SHOWN) - len(inline)
    assert html.index('id="Figure_Performance"') < html.index("<h2")
    assert "SYNTHETIC DATA" in html
    assert "[1.000" not in html


def test_page_escapes_what_the_data_are_called(nothing):
    named = replace(nothing.run, name="<script>x</script>")
    assert "<script>x" not in page(gather_evidence(named).numbers, {})


def test_the_contents_of_the_page_lead_to_every_heading_and_a_row_has_a_head(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    contents = html[html.index("<nav") : html.index("</nav>")]
    headings = re.findall(r'<h2 id="([^"]+)"', html)
    assert len(headings) > 8
    assert re.findall(r'href="#([^"]+)"', contents) == headings
    assert len(set(headings)) == len(headings)
    assert html.count('<th scope="row">') == html.count("<tr>") - html.count("<thead>")
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize(
    ("run", "file"),
    [(make_run(BINARY), "summary_binary.md"), (unfinished(make_run(FOUR)), "summary_partial.md")],
)
def test_the_summary_reads_as_agreed(run, file):
    text = markdown(summary(gather_evidence(run).numbers))
    assert text == (GOLDEN / file).read_text(encoding="utf-8")


def test_the_card_says_what_the_number_is_of(binary):
    card = model_card(binary.run)
    assert card.startswith("# Model card: example (multimodal) [SYNTHETIC DATA]")
    assert "has itself never been tested on unseen data" in card
    assert "not for diagnosis" in card
    assert value(binary.numbers["overall"]["roc_auc"]) in card


def test_a_card_without_provenance_says_so(binary):
    assert "Code: not under version control." in model_card(replace(binary.run, provenance={}))


def test_the_closing_table_shows_intervals_n_and_optimism(binary, nothing):
    console = Console(file=io.StringIO(), width=120)
    console.print(closing_table(binary.run))
    shown = console.file.getvalue()
    for metric, entry in binary.numbers["overall"].items():
        assert value(entry) in shown, metric
    assert "110 patients, 275 images" in shown
    assert "SYNTHETIC DATA" in shown
    assert "optimistic by" in shown
    console.print(closing_table(nothing.run))


def test_no_printed_score_of_the_search_but_the_difference(binary):
    text = markdown(summary(binary.numbers))
    for fold in binary.numbers["outer"]:
        assert number(fold["inner_score"], 3) not in text


def test_unknown_patients_are_confessed():
    run = make_run(BINARY)
    guessed = replace(run, dataset={**run.dataset, "patients_known": False})
    assert "could not be verified" in markdown(summary(gather_evidence(guessed).numbers))


def test_lines_are_wrapped_to_the_room_there_is():
    lines = list(wrap_lines("word " * 60, 3.0, 8))
    assert len(lines) > 3
    assert max(text_width(line, 8) for line in lines) <= 3.0


def test_many_columns_shrink_rather_than_leave_the_page():
    many = Table("Wide", tuple(f"outer-{i}" for i in range(16)), (("0.000458",) * 16,))
    assert Image.open(
        io.BytesIO(draw_page([Heading("h"), Paragraph("p", strong=True), many]))
    ).width
    assert document([many])


def test_a_page_is_as_dark_as_it_has_letters_and_no_letter_leaves_its_room():
    def ink(*blocks):
        page = np.asarray(Image.open(io.BytesIO(draw_page(blocks))).convert("L"))
        return np.argwhere(page < 128)

    one, two = ink(Paragraph("word")), ink(Paragraph("word word"))
    assert 1.8 < len(two) / len(one) < 2.2
    wide = ink(Paragraph("mmmm " * 90))
    margin = 0.3 * DPI
    assert margin <= wide[:, 1].min()
    assert wide[:, 1].max() <= (WIDTH - 0.3) * DPI
    width = two[:, 1].max() - two[:, 1].min()
    assert width == pytest.approx(text_width("word word", 8) * DPI, abs=6)


def test_numbers_and_plurals_in_print():
    assert number(-0.001) == "0.00"
    assert number(-0.04) == "−0.04"
    assert plural(1, "patient") == "1 patient"
    assert plural(2, "class") == "2 classes"
    entry = {"estimate": 0.5, "low": None, "high": None, "reason": "few", "level": 0.95}
    assert value(entry) == "0.50 (no interval)"


def test_reports_load_neither_torch_nor_optuna():
    code = (
        "import sys, outerfold.reports.write, outerfold.reports.sections.terminal;"
        "import outerfold.reports.sections.model_card;"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
    assert not {"torch", "optuna", "matplotlib.pyplot"} & set(loaded)
