"""Table of the outer folds, each with its own intervals, and the sentences on odd folds."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Table
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.schema import FinalEntry, FoldEntry, Interval, Results
from outerfold.reports.sections.tables import Footnotes, test_caption
from outerfold.reports.wording import cell_value, metric_name, number

OWN = (
    "Each interval is of that fold's one model, over the fold's own patients, with the model "
    "fixed; below five patients of a class there is none. They do not show whether folds differ: "
    "both the models and the patients do."
)
_TWO = ("roc_auc", "average_precision", "sensitivity", "specificity", "brier")
_SEVERAL = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "brier")
_SLOPE = (
    "Slope: of a logistic recalibration with an intercept, 1 is ideal; below 1 the probabilities "
    "are too extreme. Its interval has errors clustered by patient."
)


def fold_table(numbers: Results) -> Table:
    """Table of each outer fold at the level of the headline, and of the delivered model."""
    level, folds = leading_folds(numbers)
    two = len(numbers["dataset"]["classes"]) == 2
    metrics, notes = _shown(numbers, two), Footnotes()
    header = (
        "Fold",
        f"Patients\n({' / '.join(numbers['dataset']['classes'])})",
        *(metric_name(metric, 2 if two else 3) for metric in metrics),
        *(("Threshold",) if two else ()),
        "Temperature",
        *(("Slope",) if two else ()),
        "Epochs",
    )
    rows = [_fold_row(fold, metrics, two, notes) for fold in folds]
    final = numbers["final"]
    rows.append(("Delivered", "–", *("–" for _ in metrics), *_final_cells(numbers, level, two)))
    lines = (OWN, *((_SLOPE,) if two else ()), *_final_note(final), *notes.lines())
    return Table(test_caption(f"Outer folds by {level}", numbers), header, tuple(rows), lines)


def leading_folds(numbers: Results) -> tuple[str, list[FoldEntry]]:
    """Level of the headline, and the entries of the folds at it; empty before one has finished."""
    level: str = leading_level(numbers["protocol"])
    level = level if level in numbers["folds"] else "image"
    return level, numbers["folds"].get(level, [])


def odd_fold_lines(numbers: Results) -> Iterator[str]:
    """A sentence on each outer fold that is odd, at the level of the headline."""
    level, folds = leading_folds(numbers)
    for fold in folds:
        if fold["odd"]:
            yield f"Odd fold, by {level}: {fold['fold']} {' and '.join(fold['odd'])}."


def _shown(numbers: Results, two: bool) -> tuple[str, ...]:
    """Metrics of the table: the searched one first."""
    listed = _TWO if two else _SEVERAL
    searched = str(numbers["protocol"]["metric"])
    _, folds = leading_folds(numbers)
    first = (searched,) if folds and searched in folds[0]["metrics"] else ()
    kept = [name for name in listed if not folds or name in folds[0]["metrics"]]
    return tuple(dict.fromkeys((*first, *kept)))


def _fold_row(
    fold: FoldEntry, metrics: tuple[str, ...], two: bool, notes: Footnotes
) -> tuple[str, ...]:
    def cell(entry: Interval) -> str:
        return _two_lines(cell_value(entry)) + notes.mark(entry["reason"] or "")

    name = f"{fold['fold']}{notes.mark(_odd_note(fold))}"
    return (
        name,
        " / ".join(f"{count:,}" for count in fold["patients_by_class"].values()),
        *(cell(fold["metrics"][metric]) for metric in metrics),
        *((number(fold["threshold"]),) if two else ()),
        number(fold["temperature"]),
        *((cell(fold["slope"]),) if two else ()),
        str(fold["epochs"]),
    )


def _odd_note(fold: FoldEntry) -> str:
    return f"Odd: this fold {' and '.join(fold['odd'])}." if fold["odd"] else ""


def _final_cells(numbers: Results, level: str, two: bool) -> tuple[str, ...]:
    """Threshold, temperature, slope and epochs of the delivered model; dashes where it has none."""
    final = numbers["final"]
    if final is None:
        threshold = temperature = epochs = None
    elif level in numbers["levels"]:
        found = numbers["levels"][level]
        threshold = found["thresholds"].get("final")
        temperature = found["calibrations"].get("final", {}).get("temperature")
        epochs = final.get("epochs")
    else:
        threshold, temperature = final.get("threshold"), final.get("temperature")
        epochs = final.get("epochs")
    return (
        *((number(threshold),) if two else ()),
        number(temperature),
        *(("–",) if two else ()),
        "–" if epochs is None else str(epochs),
    )


def _final_note(final: FinalEntry | None) -> tuple[str, ...]:
    if final is None:
        return ("There is no delivered model yet.",)
    return ("Delivered: the delivered model, which no row of this run tests.",)


def _two_lines(text: str) -> str:
    """Estimate, and below it the interval."""
    return text.replace(" (", "\n(", 1)
