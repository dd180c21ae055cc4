"""Section on what the decisions mean, on other operating points, and on a reader."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.chapters.common import (
    COUNTED,
    NOT_COUNTED,
    cell,
    chapter_caption,
    fine_cell,
    levels_of,
)
from outerfold.reports.schema import Entry, OriginalEntry, QuestionLevel, ReaderEntry, Results
from outerfold.reports.wording import number, plural, signed_difference, value

POST_HOC = (
    "Post hoc: read from the ROC curve of each fold's test rows, with straight lines between its "
    "points, and averaged over folds. No threshold for it was chosen beforehand, so it is what a "
    "threshold could have given."
)
NO_PREVALENCE = (
    "Predictive values hold at the prevalence of these data. report --prevalence X states them at "
    "another."
)
KAPPA = "Quadratic kappa: agreement of true and decided classes, in their order (Cohen 1968)."
VERIFICATION = (
    "Reader and model are judged by the same reference standard. If the reader's own reading "
    "decided who was verified, for example who had a biopsy, the comparison favours the reader, "
    "since what the reader missed may never have been verified (verification bias)."
)
PAIRED = (
    "The difference is paired: the same patient is left out of both. The reader read once, at one "
    "threshold; other readers may differ."
)


def performance_section(numbers: Results) -> Iterator[Block]:
    """Section on operating points; empty where nothing more than the metrics is known."""
    table = operating_table(numbers)
    questions = numbers["questions"]
    if table is None or questions is None:
        return
    yield Heading("What the decisions mean")
    yield table
    if questions["originals"]:
        yield originals_table(numbers, questions["originals"])
    if questions["reader"] is not None:
        yield reader_table(numbers, questions["reader"])
        yield Paragraph(VERIFICATION)


def operating_table(numbers: Results) -> Table | None:
    """Table of likelihood ratios, predictive values, fixed points and kappa, a column a level."""
    levels = levels_of(numbers)
    each = {level: dict(_measures(found)) for level, found in levels.items()}
    names = list(dict.fromkeys(name for one in each.values() for name in one))
    if not names:
        return None
    rows = [(name, *(one.get(name, "–") for one in each.values())) for name in names]
    first = next(iter(levels.values()))
    notes = [
        *((POST_HOC,) if first["fixed_points"] is not None else ()),
        *((KAPPA,) if first["agreement"] is not None else ()),
        COUNTED if first["likelihood_ratios"] is not None else NOT_COUNTED,
    ]
    if first["likelihood_ratios"] is not None and first["at_prevalence"] is None:
        notes.insert(0, NO_PREVALENCE)
    return Table(
        chapter_caption("Operating points", numbers),
        ("Measure", *(f"By {level} (95 % CI)" for level in levels)),
        tuple(rows),
        tuple(notes),
    )


def _measures(found: QuestionLevel) -> Iterator[tuple[str, str]]:
    """Name and cell of each measure; predictive values at a rare prevalence need three decimals."""
    ratios, stated, fixed = (
        found["likelihood_ratios"],
        found["at_prevalence"],
        found["fixed_points"],
    )
    if ratios is not None:
        yield "LR+", cell(ratios["lr_positive"])
        yield "LR−", cell(ratios["lr_negative"])
    if stated is not None:
        share = f"{100 * stated['prevalence']:.3g} %"
        yield f"PPV at a prevalence of {share}", fine_cell(stated["ppv"])
        yield f"NPV at a prevalence of {share}", fine_cell(stated["npv"])
    if fixed is not None:
        yield (
            "Sensitivity at 90 % specificity, post hoc",
            cell(fixed["sensitivity_at_90_specificity"]),
        )
        yield (
            "Specificity at 90 % sensitivity, post hoc",
            cell(fixed["specificity_at_90_sensitivity"]),
        )
    if found["agreement"] is not None:
        yield "Quadratic kappa", cell(found["agreement"])


def originals_table(numbers: Results, originals: list[OriginalEntry]) -> Table:
    """Table of right decisions by class of the source, where classes were merged."""
    rows = [
        (
            one["name"],
            one["merged"],
            f"{one['patients']:,}",
            f"{one['right']:,} of {one['rows']:,}",
            cell(one["share"]),
        )
        for one in originals
    ]
    last = list(numbers["dataset"]["classes"])[-1]
    return Table(
        chapter_caption("Decisions by class of the source, by image", numbers),
        ("Class of the source", "Counts as", "Patients", "Decided so", "Share (95 % CI)"),
        tuple(rows),
        (
            f"The share of a class that does not count as {last} is the specificity among its "
            f"images; that of {last} is the sensitivity.",
            NOT_COUNTED,
        ),
    )


def reader_table(numbers: Results, reader: ReaderEntry) -> Table:
    """Table of the model against a reader."""
    rows = tuple(
        (
            metric.capitalize(),
            number(one["reader"]),
            _model_value(one["reader"], one["difference"]),
            signed_difference(one["difference"]),
        )
        for metric, one in reader["metrics"].items()
    )
    return Table(
        chapter_caption(
            f"Model against reader ({reader['column']}), by {reader['level']}", numbers
        ),
        ("Metric", "Reader", "Model", "Model minus reader (95 % CI)"),
        rows,
        (_read_words(numbers, reader), *((SEEN,) if reader["model_reads"] else ()), PAIRED),
    )


SEEN = "The model reads this column itself, so this is no comparison of two independent readings."


def _read_words(numbers: Results, reader: ReaderEntry) -> str:
    """Which readings are positive, and how many rows were read."""
    level = reader["level"]
    read = f"A reading is positive at {reader['positive']}. n = {plural(reader['rows'], level)}."
    if not reader["missing"]:
        return f"{read} Every one has a reading."
    scored = numbers["levels"].get(level, numbers)["overall"]
    beside = ", ".join(f"{metric} {value(scored[metric])}" for metric in reader["metrics"])
    return (
        f"{read} Left out: {plural(reader['missing'], level)} without a reading; of all, the model "
        f"has {beside}."
    )


def _model_value(reader: float | None, difference: Entry) -> str:
    """The model's score on the rows that the reader read."""
    if reader is None or difference["estimate"] is None:
        return "–"
    return number(reader + difference["estimate"])
