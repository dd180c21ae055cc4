"""More trials go on with a search that nobody saw the results of, and else begin a new run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from outerfold.reports.sections.page_one import caution_lines
from outerfold.storage.records import DataError
from outerfold.storage.runs.extensions import read_extension
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.record import StudyConfig
from outerfold.study.driver.extend import find_extended
from outerfold.study.setup.run_directory import PreparedRun, begin_or_resume
from tests.factories import make_rows
from tests.study.driver.test_driver import OneProcess, begun, drive, searched

SMALL = {"epochs": 1, "networks": 1, "trials": 1}


def say(text: str) -> None:
    said.append(text)


said: list[str] = []


def longer(prepared: PreparedRun, trials: int) -> StudyConfig:
    return replace(prepared.config, trials=trials)


def test_a_search_goes_on_as_if_it_had_begun_with_more_trials(tmp_path: Path) -> None:
    expected = begun(tmp_path / "whole" / "run", **{**SMALL, "trials": 2})
    drive(*expected, OneProcess())
    prepared, context = begun(tmp_path / "run", **SMALL)
    with pytest.raises(KeyboardInterrupt):
        drive(prepared, context, OneProcess(stop=2))
    config = longer(prepared, 2)
    assert find_extended(prepared.folder.path, config, say) == prepared.folder.path
    again = begin_or_resume(prepared.folder, config, prepared.data)
    assert prepared.folder.read_config()["trials"] == 2
    drive(again, context, OneProcess())
    assert searched(again, context) == searched(*expected)


def scored(prepared: PreparedRun) -> Path:
    path = prepared.folder.study("outer-0")
    path.mkdir()
    (path / "best.json").write_text("{}", encoding="utf-8")
    return prepared.folder.path


def test_after_a_scored_fold_a_new_run_begins_from_the_old_trials(tmp_path: Path) -> None:
    prepared, _ = begun(tmp_path / "run", **SMALL)
    run = scored(prepared)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    config = longer(prepared, 5)
    found = find_extended(run, config, say)
    assert found == tmp_path / "run-5-trials"
    assert {path: path.read_bytes() for path in before if path.name != ".lock"} == {
        path: data for path, data in before.items() if path.name != ".lock"
    }
    new = RunFolder(found)
    assert new.journal.read_bytes() == before[run / "trials.journal"]
    begin_or_resume(new, config, prepared.data)
    assert not (found / "outer-0").exists()
    assert find_extended(run, config, say) == found  # the same command goes on there
    scored(PreparedRun(new, config, prepared.data, prepared.studies))
    further = RunFolder(find_extended(found, longer(prepared, 9), say))
    extension = read_extension(further)
    assert extension is not None
    assert (extension.times, extension.trials) == (2, (1, 5))
    with pytest.raises(DataError, match=r"other options \(trials was 1, now 5\)"):
        begin_or_resume(prepared.folder, config, prepared.data)


def test_other_changes_and_fewer_trials_are_refused_as_before(tmp_path: Path) -> None:
    prepared, _ = begun(tmp_path / "run", **{**SMALL, "trials": 2})
    run = scored(prepared)
    for config in (longer(prepared, 1), replace(longer(prepared, 5), seed=9)):
        assert find_extended(run, config, say) == run
        with pytest.raises(DataError, match="was started with other options"):
            begin_or_resume(prepared.folder, config, prepared.data)


def test_the_first_page_says_how_often_it_was_extended() -> None:
    numbers = {
        "protocol": {"trials": 40, "extended": {"times": 2, "trials": [10, 20]}, "metric": "x"},
        "folds": {},
        "levels": {},
        "overall": {},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("odd_fold_lines", "_miscalibrated_lines", "_uninformed_lines"):
            patch.setattr(f"outerfold.reports.sections.page_one.{name}", lambda numbers: ())
        (line,) = caution_lines(numbers)
    assert "extended 2 times after test results were seen" in line
    assert "10, then 20, then 40" in line


def test_the_same_images_at_another_place_are_the_same_data(tmp_path: Path) -> None:
    prepared, _ = begun(tmp_path / "run", **SMALL, data="/first/place")
    data, _ = make_rows(patients=36, signal=0.3)
    moved = replace(
        data, features=replace(data.features, images=data.features.images.astype("U99"))
    )
    moved.features.images[:] = [f"/second/{name}.png" for name in moved.ids]
    config = replace(prepared.config, data="/second/place")
    begin_or_resume(prepared.folder, config, moved)
    assert prepared.folder.read_config()["data"] == "/second/place"
    assert str(prepared.folder.read_dataset().features.images[0]).startswith("/second/")
    shutil.rmtree(tmp_path / "run")
