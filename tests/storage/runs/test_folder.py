"""A run directory gives back what was put in: rows, folds, results, to the last digit."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outerfold.storage.cache.files import (
    read_hashed,
    read_json,
    write_hashed,
    write_json,
    write_text,
)
from outerfold.storage.records import (
    FINAL,
    Column,
    DataError,
    Dataset,
    DefaultResult,
    Features,
    FoldResult,
    LeakError,
    Predictions,
)
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import (
    is_finished,
    predictions_csv,
    read_predictions,
    read_result,
    write_result,
)
from outerfold.study.config.kept_run import read_kept_run
from tests.factories import make_config, make_rows, splits_of
from tests.reports.run_factory import FOUR, make_run
from tests.storage.runs.finished import of_split

AWKWARD = ("NA", "007", "nan", "a,b", 'say "x"', "ä/ö.png", "-1", "null", " spaced ", "1e5")
"""Names that a table's reader may take for a missing value, a number or two columns."""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def awkward() -> Dataset:
    """Rows whose names, patients and classes are hard to keep apart from other things."""
    n = len(AWKWARD)
    tabular = np.column_stack(
        [
            np.array([0.1 + 0.2, np.nan, 1e-300, 1 / 3, np.nan, 5, 6, 7, 8, -0.0]),
            np.array([0, 1, np.nan, 1, 0, 0, 1, 1, np.nan, 0]),
            np.array([0, 1, 2, np.nan, 0, 1, 2, np.nan, 0, 1]),
        ]
    )
    columns = (
        Column("age"),
        Column("family history", "binary", ("no", "yes")),
        Column("tissue", "categorical", ("NA", "007", "dense, very")),
    )
    features = Features(
        np.array(AWKWARD), np.array([f"/i/{name}" for name in AWKWARD]), tabular, columns
    )
    return Dataset(
        features,
        np.arange(n) % 2,
        np.array(AWKWARD[::-1]),
        ("NA", "null"),
        "abc",
        "mine, all",
        synthetic=True,
        patients_known=False,
        assumptions=("one", "two"),
        sides=np.array(["left", "right"] * (n // 2)),
    )


def same(one: Any, other: Any) -> bool:
    """Equal field by field; arrays with their dtype kind and to the last digit."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            nan = a.dtype.kind == "f"
            if a.dtype.kind != b.dtype.kind or not np.array_equal(a, b, equal_nan=nan):
                return False
        elif isinstance(a, (Features, Predictions, DefaultResult)):
            if type(a) is not type(b) or not same(a, b):
                return False
        elif a != b or type(a) is not type(b):
            return False
    return True


# -- data and folds --------------------------------------------------------------------------


def test_rows_come_back_with_missing_values_levels_and_awkward_names(folder: RunFolder) -> None:
    data = awkward()
    folder.write_dataset(data, ["a warning", "another"])
    again = folder.read_dataset()
    assert same(data, again)
    assert again.features.tabular.tobytes() == data.features.tabular.tobytes()
    assert folder.read_audit() == ["a warning", "another"]


def test_numbers_that_stand_for_missing_come_back(folder: RunFolder) -> None:
    data = awkward()
    first, *others = data.features.columns
    columns = (replace(first, gaps=(-9.0, 999.0)), *others)
    folder.write_dataset(replace(data, features=replace(data.features, columns=columns)), ())
    found = folder.read_dataset().features.columns
    assert [column.gaps for column in found] == [column.gaps for column in columns]


def test_rows_without_columns_come_back(folder: RunFolder) -> None:
    data = awkward()
    bare = replace(data, features=replace(data.features, tabular=np.zeros((10, 0)), columns=()))
    folder.write_dataset(bare, [])
    assert same(folder.read_dataset(), bare)


def test_divisions_come_back_with_their_patients(folder: RunFolder) -> None:
    data, _ = make_rows(patients=20)
    made = splits_of(data, make_config(inner_folds=2))
    folder.write_splits(made.studies, made.attempts, data.fingerprint)
    again = folder.read_splits(data)
    assert [fold.name for fold in again] == [fold.name for fold in made.studies]
    for was, now in zip(made.studies, again, strict=True):
        assert now == replace(was, test=now.test, inner=now.inner)
        assert set(now.test) == set(was.test)
        for one, other in zip(was.inner, now.inner, strict=True):
            assert (other.name, set(other.fit), set(other.val)) == (
                one.name,
                set(one.fit),
                set(one.val),
            )
            assert (other.fit_patients, other.val_patients) == (one.fit_patients, one.val_patients)
    assert read_json(folder.path / "splits.json")["attempts"] == made.attempts


def test_divisions_of_other_data_are_refused(folder: RunFolder) -> None:
    data, _ = make_rows(patients=20)
    made = splits_of(data, make_config(inner_folds=2))
    folder.write_splits(made.studies, made.attempts, "another")
    with pytest.raises(DataError, match=r"splits.json was made for other data; start a new --run"):
        folder.read_splits(data)


def test_a_division_that_was_edited_into_a_leak_is_refused_when_it_is_read(
    folder: RunFolder,
) -> None:
    data, _ = make_rows(patients=20)
    made = splits_of(data, make_config(inner_folds=2))
    folder.write_splits(made.studies, made.attempts, data.fingerprint)
    kept = read_hashed(folder.path / "splits.json")
    kept["studies"][0]["test"].pop()  # one image of a patient changes sides
    write_hashed(folder.path / "splits.json", kept)
    with pytest.raises(LeakError, match=r"outer-0: patients \['p\d+'\] are in both train and test"):
        folder.read_splits(data)


@pytest.mark.parametrize("name", ["dataset.json", "splits.json"])
def test_a_file_of_rows_with_one_other_digit_is_refused(folder: RunFolder, name: str) -> None:
    data, _ = make_rows(patients=20)
    made = splits_of(data, make_config(inner_folds=2))
    folder.write_dataset(data, [])
    folder.write_splits(made.studies, made.attempts, data.fingerprint)
    whole = (folder.path / name).read_text()
    (folder.path / name).write_text(re.sub(r"p\d", "p9", whole, count=1))
    with pytest.raises(DataError, match=rf"{name}: is not the file that was written"):
        folder.read_splits(folder.read_dataset())
    (folder.path / name).write_text(whole)
    assert folder.read_splits(folder.read_dataset())[0].name == "outer-0"


@pytest.mark.parametrize(
    "content", ["{}", "[]", "[" * 100_000, '{"fingerprint": ' + "9" * 5000 + "}"]
)
@pytest.mark.parametrize("name", ["dataset.json", "splits.json"])
def test_a_file_of_rows_that_holds_something_else_is_refused(
    folder: RunFolder, name: str, content: str
) -> None:
    data, _ = make_rows(patients=20)
    folder.write_dataset(data, [])
    (folder.path / name).write_text(content)
    with pytest.raises(DataError, match=name):
        folder.read_splits(folder.read_dataset())


@pytest.mark.parametrize("text", ["seed = " + "9" * 5000, "a = " + "[" * 5000, "a =", "\x00"])
def test_options_that_are_damaged_are_refused(folder: RunFolder, text: str) -> None:
    write_text(folder.path / "config.toml", text)
    with pytest.raises(DataError, match=r"config.toml: is not what outerfold wrote there"):
        folder.read_config()


@pytest.mark.parametrize("name", ["../../etc", "outer-0/..", "/root", ".", ""])
def test_a_study_whose_name_leads_out_of_the_run_is_refused(folder: RunFolder, name: str) -> None:
    data, _ = make_rows(patients=20)
    made = splits_of(data, make_config(inner_folds=2))
    folder.write_splits(made.studies, made.attempts, data.fingerprint)
    kept = read_hashed(folder.path / "splits.json")
    kept["studies"][0]["name"] = name
    write_hashed(folder.path / "splits.json", kept)
    with pytest.raises(DataError, match="is no name of a study; do not trust this run folder"):
        folder.read_splits(data)


def test_a_configuration_comes_back_and_says_that_the_run_was_begun(folder: RunFolder) -> None:
    assert not folder.started()
    config = make_config(columns=("age",), space={"dropout": {"low": 0.1, "high": 0.2}})
    folder.write_config(config.to_toml())
    assert folder.started()
    assert type(config).from_toml(folder.read_config()) == config


def test_a_folder_without_a_configuration_is_no_run(folder: RunFolder) -> None:
    with pytest.raises(DataError, match=r"run: does not exist; name a run directory"):
        folder.read_config()
    folder.path.mkdir()
    with pytest.raises(DataError, match=r"run: not a run directory \(no config.toml\); name a run"):
        folder.read_config()


def test_everything_has_its_place(folder: RunFolder) -> None:
    assert folder.name == "run"
    assert folder.journal == folder.path / "trials.journal"
    assert folder.report == folder.path / "report"
    assert folder.study("outer-3") == folder.path / "outer-3"
    folder.write_card("# card")
    assert (folder.path / FINAL / "MODEL_CARD.md").read_text() == "# card"


# -- results ---------------------------------------------------------------------------------


def predictions(n: int = 10, classes: tuple[str, ...] = ("NA", "null")) -> Predictions:
    rng = np.random.default_rng(0)
    p = rng.random((n, len(classes)))
    p[0] = [1e-300, *[0.1 + 0.2] * (len(classes) - 1)]
    p[1] = 1 / 3
    return Predictions(
        np.array(AWKWARD[:n]),
        np.array(AWKWARD[:n][::-1]),
        np.array(["outer-1"] * n),
        np.arange(n) % 2,
        np.arange(n) % len(classes),
        p,
        (np.arange(n) + 1) % len(classes),
        classes,
    )


@pytest.mark.parametrize("classes", [("NA", "null"), ("a,b", "007", "True")])
def test_predictions_come_back_to_the_last_digit_whatever_things_are_called(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    was = predictions(classes=classes)
    path = tmp_path / "predictions.csv"
    path.write_text(predictions_csv(was, classes), encoding="utf-8")
    again = read_predictions(path, classes)
    assert same(was, again)
    assert again.probabilities.tobytes() == was.probabilities.tobytes()


def test_no_predictions_are_a_header_and_come_back_as_none(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(predictions_csv(None, FOUR), encoding="utf-8")
    again = read_predictions(path, FOUR)
    assert len(again) == 0
    assert again.probabilities.shape == (0, 4)


def test_a_predictions_table_has_the_columns_that_readers_are_promised() -> None:
    header, first, *_ = predictions_csv(predictions(), ("NA", "null")).splitlines()
    assert header == "id,patient,fold,repeat,label,p_NA,p_null,predicted"
    assert first == "NA,1e5,outer-1,0,NA,1e-300,0.30000000000000004,null"


@pytest.mark.parametrize("classes", [("other", "cancer"), FOUR])
@pytest.mark.parametrize("final", [False, True])
def test_a_studys_results_come_back(
    folder: RunFolder, classes: tuple[str, ...], final: bool
) -> None:
    run = make_run(classes, patients=40, folds=2)
    result = run.final if final else run.outer[1]
    assert result is not None
    result = replace(
        result,
        notes=("a note, with a comma",),
        params={"dropout": 0.1 + 0.2, "sampler": "none", "attention": False, "batch_size": 64},
    )
    assert not is_finished(folder, result.name)
    write_result(folder, result, b"weights")
    assert is_finished(folder, result.name)
    again = read_result(folder, result.name, classes)
    assert same(result, again)
    assert [type(value) for value in again.params.values()] == [float, str, bool, int]
    assert (folder.study(result.name) / "model.pt").read_bytes() == b"weights"
    assert (again.test is None) == final


@pytest.mark.parametrize(
    "default",
    [None, DefaultResult({"dropout": 0.3}, chosen=True), DefaultResult(reason="there is none")],
)
def test_a_default_without_predictions_comes_back(
    folder: RunFolder, default: DefaultResult | None
) -> None:
    result = replace(make_run(patients=40, folds=2).outer[0], default=default)
    write_result(folder, result, b"weights")
    assert same(result, read_result(folder, result.name, result.validation.classes))


def test_a_study_is_finished_only_when_all_of_its_files_are_there(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after any of its writes, a study is not finished and will be closed again."""
    result = make_run(patients=40, folds=2).outer[0]
    write_result(folder, result, b"weights")
    whole = sorted(path.name for path in folder.study(result.name).iterdir())
    assert whole == [
        "best.json",
        "default.json",
        "history.csv",
        "manifest.json",
        "model.pt",
        "predictions.csv",
        "predictions_default.csv",
        "validation.csv",
        "variation.csv",
        "variation_default.csv",
    ]
    for limit in range(len(whole)):
        half = RunFolder(folder.path / f"killed-{limit}")
        with monkeypatch.context() as patch:
            _stop_after(patch, limit)
            with pytest.raises(InterruptedError):
                write_result(half, result, b"weights")
        assert not is_finished(half, result.name)
        write_result(half, result, b"weights")
        assert same(read_result(half, result.name, result.validation.classes), result)


def test_a_changed_table_of_inner_models_is_refused_with_the_way_on(folder: RunFolder) -> None:
    """It would widen or narrow intervals, and nothing else could show that."""
    made = make_run(patients=40, folds=2).outer[0]
    result = replace(made, variation=made.test)
    write_result(folder, result, b"weights")
    assert same(read_result(folder, result.name, made.validation.classes), result)
    table = folder.study(result.name) / "variation.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.", "0.1", 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"variation\.csv: is not the file that was .* restore"):
        read_result(folder, result.name, made.validation.classes)


@pytest.mark.parametrize("table", ["predictions.csv", "variation.csv", "variation_default.csv"])
def test_a_missing_table_of_test_rows_is_refused(folder: RunFolder, table: str) -> None:
    result = make_run(patients=40, folds=2).outer[0]
    write_result(folder, result, b"weights")
    (folder.study(result.name) / table).unlink()
    with pytest.raises(DataError, match=f"{table}: the file is missing"):
        read_result(folder, result.name, result.validation.classes)


def _stop_after(patch: pytest.MonkeyPatch, limit: int) -> None:
    """The ``limit + 1``-th rename of a finished draft does not come about."""
    rename, done = Path.replace, []

    def once_more(self: Path, target: Path) -> Path:
        if len(done) == limit:
            raise InterruptedError
        done.append(target)
        return rename(self, target)

    patch.setattr(Path, "replace", once_more)


def test_a_run_is_read_with_what_is_finished_and_says_that_it_is_not_complete(
    folder: RunFolder,
) -> None:
    data, _ = make_rows(patients=20)
    config = make_config(inner_folds=2, outer_folds=2)
    made = splits_of(data, config)
    folder.write_dataset(data, ["look at this"])
    folder.write_splits(made.studies, made.attempts, data.fingerprint)
    folder.write_config(config.to_toml())
    write_json(folder.path / "provenance.json", {"timing": {"s": 1}, "provenance": {"git": "x"}})
    with pytest.raises(DataError, match="no outer fold is finished yet, so nothing can be report"):
        read_kept_run(folder)
    source = make_run(data.classes, patients=40, folds=2)
    assert source.final is not None
    outer = [
        of_split(result, study, data)
        for result, study in zip(source.outer, made.outer, strict=True)
    ]
    final = of_split(source.final, made.studies[-1], data)
    write_result(folder, outer[0], b"w")
    run = read_kept_run(folder)
    assert [result.name for result in run.outer] == ["outer-0"]
    assert (run.complete, run.final) == (False, None)
    assert run.task == "multimodal"
    assert run.dataset == {
        "name": "rows",
        "images": 40,
        "patients": 20,
        "fingerprint": data.fingerprint,
        "classes": {"other": int((data.labels == 0).sum()), "cancer": int(data.labels.sum())},
        "assumptions": [],
        "patients_known": True,
        "audit": ["look at this"],
    }
    assert run.protocol["trials"] == config.trials
    assert "data" not in run.protocol
    assert (run.timing, run.provenance) == ({"s": 1}, {"git": "x", "encoders": {}})
    write_result(folder, outer[1], b"w")
    assert not read_kept_run(folder).complete, "the shipped model is missing"
    write_result(folder, final, b"w")
    whole = read_kept_run(folder)
    assert whole.complete
    assert [result.name for result in whole.outer] == ["outer-0", "outer-1"]
    assert isinstance(whole.final, FoldResult)
    assert same(whole.final, final)


def test_history_comes_back_with_whole_epochs_and_missing_losses(folder: RunFolder) -> None:
    result = make_run(patients=40, folds=2).outer[0]
    first = replace(result.history[0], val_loss=float("nan"))
    write_result(folder, replace(result, history=(first, *result.history[1:])), b"w")
    again = read_result(folder, result.name, result.validation.classes).history
    assert np.isnan(again[0].val_loss)
    assert [asdict(row) for row in again[1:]] == [asdict(row) for row in result.history[1:]]
    assert all(type(row.epoch) is int for row in again)


@pytest.mark.parametrize("text", ["", "seed = 3\n", 'task = "dbt"\n'])
def test_options_that_lack_the_task_or_the_protocol_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(
        DataError, match=r"config.toml: lacks the options \['(task|protocol)'.*copy"
    ):
        RunFolder(tmp_path).read_config()


@pytest.mark.parametrize("damage", ["cut", "digit", "added"])
def test_options_that_were_changed_are_refused(tmp_path: Path, damage: str) -> None:
    folder, path = RunFolder(tmp_path), tmp_path / "config.toml"
    folder.write_config({"task": "dbt", "protocol": "nested", "seed": 7})
    assert folder.read_config() == {"task": "dbt", "protocol": "nested", "seed": 7}
    text = path.read_text()
    changed = {"cut": text[:-6], "digit": text.replace("= 7", "= 8"), "added": text + "a = 1\n"}
    path.write_text(changed[damage])
    with pytest.raises(DataError, match="is not the file that was written"):
        folder.read_config()
    path.write_text(text.split("\n", 1)[1])  # as a version wrote it that kept no hash
    assert folder.read_config()["seed"] == 7
