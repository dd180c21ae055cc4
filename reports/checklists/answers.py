"""Answers that a run can give to the items of reporting checklists.

Each function takes the contents of ``results.json`` and returns sentences; it returns an empty text
where the run does not know, so that nothing is invented. Above it stand the keys that it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from outerfold.reports.chapters.common import leading_answers
from outerfold.reports.checklists.item import known
from outerfold.reports.paper.methods import (
    column_words,
    data_words,
    decision_words,
    model_words,
    search_words,
    software_words,
    split_words,
    statistics_words,
)
from outerfold.reports.schema import Results
from outerfold.reports.sections.page_one import (
    caution_lines,
    certainty_line,
    decision_line,
    question_line,
    ranking_line,
)
from outerfold.reports.wording import (
    RESEARCH_ONLY,
    coverage_sentence,
    finished_folds,
    is_biased,
    metric_phrase,
    plural,
    value,
)


@known("dataset.classes", "dataset.columns")
def kind_of_study(numbers: Results) -> str:
    """Development and internal evaluation of a model of images."""
    classes = ", ".join(numbers["dataset"]["classes"])
    columns = numbers["dataset"].get("columns", [])
    of = "images and clinical columns" if columns else "images"
    return (
        f"The study develops a model of {of} (deep learning) and evaluates it by cross-validation; "
        f"the outcome is the class of an image: {classes}."
    )


def _plain(paragraph: str) -> str:
    """A paragraph of the methods without its title and its citations."""
    return re.sub(r" \[[a-z]+\d{4}\]", "", paragraph.partition(". ")[2])


@known("overall", "confusion", "tested")
def headline(numbers: Results) -> str:
    """First lines of the report."""
    if not numbers["overall"]:
        return ""
    return " ".join(line(numbers) for line in (question_line, ranking_line, decision_line))


@known("protocol.metric")
def objectives(numbers: Results) -> str:
    """What was estimated."""
    metric = metric_phrase(str(numbers["protocol"]["metric"]), len(numbers["dataset"]["classes"]))
    return (
        f"To choose a configuration by {metric} and to estimate, with intervals over patients, how "
        "a model that is made this way performs on patients that had no part in any choice."
    )


@known("dataset.name", "dataset.classes", "dataset.fingerprint")
def data(numbers: Results) -> str:
    """The data set, by name, numbers and fingerprint."""
    fingerprint = str(numbers["dataset"]["fingerprint"])[:12]
    told = _plain(data_words(numbers))
    return f"{told} Fingerprint of ids, labels, columns and image files: {fingerprint}."


@known("protocol.fit", "protocol.crop", "dataset.assumptions")
def preparation(numbers: Results) -> str:
    """How images were read, framed and checked."""
    p = numbers["protocol"]
    assumed = numbers["dataset"].get("assumptions", [])
    shape = {"pad": "padded to a square", "stretch": "stretched to a square"}.get(
        str(p.get("fit")), f"brought to a square by the rule {p.get('fit')}"
    )
    crop = {"none": "", "breast": ", after a crop to the breast"}.get(str(p.get("crop")), "")
    said = f" Assumptions: {'; '.join(assumed)}." if assumed else ""
    return (
        f"Each image was {shape}{crop}. An audit looked for unreadable and repeated images, "
        f"copies under several patients and columns that give the label away.{said}"
    )


@known("dataset.classes")
def outcome(numbers: Results) -> str:
    """The classes as the data name them; how they were assessed is for the author."""
    positive = list(numbers["dataset"]["classes"])
    told = f"The positive class is {positive[1]}. " if len(positive) == 2 else ""
    return f"{told}Labels are those of the data set, one an image."


@known("dataset.columns")
def predictors(numbers: Results) -> str:
    """The image, and the columns by name."""
    names = [column["name"] for column in numbers["dataset"].get("columns", [])]
    also = f", and the columns {', '.join(names)}" if names else "; no clinical column was used"
    return f"The predictors are the image{also}. The run left none of them out."


@known("dataset.columns")
def missing(numbers: Results) -> str:
    """How missing values were filled, and how many there were."""
    columns = numbers["dataset"].get("columns", [])
    if not columns:
        return "No clinical column was used, so no value was filled."
    counts = "; ".join(
        f"{column['name']} {sum(column['missing'].values()):,} of "
        f"{sum(column['patients'].values()):,} patients"
        for column in columns
    )
    return f"{column_words(numbers).strip()} Missing: {counts}."


@known("tested")
def sample(numbers: Results) -> str:
    """Numbers of patients; whether they suffice is not for a run to say."""
    tested = numbers["tested"]
    counts = ", ".join(f"{name} {n:,}" for name, n in tested["patients_by_class"].items())
    return (
        f"All patients of the data set were used: {tested['patients']:,} were tested ({counts}). "
        "The run made no calculation of a sample size; the intervals show what the size allows."
    )


@known("folds")
def clusters(numbers: Results) -> str:
    """Patients are the clusters; folds show how results differ."""
    return (
        "Images of one patient are a cluster: splits keep them together and intervals are over "
        "patients. Results of each fold are in the table by fold. Centres were not told apart."
    )


@known("outer.params.sampler", "protocol.threshold")
def imbalance(numbers: Results) -> str:
    """What was done about unequal classes."""
    chosen = sorted(
        {
            str(study["params"]["sampler"])
            for study in numbers["outer"]
            if "sampler" in study["params"]
        }
    )
    if not chosen:
        return ""
    return (
        f"Resampling of training rows was searched; the outer folds chose: {', '.join(chosen)}. "
        f"Validation and test rows were never resampled. {_plain(decision_words(numbers))}"
    )


@known("protocol.encoder", "protocol.tta")
def calculation(numbers: Results) -> str:
    """How a prediction is made."""
    return (
        f"{_plain(model_words(numbers))} The delivered model and its preprocessing are in the "
        "run's folder final/, and `outerfold predict` applies them to new images."
    )


@known("protocol.outer_folds", "outer")
def training_and_test(numbers: Results) -> str:
    """Differences between the sides of cross-validation."""
    return (
        "Development and evaluation are of the same data set: folds of it, stratified by class. "
        f"There is no external evaluation. Evaluated: {finished_folds(numbers)}."
    )


@known("protocol.outer_folds", "protocol.inner_folds", "dataset.patients_known")
def partitions(numbers: Results) -> str:
    """How rows were divided, and at which level the sides are apart."""
    known = numbers["dataset"].get("patients_known", True)
    level = (
        "Sides are apart by patient."
        if known
        else "Patients were not known, so that images of one patient may be on both sides."
    )
    return f"{_plain(split_words(numbers))} {level}"


@known("tested", "outer")
def flow(numbers: Results) -> str:
    """Patients and images that were tested, and what was set aside."""
    aside = numbers["dataset"].get("set_aside", 0)
    left = f" Set aside: {plural(aside, 'image')}." if aside else ""
    return f"{question_line(numbers)} Outer folds: {finished_folds(numbers)}.{left}"


@known("dataset.columns")
def characteristics(numbers: Results) -> str:
    """Where the table of the columns is."""
    if not numbers["dataset"].get("columns"):
        return ""
    return "See the table of the clinical columns by class, with missing values."


@known("outer.train_patients", "outer.test_patients")
def sizes(numbers: Results) -> str:
    """Patients and events of each analysis."""
    if not numbers["outer"]:
        return ""
    train = [study["train_patients"] for study in numbers["outer"]]
    test = [study["test_patients"] for study in numbers["outer"]]
    return (
        f"Each outer fold searched and trained on {_span(train)} patients and tested "
        f"{_span(test)}; numbers by class are in the table by fold."
    )


def _span(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


@known("final")
def specification(numbers: Results) -> str:
    """The delivered model."""
    final = numbers["final"]
    if final is None:
        return ""
    told = ", ".join(f"{name} {value}" for name, value in final.get("params", {}).items())
    chosen = f" Its configuration: {told}." if told else ""
    return f"The weights are {final['checkpoint']}, with a model card beside them.{chosen}"


@known("overall", "confusion", "tested", "questions")
def performance(numbers: Results) -> str:
    """Estimates with intervals."""
    if not numbers["overall"]:
        return ""
    lines = (ranking_line(numbers), decision_line(numbers), certainty_line(numbers))
    return " ".join((*lines, *_answers(numbers)))


def _answers(numbers: Results) -> Iterator[str]:
    """Calibration over folds, net benefit and subgroups, where the report has them."""
    questions = numbers["questions"]
    if questions is None:
        return
    _, found = leading_answers(numbers)
    if found is not None and found["calibration"] is not None:
        slope = value(found["calibration"]["slope"])
        yield f"Calibration slope over all folds: {slope}; net benefit is in its own table."
    for column in questions["subgroups"]:
        each = ", ".join(f"{one['name']} {value(one['roc_auc'])}" for one in column["groups"])
        yield f"ROC-AUC by {column['column']} (exploratory): {each}."


@known("overall.roc_auc.fold_range")
def heterogeneity(numbers: Results) -> str:
    """Range of results over folds."""
    entry = numbers["overall"].get("roc_auc")
    if entry is None or entry["fold_range"] is None:
        return ""
    low, high = entry["fold_range"]
    return f"ROC-AUC of single outer folds: {low:.2f} to {high:.2f}; see the table by fold."


@known("protocol.threshold")
def updating(numbers: Results) -> str:
    """Calibration is part of the model; nothing was changed after its test."""
    return f"{_plain(decision_words(numbers))} No model was changed after its test."


@known("protocol.protocol", "synthetic_data", "folds")
def limits(numbers: Results) -> str:
    """Standing limits, and the cautions of this run."""
    cautions = caution_lines(numbers) if numbers["overall"] else ()
    made = "The images are synthetic." if numbers["synthetic_data"] else ""
    return " ".join(filter(None, (coverage_sentence(numbers), made, *cautions, RESEARCH_ONLY)))


@known("dataset.columns")
def bad_input(numbers: Results) -> str:
    """What the delivered model does with an input that it cannot use."""
    filled = (
        " A missing clinical value is filled as in training and marked to the model."
        if numbers["dataset"].get("columns")
        else ""
    )
    return f"`outerfold predict` refuses an image that it cannot read, and names it.{filled}"


@known("protocol.threshold", "protocol.protocol")
def prespecified(numbers: Results) -> str:
    """Which analysis was fixed before results were seen."""
    if is_biased(numbers["protocol"]):
        return "The rows that gave the scores also chose the model; nothing was confirmed."
    return (
        f"{_plain(decision_words(numbers))} The configuration of the run (config.toml) was "
        "fixed before any test row was scored."
    )


@known("protocol.final", "protocol.networks")
def ensembling(numbers: Results) -> str:
    """Number and kind of networks whose mean is the model."""
    p = numbers["protocol"]
    made = {
        "folds": f"The model is the mean of the networks of its {p['inner_folds']} inner folds.",
        "ensemble": "The delivered model is the mean of the outer folds' models.",
    }.get(str(p.get("final")), "The model was refitted on all rows.")
    return f"{made} Networks of one configuration: {p.get('networks', 1)}."


@known("provenance.versions", "provenance.git")
def software(numbers: Results) -> str:
    """Version of the software and libraries."""
    return _plain(software_words(numbers))


@known("provenance.encoders", "protocol.seed")
def initialisation(numbers: Results) -> str:
    """Where the weights before training are from."""
    encoders = ", ".join(numbers["provenance"].get("encoders", {})) or str(
        numbers["protocol"]["encoder"]
    )
    return (
        f"The encoder began with pretrained weights ({encoders}), and the head with random ones "
        f"from the seed {numbers['protocol']['seed']}."
    )


@known("confusion")
def failures(numbers: Results) -> str:
    """Counts of decisions by true class."""
    names = list(numbers["dataset"]["classes"])
    counts = numbers["confusion"]
    if not counts or not any(map(any, counts)):
        return ""
    wrong = "; ".join(
        f"{name}: {sum(row) - row[at]:,} of {sum(row):,} images"
        for at, (name, row) in enumerate(zip(names, counts, strict=True))
    )
    return f"Decided wrongly on test rows: {wrong}. The largest errors of each fold are listed."


@known("overall")
def metrics(numbers: Results) -> str:
    """Metrics and how their intervals are made."""
    return _plain(statistics_words(numbers))


@known("protocol", "provenance.search_space")
def search(numbers: Results) -> str:
    """Model, search and validation."""
    return " ".join(
        (_plain(model_words(numbers)), _plain(search_words(numbers)), _plain(split_words(numbers)))
    )


@known("protocol")
def protocol(numbers: Results) -> str:
    """Where the configuration stands."""
    return "The configuration of the run is config.toml; the report's methods section tells it."
