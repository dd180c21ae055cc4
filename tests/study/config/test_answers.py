from pathlib import Path

import pytest

from outerfold.storage.readers.read import read_dataset
from outerfold.study.cli.main import main
from outerfold.study.config.gather import build_execution, build_study_config, gather_options
from outerfold.study.setup.data_source import find_source
from outerfold.study.setup.run_directory import read_source
from tests.storage.images.image_factories import class_folders


def _audit(data: Path, *words: str) -> int:
    folds = ("--outer-folds", "3", "--inner-folds", "2")
    return main(["audit", "--task", "dbt", "--data", str(data), *folds, *words])


def test_a_run_takes_the_answers_of_an_audit_and_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, answers = class_folders(tmp_path / "data", {"left": 6, "right": 6}), tmp_path / "a.toml"
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    pattern = ("--patient-regex", r"(P\d+)", "--max-pixels", "3000")
    assert _audit(data, *pattern, "--to", str(answers)) == 2
    assert not answers.exists()
    assert _audit(data, *pattern, "--positive", "left", "--to", str(answers)) == 0
    merged = gather_options({"config": answers})
    config = build_study_config(merged, merged["data"])
    read = read_source(find_source("dbt", merged["data"], cache=tmp_path), config)
    assert read.classes == ("right", "left")
    assert read.fingerprint == _read_directly(data)
    assert (config.outer_folds, config.inner_folds) == (3, 2)
    assert build_execution(merged).max_pixels == 3000


def _read_directly(data: Path) -> str:
    return read_dataset(data, task="dbt", positive="left", patient_regex=r"(P\d+)").fingerprint


def test_a_positive_class_that_was_found_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, answers = (
        class_folders(tmp_path / "data", {"cancer": 6, "benign": 6}),
        tmp_path / "a.toml",
    )
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    assert _audit(data, "--patient-regex", r"(P\d+)", "--to", str(answers)) == 0
    assert 'positive = "cancer"' in answers.read_text()
