"""Contents of results.json are of the stated types; older files are read, later ones refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from outerfold.reports.results.results import results_text
from outerfold.reports.schema import SCHEMA, Results, misfits, read_results
from outerfold.storage.records import DataError


@pytest.mark.parametrize("name", ["binary", "four", "partial", "nothing", "asked"])
def test_what_is_written_is_of_the_stated_types(name, request, tmp_path: Path):
    numbers = request.getfixturevalue(name).numbers
    assert list(misfits(numbers, Results)) == []
    assert set(numbers) == set(Results.__annotations__) | {"overall", "per_class", "confusion"}
    (tmp_path / "results.json").write_text(results_text(numbers), encoding="utf-8")
    assert read_results(tmp_path / "results.json") == numbers


def test_an_earlier_file_is_read_with_what_it_lacks_empty(binary, tmp_path: Path):
    old = json.loads(json.dumps(binary.numbers))
    old["schema"] = 1
    for part in ("questions", "folds", "search", "worth", "levels", "cut_by_time"):
        del old[part]
    del old["dataset"]["columns"]
    for fold in old["outer"]:
        del fold["scores_a_row"]
    for entry in old["overall"].values():
        for key in ("procedure", "of", "fold_range", "corrected_t", "no_information"):
            del entry[key]
    (tmp_path / "results.json").write_text(json.dumps(old))
    found = read_results(tmp_path / "results.json")
    assert found["questions"] is None
    assert {fold["scores_a_row"] for fold in found["outer"]} == {1}
    assert found["overall"]["roc_auc"]["procedure"] is None
    assert "earlier version" in str(found["worth"]["reason"])
    assert found["overall"]["roc_auc"]["low"] == binary.numbers["overall"]["roc_auc"]["low"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": SCHEMA + 1}, f"has schema {SCHEMA + 1}, and this version .* up to {SCHEMA}"),
        ({"schema": "2"}, "'schema' is a whole number from 1; found '2'"),
        ({"overall": {"roc_auc": {"estimate": "high"}}}, r"overall.roc_auc.estimate is 'high'"),
        ({"tested": None}, "is no results.json of outerfold: .*tested is no table"),
    ],
)
def test_another_file_is_refused_in_a_sentence(change, message, binary, tmp_path: Path):
    (tmp_path / "results.json").write_text(json.dumps({**binary.numbers, **change}))
    with pytest.raises(DataError, match=message):
        read_results(tmp_path / "results.json")


def test_a_file_that_is_no_json_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=re.escape("cannot be read as JSON")):
        read_results(tmp_path / "none.json")


def test_the_path_may_be_a_text_and_nothing_else(tmp_path, binary):
    path = tmp_path / "results.json"
    path.write_text(results_text(binary.numbers))
    assert read_results(str(path)) == read_results(path)
    with pytest.raises(
        DataError, match=r"the path of results.json must be a text or a path, found 3"
    ):
        read_results(3)
