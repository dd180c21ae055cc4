"""What the chapters share: captions, levels, and cells."""

from __future__ import annotations

from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.schema import Entry, Interval, QuestionLevel, Results
from outerfold.reports.wording import bounds_text, cell_value, number, stamped

COUNTED = (
    "In 20 simulated settings of 100 studies each, these intervals held the delivered model's true "
    "value in 91 or more; only where a search left the models uncalibrated were the slope and the "
    "scaled Brier score held less often."
)
"""What ``benchmarks/coverage/measured_coverage.md`` counted."""
NOT_COUNTED = (
    "How often these intervals hold the true value was not counted; they are made as those of the "
    "overall metrics."
)


def chapter_caption(what: str, numbers: Results) -> str:
    """Caption of a table of outer test rows, with the run's stamps."""
    return stamped(f"{what}: outer test rows", numbers)


def levels_of(numbers: Results) -> dict[str, QuestionLevel]:
    """Answers by level, that of the headline first; empty before an outer fold has finished."""
    questions = numbers["questions"]
    if questions is None:
        return {}
    first = leading_level(numbers["protocol"])
    return dict(sorted(questions["levels"].items(), key=lambda pair: pair[0] != first))


def leading_answers(numbers: Results) -> tuple[str, QuestionLevel | None]:
    """Level of the headline, and the answers at it; None before an outer fold has finished."""
    return next(iter(levels_of(numbers).items()), ("image", None))


def cell(entry: Entry | None) -> str:
    """Estimate with its interval, or the reason for none."""
    if entry is None or entry["estimate"] is None:
        return "–" if entry is None or not entry["reason"] else f"– ({entry['reason']})"
    return cell_value(entry)


def fine_cell(entry: Interval) -> str:
    """Estimate with its interval, to three decimals, such as ``0.123 (0.071 to 0.164)``."""
    if entry["estimate"] is None:
        return "–"
    size = number(entry["estimate"], 3)
    if entry["low"] is None or entry["high"] is None:
        return f"{size} (no interval)"
    return f"{size} ({number(entry['low'], 3)} to {number(entry['high'], 3)})"


def range_cell(entry: Entry) -> str:
    """Smallest to largest fold with their standard deviation; a dash where there is none."""
    if entry["fold_range"] is None or entry["fold_spread"] is None:
        return "–"
    return f"{bounds_text(*entry['fold_range'])} ({number(entry['fold_spread'])})"
