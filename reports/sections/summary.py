"""The experiment in words: data, protocol, results, optimism, the final model, its limits."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Heading, Paragraph
from outerfold.reports.sections.final_model import final_section
from outerfold.reports.sections.level_tables import beside, headline_value, leading, level_tables
from outerfold.reports.sections.tables import (
    data_table,
    overall_table,
    parameters_table,
    trials_table,
)
from outerfold.reports.wording import (
    BIASED,
    RESEARCH_ONLY,
    Json,
    biased,
    counted,
    covers,
    cut_by_time,
    finished_folds,
    metric_phrase,
    number,
    plural,
    searched,
    stamps,
    views,
)


def summary(numbers: Json) -> list[Block]:
    """All sections in reading order; the same blocks become DOCX, picture and page."""
    return [
        *stamp_paragraphs(numbers),
        *headline(numbers),
        *data_section(numbers),
        *protocol_section(numbers),
        *result_section(numbers),
        *optimism_section(numbers),
        *final_section(numbers),
        *limit_section(numbers),
    ]


def stamp_paragraphs(numbers: Json) -> Iterator[Block]:
    """What must be read first."""
    if biased(numbers["protocol"]):
        yield Paragraph(f"BIASED. {BIASED}", strong=True)
    if numbers["synthetic_data"]:
        text = (
            "SYNTHETIC DATA. These images were made by a program; no number here is about people."
        )
        yield Paragraph(text, strong=True)
    if numbers["cut_by_time"]:
        yield Paragraph(f"CUT BY TIME. {cut_by_time(numbers)}", strong=True)
    if not numbers["complete"]:
        folds = _sentence(finished_folds(numbers))
        text = f"INCOMPLETE. {folds} have finished; every number may change."
        yield Paragraph(text, strong=True)


def headline(numbers: Json) -> Iterator[Block]:
    """The searched metric on the outer test rows."""
    metric = str(numbers["protocol"]["metric"])
    entry = leading(numbers).get(metric)
    if entry is None:
        yield Paragraph("No outer fold has finished; there is no performance to report yet.")
        return
    yield Paragraph(f"{headline_value(numbers)}.{_spread(entry)}")
    for line in beside(numbers):
        yield Paragraph(line)


def data_section(numbers: Json) -> Iterator[Block]:
    """Who is in the data, what was assumed, what the audit found."""
    data = numbers["dataset"]
    yield Heading("Data")
    yield Paragraph(
        f"{data['name']}: {counted(numbers)}, {plural(len(data['classes']), 'class')}. "
        f"Fingerprint {str(data['fingerprint'])[:12]}. {_isolation(data)}"
    )
    for title, key in (("Assumed", "assumptions"), ("Audit", "audit")):
        if data.get(key):
            lines = (str(line).rstrip(".") for line in data[key])
            yield Paragraph(f"{title}: {'; '.join(lines)}.")
    yield data_table(numbers)


def protocol_section(numbers: Json) -> Iterator[Block]:
    """How the rows were cut and what was searched."""
    p = numbers["protocol"]
    yield Heading("Protocol")
    how = _non_nested(numbers) if biased(numbers["protocol"]) else _nested(numbers)
    yield Paragraph(
        f"{how} Encoder {p['encoder']}, {_blocks(p)}; seed {p['seed']}.{views(numbers)}"
    )
    yield trials_table(numbers)
    if searched(numbers):
        yield parameters_table(numbers)
    for line in _study_notes(numbers):
        yield Paragraph(line)


def _nested(numbers: Json) -> str:
    p = numbers["protocol"]
    repeats = "" if p["repeats"] == 1 else f", repeated {p['repeats']} times"
    return (
        f"Nested, patient-grouped, stratified cross-validation: {p['outer_folds']} outer folds"
        f"{repeats}, {p['inner_folds']} inner folds cut from each outer training side. One fresh "
        f"search of {plural(int(p['trials']), 'trial')} an outer fold, by {_metric(numbers)} on "
        f"its inner folds; the chosen configuration was refitted on the whole training side and "
        f"scored the outer test rows once.{_in_flight(numbers)}{_patience(numbers)}"
    )


def _non_nested(numbers: Json) -> str:
    p = numbers["protocol"]
    return (
        f"Patient-grouped, stratified cross-validation that is not nested: one search of "
        f"{plural(int(p['trials']), 'trial')}, by {_metric(numbers)} on {p['outer_folds']} folds "
        f"of all rows, whose best trial's own scores on the same folds are reported."
        f"{_in_flight(numbers)}{_patience(numbers)}"
    )


def _in_flight(numbers: Json) -> str:
    """Empty where trials came one after the other."""
    count = int(numbers["protocol"].get("in_flight", 1))
    if count == 1:
        return ""
    return (
        f" Up to {count} trials of a search ran at once, each suggested and pruned by the trials "
        f"up to the {count}th before it."
    )


def _patience(numbers: Json) -> str:
    """Empty where nothing but the number of trials ends a search."""
    count = int(numbers["protocol"].get("patience", 0))
    if not count:
        return ""
    return (
        f" A search ended before that after {plural(count, 'trial')} in a row, complete or "
        "pruned, without a better inner score."
    )


def result_section(numbers: Json) -> Iterator[Block]:
    """Test metrics with their intervals."""
    yield Heading("Results on the outer test rows")
    if numbers["overall"]:
        yield overall_table(numbers, "test")
        yield from level_tables(numbers)
    else:
        yield Paragraph("No outer fold has finished.")


def optimism_section(numbers: Json) -> Iterator[Block]:
    """How far the search flattered itself."""
    entry = numbers["optimism"]
    yield Heading("Optimism of the search")
    if entry["estimate"] is None:
        yield Paragraph(f"Not estimated: {entry.get('reason') or 'no outer fold has finished'}.")
        return
    way = "above" if entry["estimate"] >= 0 else "below"
    size = number(abs(entry["estimate"]))
    yield Paragraph(
        f"The score by which the searches chose lay {size} {way} the score of their choice on the "
        f"outer test rows, on average over folds (optimism {optimism_value(entry)}, "
        f"{_metric(numbers)}). A report of the search's own score would have been wrong by about "
        f"that much. The search's score is not a performance figure and is not reported as one."
        f"{_of_one_network(numbers)}"
    )


def _of_one_network(numbers: Json) -> str:
    networks = int(numbers["protocol"]["networks"])
    if networks == 1:
        return ""
    return (
        f" The search scored single networks and the outer test rows the mean of {networks}; what "
        "averaging gains lies within the difference and makes it smaller."
    )


def limit_section(numbers: Json) -> Iterator[Block]:
    """What the intervals do not cover."""
    yield Heading("Limits")
    isolation = (
        "" if numbers["dataset"].get("patients_known", True) else _isolation(numbers["dataset"])
    )
    yield Paragraph(
        f"{covers(numbers)} The factor by which they are stretched for training variation is an "
        f"empirical constant. The number of patients of the rarest class sets their width. "
        f"{isolation}".strip()
    )
    yield Paragraph(RESEARCH_ONLY)


def optimism_value(entry: Json) -> str:
    """``0.04, 95 % CI 0.01 to 0.07``, or the reason why there is no interval."""
    if entry["low"] is None:
        return f"{number(entry['estimate'])}, no interval: {entry.get('reason')}"
    level = f"{100 * float(entry['level']):.0f}"
    return (
        f"{number(entry['estimate'])}, {level} % CI {number(entry['low'])} to "
        f"{number(entry['high'])}"
    )


def title(numbers: Json) -> str:
    """The document's title with its stamps."""
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return f"Summary of experiment {numbers['provenance']['run']} ({numbers['task']}){marks}"


def _metric(numbers: Json) -> str:
    return metric_phrase(str(numbers["protocol"]["metric"]), len(numbers["dataset"]["classes"]))


def _spread(entry: Json) -> str:
    if entry["fold_spread"] is None:
        return ""
    folds = sum(score is not None for score in entry["by_fold"])
    spread = number(entry["fold_spread"])
    return f" Spread over {folds} folds {spread} (not a confidence interval)."


def _isolation(data: Json) -> str:
    if data.get("patients_known", True):
        return "No patient is on two sides of any split."
    return (
        "Patients are unknown: near-duplicate images were grouped, and patient isolation could "
        "not be verified."
    )


def _blocks(protocol: Json) -> str:
    count = protocol["trainable_blocks"]
    if count == "all":
        return "trained as a whole"
    return f"{plural(int(count), 'trainable block')}" if count else "frozen"


def _study_notes(numbers: Json) -> Iterator[str]:
    for name, study in searched(numbers):
        if study["notes"]:
            yield f"{name}: " + " ".join(study["notes"])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
