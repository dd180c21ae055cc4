"""Types of ``results.json``, its version, and the reading of files of this and earlier versions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    NotRequired,
    TypedDict,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from outerfold.storage.errors import DataError, as_path, first_three

SCHEMA = 2
"""Version of the layout. It is raised where a part changes its meaning or its place; a part that is
added does not raise it. Version 1 had no ``questions``."""

Counts = dict[str, int]
"""Number of patients or images by name of the class."""
Params = dict[str, Any]
"""Hyper-parameters by name: numbers, texts or truth values."""


class Interval(TypedDict):
    """An estimate and its interval; ``reason`` says why there is none."""

    estimate: float | None
    low: float | None
    high: float | None
    reason: str | None


class Bounds(TypedDict):
    """Bounds of another interval of the same estimate."""

    low: float
    high: float


class CorrectedT(Interval):
    """The corrected t interval over folds."""

    method: str
    notes: list[str]


class LevelledInterval(Interval):
    """An interval with its nominal coverage, 0.95 for 95 %."""

    level: float


class Entry(LevelledInterval):
    """A metric with its interval over patients.

    ``by_fold`` has a score for each fold, ``fold_range`` their smallest and largest one, and
    ``fold_spread`` their standard deviation.
    """

    of: str
    method: str
    by_fold: list[float | None]
    notes: list[str]
    procedure: Bounds | None
    fold_spread: float | None
    fold_range: list[float] | None


class OverallEntry(Entry):
    """A metric of all classes, with the corrected t and what no information would reach."""

    corrected_t: CorrectedT
    no_information: NotRequired[float | None]


Overall = dict[str, OverallEntry]
PerClass = dict[str, dict[str, Entry]]
Confusion = list[list[int]]
"""Counts by true class (outer list) and decided class."""


class Sizes(TypedDict):
    """Number of patients and of images."""

    patients: int
    images: int


class RowCounts(Sizes):
    """Numbers of patients and images of rows, and of each class."""

    patients_by_class: Counts
    images_by_class: Counts


class ColumnEntry(TypedDict):
    """A clinical column at patient level. ``values`` has a mean and standard deviation by class, or
    the patients by level and class."""

    name: str
    kind: str
    patients: Counts
    missing: Counts
    missing_images: Counts
    values: dict[str, dict[str, Any]]
    difference: float | None


class DatasetEntry(Sizes):
    """The whole data set; ``classes`` counts images."""

    name: str
    classes: Counts
    fingerprint: str
    patients_by_class: Counts
    columns: list[ColumnEntry]
    assumptions: NotRequired[list[str]]
    patients_known: NotRequired[bool]
    audit: NotRequired[list[str] | None]
    set_aside: NotRequired[int]


class Choices(TypedDict):
    """What a study chose."""

    params: Params
    epochs: int
    inner_score: float
    temperature: float
    shift: float
    threshold: float | None
    scores_a_row: int
    original_by_class: Counts
    resampled_by_class: Counts
    train_patients_by_class: Counts
    notes: list[str]


class DefaultEntry(TypedDict):
    """Scores of the default configuration of one outer fold."""

    chosen: bool
    epochs: int
    reason: str | None
    metrics: dict[str, float | None]


class OuterEntry(Choices):
    """One outer fold: its sizes, choices and scores."""

    fold: str
    repeat: int
    train_images: int
    test_images: int
    train_patients: int
    test_patients: int
    metrics: dict[str, float | None]
    default: DefaultEntry | None


class FinalEntry(TypedDict):
    """The delivered model. ``made`` is ``folds``, ``refit`` or ``ensemble``; an ensemble has
    ``members``, every other model what its search chose."""

    made: str
    checkpoint: str
    threshold: float | None
    members: NotRequired[list[str]]
    params: NotRequired[Params]
    epochs: NotRequired[int]
    inner_score: NotRequired[float]
    temperature: NotRequired[float]
    shift: NotRequired[float]
    scores_a_row: NotRequired[int]
    original_by_class: NotRequired[Counts]
    resampled_by_class: NotRequired[Counts]
    train_patients_by_class: NotRequired[Counts]
    notes: NotRequired[list[str]]


class SlopeEntry(Interval):
    """Calibration slope of one fold."""

    chi2: float | None


class FoldEntry(TypedDict):
    """One outer fold at one level, with intervals of its own model."""

    fold: str
    patients: int
    rows: int
    patients_by_class: Counts
    rows_by_class: Counts
    called: Counts
    threshold: float | None
    temperature: float
    epochs: int
    slope: SlopeEntry
    mean_probability: float | None
    prevalence: float | None
    odd: list[str]
    metrics: dict[str, LevelledInterval]


class Scored(TypedDict):
    """Metrics of one set of rows."""

    overall: Overall
    per_class: PerClass
    confusion: Confusion


class LevelEntry(Scored):
    """Metrics by patient, or by breast."""

    aggregate: str
    units: int
    patients: int
    images: int
    units_by_class: Counts
    patients_by_class: Counts
    mixed: int
    notes: list[str]
    thresholds: dict[str, float | None]
    calibrations: dict[str, dict[str, float]]


class ValidationEntry(RowCounts, Scored):
    """Metrics of inner out-of-fold rows, which are optimistic; ``note`` says so."""

    note: str


class Optimism(LevelledInterval):
    """Inner minus outer score; without an estimate, only ``reason`` is there besides."""

    metric: NotRequired[str]
    of: NotRequired[str]
    method: NotRequired[str]
    by_fold: NotRequired[list[float | None]]
    notes: NotRequired[list[str]]
    procedure: NotRequired[Bounds | None]
    fold_spread: NotRequired[float | None]
    fold_range: NotRequired[list[float] | None]


class WorthMetric(TypedDict):
    """A metric of the chosen and of the default configuration."""

    tuned: float | None
    default: float | None
    difference: Entry


class PairedEntry(TypedDict):
    """A metric of two runs of the same rows, and the difference of the first minus the second."""

    a: float | None
    b: float | None
    difference: Entry


class Worth(TypedDict):
    """What the search was worth; ``reason`` says why ``overall`` is empty."""

    metric: str
    params: Params
    chosen: list[str]
    final_chosen: bool | None
    reason: str | None
    overall: dict[str, WorthMetric]


class SearchEntry(TypedDict):
    """One search: its trials, and the share of each parameter in their variation."""

    trials: int
    complete: int
    epochs: int
    chosen: int | None
    best: float | None
    first: float | None
    importance: dict[str, float]


class StabilityEntry(TypedDict):
    """How far apart the outer folds' choices of one parameter lie.

    ``apart`` is a share of the searched range, of its logarithm on a logarithmic scale, and None of
    a parameter with listed values. ``agree`` of ``folds`` folds chose the commonest value.
    """

    apart: float | None
    agree: int
    folds: int


class CurvePoint(LevelledInterval):
    """Net benefit of the model at a threshold, and that of treating everyone."""

    threshold: float
    treat_all: float


class CalibrationEntry(TypedDict):
    """Calibration over all folds; ``folds`` names those of each ``by_fold``."""

    slope: Entry
    intercept: Entry
    observed_expected: Entry
    scaled_brier: Entry
    folds: list[str]


class PrevalenceEntry(TypedDict):
    """Predictive values at a stated prevalence."""

    prevalence: float
    ppv: Entry
    npv: Entry


class QuestionLevel(TypedDict):
    """Answers at one level. All but ``agreement`` are of two classes, and None for several."""

    decision_curve: list[CurvePoint] | None
    calibration: CalibrationEntry | None
    likelihood_ratios: dict[str, Entry] | None
    fixed_points: dict[str, Entry] | None
    at_prevalence: PrevalenceEntry | None
    agreement: Entry | None


class SubgroupEntry(TypedDict):
    """One subgroup; ``difference`` is its ROC-AUC minus that of the first."""

    name: str
    patients: int
    rows: int
    positives: int
    roc_auc: Entry
    difference: Entry | None


class SubgroupColumn(TypedDict):
    """Subgroups by one column; ``missing`` counts rows without its value."""

    column: str
    level: str
    missing: int
    groups: list[SubgroupEntry]


class OriginalEntry(TypedDict):
    """A class of the source: ``right`` of its rows were decided for ``merged``."""

    name: str
    merged: str
    patients: int
    rows: int
    right: int
    share: Entry


class ReaderMetric(TypedDict):
    """Score of a reader, and the model's minus the reader's."""

    reader: float | None
    difference: Entry


class ReaderEntry(TypedDict):
    """The model against a reader; ``model_reads`` tells whether the model reads the column."""

    column: str
    positive: str
    level: str
    rows: int
    missing: int
    model_reads: bool
    metrics: dict[str, ReaderMetric]


MistakeEntry = TypedDict(
    "MistakeEntry",
    {
        "number": int,
        "fold": str,
        "class": str,
        "predicted": str,
        "probability": float,
        "percentile": float,
        "rank": int,
        "of": int,
    },
)
"""A wrong decision; ``probability`` is that of its true class."""


class Questions(TypedDict):
    """Answers that need more than a metric."""

    levels: dict[str, QuestionLevel]
    subgroups: list[SubgroupColumn]
    originals: list[OriginalEntry]
    reader: ReaderEntry | None
    mistakes: list[MistakeEntry]


class Results(Scored):
    """Contents of ``results.json``."""

    schema: int
    task: str
    synthetic_data: bool
    complete: bool
    dataset: DatasetEntry
    tested: RowCounts
    protocol: dict[str, Any]
    levels: dict[str, LevelEntry]
    outer: list[OuterEntry]
    folds: dict[str, list[FoldEntry]]
    questions: Questions | None
    optimism: Optimism
    worth: Worth
    search: dict[str, SearchEntry]
    stability: dict[str, StabilityEntry]
    final: FinalEntry | None
    validation: ValidationEntry
    trials: dict[str, dict[str, int]]
    cut_by_time: list[str]
    timing: dict[str, Any]
    provenance: dict[str, Any]


_ADDED: dict[str, Any] = {
    "levels": {},
    "folds": {},
    "search": {},
    "stability": {},
    "questions": None,
    "cut_by_time": [],
    "worth": {
        "metric": "",
        "params": {},
        "chosen": [],
        "final_chosen": None,
        "reason": "an earlier version of outerfold made the report and compared with no default",
        "overall": {},
    },
}
"""Parts that earlier versions of outerfold did not write, as they are where there is nothing."""
_ADDED_TO_ENTRY: dict[str, Any] = {
    "of": "procedure",
    "procedure": None,
    "fold_spread": None,
    "fold_range": None,
}
_ADDED_TO_STUDY: dict[str, Any] = {"default": None, "shift": 0.0, "scores_a_row": 1}
_ADDED_TO_OVERALL: dict[str, Any] = {
    **_ADDED_TO_ENTRY,
    "corrected_t": {
        "estimate": None,
        "low": None,
        "high": None,
        "reason": "an earlier version of outerfold did not compute it",
        "method": "",
        "notes": [],
    },
}


def read_results(path: str | PathLike[str], *, checked: bool = True) -> Results:
    """Contents of a ``results.json`` of this or an earlier version.

    What an earlier version did not write is empty or None.

    Args:
        path: the file.
        checked: whether every value must be of its type.

    Raises:
        DataError: the file cannot be read, is of a later version, or holds something else.
    """
    path = as_path(path, "the path of results.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    refuse_later(found, path)
    filled = _fill(found)
    wrong = list(misfits(filled, Results)) if checked else []
    if wrong:
        raise DataError(
            f"{path}: is no results.json of outerfold: {first_three(wrong)}; restore it from a "
            "copy, or write it again by: outerfold report RUN"
        )
    return cast(Results, filled)


def refuse_later(found: object, path: Path) -> None:
    """Refuse contents that are no results, or of a version that is not known yet.

    Raises:
        DataError: ``schema`` is missing, no whole number, or above ``SCHEMA``.
    """
    version = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(
            f"{path}: is no results.json of outerfold, whose 'schema' is a whole number from 1; "
            f"found {version!r}"
        )
    if version > SCHEMA:
        raise DataError(
            f"{path}: has schema {version}, and this version of outerfold reads schemas up to "
            f"{SCHEMA}; read it with the version of outerfold that wrote it, or a later one"
        )


def _fill(found: dict[str, Any]) -> dict[str, Any]:
    """The contents with the parts that an earlier version lacks."""
    filled = {**_ADDED, **found}
    if isinstance(filled.get("dataset"), dict):
        filled["dataset"] = {"columns": [], **filled["dataset"]}
    filled["outer"] = [{**_ADDED_TO_STUDY, **one} for one in _tables(filled, "outer")]
    for level in _tables(filled, "levels"):
        level.setdefault("calibrations", {})
    for scored in (filled, *_tables(filled, "levels"), filled.get("validation")):
        if isinstance(scored, dict):
            _fill_entries(scored.get("overall"), _ADDED_TO_OVERALL)
            for entries in _tables(scored, "per_class"):
                _fill_entries(entries, _ADDED_TO_ENTRY)
    return filled


def _tables(found: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Tables inside a part, which is a list or a table; those that are something else are left."""
    inside = found.get(part)
    listed = inside.values() if isinstance(inside, dict) else inside or ()
    return [one for one in listed if isinstance(one, dict)]


def _fill_entries(entries: object, added: Mapping[str, Any]) -> None:
    """Add what each entry of a metric lacks."""
    for entry in entries.values() if isinstance(entries, dict) else ():
        if isinstance(entry, dict):
            for key, value in added.items():
                entry.setdefault(key, value)


def misfits(value: object, kind: Any, where: str = "") -> Iterator[str]:
    """Places at which a JSON value is not of a type, one phrase each.

    Args:
        value: any JSON value.
        kind: a ``TypedDict``, a list, dict or union of types, or a plain type.
        where: place of the value.
    """
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if is_typeddict(kind):
        yield from _typed_misfits(value, kind, where)
    elif origin in (UnionType, Union):
        if all(any(misfits(value, one)) for one in inside):
            known = [one for one in inside if one is not NoneType]
            yield from misfits(value, known[0], where)
    elif origin in (list, dict):
        if not isinstance(value, origin):
            yield f"{where or 'it'} is no {'list' if origin is list else 'table'}"
            return
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in pairs:
            yield from misfits(one, inside[-1], f"{where}.{key}" if where else str(key))
    elif not _is_plain(value, kind):
        yield f"{where or 'it'} is {value!r}, no {kind.__name__}"


def _typed_misfits(value: object, kind: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where or 'it'} is no table"
        return
    for key, one in get_type_hints(kind, include_extras=True).items():
        place, optional = f"{where}.{key}" if where else key, get_origin(one) is NotRequired
        if key in value:
            yield from misfits(value[key], get_args(one)[0] if optional else one, place)
        elif not optional:
            yield f"{place} is missing"


def _is_plain(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
