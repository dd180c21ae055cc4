"""Comparison of two runs on the same splits: paired differences in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outerfold.objectives.metrics import METRICS
from outerfold.reports.blocks import Paragraph, Table
from outerfold.reports.intervals.jackknife import Of
from outerfold.reports.results.entries import interval_of, paired_entries
from outerfold.reports.results.predictions import inner_models, test_rows
from outerfold.reports.results.results import to_json_types
from outerfold.reports.schema import Entry, PairedEntry
from outerfold.reports.wording import (
    is_biased,
    metric_name,
    metric_phrase,
    number,
    plural,
    signed_difference,
)
from outerfold.storage.records import DataError, Predictions, Run
from outerfold.storage.words.csv_tables import csv_text

NO_CLEAR_DIFFERENCE = "no clear difference"
PAIRED = (
    "The intervals come from a paired patient jackknife of the difference on the same outer folds: "
    "the same patient is left out of both. Whether two separate intervals overlap is never used. "
    "Each interval is for one comparison: of twenty comparisons without a true difference, about "
    "one interval excludes zero by chance."
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Run A minus run B in every overall metric.

    Attributes:
        a, b: names of the runs.
        metric: the metric that run A's search used.
        classes, patients, images: how many are compared.
        entries: by metric: ``a``, ``b`` (estimates) and ``difference`` (as in ``results.json``).
        warnings: sentences that the reader must see first.
    """

    a: str
    b: str
    metric: str
    classes: int
    patients: int
    images: int
    entries: dict[str, PairedEntry]
    warnings: tuple[str, ...]


def compare_runs(run_a: Run, run_b: Run, names: tuple[str, str] | None = None) -> Comparison:
    """Compare two finished runs of the same rows, folds and repeats by paired differences.

    Args:
        names: names of the two in the comparison; by default the names of the runs.

    Raises:
        DataError: a run is not finished, or the two differ in rows, labels, patients, classes or
            folds.
    """
    a, b = names or (run_a.name, run_b.name)
    rows_a, rows_b = _rows(run_a, a), _rows(run_b, b)
    inner = inner_models(run_a), inner_models(run_b)
    kinds = {interval_of(run.protocol) for run in (run_a, run_b)}
    of: Of = "procedure" if "procedure" in kinds else "model"
    found = to_json_types(paired_entries({"a": rows_a, "b": rows_b}, inner, of))
    classes = len(run_a.classes)
    wanted = [name for name in METRICS if name in found and not _repeats_recall(name, classes)]
    entries: dict[str, PairedEntry] = {name: found[name] for name in wanted}
    return Comparison(
        a,
        b,
        str(run_a.protocol["metric"]),
        classes,
        len(set(rows_a.patients.tolist())),
        len(set(rows_a.ids.tolist())),
        entries,
        tuple(_warnings((run_a, run_b), (a, b))),
    )


def comparison_words(found: Comparison, metric: str) -> str:
    """Verdict: ``A is better``, ``no clear difference``, or why there is no interval."""
    change = found.entries[metric]["difference"]
    if change["low"] is None:
        return f"no interval: {change['reason']}"
    better = clearly_better(change, metric)
    if better is None:
        return NO_CLEAR_DIFFERENCE
    return f"{found.a if better else found.b} is better"


def clearly_better(change: Entry, metric: str) -> bool | None:
    """Whether the first of two is better by the interval of the difference; None if unclear."""
    low, high = change["low"], change["high"]
    if low is None or high is None or low <= 0 <= high:
        return None
    return bool((low > 0) == (METRICS[metric].direction == "maximize"))


def comparison_sentence(found: Comparison) -> str:
    """Sentence on the difference in the searched metric, worded for a paper."""
    change = found.entries[found.metric]["difference"]
    name = metric_phrase(found.metric, found.classes)
    words = comparison_words(found, found.metric)
    if words == NO_CLEAR_DIFFERENCE:
        words = "these data show no clear difference between the two"
    size = f"{found.a} minus {found.b} in {name}: {signed_difference(change, '95 % CI ')}"
    return f"{size}. {words[0].upper()}{words[1:]}."


def comparison_table(found: Comparison) -> Table:
    """Table with one row per metric: both estimates, the difference, its interval, a verdict."""
    rows = [
        (
            metric_name(metric, found.classes),
            *(number(one) if one is not None else "–" for one in (each["a"], each["b"])),
            signed_difference(each["difference"]),
            comparison_words(found, metric),
        )
        for metric, each in found.entries.items()
    ]
    count = f"n = {plural(found.patients, 'patient')}, {plural(found.images, 'image')}."
    return Table(
        f"{found.a} minus {found.b}, paired on the same outer folds",
        ("Metric", found.a, found.b, "Difference (95 % CI)", "In words"),
        tuple(rows),
        (count, PAIRED),
    )


def comparison_blocks(found: Comparison) -> list[Paragraph | Table]:
    """Blocks of one comparison: warnings, the sentence, the table."""
    stamps = [Paragraph(text, strong=True) for text in found.warnings]
    return [*stamps, Paragraph(comparison_sentence(found)), comparison_table(found)]


def comparisons_csv(found: Sequence[Comparison]) -> str:
    """CSV text with one row per comparison and metric.

    Columns: ``a,b,metric,estimate_a,estimate_b,difference,low,high,words``.
    """
    header = "a", "b", "metric", "estimate_a", "estimate_b", "difference", "low", "high", "words"
    table: list[list[object]] = []
    for one in found:
        for metric, each in one.entries.items():
            change = each["difference"]
            figures = (each["a"], each["b"], change["estimate"], change["low"], change["high"])
            table.append([one.a, one.b, metric, *figures, comparison_words(one, metric)])
    return csv_text(header, table)


def _repeats_recall(metric: str, classes: int) -> bool:
    return classes > 2 and metric in ("sensitivity", "specificity")


def _rows(run: Run, name: str) -> Predictions:
    rows = test_rows(run)
    if rows is None or not run.complete:
        raise DataError(
            f"compare needs finished runs: {name} is not finished; give its command again"
        )
    return rows


def _warnings(runs: tuple[Run, Run], names: tuple[str, str]) -> list[str]:
    found = []
    if any(run.synthetic for run in runs):
        found.append("SYNTHETIC DATA. No number here is about people.")
    for run, name in zip(runs, names, strict=True):
        if is_biased(run.protocol):
            found.append(
                f"BIASED. {name} is not nested: the folds that gave its scores also chose its "
                "configuration, so its numbers are too good by an unknown amount."
            )
    if runs[0].dataset["fingerprint"] != runs[1].dataset["fingerprint"]:
        found.append(
            "The two runs have the same rows, but read different images or columns for them."
        )
    return found
