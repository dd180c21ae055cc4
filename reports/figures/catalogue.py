"""Registry of all figures of a report: name, drawing function, caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from outerfold.reports.blocks import Picture
from outerfold.reports.figures.counts import (
    class_distribution_all,
    class_distribution_train,
    train_distribution_original,
    train_distribution_resampled,
)
from outerfold.reports.figures.overview import comprehensive
from outerfold.reports.figures.performance import performance, subgroup_forest
from outerfold.reports.figures.scores import (
    test_confusion,
    test_curves,
    validation_confusion,
    validation_curves,
)
from outerfold.reports.figures.search import search_history
from outerfold.reports.figures.search_parameters import search_parameters
from outerfold.reports.figures.style import Draw
from outerfold.reports.figures.training import training_loss
from outerfold.reports.render.legible import key_sentence
from outerfold.reports.schema import Results
from outerfold.reports.wording import (
    COVERAGE,
    OPTIMISTIC,
    RowSet,
    coverage_sentence,
    finished_folds,
    sample_size,
    stamps,
)
from outerfold.storage.errors import DataError
from outerfold.storage.registry import Registry

OVERVIEW = "comprehensive_results"
FIRST = "Figure_Performance"
"""Figure of the first page."""
SEARCH = ("Figure_Search_History", "Figure_Search_Parameters")
"""Figures of the section on the search."""


@dataclass(frozen=True)
class FigureSpec:
    """One figure of the report.

    Attributes:
        name: file name without the ending, which begins with ``Figure_``.
        draw: function that draws it from the evidence of a run.
        title: first sentence of the caption.
        reading: explanation for a reader who sees such a figure for the first time.
        closing: fixed sentences on its intervals and on the rows behind its numbers.
        kind: file type, ``jpg`` or ``png``.
        rows: the rows whose patients and images the caption counts.
        inline: whether the page holds it as SVG with tooltips, not as a picture.
        when: whether a report with these numbers has the figure.
    """

    name: str
    draw: Draw
    title: str
    reading: str
    closing: str = ""
    kind: str = "jpg"
    rows: RowSet = "dataset"
    inline: bool = False
    when: Callable[[Results], bool] = lambda numbers: True

    def __post_init__(self) -> None:
        if self.name != OVERVIEW and not self.name.startswith("Figure_"):
            raise DataError(
                f"figure {self.name!r}: the name of a figure begins with Figure_, as that of its "
                "file does; choose another name"
            )

    @property
    def file(self) -> str:
        """File name in ``report/``."""
        return f"{self.name}.{self.kind}"


_INTERVAL = (
    "Numbers in brackets are 95 % confidence intervals over patients (patient jackknife; Wilson's "
    "formula with the effective number of images for recall)."
)
_CURVES = (
    "Thin lines are single folds, and the thick line is their mean: sensitivity averaged at equal "
    "1 − specificity, precision averaged at equal recall. The folds are not pooled, because the "
    "probabilities of their models differ in scale. The dotted line shows the result of guessing: "
    "the diagonal for ROC, the prevalence among images for precision-recall. The number above each "
    "panel is the mean over folds of the area under the curve (AUC) or of the average precision "
    "(AP); if a fold has too few patients of the class, the average precision is computed from "
    "pooled folds, as the tables note. "
)
_MATRIX = (
    "Each row is a true class; the colour is the share of the row, and each cell counts images. "
    "The diagonal also gives the recall of the class with its interval; the other cells count the "
    "errors. "
)
_MATRIX_COUNTS = "With several repeats of the outer folds, an image is counted once per repeat."
_VALIDATION_COUNTS = (
    "An image is counted once for every outer fold that has it among its training rows; it was "
    "scored there by the model of an inner fold that did not train on it. "
)

_FIGURES = (
    FigureSpec(
        FIRST,
        performance,
        "Performance, calibration, folds and decision curve.",
        "At the level of the headline. (a) ROC: the line is the mean over folds of the sensitivity "
        "at equal 1 − specificity, so the area under it is the printed AUC; with two classes the "
        "dot is the decisions that were made, with the intervals of sensitivity and specificity. "
        "(b) Share of positives by probability, smoothed over the nearest 75 % of rows (loess), of "
        "all folds together; the dotted diagonal is ideal, and the bars show how often each "
        "probability occurs. With several classes it is the share of right answers by the "
        "largest probability. (c) Each fold's own model over its own patients, and all folds. "
        "(d) Two classes: net benefit of the model, and of treating everyone or no one; several: "
        "recall. Shaded: pointwise 95 % bands; in (a) and (b) patients were drawn again with the "
        "models as they are, which is too narrow for other models, and how often the bands of (a), "
        "(b) and (d) hold the true curve was not counted.",
        f"{_INTERVAL} {COVERAGE}",
        rows="tested",
        inline=True,
    ),
    FigureSpec(
        "Figure_Search_History",
        search_history,
        "Inner scores of the searches, in the order of their trials.",
        "Each panel is one study. Trial 0 is the default configuration. A trial that was pruned or "
        "failed has no score and is marked at the bottom. A line that rises at once and then stays "
        "means that the search found little. Inner scores chose, so they are optimistic; no outer "
        "test row is involved.",
        inline=True,
    ),
    FigureSpec(
        "Figure_Search_Parameters",
        search_parameters,
        "Trials of the outer folds' searches over the searched parameters.",
        "Each line is a trial and each vertical axis a parameter, from its smallest to its largest "
        "value; listed values have a band each, and lines through one value lie beside each other. "
        "A parameter that a trial does not have is passed over. "
        "The last axis is the inner score, which a pruned or failed trial does not have. Chosen "
        "lines far apart mean that the folds did not agree on a parameter. Scores of two folds "
        "are of other rows, so their heights hardly compare. Below, where any search has 10 "
        "complete trials: importance among complete trials (PED-ANOVA, exploratory); a dot is a "
        "study and a bar their mean.",
        when=lambda numbers: bool(numbers["search"]) and bool(numbers["stability"]),
        inline=True,
    ),
    FigureSpec(
        "Figure_Class_Distribution_All",
        class_distribution_all,
        "Class distribution of the whole data set.",
        "Left: images of each class and their share. Right: patients with at least one image of "
        "the class. The number of patients, not the number of images, sets the width of the "
        "intervals.",
    ),
    FigureSpec(
        "Figure_Class_Distribution_Train",
        class_distribution_train,
        "Class distribution of the training rows.",
        "Bars are means over the outer folds, dots are the single folds, and the numbers above the "
        "bars are the smallest and the largest count. Dots at nearly equal heights mean that the "
        "folds are stratified.",
    ),
    FigureSpec(
        "Figure_Train_Distribution_Original",
        train_distribution_original,
        "Training images of each study before resampling.",
        "Each bar shows the training rows of one outer fold, or all rows for the final model, "
        "divided by class. The scale is the same as in the figure after resampling, so the two can "
        "be compared.",
    ),
    FigureSpec(
        "Figure_Train_Distribution_Resampled",
        train_distribution_resampled,
        "Training images of each study after resampling.",
        "Each bar shows the training images in one epoch of the scored model (where that is the "
        "mean of its inner folds' networks, a mean over them); the sampler that the search chose "
        "is in brackets. Only training rows are resampled; validation rows and test rows are "
        "never resampled.",
    ),
    FigureSpec(
        "Figure_Training_Loss",
        training_loss,
        "Training and validation loss of the chosen configuration.",
        "Each panel shows one study on an axis of its own, since studies may have chosen different "
        "losses; both lines are means over its inner folds. The dotted line "
        "marks the number of epochs that the search chose by its score; the loss need not be "
        "lowest there. The training loss is measured under dropout and resampling, so it may be "
        "higher than the validation loss. No outer test row is involved.",
        inline=True,
    ),
    FigureSpec(
        "Figure_Validation_Confusion_Matrix",
        validation_confusion,
        "Confusion matrix of the inner out-of-fold rows (optimistic).",
        _MATRIX + _VALIDATION_COUNTS,
        f"{_INTERVAL} {OPTIMISTIC}",
        rows="validation",
    ),
    FigureSpec(
        "Figure_Test_Confusion_Matrix",
        test_confusion,
        "Confusion matrix of the outer test rows.",
        _MATRIX + _MATRIX_COUNTS,
        f"{_INTERVAL} {COVERAGE}",
        rows="tested",
    ),
    FigureSpec(
        "Figure_Validation_ROC_PR",
        validation_curves,
        "ROC and precision-recall curves of the inner out-of-fold rows (optimistic).",
        _CURVES + _VALIDATION_COUNTS,
        f"{_INTERVAL} {OPTIMISTIC}",
        rows="validation",
        inline=True,
    ),
    FigureSpec(
        "Figure_Test_ROC_PR",
        test_curves,
        "ROC and precision-recall curves of the outer test rows, one class against the rest.",
        _CURVES,
        f"{_INTERVAL} {COVERAGE}",
        rows="tested",
        inline=True,
    ),
    FigureSpec(
        "Figure_Subgroups",
        subgroup_forest,
        "ROC-AUC of subgroups (exploratory).",
        "Each point is the share of the subgroup's (positive, negative) pairs within one fold that "
        "are in the right order, over all folds, with its 95 % confidence interval over patients. "
        "No subgroup was the aim of the study, and nothing is corrected for their number.",
        rows="tested",
        when=lambda numbers: bool(numbers["questions"] and numbers["questions"]["subgroups"]),
        inline=True,
    ),
    FigureSpec(
        OVERVIEW,
        comprehensive,
        "The run at a glance.",
        "(a–c) Loss and scores by epoch, on the inner folds of the chosen configuration: thin "
        "lines are outer folds, thick lines are their mean up to the end of the shortest line, and "
        "triangles are the chosen epochs; losses have no mean, since folds may have chosen "
        "different ones. "
        "(d) Images of the outer test rows by true and predicted class; the colour is the share of "
        "the row. (e) The score that each search reported and the score of the same procedure "
        "on its outer test rows; their mean difference is the optimism. (f) ROC curves of the "
        "outer test rows, one class against the rest.",
        f"{_INTERVAL} {COVERAGE}",
        kind="png",
        rows="tested",
    ),
)
FIGURES: Registry[FigureSpec] = Registry("figure", _FIGURES)
"""All figures by name, in the order of their numbers."""


def figures_of(numbers: Results) -> tuple[FigureSpec, ...]:
    """Figures of a report with these numbers, in the order of their numbers."""
    return tuple(plate for plate in FIGURES.values() if plate.when(numbers))


def pictures(numbers: Results) -> dict[str, Picture]:
    """Numbered caption and description of each figure of the report, by figure name."""
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return {
        plate.name: Picture(
            plate.name,
            f"{label}. {plate.title}{marks}",
            " ".join(part for part in _description(plate, numbers) if part),
        )
        for plate, label in _labelled(figures_of(numbers))
    }


def _labelled(plates: tuple[FigureSpec, ...]) -> Iterator[tuple[FigureSpec, str]]:
    """Each figure with its label; the overview repeats other figures and has no number."""
    numbers = count(1)
    for plate in plates:
        yield plate, "Overview" if plate.name == OVERVIEW else f"Figure {next(numbers)}"


def _description(plate: FigureSpec, numbers: Results) -> tuple[str, str, str, str]:
    size = f"n = {sample_size(numbers, plate.rows)}; {finished_folds(numbers)}."
    closing = plate.closing.replace(COVERAGE, coverage_sentence(numbers))
    return plate.reading.strip(), size, closing, key_sentence(numbers)
