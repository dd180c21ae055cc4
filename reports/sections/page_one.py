"""First page of a report: five lines that answer a reader's first questions, then the cautions."""

from __future__ import annotations

from collections.abc import Iterator

from outerfold.reports.blocks import Block, Paragraph
from outerfold.reports.results.fold_entries import FAR_SLOPE
from outerfold.reports.results.level_entries import leading_level
from outerfold.reports.schema import Entry, Interval, Overall, PerClass, Results
from outerfold.reports.sections.fold_table import leading_folds, odd_fold_lines
from outerfold.reports.sections.level_tables import (
    headline_value,
    leading_entries,
    leading_scores,
    other_level_lines,
)
from outerfold.reports.sections.tables import fold_range
from outerfold.reports.wording import (
    is_biased,
    metric_name,
    number,
    plural,
    sample_size,
    sentence_estimate,
    value,
)

RULES = {
    "prevalence": "the share of positive training rows",
    "youden": "the largest sum of sensitivity and specificity on training rows",
    "sensitivity": "the highest one with a sensitivity of {target} on training rows",
    "specificity": "the lowest one with a specificity of {target} on training rows",
}
"""Rules that choose a threshold, in words."""


def headline(numbers: Results) -> Iterator[Block]:
    """The five lines, and the run's own cautions below them."""
    if leading_entries(numbers).get(str(numbers["protocol"]["metric"])) is None:
        yield Paragraph("No outer fold has finished; there is no performance to report yet.")
        return
    for line in (
        question_line(numbers),
        ranking_line(numbers),
        decision_line(numbers),
        certainty_line(numbers),
        open_line(numbers),
    ):
        yield Paragraph(line)
    for line in caution_lines(numbers):
        yield Paragraph(line, strong=True)


def caution_lines(numbers: Results) -> tuple[str, ...]:
    """Sentences on what is odd of this run; none for a healthy one."""
    return (
        *_extended_lines(numbers),
        *odd_fold_lines(numbers),
        *_miscalibrated_lines(numbers),
        *_uninformed_lines(numbers),
    )


def _extended_lines(numbers: Results) -> tuple[str, ...]:
    """Sentence on a search that went on after its results were seen."""
    found = numbers["protocol"].get("extended")
    if not found:
        return ()
    steps = ", then ".join(
        str(count) for count in (*found["trials"], numbers["protocol"]["trials"])
    )
    return (
        f"The search was extended {plural(int(found['times']), 'time')} after test results were "
        f"seen (trials of each study: {steps}). Whoever stops when a result pleases gets results "
        "that are too good.",
    )


def question_line(numbers: Results) -> str:
    """What is told apart, and how many patients and images of each class were tested."""
    tested = numbers["tested"]
    names = list(numbers["dataset"]["classes"])
    patients, images = tested["patients_by_class"], tested["images_by_class"]
    if len(names) == 2:
        asked = f"{names[1]} against {names[0]}"
        counts = (
            f"{names[1]} in {_share(patients[names[1]], tested['patients'], 'patients')} and "
            f"{_share(images[names[1]], tested['images'], 'images')}"
        )
    else:
        asked = f"which of {len(names)} classes"
        counts = "; ".join(
            f"{name} in {plural(patients[name], 'patient')} and {plural(images[name], 'image')}"
            for name in names
        )
    return (
        f"Question: {asked}, in {numbers['dataset']['name']}. Tested: "
        f"{sample_size(numbers, 'tested')}; {counts}.{_mixed_words(numbers)}"
    )


def ranking_line(numbers: Results) -> str:
    """The searched metric with its interval and the range over folds, at every level."""
    metric = str(numbers["protocol"]["metric"])
    entries = leading_entries(numbers)
    parts = [f"{headline_value(numbers)}.{_range_words(entries[metric])}"]
    if metric != "roc_auc" and "roc_auc" in entries:
        name = metric_name("roc_auc", len(numbers["dataset"]["classes"]))
        parts.append(f"{name} {sentence_estimate(entries['roc_auc'])}.")
    return " ".join(("Result:", *parts, *other_level_lines(numbers)))


def decision_line(numbers: Results) -> str:
    """Sensitivity, specificity and predictive values with counts, or the recall of each class."""
    level = _level(numbers)
    found = leading_scores(numbers)
    names, counts = list(numbers["dataset"]["classes"]), found["confusion"]
    if len(names) > 2:
        return _recall_line(names, counts, found["per_class"], level)
    (tn, fp), (fn, tp) = counts
    rows = (
        ("sensitivity", found["overall"]["sensitivity"], tp, tp + fn),
        ("specificity", found["overall"]["specificity"], tn, tn + fp),
        ("PPV", found["per_class"][names[1]]["precision"], tp, tp + fp),
        ("NPV", found["per_class"][names[0]]["precision"], tn, tn + fn),
    )
    said = ", ".join(f"{name} {value(e)} [{n:,} of {of:,}]" for name, e, n, of in rows)
    return (
        f"Decisions by {level}, at the threshold that each fold chose before its test "
        f"({_threshold_words(numbers)}): {said}.{_accuracy_words(found['overall'])}"
        f"{_repeat_words(numbers)}"
    )


def certainty_line(numbers: Results) -> str:
    """Calibration over folds and whether a fold is odd."""
    entries, (_, folds) = leading_entries(numbers), leading_folds(numbers)
    parts = [f"expected calibration error {value(entries['ece'])}"]
    slopes = [f["slope"]["estimate"] for f in folds if f["slope"]["estimate"] is not None]
    if slopes:
        low, high = number(min(slopes)), number(max(slopes))
        whole = _whole_slope(numbers)
        said = "" if whole is None else f"{value(whole)}, "
        parts.append(f"calibration slope {said}by fold from {low} to {high} (1 is ideal)")
    brier = entries["brier"]
    if brier.get("no_information") is not None:
        parts.append(
            f"Brier score {value(brier)}, where the training prevalence alone has "
            f"{number(brier['no_information'])}"
        )
    odd = [fold["fold"] for fold in folds if fold["odd"]]
    said = f"odd: {', '.join(odd)} (of {len(folds)} folds), see below" if odd else "no fold is odd"
    return f"How sure: {'; '.join(parts)}; {said}."


def open_line(numbers: Results) -> str:
    """What this run did not show."""
    parts = ["other hospitals, scanners or populations", "errors of the labels"]
    if is_biased(numbers["protocol"]):
        parts.insert(0, "performance on rows that chose nothing")
    else:
        parts.append("the delivered model itself, which no row tests")
    compared = numbers["questions"] is not None and numbers["questions"]["reader"] is not None
    parts += [*(() if compared else ("a comparison with readers",)), "benefit to patients"]
    if not numbers["dataset"].get("patients_known", True):
        parts.append("that no patient is on both sides of a split")
    return f"Not shown: {', '.join(parts)}."


def _level(numbers: Results) -> str:
    level: str = leading_level(numbers["protocol"])
    return level if level in numbers["levels"] else "image"


def _share(count: int, total: int, noun: str) -> str:
    return f"{count:,} of {total:,} {noun} ({100 * count / max(total, 1):.0f} %)"


def _mixed_words(numbers: Results) -> str:
    """Sentence on patients with images of several classes; empty without such."""
    found = numbers["levels"].get("patient")
    if not found or not found["mixed"]:
        return ""
    last = list(numbers["dataset"]["classes"])[-1]
    counted = f"as {last}" if len(numbers["dataset"]["classes"]) == 2 else "in the last of them"
    return (
        f" {found['mixed']:,} of {found['patients']:,} patients have images of several classes and "
        f"count {counted} by patient, while by image each of their images counts in its own "
        "class, so results by image and by patient answer different questions."
    )


def _range_words(entry: Entry) -> str:
    if entry["fold_range"] is None:
        return ""
    folds = sum(score is not None for score in entry["by_fold"])
    return f" Over {folds} folds: {fold_range(entry).replace(' (', ', SD ').rstrip(')')}."


def _threshold_words(numbers: Results) -> str:
    protocol, (_, folds) = numbers["protocol"], leading_folds(numbers)
    chosen = [fold["threshold"] for fold in folds if fold["threshold"] is not None]
    rule = RULES[str(protocol.get("threshold", "youden"))]
    words = rule.format(target=protocol.get("threshold_target", 0.9))
    return f"{words}; {number(min(chosen))} to {number(max(chosen))}" if chosen else words


def _accuracy_words(entries: Overall) -> str:
    found = entries["accuracy"]
    if found.get("no_information") is None:
        return ""
    constant = number(found["no_information"])
    return f" Accuracy {value(found)}, where always answering the commonest class has {constant}."


def _recall_line(names: list[str], counts: list[list[int]], per_class: PerClass, level: str) -> str:
    said = ", ".join(
        f"{name} {value(per_class[name]['recall'])} [{row[at]:,} of {sum(row):,}]"
        for at, (name, row) in enumerate(zip(names, counts, strict=True))
    )
    shares = [row[at] / max(sum(row), 1) for at, row in enumerate(counts)]
    worst = shares.index(min(shares))
    missed, total = sum(counts[worst]) - counts[worst][worst], sum(counts[worst])
    return (
        f"Decisions by {level}, for the class with the largest probability: recall of {said}. "
        f"Least found is {names[worst]}: {missed:,} of {total:,} are missed."
    )


def _repeat_words(numbers: Results) -> str:
    repeats = int(numbers["protocol"]["repeats"])
    return f" Counts are over {repeats} repeats." if repeats > 1 else ""


def _whole_slope(numbers: Results) -> Interval | None:
    """Calibration slope over all folds at the level of the headline."""
    questions = numbers["questions"]
    found = None if questions is None else questions["levels"][_level(numbers)]["calibration"]
    return None if found is None or found["slope"]["estimate"] is None else found["slope"]


def _miscalibrated_lines(numbers: Results) -> Iterator[str]:
    """A sentence where the probabilities of all folds are far off, by more than chance."""
    slope = _whole_slope(numbers)
    if slope is None or slope["estimate"] is None or slope["low"] is None or slope["high"] is None:
        return
    moderate = slope["estimate"] > FAR_SLOPE and slope["low"] > 1
    if moderate or (slope["estimate"] < 1 / FAR_SLOPE and slope["high"] < 1):
        yield (
            f"The calibration slope over all folds is {value(slope)}: the probabilities are too "
            f"{'moderate' if moderate else 'extreme'} throughout."
        )


def _uninformed_lines(numbers: Results) -> Iterator[str]:
    """A sentence where the Brier score is worse than that of the constant training prevalence."""
    entry = leading_entries(numbers).get("brier")
    constant = None if entry is None else entry.get("no_information")
    if entry is None or entry["estimate"] is None or constant is None:
        return
    if entry["estimate"] > constant:
        own, other = number(entry["estimate"], 3), number(constant, 3)
        yield (
            f"The Brier score, {own}, is worse than {other}, that of stating the training "
            "prevalence for everyone: the probabilities do not inform."
        )
