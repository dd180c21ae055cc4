"""Section on subgroups."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.chapters.common import cell, chapter_caption
from outerfold.reports.schema import Results, SubgroupColumn
from outerfold.reports.wording import plural, signed_difference

EXPLORATORY = (
    "Exploratory: no subgroup was the aim of this study, nothing is corrected for their number, "
    "and few patients make a subgroup's value vary. The ROC-AUC of a subgroup is the share of its "
    "(positive, negative) pairs within one fold that are in the right order, over all such pairs, "
    "so it need not agree with the mean over folds. A difference is that to the first subgroup of "
    "the column, with its interval; no test is made. How often these intervals hold the true value "
    "was not counted."
)


def subgroup_section(numbers: Results) -> Iterator[Block]:
    """Section on subgroups; empty where none were asked for."""
    columns = numbers["questions"]["subgroups"] if numbers["questions"] else []
    if not columns:
        return
    yield Heading("Subgroups (exploratory)")
    yield subgroup_table(numbers, columns)
    yield Paragraph(EXPLORATORY)


def subgroup_table(numbers: Results, columns: list[SubgroupColumn]) -> Table:
    """Table of the subgroups of each column."""
    rows = [
        (
            f"{column['column']}: {one['name']}" + (f", by {column['level']}"),
            f"{one['patients']:,}",
            f"{one['positives']:,} of {one['rows']:,}",
            cell(one["roc_auc"]),
            "first" if one["difference"] is None else signed_difference(one["difference"]),
        )
        for column in columns
        for one in column["groups"]
    ]
    missing = tuple(
        f"{column['column']} is missing of {plural(column['missing'], column['level'])}, which "
        f"{'is' if column['missing'] == 1 else 'are'} in no subgroup."
        for column in columns
        if column["missing"]
    )
    last = list(numbers["dataset"]["classes"])[-1]
    return Table(
        chapter_caption("Subgroups", numbers),
        ("Subgroup", "Patients", f"{last}", "ROC-AUC (95 % CI)", "Difference (95 % CI)"),
        tuple(rows),
        missing,
    )
