"""Names, numbers and standing sentences, the same in every document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Json = dict[str, Any]
"""A part of ``results.json``."""

RowSet = Literal["dataset", "tested", "validation"]

OVERALL = (
    "roc_auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "precision",
    "recall",
    "sensitivity",
    "specificity",
    "brier",
    "ece",
)
PER_CLASS = ("precision", "recall", "f1", "specificity", "roc_auc", "average_precision")

_NAMES = {
    "roc_auc": "ROC-AUC",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "brier": "Brier score",
    "ece": "Expected calibration error",
}
_ALWAYS_MACRO = {"f1", "precision", "recall"}
_MACRO_OF_SEVERAL = {"roc_auc", "average_precision", "sensitivity", "specificity"}

OF_THE_PROCEDURE = (
    "The estimate is of the procedure, through models trained on about {share} % of the patients; "
    "the delivered model was refitted on all rows and has itself never been tested on unseen data."
)
OF_THE_MEMBERS = (
    "The estimate and its interval are of the procedure, through single models trained on about "
    "{share} % of the patients each; the delivered model is the mean of those {count}, which has "
    "itself never been tested on unseen data. It is expected to be no worse than one of them; "
    "that was not measured."
)
COVERS = (
    "The intervals cover patient sampling and, approximately, training variation; not other "
    "hospitals, scanners or populations, label errors, or choices made after seeing the results."
)
DO_NOT_COVER = "These intervals do not cover: the rows that score also chose."
BIASED = (
    "The folds that score also chose the configuration, the number of epochs, the temperature and "
    "the threshold, as is usual practice. These numbers are too good by an unknown amount, and "
    "their intervals do not cover; they exist to be compared with a nested run of the same data. "
    "What is called outer test rows here are those folds."
)
OPTIMISTIC = (
    "Optimistic: these rows also chose the hyper-parameters, the number of epochs, the temperature "
    "and the threshold. They describe the search; the test rows describe performance."
)
RESEARCH_ONLY = "A research result. Not a medical device; not for clinical use."


def metric_name(metric: str, classes: int) -> str:
    """How an overall metric is called in print; ``macro`` where it is a mean over classes."""
    name = _NAMES.get(metric, metric.replace("_", " "))
    if metric in _ALWAYS_MACRO or (classes > 2 and metric in _MACRO_OF_SEVERAL):
        return f"Macro {name if name in ('F1', 'ROC-AUC') else name.lower()}"
    return name


def metric_phrase(metric: str, classes: int) -> str:
    """The same name in the middle of a sentence."""
    name = metric_name(metric, classes)
    return name if name.startswith(("ROC", "F1")) else name[0].lower() + name[1:]


def class_metric_name(metric: str) -> str:
    """How a metric of one class against the rest is called in print."""
    return _NAMES.get(metric, metric.replace("_", " "))


def number(value: float, digits: int = 2) -> str:
    """Fixed decimals with a true minus sign; never a negative zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def span(entry: Json) -> str:
    """``(0.68–0.94)``, or ``(no interval)`` where none could be had."""
    if entry["low"] is None or entry["high"] is None:
        return "(no interval)"
    low, high = number(entry["low"]), number(entry["high"])
    return f"({low} to {high})" if entry["low"] < 0 else f"({low}–{high})"


def value(entry: Json | None) -> str:
    """``0.86 (0.68–0.94)``; a dash where nothing could be estimated."""
    if entry is None or entry["estimate"] is None:
        return "–"
    return f"{number(entry['estimate'])} {span(entry)}"


def signed(change: Json, level: str = "") -> str:
    """``+0.031 (−0.010 to 0.072)``, a difference; ``level`` goes before its interval."""
    if change["estimate"] is None:
        return "–"
    size = f"{'+' if change['estimate'] > 0 else ''}{number(change['estimate'], 3)}"
    if change["low"] is None:
        return f"{size} (no interval)"
    return f"{size} ({level}{number(change['low'], 3)} to {number(change['high'], 3)})"


def sentence_value(entry: Json) -> str:
    """``0.86 (95 % CI 0.68–0.94, patients)``, for running text."""
    if entry["estimate"] is None:
        return f"not estimated ({entry.get('reason') or 'no data'})"
    if entry["low"] is None:
        return f"{number(entry['estimate'])} (no interval: {entry.get('reason')})"
    inside = span(entry).strip("()")
    level = f"{100 * float(entry['level']):.0f}"
    return f"{number(entry['estimate'])} ({level} % CI {inside}, patients)"


def plural(count: int, noun: str) -> str:
    """``1 patient``, ``12,345 images``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def counted(numbers: Json, rows: RowSet = "dataset") -> str:
    """``110 patients, 272 images`` of the whole data set, or behind the numbers of a side."""
    data = numbers[rows]
    return f"{plural(data['patients'], 'patient')}, {plural(data['images'], 'image')}"


def finished_folds(numbers: Json) -> str:
    """``3 of 5 outer folds``."""
    protocol = numbers["protocol"]
    planned = int(protocol["outer_folds"]) * int(protocol["repeats"])
    return f"{len(numbers['outer'])} of {planned} outer folds"


def cut_by_time(numbers: Json) -> str:
    """Which searches a time limit ended, and after how many trials; empty where it ended none."""
    ends = [
        f"{study} after {sum(numbers['trials'][study].values())}"
        for study in numbers["cut_by_time"]
    ]
    if not ends:
        return ""
    return (
        f"The search was cut by time, before {plural(int(numbers['protocol']['trials']), 'trial')} "
        f"a study: {', '.join(ends)}. How far it came depends on the machine, and the results "
        "with it."
    )


def biased(protocol: Mapping[str, object]) -> bool:
    """Whether the rows that score also chose the configuration (``--protocol non-nested``)."""
    return protocol.get("protocol") == "non-nested"


def covers(numbers: Json) -> str:
    """What the intervals cover and what they do not."""
    return DO_NOT_COVER if biased(numbers["protocol"]) else COVERS


def stamps(numbers: Json) -> tuple[str, ...]:
    """What must be read before any number: bias, synthetic data, an unfinished run."""
    marks = []
    if biased(numbers["protocol"]):
        marks.append("BIASED: NOT NESTED")
    if numbers["synthetic_data"]:
        marks.append("SYNTHETIC DATA")
    if not numbers["complete"]:
        marks.append(f"INCOMPLETE: {finished_folds(numbers)}")
    return tuple(marks)


def procedure(numbers: Json) -> str:
    """What the estimate is an estimate of, in words."""
    if biased(numbers["protocol"]):
        return BIASED
    protocol = numbers["protocol"]
    folds = int(protocol["outer_folds"])
    share = f"{100 * (1 - 1 / folds):.0f}"
    if protocol.get("final") == "ensemble":
        return OF_THE_MEMBERS.format(share=share, count=folds * int(protocol["repeats"]))
    return OF_THE_PROCEDURE.format(share=share)


def views(numbers: Json) -> str:
    """What test-time augmentation averages over; empty where there is none."""
    count = int(numbers["protocol"].get("tta", 0))
    if not count:
        return ""
    return (
        f" Test-time augmentation: every probability, in the search, in the test and in the model "
        f"that ships, is the mean over the image and {plural(count, 'augmented view')} of it."
    )


def searched(numbers: Json) -> list[tuple[str, Json]]:
    """Every finished study and what it chose; an ensemble that ships is no study."""
    final = numbers["final"]
    return [
        *((fold["fold"], fold) for fold in numbers["outer"]),
        *([("final", final)] if final and final["made"] == "refit" else []),
    ]
