"""The table the command line ends with."""

from __future__ import annotations

from rich.table import Table

from reports.evidence import Json
from reports.results import results
from reports.summary import optimism_value
from reports.words import OVERALL, counted, finished, metric_name, stamps, value
from storage.records import Run


def closing_table(run: Run) -> Table:
    """Outer test metrics with intervals; n, optimism and stamps around them."""
    numbers = results(run)
    marks = "  ".join(stamps(numbers))
    title = f"{run.name}: performance on the outer test rows" + (f"\n{marks}" if marks else "")
    table = Table(title=title, caption=_caption(numbers), caption_justify="left")
    table.add_column("Metric")
    table.add_column("Estimate (95 % CI)", justify="left", no_wrap=True)
    table.add_column("Remark", style="dim")
    classes = len(run.classes)
    for metric in OVERALL:
        entry = numbers["overall"].get(metric)
        if entry is None or (classes > 2 and metric in ("sensitivity", "specificity")):
            continue
        table.add_row(metric_name(metric, classes), value(entry), _remark(entry))
    if not numbers["overall"]:
        table.add_row("–", "no outer fold has finished", "")
    return table


def _remark(entry: Json) -> str:
    return str(entry["reason"]) if entry["low"] is None else "; ".join(entry["notes"])


def _caption(numbers: Json) -> str:
    lines = [f"n = {counted(numbers, 'tested')}; {finished(numbers)}; intervals over patients."]
    entry = numbers["optimism"]
    if entry["estimate"] is not None:
        lines.append(
            f"The search's own score was optimistic by {optimism_value(entry)}; "
            "it is not performance."
        )
    return "\n".join(lines)
