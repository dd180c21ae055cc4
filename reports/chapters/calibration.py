"""Section on calibration: one slope for all folds, and what each fold is off by."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Heading, Table
from outerfold.reports.chapters.common import (
    COUNTED,
    cell,
    chapter_caption,
    leading_answers,
    levels_of,
    range_cell,
)
from outerfold.reports.schema import Results
from outerfold.reports.wording import number

MEANING = (
    "Slope: of one logistic model of all rows with an intercept for each fold; 1 is ideal, below 1 "
    "the probabilities are too extreme. Intercept: mean over folds, where the slope is 1; 0 is "
    "ideal, above 0 the probabilities are too low. O/E: observed over expected positives; 1 is "
    "ideal. Scaled Brier score: 1 − Brier score / (p (1 − p)), where p is the prevalence of these "
    "rows; 1 is perfect, and 0 is no better than stating the prevalence."
)
SPREAD = (
    "Each fold has a model of its own. A spread over folds is what the calibration of one "
    "delivered model may be off by, and it does not shrink with more folds."
)


def calibration_section(numbers: Results) -> Iterator[Block]:
    """Section on calibration; empty for several classes."""
    levels = {
        level: found["calibration"]
        for level, found in levels_of(numbers).items()
        if found["calibration"] is not None
    }
    if not levels:
        return
    yield Heading("Calibration")
    yield _whole_table(numbers)
    table = _fold_table(numbers)
    if table is not None:
        yield table


def _whole_table(numbers: Results) -> Table:
    rows = []
    names = []
    for level, found in levels_of(numbers).items():
        entry = found["calibration"]
        if entry is None:
            continue
        names.append(level)
        rows.append(
            (
                f"By {level}",
                cell(entry["slope"]),
                cell(entry["intercept"]),
                cell(entry["observed_expected"]),
                cell(entry["scaled_brier"]),
            )
        )
    header = ("Rows", "Slope (95 % CI)", "Intercept (95 % CI)", "O/E (95 % CI)")
    return Table(
        chapter_caption("Calibration over all folds", numbers),
        (*header, "Scaled Brier score (95 % CI)"),
        tuple(rows),
        (MEANING, COUNTED),
    )


def _fold_table(numbers: Results) -> Table | None:
    level, answers = leading_answers(numbers)
    found = None if answers is None else answers["calibration"]
    if found is None:
        return None
    each = zip(
        found["folds"],
        found["intercept"]["by_fold"],
        found["observed_expected"]["by_fold"],
        strict=True,
    )
    rows = [(fold, number(intercept), number(ratio)) for fold, intercept, ratio in each]
    spread = ("Range (SD)", range_cell(found["intercept"]), range_cell(found["observed_expected"]))
    return Table(
        chapter_caption(f"Calibration of each fold, by {level}", numbers),
        ("Fold", "Intercept", "O/E"),
        (*rows, spread),
        (SPREAD,),
    )
