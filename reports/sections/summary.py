"""Summary of a run: data, protocol, results, optimism, the final model, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from outerfold.reports.blocks import Block, Heading, Paragraph
from outerfold.reports.chapters.tables import chapter_blocks
from outerfold.reports.paper.search import search_section
from outerfold.reports.paper.table_one import table_one
from outerfold.reports.schema import DatasetEntry, Optimism, Results
from outerfold.reports.sections.final_model import final_section
from outerfold.reports.sections.fold_table import fold_table
from outerfold.reports.sections.level_tables import level_tables
from outerfold.reports.sections.page_one import headline
from outerfold.reports.sections.tables import (
    data_table,
    overall_table,
    trials_table,
)
from outerfold.reports.sections.worth import worth_section
from outerfold.reports.wording import (
    BIAS,
    RESEARCH_ONLY,
    coverage_sentence,
    cut_by_time,
    finished_folds,
    is_biased,
    metric_phrase,
    number,
    plural,
    positive_sentence,
    sample_size,
    searched_studies,
    stamps,
    tta_sentence,
)
from outerfold.storage.records import SUSPECTED_PAIRS
from outerfold.storage.words.hidden_names import without_names


def summary(numbers: Results) -> list[Block]:
    """Blocks of all sections in reading order, for the DOCX, the picture and the page."""
    return [
        *stamp_paragraphs(numbers),
        *headline(numbers),
        *data_section(numbers),
        *protocol_section(numbers),
        *result_section(numbers),
        *optimism_section(numbers),
        *search_section(numbers),
        *worth_section(numbers),
        *final_section(numbers),
        *limit_section(numbers),
    ]


def stamp_paragraphs(numbers: Results) -> Iterator[Block]:
    """Warnings that the reader must see first."""
    if is_biased(numbers["protocol"]):
        yield Paragraph(f"BIASED. {BIAS}", strong=True)
    if numbers["synthetic_data"]:
        text = (
            "SYNTHETIC DATA. These images were made by a program; no number here is about people."
        )
        yield Paragraph(text, strong=True)
    if numbers["cut_by_time"]:
        yield Paragraph(f"CUT BY TIME. {cut_by_time(numbers)}", strong=True)
    if not numbers["complete"]:
        folds = _capitalise(finished_folds(numbers))
        text = f"INCOMPLETE. {folds} have finished; every number may still change."
        yield Paragraph(text, strong=True)


def data_section(numbers: Results) -> Iterator[Block]:
    """Section on the data: sizes, assumptions, findings of the audit."""
    data = numbers["dataset"]
    yield Heading("Data")
    yield Paragraph(
        f"{data['name']}: {sample_size(numbers)}, {plural(len(data['classes']), 'class')}. "
        f"Fingerprint {str(data['fingerprint'])[:12]}. {positive_sentence(numbers)}"
        f"{_isolation_sentence(data)}"
    )
    for title, texts in (("Assumptions", data.get("assumptions")), ("Audit", data.get("audit"))):
        if texts:
            lines = (without_names(str(line)).rstrip(".") for line in texts)
            yield Paragraph(f"{title}: {'; '.join(lines)}.")
    yield data_table(numbers)
    columns = table_one(numbers)
    if columns is not None:
        yield columns


def protocol_section(numbers: Results) -> Iterator[Block]:
    """Section on the protocol: how rows were split and what was searched."""
    p = numbers["protocol"]
    yield Heading("Protocol")
    how = _non_nested_words(numbers) if is_biased(numbers["protocol"]) else _nested_words(numbers)
    yield Paragraph(
        f"{how} Encoder {p['encoder']}, {_trained_part(p)}; seed {p['seed']}."
        f"{tta_sentence(numbers)}"
    )
    yield trials_table(numbers)
    for line in _study_notes(numbers):
        yield Paragraph(line)


def _nested_words(numbers: Results) -> str:
    p = numbers["protocol"]
    repeats = "" if p["repeats"] == 1 else f", repeated {p['repeats']} times"
    return (
        f"Nested, patient-grouped, stratified cross-validation: {p['outer_folds']} outer folds"
        f"{repeats}, with {p['inner_folds']} inner folds within the training rows of each outer "
        f"fold. Each outer fold had its own new search of {plural(int(p['trials']), 'trial')}, "
        f"which chose by {_searched_metric(numbers)} on its inner folds; {_made_words(p)} and "
        f"scored once on the outer test rows.{_parallel_note(numbers)}{_patience_note(numbers)}"
    )


def _made_words(protocol: Mapping[str, Any]) -> str:
    """How the model of an outer fold was made of the chosen configuration."""
    if protocol.get("final") == "folds":
        return "the mean of its inner folds' networks was calibrated on out-of-fold training rows"
    return "the chosen configuration was refitted on all training rows of the outer fold"


def _non_nested_words(numbers: Results) -> str:
    p = numbers["protocol"]
    return (
        f"Patient-grouped, stratified cross-validation that is not nested: one search of "
        f"{plural(int(p['trials']), 'trial')}, which chose by {_searched_metric(numbers)} on "
        f"{p['outer_folds']} folds of all rows. The scores of its best trial on the same folds "
        f"are reported."
        f"{_parallel_note(numbers)}{_patience_note(numbers)}"
    )


def _parallel_note(numbers: Results) -> str:
    """Sentence on parallel trials; empty if trials ran one after the other."""
    count = int(numbers["protocol"].get("in_flight", 1))
    if count == 1:
        return ""
    return (
        f" Up to {count} trials of a search ran at the same time. The values and the pruning of a "
        f"trial depended only on the trials at least {count} places before it."
    )


def _patience_note(numbers: Results) -> str:
    """Sentence on early stopping of a search; empty if only the number of trials ends it."""
    count = int(numbers["protocol"].get("patience", 0))
    if not count:
        return ""
    return (
        f" A search ended earlier if {plural(count, 'trial')} in a row, complete or pruned, gave "
        "no better inner score."
    )


def result_section(numbers: Results) -> Iterator[Block]:
    """Section on the results: test metrics with their intervals."""
    yield Heading("Results on the outer test rows")
    if numbers["overall"]:
        yield overall_table(numbers, "test")
        yield from level_tables(numbers)
        yield fold_table(numbers)
        yield from chapter_blocks(numbers)
    else:
        yield Paragraph("No outer fold has finished.")


def optimism_section(numbers: Results) -> Iterator[Block]:
    """Section on the optimism: by how much the search's own score was too good."""
    entry = numbers["optimism"]
    yield Heading("Optimism of the search")
    if entry["estimate"] is None:
        yield Paragraph(f"Not estimated: {entry['reason'] or 'no outer fold has finished'}.")
        return
    if _hardly_searched(numbers):
        yield Paragraph(_hardly_searched(numbers))
    way = "above" if entry["estimate"] >= 0 else "below"
    size = number(abs(entry["estimate"]))
    yield Paragraph(
        f"On average over folds, the searches' own score of the chosen configuration was {size} "
        f"{way} its score on the outer test rows (optimism {optimism_value(entry)}, "
        f"{_searched_metric(numbers)}). A report of the search's own score would have been wrong "
        f"by about that much. The search's own score is not a measure of performance and is not "
        f"reported as one."
        f"{_averaging_note(numbers)}"
    )


def _hardly_searched(numbers: Results) -> str:
    """Sentence on a search that chose the default configuration in most folds; else empty."""
    known = [fold["default"] for fold in numbers["outer"] if fold["default"] is not None]
    chosen = sum(default["chosen"] for default in known)
    if not known or 2 * chosen <= len(known):
        return ""
    return (
        f"The search hardly searched: in {chosen} of {len(known)} outer folds its choice is the "
        "default configuration, its first trial. An optimism near 0 is then no finding about "
        "searches."
    )


def _averaging_note(numbers: Results) -> str:
    networks = int(numbers["protocol"]["networks"])
    if networks == 1:
        return ""
    return (
        f" The search scored single networks, but the outer test rows were scored by the mean of "
        f"{networks} networks; the gain from averaging is part of the difference and makes it "
        "smaller."
    )


def limit_section(numbers: Results) -> Iterator[Block]:
    """Section on the limits: what the intervals do not cover."""
    yield Heading("Limits")
    isolation = (
        ""
        if numbers["dataset"].get("patients_known", True)
        else _isolation_sentence(numbers["dataset"])
    )
    measured = any("measured variation" in entry["method"] for entry in numbers["overall"].values())
    how = "The share of the measured variation" if measured else "The factor"
    yield Paragraph(
        f"{coverage_sentence(numbers)} {how} that widens them for training variation is an "
        f"empirical constant. The number of patients of the rarest class sets their width. "
        f"{isolation}".strip()
    )
    yield Paragraph(RESEARCH_ONLY)


def optimism_value(entry: Optimism) -> str:
    """Optimism such as ``0.04, 95 % CI 0.01 to 0.07``, or the reason for no interval."""
    if entry["low"] is None:
        return f"{number(entry['estimate'])}, no interval: {entry['reason']}"
    level = f"{100 * float(entry['level']):.0f}"
    return (
        f"{number(entry['estimate'])}, {level} % CI {number(entry['low'])} to "
        f"{number(entry['high'])}"
    )


def title(numbers: Results) -> str:
    """Title of the document with its stamps."""
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return f"Summary of experiment {numbers['provenance']['run']} ({numbers['task']}){marks}"


def _searched_metric(numbers: Results) -> str:
    return metric_phrase(str(numbers["protocol"]["metric"]), len(numbers["dataset"]["classes"]))


def _isolation_sentence(data: DatasetEntry) -> str:
    if data.get("patients_known", True):
        if any(SUSPECTED_PAIRS in str(line) for line in data.get("audit") or ()):
            return (
                "No patient of one name is on both sides of any split, but the audit suspects that "
                "images of different patients may be one patient; such a pair may be on both "
                "sides."
            )
        return "No patient is on both sides of any split."
    return (
        "The patients are unknown: near-duplicate images were grouped, and it could not be "
        "verified that no patient is on both sides of a split. All intervals may be too narrow."
    )


def _trained_part(protocol: Mapping[str, Any]) -> str:
    count = protocol["trainable_blocks"]
    if count == "all":
        return "trained as a whole"
    return f"{plural(int(count), 'trainable block')}" if count else "frozen"


def _study_notes(numbers: Results) -> Iterator[str]:
    for name, study in searched_studies(numbers):
        if study["notes"]:
            yield f"{name}: " + " ".join(study["notes"])


def _capitalise(text: str) -> str:
    return text[0].upper() + text[1:]
