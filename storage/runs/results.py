"""Results of finished studies in a run directory, and the `Run` that a report reads from it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from outerfold.storage.cache.files import (
    json_bytes,
    read_hashed,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from outerfold.storage.records import (
    FINAL,
    DataError,
    Dataset,
    DefaultResult,
    Ensemble,
    EpochRow,
    FoldResult,
    OuterFold,
    Predictions,
    Run,
)
from outerfold.storage.runs.check_rows import check_rows
from outerfold.storage.runs.extensions import read_extension
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import (
    MANIFEST,
    MARK,
    require_manifest,
    verify_files,
    write_manifest,
)
from outerfold.storage.runs.search import read_search
from outerfold.storage.words.csv_tables import csv_text, read_csv_rows

_OWN_FILES = ("history", "validation", "test", "variation", "default")
DEFAULT_FILE = "default.json"
TABLES = {"test": "predictions.csv", "variation": "variation.csv"}
DEFAULT_TABLES = {"test": "predictions_default.csv", "variation": "variation_default.csv"}
"""Tables of test rows of a study, and of its default configuration, by field of the result."""
OTHER_TABLES = ("history.csv", "validation.csv", *TABLES.values(), *DEFAULT_TABLES.values())
"""Tables that belong to a study's result."""
FORMER_HASHES = "sha256"
"""Entry of a result's JSON file that a short-lived version wrote; the manifest took its place."""


class NothingFinished(DataError):
    """No outer fold of a run is finished."""


def write_result(folder: RunFolder, result: FoldResult, model: bytes) -> None:
    """Write the results of one study and its model's bytes.

    ``best.json`` is written last, so its presence shows that all files are there.
    """
    path = folder.study(result.name)
    write_bytes(path / "model.pt", model)
    write_text(path / "history.csv", _history_csv(result.history))
    write_text(
        path / "validation.csv", predictions_csv(result.validation, result.validation.classes)
    )
    _write_tables(path, result, TABLES)
    if result.default is not None:
        _write_default(path, result.default)
    kept = {f.name: getattr(result, f.name) for f in fields(result) if f.name not in _OWN_FILES}
    _write_best(path, kept)


def write_ensemble(folder: RunFolder, made: Ensemble) -> None:
    """Write ``final/best.json`` of an ensemble; it must be the last file written to ``final/``."""
    _write_best(folder.study(FINAL), asdict(made))


def _write_best(path: Path, kept: dict[str, Any]) -> None:
    """Write the manifest of a study's folder and then its ``best.json``."""
    best = json_bytes({**kept, MARK: MANIFEST})
    write_manifest(path, {"best.json": best})
    write_bytes(path / "best.json", best)


def _read_best(path: Path) -> dict[str, Any]:
    """Content of ``best.json`` of a study, once the files are those that were written.

    Raises:
        DataError: a file was changed, or ``best.json`` is no result.
    """
    verify_files(path, "best.json", DEFAULT_FILE, *OTHER_TABLES)
    kept = read_json(path / "best.json")
    if not isinstance(kept, dict):
        raise DataError(f"{path / 'best.json'}: is no result of a study; restore it from a copy")
    require_manifest(path, kept)
    return {name: value for name, value in kept.items() if name not in (MARK, FORMER_HASHES)}


def read_ensemble(folder: RunFolder) -> Ensemble | None:
    """Ensemble that ``write_ensemble`` wrote; None if there is none yet."""
    if not is_finished(folder, FINAL):
        return None
    kept = _read_best(folder.study(FINAL))
    return Ensemble(tuple(kept["members"]), kept["threshold"])


def is_finished(folder: RunFolder, study: str) -> bool:
    """Whether a study was refitted and scored, or, for ``final``, the ensemble was made."""
    return (folder.study(study) / "best.json").exists()


def results_seen(folder: RunFolder) -> bool:
    """Whether test results of a run exist: an outer fold is scored, or a flat search has ended."""
    flat = folder.read_config().get("protocol") == "non-nested"
    names = (
        [FINAL] if flat else [path.parent.name for path in folder.path.glob("outer-*/best.json")]
    )
    return any(is_finished(folder, name) for name in names)


def read_result(folder: RunFolder, study: str, classes: Sequence[str]) -> FoldResult:
    """Result that ``write_result`` wrote for the study.

    Raises:
        DataError: a file is missing, or is not the one that was written, or cannot be read.
    """
    path = folder.study(study)
    kept = _read_best(path)
    tables = _read_tables(path, TABLES, classes)
    if study != FINAL and tables["test"] is None:
        raise DataError(f"{path / TABLES['test']}: the file is missing; restore it from a copy")
    kept["resampled"] = tuple(kept["resampled"])
    kept["notes"] = tuple(kept["notes"])
    return FoldResult(
        **kept,
        history=tuple(_parse_epoch(row) for row in read_csv_rows(path / "history.csv")),
        validation=read_predictions(path / "validation.csv", classes),
        default=_read_default(path, classes),
        **tables,
    )


def read_finished(
    folder: RunFolder, studies: Iterable[OuterFold], data: Dataset
) -> list[FoldResult]:
    """Results of the finished studies of a run, each with the rows of its folds.

    Raises:
        DataError: a file was changed, or a table has other rows than the splits.
    """
    return [
        read_checked_result(folder, study, data)
        for study in studies
        if is_finished(folder, study.name)
    ]


def read_checked_result(folder: RunFolder, study: OuterFold, data: Dataset) -> FoldResult:
    """Result of a study whose rows are those of its folds.

    Args:
        folder: directory of the run.
        study: folds of the study.
        data: rows of the run.

    Raises:
        DataError: a file was changed, or a table has other rows than the splits.
    """
    result = read_result(folder, study.name, data.classes)
    check_rows(result, study, data, folder.study(study.name))
    return result


def _write_default(path: Path, result: DefaultResult) -> None:
    _write_tables(path, result, DEFAULT_TABLES)
    kept = {f.name: getattr(result, f.name) for f in fields(result) if f.name not in _OWN_FILES}
    write_json(path / DEFAULT_FILE, kept)


def _read_default(path: Path, classes: Sequence[str]) -> DefaultResult | None:
    if not (path / DEFAULT_FILE).exists():
        return None
    kept = read_json(path / DEFAULT_FILE)
    kept.pop(FORMER_HASHES, None)
    tables = _read_tables(path, DEFAULT_TABLES, classes)
    return DefaultResult(**kept, **tables)


def _write_tables(path: Path, result: FoldResult | DefaultResult, names: dict[str, str]) -> None:
    """Write the tables of test rows that there are."""
    for field, name in names.items():
        rows = getattr(result, field)
        if rows is not None:
            write_text(path / name, predictions_csv(rows, rows.classes))


def _read_tables(path: Path, names: dict[str, str], classes: Sequence[str]) -> dict[str, Any]:
    """Tables of test rows by field; None where there is none."""
    there = {field: path / name for field, name in names.items()}
    return {
        field: read_predictions(file, classes) if file.exists() else None
        for field, file in there.items()
    }


# Longer than 30 lines: one literal: the fields of a run.
def read_run(
    folder: RunFolder, stated: Sequence[str], done: Sequence[FoldResult] | None = None
) -> Run:
    """Everything that a report needs of a run, finished or not.

    Args:
        folder: directory of the run.
        stated: names of the options that the report states as the run's protocol.
        done: results of its finished studies, where they were read already.

    Raises:
        DataError: no outer fold is finished, or a file of one was changed.
    """
    config, data = folder.read_config(), folder.read_dataset()
    studies = folder.read_splits(data)
    if done is None:
        done = read_finished(folder, studies, data)
    final = next((result for result in done if result.name == FINAL), None)
    outer = tuple(result for result in done if result.name != FINAL)
    if config["protocol"] == "non-nested" and final is not None:
        outer = non_nested_results(final)
    averaged = config.get("final") == "ensemble"
    ensemble = read_ensemble(folder) if averaged else None
    if not outer:
        raise NothingFinished(
            f"{folder.path}: no outer fold is finished yet, so nothing can be reported"
        )
    made = read_json(folder.path / "provenance.json")
    return Run(
        name=folder.name,
        task=config["task"],
        synthetic=data.synthetic,
        complete=len(done) == len(studies) and (ensemble is not None) == averaged,
        dataset=_describe_dataset(data, folder),
        protocol={**{name: config[name] for name in stated if name in config}, **_extended(folder)},
        classes=data.classes,
        outer=outer,
        final=final,
        timing=made["timing"],
        provenance={**made["provenance"], "encoders": _encoders(folder)},
        sides=dict(zip(data.ids.tolist(), data.sides.tolist(), strict=False)),
        ensemble=ensemble,
        data=data,
        search=read_search(folder),
    )


def _extended(folder: RunFolder) -> dict[str, Any]:
    found = read_extension(folder)
    if found is None:
        return {}
    return {"extended": {"times": found.times, "trials": list(found.trials)}}


def _describe_dataset(data: Dataset, folder: RunFolder) -> dict[str, Any]:
    counts = np.bincount(data.labels, minlength=len(data.classes)).tolist()
    return {
        "name": data.name,
        "images": len(data),
        "patients": len(set(data.patients.tolist())),
        "classes": dict(zip(data.classes, counts, strict=True)),
        "fingerprint": data.fingerprint,
        "assumptions": list(data.assumptions),
        "patients_known": data.patients_known,
        "audit": folder.read_audit(),
        **({"set_aside": len(data.set_aside)} if data.set_aside else {}),
    }


def _encoders(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Cards of the run's encoders by name; empty where the run has none yet."""
    path = folder.path / "encoder.json"
    if not path.exists():
        return {}
    first = read_hashed(path)
    return {card.pop("name"): card for card in (first, *first.pop("others", []))}


def non_nested_results(search: FoldResult) -> tuple[FoldResult, ...]:
    """Results as common practice reports them, with the folds of the search as test folds.

    These scores are too good, because the same folds chose the configuration.

    Args:
        search: result of the study of all rows; its inner folds become the outer folds.
    """
    rows = search.validation
    return tuple(
        replace(
            search,
            name=name,
            train_images=int((rows.fold != name).sum()),
            test_images=int((rows.fold == name).sum()),
            train_patients=len(set(rows.patients[rows.fold != name].tolist())),
            test_patients=len(set(rows.patients[rows.fold == name].tolist())),
            validation=rows.take(rows.fold != name),
            test=rows.take(rows.fold == name),
            default=None,
            variation=None,
            trials={},
            notes=(),
        )
        for name in sorted(set(rows.fold.tolist()), key=lambda fold: int(fold.split("-")[1]))
    )


def predictions_csv(rows: Predictions | None, classes: Sequence[str]) -> str:
    """CSV text with the columns ``id,patient,fold,repeat,label,p_<class>...,predicted``.

    A last column, ``group``, names groups of suspected patients where they are not the patients.
    None gives the header alone. Probabilities have full precision, so that reading them back
    gives exactly the same numbers.
    """
    columns = [f"p_{name}" for name in classes]
    grouped = rows is not None and bool((rows.groups != rows.patients).any())
    last = ["predicted", *(["group"] if grouped else [])]
    header = ["id", "patient", "fold", "repeat", "label", *columns, *last]
    if rows is None:
        return csv_text(header, [])
    return csv_text(
        header,
        (
            [
                rows.ids[at],
                rows.patients[at],
                rows.fold[at],
                int(rows.repeat[at]),
                classes[rows.labels[at]],
                *(repr(float(p)) for p in rows.probabilities[at]),
                classes[rows.predicted[at]],
                *([rows.groups[at]] if grouped else []),
            ]
            for at in range(len(rows))
        ),
    )


def read_predictions(path: Path, classes: Sequence[str]) -> Predictions:
    """Predictions in a file that ``predictions_csv`` wrote.

    Raises:
        DataError: the file is no such table.
    """
    index = {name: c for c, name in enumerate(classes)}
    try:
        table = read_csv_rows(path)
        return Predictions(
            ids=np.array([row["id"] for row in table], dtype=np.str_),
            patients=np.array([row["patient"] for row in table], dtype=np.str_),
            fold=np.array([row["fold"] for row in table], dtype=np.str_),
            repeat=np.array([int(row["repeat"]) for row in table], dtype=np.int64),
            labels=np.array([index[row["label"]] for row in table], dtype=np.int64),
            probabilities=np.array(
                [[float(row[f"p_{name}"]) for name in classes] for row in table], dtype=np.float64
            ).reshape(len(table), len(classes)),
            predicted=np.array([index[row["predicted"]] for row in table], dtype=np.int64),
            classes=tuple(classes),
            groups=np.array([row["group"] for row in table if "group" in row], dtype=np.str_),
        )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a table of predictions ({type(error).__name__}: {error}); "
            "restore the file from a copy"
        ) from None


def _history_csv(history: Sequence[EpochRow]) -> str:
    names = [field.name for field in fields(EpochRow)]
    return csv_text(names, ([getattr(row, name) for name in names] for row in history))


def _parse_epoch(row: dict[str, str]) -> EpochRow:
    numbers = {name: float(row[name]) for name in row if name != "epoch"}
    return EpochRow(epoch=int(row["epoch"]), **numbers)
