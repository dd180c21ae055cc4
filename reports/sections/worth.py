"""What the search was worth: the chosen configuration minus the default configuration, in words."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.objectives.metrics import METRICS
from outerfold.reports.blocks import Block, Heading, Paragraph
from outerfold.reports.paper.chosen import setting_text
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.schema import Entry, Results
from outerfold.reports.sections.comparison import NO_CLEAR_DIFFERENCE, clearly_better
from outerfold.reports.wording import metric_phrase, number

VERDICTS = {
    True: "better than the default configuration",
    False: "worse than the default configuration",
    None: f"{NO_CLEAR_DIFFERENCE} from the default configuration",
}
WHAT_DEFAULT_MEANS = (
    "The default configuration was fixed beforehand. It is the first trial of every search and is "
    "never pruned. Where the search did not choose it, its model was made on the same "
    "rows as the chosen one, with as many networks and a threshold of its own, after everything "
    "was chosen; its test score chose nothing. The difference is paired: the same patient is left "
    "out of both."
)


def worth_section(numbers: Results) -> Iterator[Block]:
    """Section on what the search was worth."""
    yield Heading("What the search was worth")
    yield Paragraph(worth_sentence(numbers))
    worth = numbers["worth"]
    if worth["reason"] is None:
        values = ", ".join(
            f"{name.replace('_', ' ')} {setting_text(value)}"
            for name, value in worth["params"].items()
        )
        yield Paragraph(f"{WHAT_DEFAULT_MEANS}{_chosen_words(numbers)} Its values: {values}.")


def worth_sentence(numbers: Results) -> str:
    """Sentence on the gain in the searched metric, such as ``The search gained 0.012 ROC-AUC``."""
    worth = numbers["worth"]
    if worth["reason"] is not None:
        return f"What the search was worth is not known: {worth['reason']}."
    metric = str(worth["metric"])
    name = metric_phrase(metric, len(numbers["dataset"]["classes"]))
    if metric not in worth["overall"]:
        return f"What the search was worth is not known: {name} is not reported of these classes."
    change = worth["overall"][metric]["difference"]
    if change["estimate"] is None:
        return f"What the search was worth is not known: {change['reason']}."
    if len(worth["chosen"]) == len(numbers["outer"]):
        return (
            "The search gained nothing: it chose the default configuration in every outer fold, so "
            f"the difference in {name} is 0 and has no interval."
        )
    if leading_level(numbers["protocol"]) != "image":
        name += " by image"
    return _gain_sentence(change, metric, name)


def _gain_sentence(change: Entry, metric: str, name: str) -> str:
    """Sentence on a difference; its sign is turned where a metric that is minimised was lowered."""
    rises, estimate = METRICS[metric].direction == "maximize", change["estimate"] or 0.0
    lowered = not rises and estimate <= 0
    sign = -1 if lowered else 1
    size = number(sign * estimate, 3)
    if rises and estimate >= 0:
        gained = f"gained {size} {name}"
    else:
        gained = f"{'lowered' if lowered else 'changed'} the {name} by {size}"
    if change["low"] is None or change["high"] is None:
        return (
            f"The search {gained} against the default configuration (no interval: "
            f"{change['reason']})."
        )
    level = f"{100 * float(change['level']):.0f}"
    low, high = sorted((sign * change["low"], sign * change["high"]))
    verdict = VERDICTS[clearly_better(change, metric)]
    return f"The search {gained} ({level} % CI {number(low, 3)} to {number(high, 3)}): {verdict}."


def _chosen_words(numbers: Results) -> str:
    worth = numbers["worth"]
    folds = f"{len(worth['chosen'])} of {len(numbers['outer'])} outer folds"
    final: dict[bool | None, str] = {
        True: ", and for the delivered model",
        False: ", and not for the delivered model",
    }
    return f" The search chose it in {folds}{final.get(worth['final_chosen'], '')}."
