"""Checklists say what the run knows, name where it stands, and leave the rest to the author."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from io import StringIO
from typing import Any

import pytest

from outerfold.objectives.spaces import default_ranges
from outerfold.reports.checklists.item import AUTHOR, Checklist, answer
from outerfold.reports.checklists.pages import (
    CHECKLISTS,
    checklist_blocks,
    checklist_csv,
    checklist_rows,
    count_answered,
    summary_lines,
)
from outerfold.reports.checklists.tripod_ai import TRIPOD_AI
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import results
from outerfold.reports.schema import ColumnEntry, Results
from outerfold.storage.records import DataError
from outerfold.storage.runs.paper import FILE, KEYS, read_paper
from outerfold.study.config.search_space import describe_ranges
from tests.factories import make_config
from tests.reports.run_factory import make_run


@pytest.fixture(scope="module")
def numbers() -> Results:
    """Numbers of a run that kept everything that a run keeps now."""
    run = make_run()
    options = asdict(make_config())
    space = describe_ranges(default_ranges("multimodal"))
    made = {"search_space": space, "git": "0123abc", "encoders": {"bundled:lite": {}}}
    found = results(
        replace(
            run,
            protocol={**options, **run.protocol},
            dataset={**run.dataset, "assumptions": ["Ages are in years"], "patients_known": True},
            provenance={**run.provenance, **made},
        )
    )
    column: ColumnEntry = {
        "name": "age",
        "kind": "numeric",
        "patients": dict.fromkeys(run.classes, 20),
        "missing": dict.fromkeys(run.classes, 2),
        "missing_images": dict.fromkeys(run.classes, 3),
        "values": {name: {"mean": 50.0, "sd": 9.0} for name in run.classes},
        "difference": 0.1,
    }
    return {**found, "dataset": {**found["dataset"], "columns": [column]}}


def test_tripod_ai_has_its_52_parts_and_a_run_answers_30_of_them(numbers: Results) -> None:
    assert len(TRIPOD_AI.items) == 52
    assert len({item.number.rstrip("abcdefg") for item in TRIPOD_AI.items}) == 27
    assert count_answered(TRIPOD_AI, numbers, {}) >= 30


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda one: one.file)
def test_a_run_answers_what_it_can_and_where_to_write_the_rest_is_said(
    checklist: Checklist, numbers: Results
) -> None:
    assert len({item.number for item in checklist.items}) == len(checklist.items)
    for item in checklist.items:
        assert item.known or item.paper in KEYS
        found = answer(item, numbers, {})
        assert found.open == (item.known is None), item.number
        if item.known is None:
            assert (found.text, found.origin) == (f"{AUTHOR}.", f"paper.toml: {item.paper}")
        else:
            assert found.origin == f"results.json: {', '.join(item.known.keys)}"


def test_a_key_that_a_run_did_not_keep_is_not_answered(numbers: Results) -> None:
    item = next(one for one in TRIPOD_AI.items if one.number == "7")
    protocol = {key: value for key, value in numbers["protocol"].items() if key != "fit"}
    assert answer(item, {**numbers, "protocol": protocol}, {}).open


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda one: one.file)
def test_what_the_author_wrote_answers_its_items_and_no_others(
    checklist: Checklist, numbers: Results
) -> None:
    before = checklist_rows(checklist, numbers, {})
    for key in {item.paper for item in checklist.items} - {""}:
        after = checklist_rows(checklist, numbers, {key: "As it was."})
        for item, one, other in zip(checklist.items, before, after, strict=True):
            assert (one != other) == (item.paper == key)
            if item.paper == key:
                assert other[2].startswith("As it was.")
                assert f"paper.toml: {key}" in other[3]


def test_a_run_without_results_claims_none(nothing: Evidence, numbers: Results) -> None:
    empty = {row[0]: row[2] for row in checklist_rows(TRIPOD_AI, nothing.numbers, {})}
    for number in ("2", "21", "23a", "23b"):
        assert empty[number] == f"{AUTHOR}."
    full = {row[0]: row[2] for row in checklist_rows(TRIPOD_AI, numbers, {})}
    assert "0." in full["23a"]


def test_answers_follow_the_run(numbers: Results) -> None:
    protocol = {**numbers["protocol"], "threshold": "youden", "fit": "stretch"}
    rows = [
        {row[0]: row[2] for row in checklist_rows(TRIPOD_AI, one, {})}
        for one in (numbers, {**numbers, "protocol": protocol})
    ]
    assert "largest sum of sensitivity and specificity" in rows[1]["15"]
    assert "stretched to a square" in rows[1]["7"]
    assert rows[0]["15"] != rows[1]["15"]


def test_the_document_says_how_far_it_is_filled_and_the_table_is_that_of_the_csv(
    numbers: Results,
) -> None:
    done = count_answered(TRIPOD_AI, numbers, {})
    text, table = checklist_blocks(TRIPOD_AI, numbers, {})
    assert f"{done} of 52 items are answered" in text.text  # type: ignore[union-attr]
    read = list(csv.reader(StringIO(checklist_csv(TRIPOD_AI, numbers, {}))))
    assert len(read) == 53
    assert tuple(read[7]) == table.rows[6]  # type: ignore[union-attr]
    assert len(list(summary_lines(numbers, {}))) == 3


def test_the_authors_file_is_read_or_refused_by_its_key(tmp_path: Any) -> None:
    assert read_paper(tmp_path) == {}
    path = tmp_path / FILE
    words = """ethics = " Waived.\\t\U0001f600 "\ncode_sharing = 'C:\\forms'\nfunding = ""\n"""
    path.write_text(words, encoding="utf-8-sig")
    assert read_paper(tmp_path) == {
        "ethics": "Waived.\t\U0001f600",
        "code_sharing": r"C:\forms",
    }
    for text, message in (
        ('ethic = "x"', "unknown key 'ethic'; did you mean 'ethics'"),
        ("dates = 2020", "dates must be text in quotation marks, found 2020"),
        ("dates = ", "cannot be read as TOML"),
        ('code_sharing = "C:\\forms"', "code_sharing holds the control character U\\+000C"),
        ('dates = "\\uFFFE"', "U\\+FFFE"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_paper(tmp_path)
