"""What each search chose, how far apart the folds' choices lie, and choices at an edge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from outerfold.reports.blocks import Table
from outerfold.reports.journal_style import printed_style
from outerfold.reports.schema import Results, StabilityEntry
from outerfold.reports.wording import searched_studies, stamped

EPOCHS = "epochs"
"""Row of the number of epochs, which is chosen from 1 to that of the run's options."""
EDGE = 0.05
"""Share of a range from whose end a chosen value counts as at its edge. A tenth of random values
does."""
CLEAR = 2.0
"""Standard errors by which a mean must lie below that of random values to be called closer."""


def parameters_table(numbers: Results) -> Table:
    """Table of the values that each search chose, one column a study, and how far apart they lie.

    The columns of what could be drawn and of the distance stand where these are known.
    """
    space, stability = numbers["provenance"].get("search_space", {}), numbers["stability"]
    most = {"low": 1, "high": numbers["protocol"].get(EPOCHS, 1), "log": False}
    drawn = {**space, EPOCHS: most}
    rows = tuple(
        (
            name.replace("_", " "),
            *((_drawn(drawn.get(name)),) if space else ()),
            *map(setting_text, chosen),
            *((_apart(stability.get(name)),) if stability else ()),
        )
        for name, chosen in _chosen_values(numbers)
    )
    header = (
        "Parameter",
        *(("Searched",) if space else ()),
        *(name for name, _ in searched_studies(numbers)),
        *(("Apart",) if stability else ()),
    )
    shift = ", the shift of the log-odds" if _two_classes(numbers) else ""
    notes = (
        "A dash means that the parameter is not part of that configuration. The temperature"
        f"{shift} and the threshold were fitted on out-of-fold probabilities of training rows.",
        *((_APART,) if stability else ()),
        *edge_notes(numbers),
    )
    return Table(stamped("Chosen by each search", numbers), header, rows, notes)


def _chosen_values(numbers: Results) -> Iterator[tuple[str, list[object]]]:
    """Name of each row, and its value in each study."""
    studies = [study for _, study in searched_studies(numbers)]
    for name in dict.fromkeys(key for study in studies for key in study["params"]):
        yield name, [study["params"].get(name) for study in studies]
    yield EPOCHS, [study["epochs"] for study in studies]
    yield "temperature", [study["temperature"] for study in studies]
    if _two_classes(numbers):
        yield "shift", [study["shift"] for study in studies]
    yield "threshold", [study["threshold"] for study in studies]


def _two_classes(numbers: Results) -> bool:
    return len(numbers["dataset"]["classes"]) == 2


_APART = (
    "Apart: distance between the smallest and the largest value of the outer folds as a share of "
    "the searched range (of its logarithm where values were drawn on a logarithmic scale); for a "
    "parameter with listed values, how many outer folds chose the commonest one."
)


def stability_words(numbers: Results) -> str:
    """Sentences on how far apart the outer folds' choices lie; empty where that is not known.

    Independent values that are uniform on a range have a mean distance of (k - 1) / (k + 1) of it
    between the smallest and the largest of k, with variance 2 (k - 1) / ((k + 1)^2 (k + 2)).
    """
    found = {
        name: (one["folds"], one["apart"])
        for name, one in numbers["stability"].items()
        if one["apart"] is not None and one["folds"] > 1
    }
    if not found:
        return ""
    folds, distances = max(k for k, _ in found.values()), [apart for _, apart in found.values()]
    mean = sum(distances) / len(distances)
    random = sum((k - 1) / (k + 1) for k, _ in found.values()) / len(found)
    variance = sum(2 * (k - 1) / ((k + 1) ** 2 * (k + 2)) for k, _ in found.values())
    error = math.sqrt(variance) / len(found)
    text = (
        f"The values that the {folds} outer folds chose lie {100 * mean:.0f} % of the searched "
        f"range apart on average (mean of {len(found)} numbers; random values would lie "
        f"{100 * random:.0f} % apart). "
    )
    if mean < random - CLEAR * error:
        return text + "The searches agreed more than chance would." + _same_start(numbers)
    return text + (
        "The searches did not agree more than chance would: within these ranges the values matter "
        "little, or the searches were too short to tell which are better."
    )


def _same_start(numbers: Results) -> str:
    """Sentence on folds that chose the default; empty where none or one did."""
    outer = [fold["fold"] for fold in numbers["outer"]]
    first = [name for name in outer if name in numbers["worth"]["chosen"]]
    if len(first) < 2:
        return ""
    return (
        f" But {len(first)} of {len(outer)} of them chose the default configuration, which is the "
        "same in every fold, and that brings the values together."
    )


def edge_notes(numbers: Results) -> tuple[str, ...]:
    """Sentences on chosen values at an edge of their range, which may lie beyond it."""
    space = numbers["provenance"].get("search_space", {})
    most = numbers["protocol"].get("epochs")
    last, edges = [], dict[str, list[str]]()
    for name, study in searched_studies(numbers):
        if most is not None and study["epochs"] >= int(most):
            last.append(name)
        for key, chosen in study["params"].items():
            if (end := _edge(space.get(key, {}), chosen)) is not None:
                edges.setdefault(f"{key.replace('_', ' ')} at {end:g}", []).append(name)
    return tuple(map(printed_style().decimals, _edge_sentences(last, most, edges)))


def _edge_sentences(last: list[str], most: object, edges: Mapping[str, list[str]]) -> Iterator[str]:
    if last:
        yield (
            f"Edge: {', '.join(last)} chose the largest number of epochs ({most}); more epochs may "
            "be better."
        )
    if edges:
        each = "; ".join(f"{what} ({', '.join(names)})" for what, names in edges.items())
        yield (
            f"Edge: within {100 * EDGE:.0f} % of an end of its range lies {each}. A better value "
            "may lie beyond it; one in ten random values would lie so."
        )


def _edge(drawn: Mapping[str, Any], chosen: object) -> float | None:
    """End of a range that a chosen number is near, within ``EDGE`` of the range; else None."""
    if "low" not in drawn or not isinstance(chosen, int | float) or drawn["low"] >= drawn["high"]:
        return None
    scale = math.log if drawn.get("log") else float
    low, high, at = scale(drawn["low"]), scale(drawn["high"]), scale(chosen)
    for end, place in ((drawn["low"], low), (drawn["high"], high)):
        if abs(at - place) <= EDGE * (high - low):
            return float(end)
    return None


def _drawn(one: Mapping[str, Any] | None) -> str:
    """What a parameter could be, in the width of a column."""
    if one is None:
        return "–"
    if "values" in one:
        return f"{len(one['values'])} values"
    ends = printed_style().decimals(f"{one['low']:g}–{one['high']:g}")
    return f"{ends}{' (log)' if one['log'] else ''}"


def _apart(one: StabilityEntry | None) -> str:
    if one is None or one["folds"] < 2:
        return "–"
    if one["apart"] is None:
        return f"{one['agree']} of {one['folds']}"
    return f"{100 * one['apart']:.0f} %"


def setting_text(chosen: object) -> str:
    """Value of a parameter as it is printed; a dash for none."""
    if chosen is None:
        return "–"
    if isinstance(chosen, bool):
        return "on" if chosen else "off"
    if not isinstance(chosen, float):
        return str(chosen)
    return printed_style().decimals(f"{'−' if chosen < 0 else ''}{abs(chosen):.3g}")
