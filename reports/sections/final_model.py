"""The model that ships, in words: how it was made and what may be expected of it."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Heading, Paragraph
from outerfold.reports.wording import Json, biased, plural, procedure


def final_section(numbers: Json) -> Iterator[Block]:
    """What ships and what may be expected of it."""
    yield Heading("The final model")
    final = numbers["final"]
    if final is None:
        yield Paragraph(not_made(numbers))
        return
    yield Paragraph(f"{made_words(numbers)} {_expected(numbers)}")


def not_made(numbers: Json) -> str:
    """Why nothing ships yet."""
    ensemble = numbers["protocol"].get("final") == "ensemble"
    missing = (
        "not every outer fold has finished"
        if ensemble
        else ("the study of all rows has not finished")
    )
    return f"Not yet made: {missing}."


def made_words(numbers: Json) -> str:
    """How the model that ships was made."""
    if numbers["final"]["made"] == "ensemble":
        return averaged_words(numbers)
    return (
        f"{refitted_words(numbers)} Its configuration is the one that a search of all rows chose "
        f"({numbers['final']['checkpoint']})."
    )


def averaged_words(numbers: Json) -> str:
    """What an ensemble is the mean of, and how it decides."""
    final = numbers["final"]
    decision = (
        " Its threshold is the median of theirs on the logit scale."
        if final["threshold"] is not None
        else ""
    )
    return (
        f"An ensemble ({final['checkpoint']}): the mean of the calibrated probabilities of the "
        f"{plural(len(final['members']), 'outer model')}, each with the configuration that its "
        f"own search chose and its own calibration; no search of all rows was made.{decision}"
    )


def refitted_words(numbers: Json) -> str:
    """How the model that ships was trained, a sentence."""
    epochs = plural(int(numbers["final"]["epochs"]), "epoch")
    networks = int(numbers["protocol"]["networks"])
    mean = f" as the mean of {networks} networks with seeds of their own" if networks > 1 else ""
    return f"Refitted on all rows for {epochs}{mean}."


def _expected(numbers: Json) -> str:
    if biased(numbers["protocol"]):
        return "Its expected performance is unknown: no row was held out from the search."
    if numbers["final"]["made"] == "ensemble":
        return procedure(numbers)
    return (
        "Its expected performance is what the outer folds measured of the whole procedure. "
        f"{procedure(numbers)}"
    )
