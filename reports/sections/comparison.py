"""Two runs on the same splits, metric by metric: the paired difference, in numbers and in words."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from outerfold.objectives.metrics import METRICS
from outerfold.reports.blocks import Paragraph, Table
from outerfold.reports.intervals.overall import overall, paired_difference
from outerfold.reports.results.entries import TUNED, entry
from outerfold.reports.results.predictions import test_rows
from outerfold.reports.results.results import plain
from outerfold.reports.wording import (
    OVERALL,
    Json,
    biased,
    metric_name,
    metric_phrase,
    number,
    plural,
    signed,
)
from outerfold.storage.records import DataError, Predictions, Run

NOT_TOLD_APART = "not told apart"
PAIRED = (
    "Paired patient jackknife of the difference on the same outer folds, the same patient left "
    "out of both; never whether two intervals overlap. Each interval is of one comparison: of "
    "twenty that do not differ, about one excludes zero by chance."
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Run A minus run B in every overall metric.

    Attributes:
        a, b: what the runs are called.
        metric: what run A searched for.
        classes, patients, images: how many are compared.
        entries: by metric ``a``, ``b`` (estimates) and ``difference`` (as in ``results.json``).
        warnings: sentences to be read first.
    """

    a: str
    b: str
    metric: str
    classes: int
    patients: int
    images: int
    entries: dict[str, Json]
    warnings: tuple[str, ...]


def compare_runs(run_a: Run, run_b: Run, names: tuple[str, str] | None = None) -> Comparison:
    """The paired difference of two runs of the same rows, folds and repeats.

    Args:
        names: what the two are called; the runs' own names if not given.

    Raises:
        DataError: they are of other rows, labels, patients, classes or folds.
    """
    a, b = names or (run_a.name, run_b.name)
    rows_a, rows_b = _rows(run_a, a), _rows(run_b, b)
    changes = paired_difference(rows_a, rows_b, tuned=TUNED)
    of_a, of_b = overall(rows_a, tuned=TUNED), overall(rows_b, tuned=TUNED)
    classes = len(run_a.classes)
    wanted = [name for name in OVERALL if name in changes and not _repeats_recall(name, classes)]
    entries: dict[str, Json] = {
        name: plain(
            {
                "a": of_a[name].estimate,
                "b": of_b[name].estimate,
                "difference": entry(changes[name]),
            }
        )
        for name in wanted
    }
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
    """``A is better``, ``not told apart``, or why there is no interval."""
    change = found.entries[metric]["difference"]
    if change["low"] is None:
        return f"no interval: {change['reason']}"
    if change["low"] <= 0 <= change["high"]:
        return NOT_TOLD_APART
    better = (change["estimate"] > 0) == (METRICS[metric].direction == "maximize")
    return f"{found.a if better else found.b} is better"


def sentence(found: Comparison) -> str:
    """The comparison in the searched metric, as a paper would say it."""
    change = found.entries[found.metric]["difference"]
    name = metric_phrase(found.metric, found.classes)
    words = comparison_words(found, found.metric)
    if words == NOT_TOLD_APART:
        words = "these data do not tell the two apart"
    size = f"{found.a} minus {found.b} in {name}: {signed(change, '95 % CI ')}"
    return f"{size}. {words[0].upper()}{words[1:]}."


def comparison_table(found: Comparison) -> Table:
    """A row a metric: both estimates, their difference with its interval, and what it says."""
    rows = [
        (
            metric_name(metric, found.classes),
            *(number(each[side]) if each[side] is not None else "–" for side in "ab"),
            signed(each["difference"]),
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
    """Warnings, the sentence, the table."""
    stamps = [Paragraph(text, strong=True) for text in found.warnings]
    return [*stamps, Paragraph(sentence(found)), comparison_table(found)]


def comparisons_csv(found: Sequence[Comparison]) -> str:
    """``a,b,metric,estimate_a,estimate_b,difference,low,high,words``, a row a metric."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["a", "b", "metric", "estimate_a", "estimate_b", "difference", "low", "high", "words"]
    )
    for one in found:
        for metric, each in one.entries.items():
            change = each["difference"]
            figures = (each["a"], each["b"], change["estimate"], change["low"], change["high"])
            table.writerow([one.a, one.b, metric, *figures, comparison_words(one, metric)])
    return text.getvalue()


def _repeats_recall(metric: str, classes: int) -> bool:
    return classes > 2 and metric in ("sensitivity", "specificity")


def _rows(run: Run, name: str) -> Predictions:
    rows = test_rows(run)
    if rows is None or not run.complete:
        raise DataError(f"compare needs finished runs: {name} is not; give its command again")
    return rows


def _warnings(runs: tuple[Run, Run], names: tuple[str, str]) -> list[str]:
    said = []
    if any(run.synthetic for run in runs):
        said.append("SYNTHETIC DATA. No number here is about people.")
    for run, name in zip(runs, names, strict=True):
        if biased(run.protocol):
            said.append(
                f"BIASED. {name} is not nested: the folds that score chose its configuration, "
                "so that its numbers are too good by an unknown amount."
            )
    if runs[0].dataset["fingerprint"] != runs[1].dataset["fingerprint"]:
        said.append("The two read other images or columns of the same rows.")
    return said
