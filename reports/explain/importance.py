"""Contribution of the image and the columns to the finished models, on outer test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from outerfold.reports.blocks import Table
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.jackknife import jackknife_interval, paired_interval
from outerfold.reports.intervals.leave_one_out import auc_leave_out
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.reports.intervals.support import overall_support
from outerfold.reports.results.entries import TUNED, entry
from outerfold.reports.results.results import to_json_types
from outerfold.reports.sections.comparison import PAIRED
from outerfold.reports.wording import Json, metric_name, plural, signed_difference, value
from outerfold.storage.records import Predictions
from outerfold.storage.words.csv_tables import csv_text

IMAGE, COLUMNS = "image", "columns"


@dataclass(frozen=True, eq=False)
class Altered:
    """The same outer test rows scored by the same models, without a part of the input.

    Attributes:
        what: the removed part: ``IMAGE``, ``COLUMNS`` or a column's name.
        how: ``mean`` or ``permuted``.
        scored: one set of rows, or one set per permutation.
    """

    what: str
    how: str
    scored: tuple[Predictions, ...]


def contribution(whole: Predictions, altered: Sequence[Altered], *, level: float = 0.95) -> Json:
    """ROC-AUC (macro one-vs-rest) with the whole input, and the loss by each alteration.

    A loss is the ROC-AUC with the whole input minus that with the altered input, averaged over
    permutations. Its interval comes from the paired patient jackknife: the same patient is left out
    of both.

    Args:
        whole: outer test rows of one repeat or more, scored with the whole input.
        level: nominal coverage.

    Raises:
        DataError: no rows, or an image twice in one repeat.
        LeakError: a patient in two folds of one repeat.
    """
    rows = code_rows(whole)
    full, basis = auc_leave_out(rows), overall_support(rows, "roc_auc")
    entries = []
    for one in altered:
        without = _mean_leave_out([auc_leave_out(code_rows(scored)) for scored in one.scored])
        loss = LeaveOut(
            full.estimate - without.estimate,
            full.without - without.without,
            full.by_fold - without.by_fold,
            pooled=False,
        )
        entries.append(
            {
                "what": one.what,
                "how": one.how,
                "permutations": _permutations(one),
                "without": entry(jackknife_interval(without, basis, tuned=TUNED, level=level)),
                "loss": entry(paired_interval(loss, basis, tuned=TUNED, level=level)),
            }
        )
    found: Json = to_json_types(
        {
            "metric": "roc_auc",
            **_sizes(rows),
            "whole": entry(jackknife_interval(full, basis, tuned=TUNED, level=level)),
            "losses": entries,
        }
    )
    return found


def contribution_table(found: Json, marks: Sequence[str] = ()) -> Table:
    """Table with one row per alteration: remaining ROC-AUC, loss, verdict.

    Args:
        marks: stamps of the run, for the caption.
    """
    rows = [
        (
            _removed_name(one),
            value(one["without"]),
            signed_difference(one["loss"]),
            loss_words(one["loss"]),
        )
        for one in found["losses"]
    ]
    name = metric_name(found["metric"], found["classes"])
    stamped = "".join(f" [{mark}]" for mark in marks)
    counts = f"{plural(found['patients'], 'patient')}, {plural(found['images'], 'image')}"
    return Table(
        f"Contribution of the image and the columns, on outer test rows{stamped}",
        ("Removed", f"{name} without it (95 % CI)", "Loss (95 % CI)", "In words"),
        tuple(rows),
        (
            f"n = {counts}. With the whole input: {name} {value(found['whole'])}; "
            f"{found['whole']['method']}.",
            f"Loss: {name} with the whole input minus {name} with the altered input, for the same "
            "models and rows. No model was trained again, so the loss shows what these models use, "
            "not what new models could do without.",
            _alteration_note(found),
            PAIRED,
        ),
    )


CSV_HEADER = (
    "taken_away",
    "how",
    "permutations",
    "roc_auc_without",
    "without_low",
    "without_high",
    "loss",
    "low",
    "high",
    "level",
    "method",
    "patients",
    "images",
    "words",
    "synthetic_data",
)


def contribution_csv(found: Json, *, synthetic: bool) -> str:
    """CSV text with one row per alteration; its columns are those of ``CSV_HEADER``."""
    table: list[list[object]] = []
    for one in found["losses"]:
        left, loss = one["without"], one["loss"]
        without = [left[key] for key in ("estimate", "low", "high")]
        lost = [loss[key] for key in ("estimate", "low", "high", "level", "method")]
        rows = found["patients"], found["images"], loss_words(loss), str(synthetic).lower()
        table.append([one["what"], one["how"], one["permutations"], *without, *lost, *rows])
    return csv_text(CSV_HEADER, table)


def loss_words(loss: Json) -> str:
    """Verdict on a loss: whether the models use the removed part."""
    if loss["low"] is None:
        return f"no interval: {loss['reason']}"
    if loss["low"] > 0:
        return "the models use it"
    return "the models are better without it" if loss["high"] < 0 else "no clear loss"


def _mean_leave_out(found: Sequence[LeaveOut]) -> LeaveOut:
    return LeaveOut(
        float(np.mean([one.estimate for one in found])),
        np.mean([one.without for one in found], axis=0),
        np.mean([one.by_fold for one in found], axis=0),
        pooled=False,
    )


def _sizes(rows: CodedRows) -> Json:
    return {
        "classes": len(rows.classes),
        "patients": rows.patients,
        "images": len(np.unique(rows.image)),
    }


def _permutations(one: Altered) -> int | None:
    return len(one.scored) if one.how == "permuted" else None


def _removed_name(one: Json) -> str:
    known: Mapping[str, str] = {IMAGE: "the image", COLUMNS: "all columns"}
    return f"{one['what']} (permuted)" if one["how"] == "permuted" else known[one["what"]]


def _alteration_note(found: Json) -> str:
    times = {one["permutations"] for one in found["losses"]} - {None}
    return (
        "The image is replaced by the mean embedding of images without augmentation (each "
        "network's own embeddings if it trained blocks of the encoder), and all columns are "
        "replaced by their mean encoding; both are means over the fold's training rows. A column "
        "is permuted among the test rows of its own fold, "
        f"{plural(max(times, default=0), 'time')}, and the mean is taken. Columns with the same "
        "information share their contribution, so each of them may seem unnecessary."
    )
