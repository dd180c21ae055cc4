"""Contents of ``results.json``, the source of every printed number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from outerfold.reports.results.columns import column_entries
from outerfold.reports.results.entries import (
    class_entries,
    fold_scores,
    interval_of,
    optimism_entry,
    overall_entries,
)
from outerfold.reports.results.fold_entries import folds_entry
from outerfold.reports.results.level_entries import aggregate_of, level_entry, level_rows
from outerfold.reports.results.levels import LevelRows
from outerfold.reports.results.no_information import add_no_information, training_priors
from outerfold.reports.results.predictions import (
    Evidence,
    confusion_counts,
    distinct,
    images_per_class,
    inner_models,
    patients_per_class,
    test_rows,
    unique_rows,
    validation_rows,
)
from outerfold.reports.results.questions import question_entries
from outerfold.reports.results.worth import (
    default_entry,
    search_entries,
    stability_entries,
    worth_entry,
)
from outerfold.reports.schema import SCHEMA, Results
from outerfold.reports.wording import OPTIMISTIC, Json
from outerfold.storage.records import FoldResult, Predictions, Run


@lru_cache(maxsize=1)
def gather_evidence(run: Run) -> Evidence:
    """Join the predictions and compute every number, once for all documents.

    What was found of the last run is kept, since the model card, the report and the table at the
    end ask for the same; nobody may change it.
    """
    test, validation = test_rows(run), validation_rows(run)
    levels = level_rows(run)
    by_level = {name: rows.test for name, rows in levels.items()}
    numbers = _compute_numbers(run, test, validation, levels)
    return Evidence(run, numbers, test, validation, by_level)


def results(run: Run) -> Results:
    """Contents of ``results.json`` in plain JSON types; ``None`` for a missing number."""
    return gather_evidence(run).numbers


def results_text(numbers: Mapping[str, Any]) -> str:
    """Text of ``results.json``, or of another table of JSON values.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(numbers, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


# Longer than 30 lines: one literal: the layout of results.json.
def _compute_numbers(
    run: Run,
    test: Predictions | None,
    validation: Predictions | None,
    levels: Mapping[str, LevelRows],
) -> Results:
    inner, of = inner_models(run), interval_of(run.protocol)
    numbers: Results = to_json_types(
        {
            "schema": SCHEMA,
            "task": run.task,
            "synthetic_data": run.synthetic,
            "complete": run.complete,
            "dataset": _dataset_entry(run),
            "tested": _row_counts(test, run.classes),
            "protocol": run.protocol,
            "overall": add_no_information(
                overall_entries(test, inner, of), test, training_priors(run.outer)
            ),
            "per_class": class_entries(test, inner, of),
            "confusion": confusion_counts(test, run.classes),
            "levels": {}
            if test is None
            else {
                level: level_entry(level, rows, test, aggregate_of(run.protocol), of)
                for level, rows in levels.items()
            },
            "outer": [_outer_entry(study) for study in run.outer],
            "folds": folds_entry(run, test, levels),
            "questions": question_entries(run, test, levels),
            "optimism": optimism_entry(run),
            "worth": worth_entry(run),
            "search": search_entries(run),
            "stability": stability_entries(run),
            "final": _final_entry(run),
            "validation": {
                "note": OPTIMISTIC,
                **_row_counts(validation, run.classes),
                "overall": overall_entries(validation),
                "per_class": class_entries(validation),
                "confusion": confusion_counts(validation, run.classes),
            },
            "trials": {study.name: study.trials for study in _studies(run) if study.trials},
            "cut_by_time": [s.name for s in _studies(run) if s.trials and s.cut_by_time],
            "timing": run.timing,
            "provenance": {"run": run.name, **run.provenance},
        }
    )
    return numbers


def _studies(run: Run) -> tuple[FoldResult, ...]:
    return run.outer if run.final is None else (*run.outer, run.final)


def _dataset_entry(run: Run) -> Json:
    rows = unique_rows(run)
    return {
        **run.dataset,
        "patients_by_class": patients_per_class(rows, run.classes),
        "columns": column_entries(run),
    }


def _row_counts(rows: Predictions | None, classes: tuple[str, ...]) -> Json:
    """Patients and images of these rows; in an unfinished run, they are not all of the data."""
    once = None if rows is None else distinct(rows)
    return {
        "patients": 0 if once is None else len(set(once.patients.tolist())),
        "images": 0 if once is None else len(once),
        "patients_by_class": patients_per_class(once, classes),
        "images_by_class": images_per_class(once, classes),
    }


def _outer_entry(study: FoldResult) -> Json:
    return {
        "fold": study.name,
        "repeat": study.repeat,
        "train_images": study.train_images,
        "test_images": study.test_images,
        "train_patients": study.train_patients,
        "test_patients": study.test_patients,
        **_choices_entry(study),
        "metrics": fold_scores(study.test),
        "default": default_entry(study),
    }


def _choices_entry(study: FoldResult) -> Json:
    classes = study.validation.classes
    return {
        "params": study.params,
        "epochs": study.epochs,
        "inner_score": study.inner_score,
        "temperature": study.temperature,
        "shift": study.shift,
        "threshold": study.threshold,
        "scores_a_row": study.scores_a_row,
        "original_by_class": images_per_class(study.validation, classes),
        "resampled_by_class": dict(zip(classes, study.resampled, strict=True)),
        "train_patients_by_class": patients_per_class(study.validation, classes),
        "notes": study.notes,
    }


def _final_entry(run: Run) -> Json | None:
    """Entry of the delivered model and how it was made; None before it is made."""
    if not run.ships:
        return None
    if run.ensemble is not None:
        made = {"made": "ensemble", **asdict(run.ensemble)}
    elif run.final is not None:
        made = {"made": run.protocol.get("final", "refit"), **_choices_entry(run.final)}
    return {**made, "checkpoint": "final/model.pt"}


def to_json_types(thing: object) -> Any:
    """Convert to JSON types: arrays to lists, numpy scalars to numbers, NaN and inf to None."""
    if isinstance(thing, Mapping):
        return {str(key): to_json_types(value) for key, value in thing.items()}
    if isinstance(thing, set | frozenset):
        return [to_json_types(value) for value in sorted(thing)]
    if isinstance(thing, list | tuple):
        return [to_json_types(value) for value in thing]
    if isinstance(thing, np.ndarray | np.generic):
        return to_json_types(thing.tolist())
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else None
    return thing if isinstance(thing, str | int | bool | None) else str(thing)
