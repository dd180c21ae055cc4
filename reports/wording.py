"""Names, number formats and fixed sentences that are the same in every document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from outerfold.objectives.metrics import METRICS
from outerfold.reports.journal_style import printed_style
from outerfold.reports.schema import (
    Bounds,
    Choices,
    CorrectedT,
    FinalEntry,
    Interval,
    LevelledInterval,
    Results,
)

Json = dict[str, Any]
"""JSON values that are about to be written; what is read has the types of ``schema.py``."""

RowSet = Literal["dataset", "tested", "validation"]

REFITTED_ESTIMATE = (
    "The estimate describes the procedure, measured with models that were trained on about "
    "{share} % of the patients; the delivered model was refitted on all rows and has itself never "
    "been tested on unseen data."
)
FOLDS_ESTIMATE = (
    "The estimate describes the procedure, measured with models that were made from about "
    "{share} % of the patients; the delivered model was made in the same way from all of them and "
    "has itself never been tested on unseen data."
)
ENSEMBLE_ESTIMATE = (
    "The estimate and its interval describe the procedure, measured with single models trained on "
    "about {share} % of the patients each; the delivered model is the mean of those {count} "
    "models, and it has itself never been tested on unseen data. It is expected to be no worse "
    "than one of them; that was not measured."
)
OF_BOTH = (
    "The interval beside an estimate is of the one delivered model. The interval of models made "
    "this way is of their mean performance, over models that other patients would have given; it "
    "is never wider, since single models differ from this mean. How much models differ was "
    "measured with the models of the inner folds; the gain that more patients are expected to give "
    "lengthens the better side."
)
OF_CONSTANT = (
    "The intervals are of the one delivered model, and of the mean over models made this way. How "
    "much models differ was not measured in this run; an empirical constant widens the intervals "
    "for it."
)
OF_PROCEDURE = (
    "The intervals are of the mean performance of single models made this way. They are not of the "
    "delivered ensemble: no row was scored by it that did not take part in its training, so its "
    "own performance was not measured."
)
COVERAGE = (
    "The intervals allow for patient sampling and, approximately, for training variation: in 100 "
    "studies of real images, those of specificity held the truth in 93 and those of the other "
    "metrics in 94 or more. They do not cover other hospitals, scanners or populations, label "
    "errors, or choices made after seeing the results."
)
NO_COVERAGE = (
    "These intervals do not cover the true performance at their stated level, because the rows "
    "that gave the scores also chose the configuration."
)
BIAS = (
    "The folds that gave the scores also chose the configuration, the number of epochs, the "
    "temperature and the threshold, as is usual practice. These numbers are too good by an unknown "
    "amount, and their intervals do not cover the true performance at their stated level; the "
    "numbers are here to be compared with a nested run of the same data. In this report, outer "
    "test rows are the rows of those folds."
)
OPTIMISTIC = (
    "Optimistic: these rows were also used to choose the hyper-parameters, the number of epochs, "
    "the temperature and the threshold. Their numbers describe the search; the numbers of the test "
    "rows describe performance."
)
RESEARCH_ONLY = "A research result. Not a medical device; not for clinical use."


def positive_sentence(numbers: Results) -> str:
    """``The positive class is cancer. ``; empty for more than two classes."""
    names = list(numbers["dataset"]["classes"])
    return f"The positive class is {names[1]}. " if len(names) == 2 else ""


def metric_name(metric: str, classes: int) -> str:
    """Printed name of an overall metric; it begins with Macro if it is a mean over classes."""
    known = METRICS.get(metric)
    return metric.replace("_", " ") if known is None else known.printed(classes)


def metric_phrase(metric: str, classes: int) -> str:
    """Name of an overall metric for the middle of a sentence, without a capital."""
    known = METRICS.get(metric)
    return metric.replace("_", " ") if known is None else known.phrase(classes)


def number(value: float | None, digits: int = 2) -> str:
    """Number with fixed decimals and a true minus sign, never a negative zero; a dash for None.

    Example:
        >>> number(-0.041)
        '−0.04'
    """
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    text = text.replace("-", "−") if float(text) else text.lstrip("-")
    return printed_style().decimals(text)


def interval_text(entry: Interval | Bounds | CorrectedT) -> str:
    """Interval such as ``(0.68–0.94)``, or ``(no interval)`` if the entry has none."""
    if entry["low"] is None or entry["high"] is None:
        return "(no interval)"
    return f"({printed_style().interval}{bounds_text(entry['low'], entry['high'])})"


def bounds_text(low: float, high: float) -> str:
    """Bounds of an interval or of a range, such as ``0.68–0.94`` or ``−0.10 to 0.20``."""
    return f"{number(low)} to {number(high)}" if low < 0 else f"{number(low)}–{number(high)}"


def value(entry: Interval | None) -> str:
    """Estimate with interval such as ``0.86 (0.68–0.94)``; a dash if there is no estimate."""
    if entry is None or entry["estimate"] is None:
        return "–"
    return f"{number(entry['estimate'])} {interval_text(entry)}"


def cell_value(entry: Interval | None) -> str:
    """As ``value``, for a cell of a table, whose head says what the interval is."""
    return value(entry).replace(printed_style().interval, "")


def signed_difference(change: Interval, level: str = "") -> str:
    """Difference such as ``+0.031 (−0.010 to 0.072)``.

    Args:
        level: text before the lower bound, e.g. ``95 % CI``.
    """
    if change["estimate"] is None:
        return "–"
    size = f"{'+' if change['estimate'] > 0 else ''}{number(change['estimate'], 3)}"
    if change["low"] is None:
        return f"{size} (no interval)"
    return f"{size} ({level}{number(change['low'], 3)} to {number(change['high'], 3)})"


def sentence_estimate(entry: LevelledInterval) -> str:
    """Estimate for running text, such as ``0.86 (95 % CI over patients 0.68–0.94)``."""
    if entry["estimate"] is None:
        return f"not estimated ({entry['reason'] or 'no data'})"
    if entry["low"] is None or entry["high"] is None:
        return f"{number(entry['estimate'])} (no interval: {entry['reason']})"
    inside = bounds_text(entry["low"], entry["high"])
    level = f"{100 * float(entry['level']):.0f}"
    return f"{number(entry['estimate'])} ({level} % CI over patients {inside})"


def plural(count: int, noun: str) -> str:
    """Count with its noun, such as ``1 patient`` or ``12,345 images``.

    Example:
        >>> plural(12345, "image"), plural(2, "class")
        ('12,345 images', '2 classes')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def sample_size(numbers: Results, rows: RowSet = "dataset") -> str:
    """Sample size such as ``110 patients, 272 images``.

    Args:
        rows: the whole data set, the outer test rows or the inner out-of-fold rows.
    """
    data = numbers[rows]
    return f"{plural(data['patients'], 'patient')}, {plural(data['images'], 'image')}"


def finished_folds(numbers: Results) -> str:
    """Finished of planned outer folds, such as ``3 of 5 outer folds``."""
    protocol = numbers["protocol"]
    planned = int(protocol["outer_folds"]) * int(protocol["repeats"])
    return f"{len(numbers['outer'])} of {planned} outer folds"


def cut_by_time(numbers: Results) -> str:
    """Name the searches that a time limit ended, with their trials; empty if it ended none."""
    ends = [
        f"{study} after {sum(numbers['trials'][study].values())}"
        for study in numbers["cut_by_time"]
    ]
    if not ends:
        return ""
    planned = plural(int(numbers["protocol"]["trials"]), "trial")
    return (
        f"A time limit ended the search before {planned} per study: {', '.join(ends)}. How many "
        "trials were done depends on the machine, and so do the results."
    )


def is_biased(protocol: Mapping[str, object]) -> bool:
    """Whether the same rows scored and chose the configuration (``--protocol non-nested``)."""
    return protocol.get("protocol") == "non-nested"


def coverage_sentence(numbers: Results) -> str:
    """Sentence on what the intervals cover and what they do not cover."""
    return NO_COVERAGE if is_biased(numbers["protocol"]) else COVERAGE


def stamps(numbers: Results) -> tuple[str, ...]:
    """Stamps to read before any number: bias, synthetic data, an unfinished run."""
    marks = []
    if is_biased(numbers["protocol"]):
        marks.append("BIASED: NOT NESTED")
    if numbers["synthetic_data"]:
        marks.append("SYNTHETIC DATA")
    if not numbers["complete"]:
        marks.append(f"INCOMPLETE: {finished_folds(numbers)}")
    return tuple(marks)


def stamped(caption: str, numbers: Results) -> str:
    """A caption with the run's stamps, for a table that may stand alone."""
    return caption + "".join(f" [{mark}]" for mark in stamps(numbers))


def procedure_sentence(numbers: Results) -> str:
    """Sentence on what the estimate describes: the procedure, not the delivered model."""
    if is_biased(numbers["protocol"]):
        return BIAS
    protocol = numbers["protocol"]
    folds = int(protocol["outer_folds"])
    share = f"{100 * (1 - 1 / folds):.0f}"
    if protocol.get("final") == "ensemble":
        return ENSEMBLE_ESTIMATE.format(share=share, count=folds * int(protocol["repeats"]))
    folds_average = protocol.get("final") == "folds"
    return (FOLDS_ESTIMATE if folds_average else REFITTED_ESTIMATE).format(share=share)


def tta_sentence(numbers: Results) -> str:
    """Sentence on test-time augmentation, with a leading space; empty if there is none."""
    count = int(numbers["protocol"].get("tta", 0))
    if not count:
        return ""
    return (
        f" Test-time augmentation: every probability in the search, in the test and of the "
        f"delivered model is the mean over the image and {plural(count, 'augmented view')} of it."
    )


def searched_studies(numbers: Results) -> list[tuple[str, Choices]]:
    """Name and choices of every finished study; a delivered ensemble is not a study."""
    final = numbers["final"]
    return [
        *((fold["fold"], fold) for fold in numbers["outer"]),
        *([("final", _choices(final))] if final and final["made"] != "ensemble" else []),
    ]


def _choices(final: FinalEntry) -> Choices:
    """What the search of the delivered model chose; an ensemble has no such entry."""
    return cast(Choices, final)
