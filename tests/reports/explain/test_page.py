"""The page of what is inside, from records alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from outerfold.pipelines.explain.saliency import GRAD_CAM, POOLING, ROLL_OUT
from outerfold.reports.explain.cases import Case, choose_cases
from outerfold.reports.explain.figures import shorten_decision, shorten_text
from outerfold.reports.explain.page import (
    METHODS,
    Inside,
    Shown,
    case_table,
    decision_text,
    figure_name,
    heat_map_text,
)
from outerfold.reports.explain.write import write_inside
from outerfold.reports.journal_style import with_style
from outerfold.reports.render.html import with_inside
from outerfold.reports.render.picture import text_width
from outerfold.reports.report_page import page
from outerfold.reports.results.predictions import test_rows as joined_rows
from outerfold.reports.results.results import results
from outerfold.storage.records import Run
from tests.reports.run_factory import FOUR, make_run


def inside_of(run: Run, *, method: str = POOLING, peak: float | None = 1.4) -> Inside:
    rows = joined_rows(run)
    assert rows is not None
    rng = np.random.default_rng(0)
    shown = tuple(
        Shown(
            case,
            rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            rng.random((32, 32)).astype(np.float32),
            method,
            peak,
        )
        for case in choose_cases(rows, {fold.name: fold.threshold for fold in run.outer}, 1)
    )
    return Inside(run, shown, None, networks=5)


def test_every_way_of_explaining_is_told_in_words() -> None:
    assert set(METHODS) == {GRAD_CAM, ROLL_OUT, POOLING}


def test_the_page_is_printed_in_the_style_of_the_report(tmp_path: Path) -> None:
    run = make_run(FOUR)
    for style in ("", "lancet"):
        where = tmp_path / (style or "plain")
        where.mkdir()
        styled = replace(run, protocol=with_style(run.protocol, style))
        write_inside(inside_of(styled), where, cases=1)
        page, numbers = (where / "inside.html").read_text(), (where / "inside.json").read_text()
        assert ("0·" in page) is (style == "lancet")
        assert "0·" not in numbers
    name = f"Figure_Inside_{FOUR[0]}.jpg"
    assert (tmp_path / "plain" / name).read_bytes() != (tmp_path / "lancet" / name).read_bytes()


def test_models_of_images_alone_are_told_in_words_and_leave_no_table(tmp_path: Path) -> None:
    (tmp_path / "Table_Inside_Contribution.csv").write_text("of an earlier call")
    written = write_inside(inside_of(make_run(FOUR)), tmp_path, cases=1)
    assert {path.name for path in written} == {
        "inside.json",
        "inside.html",
        *(f"Figure_Inside_{name}.{kind}" for name in FOUR for kind in ("jpg", "docx")),
    }
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    text = (tmp_path / "inside.html").read_text(encoding="utf-8")
    assert "These models read only images" in text
    assert "16 spatial tokens" in text
    assert "Grad-CAM" not in text
    assert text.count("SYNTHETIC DATA") >= 6
    for case in choose_cases(
        joined_rows(make_run(FOUR)), {f"outer-{k}": None for k in range(5)}, 1
    ):  # type: ignore[arg-type]
        assert case.id not in text, "the page is mailed, and ids may hold names"
        assert case.id in (tmp_path / "inside.json").read_text(encoding="utf-8")


def test_the_cases_tell_of_heat_only_where_there_is_something_to_tell() -> None:
    numbers = results(make_run(FOUR))
    plain = case_table(inside_of(make_run(FOUR), method=GRAD_CAM, peak=None), numbers)
    assert plain.header[-1] == "Predicted"
    weights = case_table(inside_of(make_run(FOUR)), numbers)
    assert weights.header[-1] == "Heat map"
    assert weights.rows[0][-1] == "attention pooling, peak 1.4× even"


def test_the_report_is_linked_once(tmp_path: Path) -> None:
    text = page(results(make_run()), {})
    assert "inside.html" not in text
    assert with_inside(with_inside(text)).count('href="inside.html"') == 1


def test_class_names_make_file_names_that_differ() -> None:
    run = replace(make_run(), classes=("BI-RADS 4", "bi rads_4"))
    names = {figure_name(replace(inside_of(make_run()), run=run), label) for label in range(2)}
    assert names == {"Figure_Inside_BI_RADS_4_1", "Figure_Inside_Bi_Rads_4_2"}
    assert figure_name(inside_of(make_run()), 1) == "Figure_Inside_Cancer"


def test_a_decision_is_told_with_its_threshold_or_the_runner_up() -> None:
    case = Case("right", "a", "p", "outer-0", 0, 0, (0.79, 0.21), 0.41)
    assert decision_text(case, ("other", "cancer")) == "predicted other: p(cancer) 0.21 < 0.41"
    three = replace(case, probabilities=(0.1, 0.3, 0.6), predicted=2, threshold=None)
    assert decision_text(three, ("a", "b", "c")) == "predicted c 0.60, b 0.30"


def test_a_map_without_heat_says_so() -> None:
    cold = np.zeros((4, 4), np.float32)
    case = Case("right", "a", "p", "outer-0", 0, 0, (0.7, 0.3), 0.4)
    image = np.zeros((4, 4, 3), np.uint8)
    assert heat_map_text(Shown(case, image, cold, GRAD_CAM, None)) == "Grad-CAM: no evidence for it"
    assert (
        heat_map_text(Shown(case, image, cold, POOLING, 1.0)) == "attention pooling, peak 1.0× even"
    )


def test_a_decision_loses_words_before_it_loses_numbers() -> None:
    told = "predicted malignant: p(malignant) 0.447 ≥ 0.446"
    assert shorten_decision(told, 3.0) == told
    assert (
        shorten_decision(told, text_width(told, 6.0) - 0.01)
        == "malignant: p(malignant) 0.447 ≥ 0.446"
    )
    assert shorten_decision(told, 1.3) == "p(malignant) 0.447 ≥ 0.446"
    assert shorten_decision(told, 0.8).endswith("…")


def test_long_names_are_cut_to_the_room_there_is() -> None:
    name = "Cancer/0123/C_0123_1.RIGHT_MLO_with_a_long_name.png"
    short = shorten_text(name, 1.0)
    assert text_width(short, 6.0) <= 1.0
    kept = short.replace("…", "")
    assert name.startswith(kept)
    assert shorten_text("short", 1.0) == "short"
