"""Answers of a report that was asked for more: in results.json, in its sections, and recomputed."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from outerfold.reports.blocks import Heading, Table
from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.figures.style import compose
from outerfold.reports.paper.methods import methods_text
from outerfold.reports.results.questions import _readings, question_entries, refuse_questions
from outerfold.reports.results.results import gather_evidence
from outerfold.reports.schema import Results, misfits
from outerfold.reports.sections.page_one import open_line
from outerfold.reports.sections.summary import summary
from outerfold.reports.write import answer_tables
from outerfold.storage.records import DataError
from outerfold.study.verify.recompute_answers import compare_answers
from tests.reports.run_factory import BINARY, FOUR


def tables(evidence) -> dict[str, Table]:
    return {b.caption.split(":")[0]: b for b in summary(evidence.numbers) if isinstance(b, Table)}


def test_the_sections_stand_in_the_order_of_a_paper(asked):
    heads = [b.text for b in summary(asked.numbers) if isinstance(b, Heading)]
    order = [
        "Results on the outer test rows",
        "What the decisions mean",
        "Calibration",
        "Decision curve",
        "Subgroups (exploratory)",
        "Largest errors",
        "Optimism of the search",
    ]
    assert [head for head in heads if head in order] == order


def test_predictive_values_name_their_prevalence_and_post_hoc_points_say_so(asked):
    table = tables(asked)["Operating points"]
    names = [row[0] for row in table.rows]
    assert "PPV at a prevalence of 1 %" in names
    assert "Sensitivity at 90 % specificity, post hoc" in names
    assert table.header[1:] == ("By patient (95 % CI)", "By image (95 % CI)")
    assert any(note.startswith("Post hoc") for note in table.notes)


def test_a_column_that_differs_within_a_patient_is_answered_by_image(asked):
    levels = {c["column"]: c["level"] for c in asked.numbers["questions"]["subgroups"]}
    assert levels == {"age": "patient", "site": "patient", "view": "image"}
    site = asked.numbers["questions"]["subgroups"][1]
    patients = len(set(asked.test.patients.tolist()))
    assert site["missing"] + sum(one["patients"] for one in site["groups"]) == patients
    text = " ".join(tables(asked)["Subgroups"].notes)
    assert f"site is missing of {site['missing']} patients" in text


def test_the_reader_s_table_warns_of_verification_and_counts_who_was_not_read(asked):
    reader = asked.numbers["questions"]["reader"]
    assert (reader["level"], reader["positive"], reader["model_reads"]) == (
        "patient",
        "4 or more",
        False,
    )
    assert reader["rows"] + reader["missing"] == len(asked.levels["patient"])
    said = str(summary(asked.numbers))
    assert "verification bias" in said
    assert "readers" not in open_line(asked.numbers)


def test_classes_of_the_source_add_up_to_those_of_the_run(asked):
    found = {one["name"]: one for one in asked.numbers["questions"]["originals"]}
    confusion = asked.numbers["confusion"]
    assert found["Benign"]["right"] + found["Normal"]["right"] == confusion[0][0]
    assert found["Cancer"]["rows"] == sum(confusion[1])


def test_errors_have_running_numbers_and_a_file_tells_which_rows_they_are(asked):
    listed = asked.numbers["questions"]["mistakes"]
    text = answer_tables(asked)["errors.csv"]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["number"]) for row in rows] == [one["number"] for one in listed]
    printed = " ".join(
        str(row) for row in tables(asked)["Largest errors of each fold, by patient"].rows
    )
    assert not any(row["patient"] in printed for row in rows)


def test_the_curve_s_file_has_the_numbers_of_every_level(asked):
    rows = list(csv.DictReader(io.StringIO(answer_tables(asked)["decision_curve.csv"])))
    for level, answers in asked.numbers["questions"]["levels"].items():
        own = [float(row["net_benefit"]) for row in rows if row["level"] == level]
        assert own == [point["estimate"] for point in answers["decision_curve"]]


@pytest.mark.parametrize("name", ["asked", "four", "binary"])
def test_scikit_learn_gives_the_same_answers(name, request):
    evidence = request.getfixturevalue(name)
    rows = {"image": evidence.test, **evidence.levels}
    assert list(compare_answers(evidence.numbers["questions"], rows)) == []


def test_a_changed_answer_is_found(asked):
    rows = {"image": asked.test, **asked.levels}
    moved = {level: replace(one, labels=1 - one.labels) for level, one in rows.items()}
    found = " ".join(compare_answers(asked.numbers["questions"], moved))
    for name in ("lr_positive", "ppv", "O/E", "net benefit", "sensitivity_at_90", "Brier"):
        assert name in found


def test_the_methods_say_what_was_answered_and_cite_it(asked, four):
    text = methods_text(asked.numbers)
    for said in ("decision curve [", "scaled Brier score [", "Subgroups are exploratory"):
        assert said in text
    assert "column BIRADS, positive at 4 or more" in text
    assert "Vickers, Andrew" in text
    assert "decision curve" not in methods_text(four.numbers)


def test_the_forest_stays_on_its_page(asked):
    plate = FIGURES["Figure_Subgroups"]
    fig = compose(plate.draw, asked, rows=plate.rows)
    FigureCanvasAgg(fig).draw()
    ink, page = fig.get_tightbbox(), fig.bbox_inches
    assert ink.x0 >= -0.01
    assert ink.x1 <= page.x1 + 0.01


def test_several_classes_in_order_have_a_kappa_and_no_curve(four):
    run = replace(four.run, protocol={**four.run.protocol, "ordered": True})
    found = question_entries(run, four.test, {})
    answers = found["levels"]["image"]
    assert -1 < answers["agreement"]["low"] < answers["agreement"]["estimate"]
    assert answers["decision_curve"] is None


@pytest.mark.parametrize(
    ("protocol", "classes", "message"),
    [
        ({"prevalence": 0.1}, FOUR, "--prevalence needs two classes"),
        ({"subgroups": ["age"]}, FOUR, "--subgroups needs two classes"),
        ({"ordered": True}, BINARY, "--ordered has no effect with two classes"),
        ({"reader_column": "birads"}, BINARY, "--reader-column and --reader-positive belong"),
        ({"prevalence": 1.5}, BINARY, "--prevalence must be between 0 and 1"),
    ],
)
def test_a_question_without_an_answer_is_refused(protocol, classes, message):
    with pytest.raises(DataError, match=message):
        refuse_questions(protocol, classes)


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"reader_column": "birds", "reader_positive": "4"}, "did you mean 'birads'"),
        ({"reader_column": "birads", "reader_positive": "bad"}, "holds numbers, and a reading"),
        ({"reader_column": "birads", "reader_positive": "9"}, "no reading of the column birads"),
        ({"reader_column": "site", "reader_positive": "west"}, "no reading of the column site"),
        ({"subgroups": ["sight"]}, "unknown column 'sight'; did you mean 'site'"),
    ],
)
def test_a_column_that_does_not_answer_is_refused(asked_for, message, asked):
    bare = {k: v for k, v in asked.run.protocol.items() if k not in ("subgroups", "prevalence")}
    bare |= {"reader_column": "", "reader_positive": ""}
    run = replace(asked.run, protocol={**bare, **asked_for})
    with pytest.raises(DataError, match=message):
        question_entries(run, asked.test, {})


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_have_a_figure_and_reasons(label, binary):
    outer = tuple(
        replace(
            s,
            test=replace(s.test, labels=np.full(len(s.test), label)),
            variation=None,
            default=None,
        )
        for s in binary.run.outer
    )
    evidence = gather_evidence(replace(binary.run, outer=outer))
    compose(FIGURES["Figure_Performance"].draw, evidence, rows="tested")
    answers = evidence.numbers["questions"]["levels"]["image"]
    assert answers["calibration"]["slope"]["reason"]
    assert answers["likelihood_ratios"]["lr_positive"]["low"] is None
    assert list(misfits(evidence.numbers, Results)) == []
    assert (
        list(
            compare_answers(
                evidence.numbers["questions"], {"image": evidence.test, **evidence.levels}
            )
        )
        == []
    )
    assert summary(evidence.numbers)


def test_a_run_without_kept_columns_says_so(binary):
    assert binary.run.data is None
    run = replace(binary.run, protocol={**binary.run.protocol, "subgroups": ["age"]})
    with pytest.raises(DataError, match="the rows of this run are not at hand"):
        question_entries(run, binary.test, {})


def test_named_readings_are_compared_by_their_names(asked, tmp_path: Path):
    protocol = {**asked.run.protocol, "reader_column": "site", "reader_positive": "North|East"}
    found = question_entries(replace(asked.run, protocol=protocol), asked.test, {})
    assert found["reader"]["positive"] == "North or East"
    assert 0 < found["reader"]["metrics"]["sensitivity"]["reader"] < 1
    assert np.isfinite(found["reader"]["metrics"]["specificity"]["difference"]["estimate"])


def test_a_misspelt_reading_is_refused(asked):
    protocol = {**asked.run.protocol, "reader_column": "site", "reader_positive": "East|nroth"}
    with pytest.raises(DataError, match=r"'nroth' is no reading .*did you mean 'north'"):
        question_entries(replace(asked.run, protocol=protocol), asked.test, {})


def test_limits_with_a_comma_between_them_are_explained(asked):
    protocol = {**asked.run.protocol, "subgroups": ["site", "age:50", "70"]}
    with pytest.raises(DataError, match=r"separate limits by \|, such as age:50\|70"):
        refuse_questions(protocol, asked.run.classes)


@pytest.mark.parametrize(
    ("texts", "positive", "calls"),
    [
        ("злокачественная доброкачественная", "Злокачественная", [1, 0]),
        ("阳性 阴性 unknown", "阳性", [1, 0, -1]),
        ("+ - ?", "+", [1, 0, -1]),
        ("++ – benign ++", "++", [1, 0, 0, 1]),
        ("suspicious? suspicious benign", "suspicious?", [1, 0, 0]),
        ("1 2 unknown 3", "2", [0, 1, -1, 1]),
        ("4a 4b 3", "4b|4A", [1, 1, 0]),
    ],
)
def test_readings_are_compared_as_they_are_spelt(texts, positive, calls, asked):
    found, _ = _readings(_of_reader(asked, texts), "reader", positive)
    assert found.tolist() == calls


@pytest.mark.parametrize(
    ("texts", "positive", "message"),
    [
        ("1 2 unread 3", "2", r"3 of 4 readings .* are numbers, but not \['unread'\]"),
        ("suspicious? benign", "suspicious", r"no reading of .*did you mean 'suspicious\?'"),
    ],
)
def test_readings_that_cannot_be_compared_are_refused(texts, positive, message, asked):
    with pytest.raises(DataError, match=message):
        _readings(_of_reader(asked, texts), "reader", positive)


def _of_reader(asked, texts: str):
    """Rows of which a reader has read the first few, in words."""
    read = texts.split()
    rows = asked.run.data.select(asked.run.data.ids[: len(read)].tolist())
    return replace(rows, facts={"reader": np.array(read)})


def test_one_column_of_subgroups_is_asked_once(asked):
    protocol = {**asked.run.protocol, "subgroups": ["site", "age", "site"]}
    with pytest.raises(DataError, match="--subgroups names site twice"):
        refuse_questions(protocol, asked.run.classes)
