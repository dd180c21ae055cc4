"""Part ``questions`` of ``results.json``: answers that need more than a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np

from outerfold.reports.analyses.columns_of_rows import (
    Ask,
    by_unit,
    groups_of,
    image_column,
    model_column,
    text_column,
)
from outerfold.reports.analyses.decision_curve import decision_curve, treat_all
from outerfold.reports.analyses.errors import mistakes
from outerfold.reports.analyses.operating_points import (
    fixed_points,
    likelihood_ratios,
    ordered_agreement,
    predictive_values,
)
from outerfold.reports.analyses.originals import by_original
from outerfold.reports.analyses.readers import against_reader
from outerfold.reports.analyses.recalibration import recalibration
from outerfold.reports.analyses.subgroups import subgroups
from outerfold.reports.intervals.jackknife import ConfidenceInterval, Of
from outerfold.reports.intervals.variation import Variation
from outerfold.reports.results.entries import entry, interval_of
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.results.levels import Level, LevelRows, units_of
from outerfold.reports.results.predictions import inner_models
from outerfold.reports.wording import Json
from outerfold.storage.errors import DataError, first_three, suggest_name
from outerfold.storage.records import Dataset, IntArray, Predictions, Run
from outerfold.storage.words.numbers import parse_number
from outerfold.storage.words.texts import spelling_key

ASKED = ("prevalence", "ordered", "subgroups", "reader_column", "reader_positive")
"""Options of ``report`` that ask a question; ``protocol`` of ``results.json`` states them."""
OF_REPORT = ("level", "aggregate", "style", *ASKED)
"""Options with which a report may differ from its run."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Outer test rows at one level, and the same by the models of inner folds."""

    level: str
    test: Predictions
    variation: Variation
    of: Of


def question_entries(
    run: Run, test: Predictions | None, levels: Mapping[str, LevelRows]
) -> Json | None:
    """Entries of all questions; None before an outer fold has finished.

    Args:
        run: the run; its ``protocol`` states what was asked.
        test: outer test rows by image.
        levels: the same rows by patient, and by breast.

    Raises:
        DataError: a question has no answer for these data.
    """
    if test is None:
        return None
    of = interval_of(run.protocol)
    every = [_Rows("image", test, inner_models(run), of)]
    every += [_Rows(name, found.test, found.variation, of) for name, found in levels.items()]
    leading = next((one for one in every if one.level == leading_level(run.protocol)), every[0])
    return {
        "levels": {one.level: _level_entry(one, run.protocol) for one in every},
        "subgroups": [_subgroup_entry(text, run, every[0], leading) for text in _asked(run)],
        "originals": _original_entries(run, every[0]),
        "reader": _reader_entry(run, every[0], leading),
        "mistakes": _mistake_entries(leading),
    }


def refuse_questions(protocol: Mapping[str, Any], classes: tuple[str, ...]) -> None:
    """Refuse questions that have no answer for these classes.

    Raises:
        DataError: the question needs two classes, or several; or half of it is missing.
    """
    two, given = len(classes) == 2, {name for name in ASKED if protocol.get(name)}
    for name in sorted(given - {"ordered"}):
        if not two:
            raise DataError(
                f"--{name.replace('_', '-')} needs two classes, one of them positive; this run has "
                f"{len(classes)}: leave it out"
            )
    if "ordered" in given and two:
        raise DataError(
            "--ordered has no effect with two classes, whose order says nothing more; leave it out"
        )
    asked = [str(text) for text in cast(list[object], protocol.get("subgroups") or [])]
    twice = sorted({text for text in asked if asked.count(text) > 1})
    if twice:
        raise DataError(f"--subgroups names {twice[0]} twice; name it once")
    for text, after in pairwise(asked):
        if ":" in text and parse_number(after) is not None:
            raise DataError(
                f"--subgroups {text},{after}: a comma begins the next column; separate limits by "
                f"|, such as {text}|{after}"
            )
    if len(given & {"reader_column", "reader_positive"}) == 1:
        raise DataError(
            "--reader-column and --reader-positive belong together: the column of a reader's "
            "readings, and the reading from which it is positive; give both"
        )
    share = protocol.get("prevalence")
    if share is not None and not 0 < float(share) < 1:
        raise DataError(f"--prevalence must be between 0 and 1, such as 0.006, found {share}")


def _asked(run: Run) -> list[str]:
    texts: Any = run.protocol.get("subgroups") or ()
    return list(texts)


def _level_entry(rows: _Rows, protocol: Mapping[str, Any]) -> Json:
    agreement = None
    if protocol.get("ordered"):
        agreement = entry(ordered_agreement(rows.test, rows.variation, rows.of))
    if len(rows.test.classes) != 2:
        return {**dict.fromkeys(_OF_TWO), "agreement": agreement}
    ratios = likelihood_ratios(rows.test, rows.variation, rows.of)
    return {
        "decision_curve": _curve_entries(rows),
        "calibration": _calibration_entry(rows),
        "likelihood_ratios": _entries(ratios),
        "fixed_points": _entries(fixed_points(rows.test, rows.of)),
        "at_prevalence": _prevalence_entry(ratios, protocol.get("prevalence")),
        "agreement": agreement,
    }


_OF_TWO = (
    "decision_curve",
    "calibration",
    "likelihood_ratios",
    "fixed_points",
    "at_prevalence",
)


def _entries(found: Mapping[str, ConfidenceInterval]) -> dict[str, Json]:
    return {name: entry(one) for name, one in found.items()}


def _curve_entries(rows: _Rows) -> list[Json]:
    share = float(rows.test.labels.mean())
    return [
        {
            "threshold": threshold,
            **{key: getattr(one, key) for key in ("estimate", "low", "high", "level", "reason")},
            "treat_all": treat_all(share, threshold),
        }
        for threshold, one in decision_curve(rows.test, rows.variation, rows.of).items()
    ]


def _calibration_entry(rows: _Rows) -> Json:
    found = recalibration(rows.test, rows.variation, rows.of)
    return {
        "slope": entry(found.slope),
        "intercept": entry(found.intercept),
        "observed_expected": entry(found.ratio),
        "scaled_brier": entry(found.scaled_brier),
        "folds": list(found.folds),
    }


def _prevalence_entry(
    ratios: Mapping[str, ConfidenceInterval], prevalence: float | None
) -> Json | None:
    if prevalence is None:
        return None
    found = predictive_values(ratios, prevalence=float(prevalence))
    return {"prevalence": float(prevalence), **_entries(found)}


def _units(images: Predictions, level: str, run: Run) -> dict[str, list[str]]:
    """Ids of the tested images of each row at a level."""
    if level == "image":
        return {name: [name] for name in images.ids.tolist()}
    named: Level = level  # type: ignore[assignment]
    found: dict[str, list[str]] = {}
    pairs = zip(units_of(named, run.sides)(images).tolist(), images.ids.tolist(), strict=True)
    for unit, image in pairs:
        found.setdefault(unit, []).append(image)
    return found


def _subgroup_entry(text: str, run: Run, images: _Rows, leading: _Rows) -> Json:
    """Entry of one column; by image where units have images of several subgroups."""
    ask, data = Ask.parse(text), _data(run, "--subgroups")
    groups, names = groups_of(data, ask)
    by_image = dict(zip(data.ids.tolist(), groups.tolist(), strict=True))
    values = by_unit(by_image, _units(images.test, leading.level, run))
    rows = images if values is None else leading
    own = by_image if values is None else values
    each = np.array([own[key] for key in rows.test.ids.tolist()], dtype=np.str_)
    found = subgroups(rows.test, each, [name for name in names if (each == name).any()])
    return {
        "column": ask.name,
        "level": rows.level,
        "missing": int((each == "").sum()),
        "groups": [
            {
                "name": one.name,
                "patients": one.patients,
                "rows": one.rows,
                "positives": one.positives,
                "roc_auc": entry(one.roc_auc),
                "difference": None if one.difference is None else entry(one.difference),
            }
            for one in found
        ],
    }


def _original_entries(run: Run, images: _Rows) -> list[Json]:
    """Entry of each class of the source; empty where no classes were merged."""
    if run.data is None or len(set(run.data.originals.tolist())) <= len(run.classes):
        return []
    known = dict(zip(run.data.ids.tolist(), run.data.originals.tolist(), strict=True))
    names = np.array([known[key] for key in images.test.ids.tolist()], dtype=np.str_)
    return [
        {
            "name": one.name,
            "merged": one.merged,
            "patients": one.patients,
            "rows": one.rows,
            "right": one.right,
            "share": entry(one.share),
        }
        for one in by_original(images.test, names, images.variation, images.of)
    ]


def _reader_entry(run: Run, images: _Rows, rows: _Rows) -> Json | None:
    """Entry of the comparison with a reader; None where no column was named.

    A patient is read as positive where one of its images is, and not at all where none was.
    """
    name, positive = run.protocol.get("reader_column"), run.protocol.get("reader_positive")
    if not name:
        return None
    data = _data(run, "--reader-column")
    calls, rule = _readings(data, str(name), str(positive))
    by_image = dict(zip(data.ids.tolist(), calls.tolist(), strict=True))
    units = _units(images.test, rows.level, run)
    read = {unit: max(by_image[image] for image in own) for unit, own in units.items()}
    found = np.array([read[key] for key in rows.test.ids.tolist()], dtype=np.int64)
    kept = found != UNREAD
    if not kept.any():
        raise DataError(f"--reader-column {name}: no tested image has a reading; check the column")
    compared = against_reader(rows.test.take(kept), found[kept], rows.variation, rows.of)
    return {
        "column": str(name),
        "positive": rule,
        "level": rows.level,
        "rows": len(set(rows.test.ids[kept].tolist())),
        "missing": len(set(rows.test.ids[~kept].tolist())),
        "model_reads": model_column(data, str(name), "--reader-column") is not None,
        "metrics": {
            metric: {"reader": score, "difference": entry(change)}
            for metric, (score, change) in compared.items()
        },
    }


UNREAD = -1
"""Call of an image without a reading."""


def _readings(data: Dataset, name: str, positive: str) -> tuple[IntArray, str]:
    """Calls (n,) of the reader, and which readings are positive in words.

    A number is positive from ``positive`` on. Other readings are positive where they are one of
    the names in ``positive``, which ``|`` separates.

    Raises:
        DataError: no reading is positive, or all are.
    """
    column, values = image_column(data, name, "--reader-column")
    if column.kind == "numeric":
        try:
            least = float(positive)
        except ValueError:
            raise DataError(
                f"--reader-positive {positive}: the column {name} holds numbers, and a reading is "
                "positive from a number on; name that number"
            ) from None
        calls, rule = np.where(values >= least, 1, 0), f"{least:g} or more"
    else:
        texts = text_column(data, name, "--reader-column").tolist()
        read = [text for text, value in zip(texts, values, strict=True) if not np.isnan(value)]
        _refuse_mixed(positive, read, name)
        wanted = {spelling_key(one): one.strip() for one in positive.split("|")}
        _refuse_misspelt(wanted, sorted(set(read)), name)
        calls = np.array([int(spelling_key(text) in wanted) for text in texts])
        rule = " or ".join(one.strip() for one in positive.split("|"))
        plus = any(not spelling_key(text).strip("+") for text in read)
        negative = np.array([spelling_key(text) == "-" and plus for text in texts])
        values = np.where(negative, 0.0, values)  # beside +, - is no gap
    calls = np.where(np.isnan(values), UNREAD, calls)
    if not {0, 1} <= set(calls.tolist()):
        which = "no" if 1 not in calls else "every"
        raise DataError(
            f"--reader-positive {positive}: {which} reading of the column {name} is positive by "
            f"that; name the reading from which it is (numbers), or the positive readings"
        )
    return calls.astype(np.int64), rule


def _refuse_mixed(positive: str, read: Sequence[str], name: str) -> None:
    """Refuse a number as the positive reading where half of the readings or more are numbers."""
    words = [text for text in read if parse_number(text) is None]
    if parse_number(positive) is not None and 0 < 2 * len(words) <= len(read):
        raise DataError(
            f"--reader-positive {positive}: {len(read) - len(words)} of {len(read)} readings of "
            f"the column {name} are numbers, but not {first_three(sorted(set(words)))}; correct "
            "these cells or leave them empty, since a number cannot be compared with a word"
        )


def _refuse_misspelt(wanted: Mapping[str, str], found: list[str], name: str) -> None:
    """Refuse a positive reading that does not occur where one that does is spelt almost like it."""
    there = {spelling_key(text) for text in found}
    for key, text in wanted.items():
        near = suggest_name(text, [one for one in found if spelling_key(one) not in wanted])
        if key not in there and near:
            raise DataError(
                f"--reader-positive: {text!r} is no reading of the column {name}{near}; it holds "
                f"{first_three(found)}"
            )


def _mistake_entries(rows: _Rows) -> list[Json]:
    test = rows.test
    return [
        {
            "number": one.number,
            "fold": str(test.fold[one.row]),
            "class": test.classes[test.labels[one.row]],
            "predicted": test.classes[test.predicted[one.row]],
            "probability": float(test.probabilities[one.row, test.labels[one.row]]),
            "percentile": one.percentile,
            "rank": one.rank,
            "of": one.of,
        }
        for one in mistakes(test)
    ]


def _data(run: Run, option: str) -> Dataset:
    """Rows of the run with their columns.

    Raises:
        DataError: they are not at hand.
    """
    if run.data is None:
        raise DataError(f"{option}: the rows of this run are not at hand, so it has no columns")
    return run.data
