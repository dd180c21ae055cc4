"""Methods section of a paper, written from the run's configuration, with its references."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from outerfold.reports.journal_style import printed_style
from outerfold.reports.paper.references import REFERENCES
from outerfold.reports.schema import Results
from outerfold.reports.wording import (
    is_biased,
    metric_phrase,
    plural,
    sample_size,
    searched_studies,
)

PRUNERS = {
    "halving": "Weak trials were stopped early by successive halving [jamieson2016].",
    "hyperband": "Weak trials were stopped early by Hyperband [li2018].",
    "median": "Trials below the median of earlier trials at the same epoch were stopped early.",
    "paired": "Trials that were behind the best trial by more than a paired standard error over "
    "the inner folds were stopped early.",
    "none": "No trial was stopped early.",
}
RULES = {
    "prevalence": "the share of positive rows among the training rows",
    "youden": "the one with the largest sum of sensitivity and specificity [youden1950]",
    "sensitivity": "the highest one with a sensitivity of {target}",
    "specificity": "the lowest one with a specificity of {target}",
}
TO_COMPLETE = (
    "[Author to complete: design, sites and dates, eligibility, reference standard and who applied "
    "it, blinding, ethics and consent, funding.]"
)
_CITED = re.compile(r"\[([a-z]+\d{4})\]")


def methods_paragraphs(numbers: Results) -> list[str]:
    """Paragraphs of the methods section, with numbered references."""
    texts = [text for text in _paragraphs(numbers) if text]
    order = _order(texts)
    return [_CITED.sub(lambda found: f"[{order[found.group(1)]}]", text) for text in texts]


def reference_lines(numbers: Results) -> list[str]:
    """Numbered references in the order in which the methods section cites them."""
    order = _order(list(_paragraphs(numbers)))
    return [f"{number}. {REFERENCES[key].line}" for key, number in order.items()]


def methods_text(numbers: Results) -> str:
    """Contents of ``methods.txt``: the section and its references."""
    parts = ["Methods", *methods_paragraphs(numbers), "References", *reference_lines(numbers)]
    return "\n\n".join(parts) + "\n"


def bibliography(numbers: Results) -> str:
    """Contents of ``references.bib``: the works that this run's methods section cites."""
    order = _order(list(_paragraphs(numbers)))
    return "\n".join(REFERENCES[key].bibtex(key) for key in order)


def _order(texts: list[str]) -> dict[str, int]:
    keys = dict.fromkeys(key for text in texts for key in _CITED.findall(text))
    return {key: number for number, key in enumerate(keys, start=1)}


def _paragraphs(numbers: Results) -> Iterator[str]:
    yield data_words(numbers)
    yield model_words(numbers)
    yield split_words(numbers)
    yield search_words(numbers)
    yield decision_words(numbers)
    yield statistics_words(numbers)
    yield software_words(numbers)
    yield TO_COMPLETE


def data_words(numbers: Results) -> str:
    """Sentence on the data set and its classes."""
    data = numbers["dataset"]
    classes = ", ".join(
        f"{name} ({plural(count, 'image')}, {plural(data['patients_by_class'][name], 'patient')})"
        for name, count in data["classes"].items()
    )
    made = " A program made these images." if numbers["synthetic_data"] else ""
    return f"Data. {data['name']}: {sample_size(numbers)}; classes: {classes}.{made}"


def model_words(numbers: Results) -> str:
    """Sentences on the encoder, what was trained of it and with what, and the columns."""
    p = numbers["protocol"]
    blocks = p["trainable_blocks"]
    part = (
        "was trained as a whole"
        if blocks == "all"
        else f"had {plural(int(blocks), 'trained block')}"
        if blocks
        else "was frozen"
    )
    decoupled = numbers["task"] == "multimodal"
    optimiser = "AdamW [loshchilov2019]" if decoupled else "Adam [kingma2015] with an L2 penalty"
    networks = int(p.get("networks", 1))
    mean = f" Predictions are means of {networks} networks." if networks > 1 else ""
    views = int(p.get("tta", 0))
    tta = f" Probabilities are means over each image and {views} augmented views." if views else ""
    known = numbers["task"] in ("multimodal", "dbt")
    trained = f" A classification head on it was trained with {optimiser}." if known else ""
    columns = column_words(numbers)
    return f"Model. The image encoder {p['encoder']} {part}.{trained}{mean}{tta}{columns}"


def column_words(numbers: Results) -> str:
    """Sentences on the clinical columns, after a space; empty where there are none."""
    names = [column["name"] for column in numbers["dataset"]["columns"]]
    if not names:
        return ""
    return (
        f" Clinical columns: {', '.join(names)}. Missing values were replaced by the median (the "
        "most frequent value of categories) of the training rows alone and marked to the model."
    )


def split_words(numbers: Results) -> str:
    """Sentences on folds and the model of an outer fold."""
    p = numbers["protocol"]
    if is_biased(p):
        return (
            f"Validation. {p['outer_folds']} folds, grouped by patient and stratified by class, "
            "both chose the configuration and scored it; the scores are biased upwards [varma2006]."
        )
    repeats = int(p["repeats"])
    times = f", repeated {repeats} times" if repeats > 1 else ""
    final = {
        "folds": "the mean of the networks of its inner folds",
        "ensemble": "refitted on its training rows, and the outer models are delivered as their "
        "mean",
    }.get(str(p.get("final", "refit")), "refitted on all its training rows")
    return (
        f"Validation. Nested cross-validation [varma2006], grouped by patient and stratified by "
        f"class: {p['outer_folds']} outer folds{times}, each with {p['inner_folds']} inner folds "
        f"in its training rows and a search of its own. The model of an outer fold was {final}; it "
        f"scored its test rows once. Seed {p['seed']}."
    )


def search_words(numbers: Results) -> str:
    """Sentences on sampler, metric, pruner and search space."""
    p = numbers["protocol"]
    metric = metric_phrase(str(p["metric"]), len(numbers["dataset"]["classes"]))
    pruner = PRUNERS.get(str(p.get("pruner")), "")
    parts = [
        f"Search. Each search had {plural(int(p['trials']), 'trial')} of a tree-structured Parzen "
        f"estimator [bergstra2011] in Optuna [akiba2019] and chose by {metric} on its inner folds.",
        "The first trial was a default configuration that was fixed beforehand."
        if numbers["worth"]["params"]
        else "",
        f"A trial had at most {plural(int(p['epochs']), 'epoch')}." if "epochs" in p else "",
        pruner,
        space_words(numbers),
    ]
    return " ".join(filter(None, parts))


def space_words(numbers: Results) -> str:
    """Sentence on the search space: each parameter with what could be drawn."""
    space = numbers["provenance"].get("search_space")
    if not space:
        return "The search space was not kept by the version that made the run."
    said = "; ".join(f"{name.replace('_', ' ')} {_drawn(one)}" for name, one in space.items())
    return printed_style().decimals(f"Searched were: {said}.")


def _drawn(one: Mapping[str, Any]) -> str:
    if "values" in one:
        return "from " + ", ".join(str(value).lower() for value in one["values"])
    scale = " (logarithmic)" if one["log"] else ""
    step = f" in steps of {one['step']:g}" if one.get("step") else ""
    return f"from {one['low']:g} to {one['high']:g}{step}{scale}"


def decision_words(numbers: Results) -> str:
    """Sentence on calibration and threshold."""
    p, scored = numbers["protocol"], _decided_on(numbers)
    if len(numbers["dataset"]["classes"]) > 2:
        return (
            "Calibration and decisions. Probabilities were calibrated by a temperature [guo2017] "
            f"fitted on {scored}. The largest probability decides."
        )
    rule = RULES[str(p.get("threshold", "youden"))].format(target=p.get("threshold_target", 0.9))
    return (
        "Calibration and decisions. Probabilities were calibrated by a slope and an intercept of "
        f"the log-odds [platt1999], and the decision threshold was chosen ({rule}), both on "
        f"{scored}.{'' if is_biased(p) else ' Test rows had no part in either.'}"
    )


def _decided_on(numbers: Results) -> str:
    """Rows and scores that calibration and threshold were fitted on."""
    if is_biased(numbers["protocol"]):
        return "the out-of-fold rows that are reported"
    studies = searched_studies(numbers)
    once = [name for name, study in studies if study["scores_a_row"] == 1]
    if len(once) == len(studies):
        return "out-of-fold rows of the inner folds alone"
    but = f" (in {', '.join(once)} in the inner folds alone)" if once else ""
    return (
        "out-of-fold scores of training rows alone. Each training row was scored twice by networks "
        "that had not seen it, once in the inner folds and once in a second division of the "
        f"training patients, and the mean of both scores was taken{but}"
    )


def statistics_words(numbers: Results) -> str:
    """Sentences on estimates and intervals."""
    entries = numbers["overall"]
    level = f"{100 * entries['roc_auc']['level']:.0f}" if "roc_auc" in entries else "95"
    measured = any("measured variation" in entry["method"] for entry in entries.values())
    widened = (
        "widened by the measured variation of models trained without single inner folds"
        if measured
        else "widened by an empirical constant for the variation of training"
    )
    return (
        f"Statistics. Rank metrics are means over outer folds; the others are of pooled test rows. "
        f"Confidence intervals ({level} %) are from a jackknife over patients [efron1981], "
        f"{widened}; the corrected t interval [nadeau2003] is given for comparison. Calibration "
        f"slopes [vancalster2019] are of single folds. Results by patient combine a patient's "
        f"images by {_aggregate(numbers)}.{_answer_words(numbers)}"
    )


def _answer_words(numbers: Results) -> str:
    """Sentences on what the report answers besides its metrics; empty where it answers nothing."""
    questions = numbers["questions"]
    if questions is None:
        return ""
    answers = questions["levels"]["image"]
    said = [
        "Calibration over folds is the slope of one logistic model with an intercept for each "
        "fold, observed over expected positives, and the scaled Brier score [steyerberg2010]. Net "
        "benefit is that of a decision curve [vickers2006]."
        if answers["calibration"] is not None
        else "",
        "Predictive values at a stated prevalence follow from the likelihood ratios."
        if answers["at_prevalence"] is not None
        else "",
        "Agreement in the order of the classes is kappa with quadratic weights [cohen1968]."
        if answers["agreement"] is not None
        else "",
        "Subgroups are exploratory: their ROC-AUC is the share of pairs within a fold that are in "
        "the right order, and differences have intervals and no test."
        if questions["subgroups"]
        else "",
        f"A reader's readings (column {questions['reader']['column']}, positive at "
        f"{questions['reader']['positive']}) are compared by paired differences."
        if questions["reader"] is not None
        else "",
    ]
    return "".join(f" {one}" for one in said if one)


def _aggregate(numbers: Results) -> str:
    words = {"mean": "the mean probability", "max": "the largest probability"}
    return words.get(str(numbers["protocol"].get("aggregate", "mean")), "noisy-or")


def software_words(numbers: Results) -> str:
    """Sentence on versions."""
    made = numbers["provenance"]
    versions = ", ".join(
        f"{name} {found}" for name, found in made.get("versions", {}).items() if found != "absent"
    )
    commit = f", commit {made['git']}" if made.get("git", "unknown") != "unknown" else ""
    return f"Software. outerfold{commit}{'; ' if versions else ''}{versions}."
