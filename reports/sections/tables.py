"""Tables of a run; every number in a cell comes from ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from outerfold.objectives.measures.metric import Sums
from outerfold.objectives.metrics import METRICS, class_metrics
from outerfold.reports.blocks import Table
from outerfold.reports.journal_style import printed_style
from outerfold.reports.schema import Entry, Overall, OverallEntry, Results, Scored
from outerfold.reports.wording import (
    OF_BOTH,
    OF_CONSTANT,
    OF_PROCEDURE,
    OPTIMISTIC,
    RowSet,
    bounds_text,
    cell_value,
    coverage_sentence,
    finished_folds,
    is_biased,
    metric_name,
    number,
    positive_sentence,
    sample_size,
    stamped,
)

WAY = "Models made this way"
"""Header of the column of intervals of the procedure."""
CORRECTED_T = (
    "Corrected t: for comparison, the interval of the mean over folds of Nadeau & Bengio (2003). "
    "It knows the scores of the folds alone, so it is wide."
)
NO_INFORMATION = (
    "No information: what a model reaches that knows nothing of an image. The accuracy is that of "
    "always answering the class that is commonest in training, the Brier score that of stating the "
    "training prevalence, the average precision the prevalence."
)
BIASED_FOLDS = (
    "The calibration error of single folds is not shown: the few rows of a fold make it too large."
)
Side = Literal["test", "validation"]

_MARKS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
"""Letters that have a superscript; q has none. After z come two letters, as in ``ᵃᵃ``."""


class Footnotes:
    """Footnotes of a table: each distinct remark gets one mark, in order of first use."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, remark: str) -> str:
        """Superscript of this remark; empty for an empty remark."""
        if not remark:
            return ""
        round_, letter = divmod(len(self._marks), len(_MARKS))
        return self._marks.setdefault(remark, _MARKS[letter] * (round_ + 1))

    def lines(self) -> tuple[str, ...]:
        """Lines below the table, each remark after its mark."""
        return tuple(f"{mark} {remark}" for remark, mark in self._marks.items())


def overall_table(numbers: Results, side: Side) -> Table:
    """Table of overall metrics with intervals, and the fold spread in a column of its own."""
    entries, classes = _side_numbers(numbers, side)["overall"], len(numbers["dataset"]["classes"])
    notes = Footnotes()
    rows = metric_rows(entries, classes, notes)
    return Table(
        _caption("Overall metrics", numbers, side),
        metric_header(entries),
        rows,
        (
            *filter(None, [positive_sentence(numbers).strip()]),
            *_notes(numbers, side),
            *(interval_notes(numbers, entries) if side == "test" else ()),
            *spread_notes(entries, "outer folds" if side == "test" else "inner folds"),
            *notes.lines(),
        ),
    )


def metric_header(entries: Overall) -> tuple[str, ...]:
    """Header of ``metric_rows``."""
    level = percent(entries)
    way = (f"{WAY} ({level} % CI)",) if _two_intervals(entries) else ()
    corrected = (f"Corrected t ({level} % CI)",) if _has_corrected(entries) else ()
    none = ("No information",) if _has_no_information(entries) else ()
    return ("Metric", f"Estimate ({level} % CI)", *none, *way, "Folds: range (SD)", *corrected)


def metric_rows(entries: Overall, classes: int, notes: Footnotes) -> tuple[tuple[str, ...], ...]:
    """Rows of the overall metrics: name, estimate with interval, range over folds, corrected t.

    Before the range come the value without information, and the interval of models made in this
    way where it differs.
    """
    two, corrected = _two_intervals(entries), _has_corrected(entries)
    none = _has_no_information(entries)
    return tuple(
        (
            metric_name(metric, classes) + notes.mark(_remark(entries[metric])),
            cell_value(entries[metric]),
            *((_no_information(entries[metric]),) if none else ()),
            *((_procedure(entries[metric]),) if two else ()),
            "–" if _is_biased(metric) else fold_range(entries[metric]),
            *(("–" if _is_biased(metric) else _corrected(entries[metric]),) if corrected else ()),
        )
        for metric in METRICS
        if metric in entries and not (classes > 2 and metric in ("sensitivity", "specificity"))
    )


def interval_notes(numbers: Results, entries: Overall) -> tuple[str, ...]:
    """Sentence on what the intervals are of; none where no interval is of anything."""
    kinds = {entry["of"] for entry in entries.values()}
    if is_biased(numbers["protocol"]) or not kinds:
        return ()
    if "procedure" in kinds:
        return (OF_PROCEDURE,)
    return (OF_BOTH if _two_intervals(entries) else OF_CONSTANT,)


def per_class_table(numbers: Results, side: Side) -> Table:
    """Table of metrics of each class against the rest, intervals below the estimates."""
    per_class, notes = _side_numbers(numbers, side)["per_class"], Footnotes()
    data = numbers["tested" if side == "test" else "validation"]
    rows = []
    for name, entries in per_class.items():
        label = f"{name}\n({data['patients_by_class'][name]:,} / {data['images_by_class'][name]:,})"
        cells = [class_cell(entries.get(metric.name), notes) for metric in class_metrics()]
        rows.append((label, *cells))
    header = ("Class\n(patients / images)", *(metric.label for metric in class_metrics()))
    return Table(
        _caption("Metrics per class, one against the rest", numbers, side),
        header,
        tuple(rows),
        (
            f"Each cell: estimate ({percent(_side_numbers(numbers, side)['overall'])} % CI).",
            *_notes(numbers, side),
            *notes.lines(),
        ),
    )


def data_table(numbers: Results) -> Table:
    """Table of patients and images of each class."""
    data = numbers["dataset"]
    rows = [
        (name, f"{data['patients_by_class'][name]:,}", f"{count:,}")
        for name, count in data["classes"].items()
    ]
    rows.append(("All", f"{data['patients']:,}", f"{data['images']:,}"))
    summed = sum(data["patients_by_class"].values())
    note = "A patient with images of two classes is counted in both classes."
    extra = (note,) if summed > data["patients"] else ()
    return Table("Patients and images", ("Class", "Patients", "Images"), tuple(rows), extra)


def trials_table(numbers: Results) -> Table:
    """Table of each study's trials: how many were completed, pruned or failed."""
    kinds = ("complete", "pruned", "failed")
    rows = [
        (study, *(f"{counts.get(kind, 0):,}" for kind in kinds))
        for study, counts in numbers["trials"].items()
    ]
    return Table("Trials", ("Study", *kinds), tuple(rows))


def _side_numbers(numbers: Results, side: Side) -> Scored:
    return numbers if side == "test" else numbers["validation"]


def test_caption(what: str, numbers: Results) -> str:
    """Caption of a table of outer test rows, with the run's stamps."""
    return _caption(what, numbers, "test")


def _caption(what: str, numbers: Results, side: Side) -> str:
    rows = "outer test rows" if side == "test" else "inner out-of-fold rows, optimistic"
    return stamped(f"{what}: {rows}", numbers)


def _notes(numbers: Results, side: Side) -> tuple[str, ...]:
    rows: RowSet = "tested" if side == "test" else "validation"
    patients = numbers[rows]["patients_by_class"]
    by_class = ", ".join(f"{count:,} {name}" for name, count in patients.items())
    lines = (f"n = {sample_size(numbers, rows)} ({by_class} patients); {finished_folds(numbers)}.",)
    return (OPTIMISTIC, *lines) if side == "validation" else (*lines, coverage_sentence(numbers))


def spread_notes(entries: Overall, folds: str = "outer folds") -> tuple[str, ...]:
    """Sentences on the columns of the folds and of the corrected t."""
    spread = (
        f"Folds: smallest and largest score of the {folds}, and their standard deviation; not a "
        "confidence interval."
    )
    return (
        spread,
        *((CORRECTED_T,) if _has_corrected(entries) else ()),
        *((NO_INFORMATION,) if _has_no_information(entries) else ()),
        *((BIASED_FOLDS,) if any(map(_is_biased, entries)) else ()),
    )


def _is_biased(metric: str) -> bool:
    """Whether few rows push the metric to one side, so that its folds cannot stand beside it."""
    how = METRICS[metric].how
    return isinstance(how, Sums) and how.biased


def percent(entries: Mapping[str, Entry]) -> str:
    """Level of these entries' intervals in per cent, such as ``95``."""
    levels = [entry["level"] for entry in entries.values()]
    return f"{100 * levels[0]:.0f}" if levels else "95"


def _remark(entry: Entry) -> str:
    if entry["low"] is None:
        return str(entry["reason"] or "no interval")
    text = "; ".join((entry["method"], *entry["notes"]))
    return printed_style().decimals(f"{text[0].upper()}{text[1:]}.")


def class_cell(entry: Entry | None, notes: Footnotes) -> str:
    """Cell with the estimate and, on the next line, its interval."""
    if entry is None:
        return "–"
    return cell_value(entry).replace(" (", "\n(", 1) + notes.mark(_remark(entry))


def _two_intervals(entries: Overall) -> bool:
    """Whether any entry has another interval for models made in this way than in its cell."""
    return any(
        (other := entry["procedure"]) is not None
        and (entry["low"], entry["high"]) != (other["low"], other["high"])
        for entry in entries.values()
    )


def _procedure(entry: Entry) -> str:
    found = entry["procedure"]
    if found is None:
        return "–"
    if found["low"] is None or found["high"] is None:
        return "no interval"
    return bounds_text(found["low"], found["high"])


def fold_range(entry: Entry) -> str:
    """Smallest to largest fold with the standard deviation, such as ``0.71–0.90 (0.07)``."""
    if entry["fold_range"] is None:
        return "–"
    return f"{bounds_text(*entry['fold_range'])} ({number(entry['fold_spread'])})"


def _has_no_information(entries: Overall) -> bool:
    return any(entry.get("no_information") is not None for entry in entries.values())


def _no_information(entry: OverallEntry) -> str:
    found = entry.get("no_information")
    return "–" if found is None else number(found)


def _has_corrected(entries: Overall) -> bool:
    return any(entry["corrected_t"]["low"] is not None for entry in entries.values())


def _corrected(entry: OverallEntry) -> str:
    found = entry["corrected_t"]
    if found["low"] is None or found["high"] is None:
        return "–"
    return bounds_text(found["low"], found["high"])
