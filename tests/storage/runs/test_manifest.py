"""A file of a finished study that was changed is named, and never becomes a number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.records import DataError, Dataset, OuterFold
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import MANIFEST, MARK
from outerfold.storage.runs.results import is_finished, read_result, write_result
from outerfold.storage.trials.journal import open_trials
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.setup.run_directory import PreparedRun, reopen_damaged
from tests.factories import make_config, make_rows, splits_of
from tests.reports.run_factory import make_run
from tests.storage.runs.finished import of_split


@pytest.fixture
def scored(tmp_path: Path) -> tuple[RunFolder, OuterFold, Dataset]:
    """A run with one finished outer fold."""
    folder = RunFolder(tmp_path / "run")
    data, _ = make_rows(patients=20)
    config = make_config(inner_folds=2, outer_folds=2)
    made = splits_of(data, config)
    folder.write_dataset(data, [])
    folder.write_splits(made.studies, made.attempts, data.fingerprint)
    folder.write_config(config.to_toml())
    write_json(folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    source = make_run(data.classes, patients=40, folds=2).outer[0]
    write_result(folder, of_split(source, made.outer[0], data), b"w")
    return folder, made.outer[0], data


def without_manifest(path: Path) -> None:
    """As a version left it that wrote no manifests, so that rows alone can be held to account."""
    (path / MANIFEST).unlink()
    best = {k: v for k, v in read_json(path / "best.json").items() if k != MARK}
    write_json(path / "best.json", best)


def keep(folder: RunFolder, counts: dict[str, int]) -> None:
    """Trials of these states, as the search of the study left them."""
    states = {
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    study = optuna.create_study(study_name="outer-0", storage=open_trials(folder))
    for name, count in counts.items():
        value = 0.5 if name == "complete" else None
        for _ in range(count):
            study.add_trial(optuna.trial.create_trial(state=states[name], value=value))


def test_a_study_that_lost_trials_since_it_ended_is_ended_again(
    scored: tuple[RunFolder, OuterFold, Dataset],
) -> None:
    folder, study, data = scored
    counts = read_result(folder, study.name, data.classes).trials
    keep(folder, {**counts, "complete": counts["complete"] - 1})
    said: list[str] = []
    reopen_damaged(PreparedRun(folder, make_config(), data, (study,)), said.append)
    assert not is_finished(folder, study.name)
    whole = sum(counts.values())
    assert f"outer-0 chose from {whole} trials, and {whole - 1} are kept" in said[0]


EDITS: dict[str, Callable[[list[str]], list[str]]] = {
    "lacks rows of this fold": lambda lines: lines[:1],
    "lacks rows of this fold: .*\\(10 in all": lambda lines: lines[: 1 + len(lines) // 2],
    "lists .* twice": lambda lines: [*lines, lines[1]],
    "has another label": lambda lines: [
        lines[0],
        *(
            line.replace(",other,", ",X,", 1)
            .replace(",cancer,", ",other,", 1)
            .replace(",X,", ",cancer,")
            for line in lines[1:]
        ),
    ],
    "has another patient": lambda lines: [lines[0], lines[1].replace(",p0", ",q0", 1), *lines[2:]],
    "names another fold": lambda lines: [line.replace("outer-0", "outer-1") for line in lines],
    "has impossible probabilities": lambda lines: [
        lines[0],
        ",".join([*lines[1].split(",")[:5], "5.0", "-4.0", "other"]),
        *lines[2:],
    ],
    "cannot be read as a table of predictions": lambda lines: [*lines[:3], "a,b"],
    "KeyError": lambda lines: [lines[0].replace("p_cancer", "cancer"), *lines[1:]],
}


@pytest.mark.parametrize("refusal", EDITS)
def test_rows_that_are_not_those_of_the_split_are_refused(
    scored: tuple[RunFolder, OuterFold, Dataset], refusal: str
) -> None:
    """With the manifest the file's hash differs; without one, its rows differ from the splits."""
    folder, study, _ = scored
    table = folder.study(study.name) / "predictions.csv"
    before = table.read_text(encoding="utf-8")
    changed = "\n".join(EDITS[refusal](before.splitlines())) + "\n"
    assert changed != before
    read_kept_run(folder)
    table.write_text(changed, encoding="utf-8")
    with pytest.raises(DataError, match=r"predictions\.csv: is not the file that was written"):
        read_kept_run(folder)
    without_manifest(table.parent)
    with pytest.raises(DataError, match=rf"predictions\.csv: .*{refusal}"):
        read_kept_run(folder)


@pytest.mark.parametrize("name", ["best.json", "history.csv", "validation.csv", "manifest.json"])
def test_a_changed_or_missing_file_of_a_study_is_refused_by_name(
    scored: tuple[RunFolder, OuterFold, Dataset], name: str
) -> None:
    folder, study, _ = scored
    file = folder.study(study.name) / name
    before = file.read_bytes()
    file.write_bytes(before.replace(b"0", b"1", 1) if name != "manifest.json" else b"{}0")
    with pytest.raises(DataError, match=f"{name}: "):
        read_kept_run(folder)
    file.unlink()
    with pytest.raises(
        DataError, match=f"{name}: .*missing" if name != "best.json" else "finished"
    ):
        read_kept_run(folder)
    file.write_bytes(before)
    read_kept_run(folder)


def test_a_study_that_was_changed_is_ended_again_when_the_run_goes_on(
    scored: tuple[RunFolder, OuterFold, Dataset],
) -> None:
    folder, study, data = scored
    said: list[str] = []
    prepared = PreparedRun(folder, make_config(), data, (study,))
    keep(folder, read_result(folder, study.name, data.classes).trials)
    reopen_damaged(prepared, said.append)
    assert not said
    assert is_finished(folder, study.name)
    (folder.study(study.name) / "model.pt").write_bytes(b"x")
    reopen_damaged(prepared, said.append)
    assert not is_finished(folder, study.name)
    assert "model.pt: is not the file that was written" in said[0]
    assert said[1] == "outer-0 is ended again"


@pytest.mark.parametrize("harm", ["line", "name"])
def test_a_manifest_that_no_longer_lists_a_file_is_refused(
    scored: tuple[RunFolder, OuterFold, Dataset], harm: str
) -> None:
    folder, fold, _ = scored
    file = folder.study(fold.name) / MANIFEST
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if "test" in line or "predictions" in line)
    lines[at] = "" if harm == "line" else lines[at].replace("e", "f", 1)
    file.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.json: is not the file that was written.*anew"):
        read_kept_run(folder)
