"""Section on the searches: what they tried, when they found their best, and what mattered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.paper.chosen import parameters_table, stability_words
from outerfold.reports.schema import Results, SearchEntry
from outerfold.reports.wording import number, searched_studies, stamped

HEADING = "The search"
SHOWN = 5
"""Number of parameters whose importance is printed."""
FEW = "fewer than 10 complete trials, too few to say which parameters mattered"


def search_section(numbers: Results) -> Iterator[Block]:
    """Section on the searches; empty before one has ended.

    Where an earlier version did not record the trials, it holds what was chosen alone.
    """
    searches = numbers["search"]
    if not searches and not searched_studies(numbers):
        return
    yield Heading(HEADING)
    if searches:
        yield Paragraph(_found_words(searches))
        yield _search_table(numbers)
    if searched_studies(numbers):
        yield parameters_table(numbers)
    if words := stability_words(numbers):
        yield Paragraph(words)
    if searches:
        yield Paragraph(_importance_words(searches))


def _found_words(searches: Mapping[str, SearchEntry]) -> str:
    """Sentences on how far the searches came from their start."""
    found = [one for one in searches.values() if one["chosen"] is not None]
    first = sum(one["chosen"] == 0 for one in found)
    complete = sum(one["complete"] for one in searches.values())
    trials = sum(one["trials"] for one in searches.values())
    text = (
        f"{complete} of {trials} trials were complete; the others were pruned or failed. "
        f"{first} of {len(found)} studies chose their first trial"
    )
    hardly = [name for name, one in searches.items() if one["complete"] < 3]
    if hardly:
        text += (
            f". {', '.join(hardly)} compared fewer than three complete trials, so these searches "
            "hardly chose"
        )
    return text + "."


def _search_table(numbers: Results) -> Table:
    rows = tuple(
        (
            name,
            f"{one['trials']}",
            f"{one['complete']}",
            f"{one['epochs']:,}",
            "–" if one["chosen"] is None else f"{one['chosen']}",
            number(one["best"], 3),
            number(one["first"], 3),
        )
        for name, one in numbers["search"].items()
    )
    header = ("Study", "Trials", "Complete", "Epochs", "Chosen trial", "Its score", "Trial 0")
    notes = ("Scores are inner scores: they chose, so they are optimistic.",)
    return Table(stamped("Searches", numbers), header, rows, notes)


def _importance_words(searches: Mapping[str, SearchEntry]) -> str:
    told = []
    for name, one in searches.items():
        if one["importance"]:
            shares = [
                f"{parameter} {100 * share:.0f} %"
                for parameter, share in list(one["importance"].items())[:SHOWN]
            ]
            told.append(f"{name}: {', '.join(shares)}")
    silent = [name for name, one in searches.items() if not one["importance"]]
    if not told:
        return f"Importance of the parameters: not computed ({FEW})."
    text = (
        "Importance of the parameters among complete trials (PED-ANOVA, Watanabe et al. 2023; "
        f"exploratory): {'; '.join(told)}."
    )
    return text + (f" {', '.join(silent)}: {FEW}." if silent else "")
