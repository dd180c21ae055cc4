"""Results in the terminal: the closing table of a run, the comparison of two runs."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from outerfold.objectives.metrics import METRICS
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.results.results import results
from outerfold.reports.schema import Entry, Results
from outerfold.reports.sections.comparison import Comparison, comparison_sentence, comparison_table
from outerfold.reports.sections.level_tables import leading_entries, other_level_lines
from outerfold.reports.sections.page_one import caution_lines, certainty_line, decision_line
from outerfold.reports.sections.summary import optimism_value
from outerfold.reports.sections.worth import worth_sentence
from outerfold.reports.wording import (
    cut_by_time,
    finished_folds,
    is_biased,
    metric_name,
    sample_size,
    stamps,
    value,
)
from outerfold.storage.records import Run


def closing_table(run: Run) -> Table:
    """Table of outer test metrics with intervals, with stamps above, n and optimism below."""
    numbers = results(run)
    marks = "  ".join(stamps(numbers))
    what = (
        "performance as usual practice would claim it"
        if is_biased(numbers["protocol"])
        else "performance on the outer test rows"
    )
    level = leading_level(numbers["protocol"])
    what += f", by {level}" if level in numbers["levels"] else ""
    title = f"{run.name}: {what}" + (f"\n{marks}" if marks else "")
    table = Table(title=title, caption=_caption(numbers), caption_justify="left")
    table.add_column("Metric")
    table.add_column("Estimate (95 % CI)", justify="left", no_wrap=True)
    table.add_column("Remark", style="dim")
    classes = len(run.classes)
    for metric in METRICS:
        entry = leading_entries(numbers).get(metric)
        if entry is None or (classes > 2 and metric in ("sensitivity", "specificity")):
            continue
        table.add_row(metric_name(metric, classes), value(entry), _remark(entry))
    if not numbers["overall"]:
        table.add_row("–", "no outer fold has finished", "")
    return table


def comparison_lines(found: Comparison) -> list[RenderableType]:
    """Lines of a comparison: warnings, the table of all metrics, the sentence."""
    block = comparison_table(found)
    table = Table(title=block.caption, caption="\n".join(block.notes), caption_justify="left")
    for name in block.header:
        table.add_column(name)
    for row in block.rows:
        table.add_row(*row)
    return [
        *(Text(text, style="bold red") for text in found.warnings),
        table,
        comparison_sentence(found),
    ]


def _remark(entry: Entry) -> str:
    return str(entry["reason"]) if entry["low"] is None else "; ".join(entry["notes"])


def _caption(numbers: Results) -> str:
    lines = [
        f"n = {sample_size(numbers, 'tested')}; {finished_folds(numbers)}; "
        "confidence intervals over patients."
    ]
    if numbers["overall"]:
        lines += [*other_level_lines(numbers), decision_line(numbers), certainty_line(numbers)]
        lines += caution_lines(numbers)
    entry, by = numbers["optimism"], _searched_by(numbers)
    if entry["estimate"] is not None:
        lines.append(
            f"The search's own score{by} was optimistic by {optimism_value(entry)}; "
            "it is not a measure of performance."
        )
    if numbers["overall"]:
        lines.append(worth_sentence(numbers))
    return "\n".join(filter(None, (*lines, cut_by_time(numbers))))


def _searched_by(numbers: Results) -> str:
    """Level that the search scored (images), if the table shows another level."""
    return "" if leading_level(numbers["protocol"]) == "image" else ", by image,"
