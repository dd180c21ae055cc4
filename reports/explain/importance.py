"""What image and columns are worth to the finished models, on outer test rows, in paired losses."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np

from outerfold.reports.blocks import Table
from outerfold.reports.intervals.coded_rows import CodedRows, code_rows
from outerfold.reports.intervals.jackknife import jackknife_interval, paired_interval
from outerfold.reports.intervals.leave_one_out import LeaveOut, auc_leave_out
from outerfold.reports.intervals.support import overall_support
from outerfold.reports.results.entries import TUNED, entry
from outerfold.reports.results.results import to_json_types
from outerfold.reports.sections.comparison import PAIRED
from outerfold.reports.wording import Json, metric_name, plural, signed_difference, value
from outerfold.storage.records import Predictions

IMAGE, COLUMNS = "image", "columns"


@dataclass(frozen=True, eq=False)
class Altered:
    """The same outer test rows scored by the same models, with part of the input taken away.

    Attributes:
        what: ``IMAGE``, ``COLUMNS`` or a column's name.
        how: ``mean`` or ``permuted``.
        scored: one set of rows, or one a permutation.
    """

    what: str
    how: str
    scored: tuple[Predictions, ...]


def contribution(whole: Predictions, altered: Sequence[Altered], *, level: float = 0.95) -> Json:
    """The whole model's ROC-AUC (macro one-vs-rest), and what each alteration takes from it.

    A loss is the whole model minus the altered one, the mean over permutations, with the paired
    patient jackknife: the same patient is left out of both.
    """
    rows = code_rows(whole)
    full, basis = auc_leave_out(rows), overall_support(rows, "roc_auc")
    entries = []
    for one in altered:
        without = _mean([auc_leave_out(code_rows(scored)) for scored in one.scored])
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
    """A row an alteration: ROC-AUC that is left, the loss, and what it says."""
    rows = [
        (_name(one), value(one["without"]), signed_difference(one["loss"]), loss_words(one["loss"]))
        for one in found["losses"]
    ]
    name = metric_name(found["metric"], found["classes"])
    stamped = "".join(f" [{mark}]" for mark in marks)
    counts = f"{plural(found['patients'], 'patient')}, {plural(found['images'], 'image')}"
    return Table(
        f"What image and columns are worth, on outer test rows{stamped}",
        ("Taken away", f"{name} left (95 % CI)", "Loss (95 % CI)", "In words"),
        tuple(rows),
        (
            f"n = {counts}. The whole model: {name} {value(found['whole'])}; "
            f"{found['whole']['method']}.",
            "Loss: the whole model minus the altered one, the same models and rows; no model was "
            "trained again, so it says what these models use, not what could be done without.",
            _how(found),
            PAIRED,
        ),
    )


def contribution_csv(found: Json, *, synthetic: bool) -> str:
    """``taken_away,how,permutations,without,without_low,...,loss,low,high,method,words``."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        [
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
        ]
    )
    for one in found["losses"]:
        left, loss = one["without"], one["loss"]
        table.writerow(
            [
                one["what"],
                one["how"],
                one["permutations"],
                left["estimate"],
                left["low"],
                left["high"],
                loss["estimate"],
                loss["low"],
                loss["high"],
                loss["level"],
                loss["method"],
                found["patients"],
                found["images"],
                loss_words(loss),
                str(synthetic).lower(),
            ]
        )
    return text.getvalue()


def loss_words(loss: Json) -> str:
    """Whether the models lose by it."""
    if loss["low"] is None:
        return f"no interval: {loss['reason']}"
    if loss["low"] > 0:
        return "the models use it"
    return "better without it" if loss["high"] < 0 else "not told apart from no loss"


def _mean(found: Sequence[LeaveOut]) -> LeaveOut:
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


def _name(one: Json) -> str:
    known: Mapping[str, str] = {IMAGE: "the image", COLUMNS: "all columns"}
    return f"{one['what']} (permuted)" if one["how"] == "permuted" else known[one["what"]]


def _how(found: Json) -> str:
    times = {one["permutations"] for one in found["losses"]} - {None}
    return (
        "The image is replaced by the mean embedding of untouched images, each network's own where "
        "it trained blocks of the encoder, all columns by their mean encoding, each of the fold's "
        "training side. A column is permuted among the test rows of its own fold, "
        f"{plural(max(times, default=0), 'time')}, and the mean taken; columns that tell the same "
        "share what they are worth, so that each may seem dispensable."
    )
