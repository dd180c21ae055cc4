"""Section on the delivered model: how it was made and its expected performance."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Heading, Paragraph
from outerfold.reports.schema import FinalEntry, Results
from outerfold.reports.wording import is_biased, plural, procedure_sentence


def final_section(numbers: Results) -> Iterator[Block]:
    """Section on the delivered model: how it was made and its expected performance."""
    yield Heading("The final model")
    final = numbers["final"]
    if final is None:
        yield Paragraph(not_made(numbers))
        return
    yield Paragraph(f"{made_words(numbers)} {_expected_performance(numbers)}")


def not_made(numbers: Results) -> str:
    """Sentence on why there is no delivered model yet."""
    ensemble = numbers["protocol"].get("final") == "ensemble"
    missing = (
        "not every outer fold has finished"
        if ensemble
        else "the study of all rows has not finished"
    )
    return f"Not yet made: {missing}."


def made_words(numbers: Results) -> str:
    """Sentences on how the delivered model was made."""
    if made_model(numbers)["made"] == "ensemble":
        return averaged_words(numbers)
    return (
        f"{refitted_words(numbers)} A search on all rows chose its configuration "
        f"({made_model(numbers)['checkpoint']})."
    )


def made_model(numbers: Results) -> FinalEntry:
    """Entry of the delivered model, which must have been made."""
    final = numbers["final"]
    assert final is not None
    return final


def averaged_words(numbers: Results) -> str:
    """Sentences on the members of an ensemble and on its threshold."""
    final = made_model(numbers)
    decision = (
        " Its threshold is the median of their thresholds on the logit scale."
        if final["threshold"] is not None
        else ""
    )
    return (
        f"The model is an ensemble ({final['checkpoint']}): the mean of the calibrated "
        f"probabilities of the {plural(len(final['members']), 'outer model')}. Each outer model "
        f"has the configuration that its own search chose and its own calibration; no search on "
        f"all rows was made.{decision}"
    )


def refitted_words(numbers: Results) -> str:
    """Sentence on how the delivered model was trained."""
    if made_model(numbers)["made"] == "folds":
        return _folds_words(numbers)
    epochs = plural(int(made_model(numbers)["epochs"]), "epoch")
    networks = int(numbers["protocol"]["networks"])
    mean = f"; it is the mean of {networks} networks with different seeds" if networks > 1 else ""
    return f"The model was refitted on all rows for {epochs}{mean}."


def _folds_words(numbers: Results) -> str:
    """Sentence on a model that is the mean of the inner folds' networks."""
    protocol = numbers["protocol"]
    epochs, networks = int(made_model(numbers)["epochs"]), int(protocol["networks"])
    nested = not is_biased(protocol)
    folds = int(protocol["inner_folds" if nested else "outer_folds"])
    each = f" ({networks} of each fold, with different seeds)" if networks > 1 else ""
    return (
        f"The model is the mean of {plural(folds * networks, 'network')}{each}: those that the "
        f"{'inner ' if nested else ''}folds of all rows trained for {plural(epochs, 'epoch')}, "
        f"each on {100 * (1 - 1 / folds):.0f} % of the patients. No network was trained on "
        "all of them."
    )


def _expected_performance(numbers: Results) -> str:
    if is_biased(numbers["protocol"]):
        return "Its expected performance is unknown: no row was held out from the search."
    if made_model(numbers)["made"] == "ensemble":
        return procedure_sentence(numbers)
    return (
        "Its expected performance is the performance of the whole procedure that the outer folds "
        "measured. "
        f"{procedure_sentence(numbers)}"
    )
