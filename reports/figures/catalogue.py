"""Every figure of a report: its name, what draws it, what its caption says."""

from __future__ import annotations

from dataclasses import dataclass

from outerfold.reports.blocks import Picture
from outerfold.reports.figures.counts import (
    class_distribution_all,
    class_distribution_train,
    train_distribution_original,
    train_distribution_resampled,
)
from outerfold.reports.figures.overview import comprehensive
from outerfold.reports.figures.scores import (
    test_confusion,
    test_curves,
    validation_confusion,
    validation_curves,
)
from outerfold.reports.figures.style import Draw
from outerfold.reports.figures.training import training_loss
from outerfold.reports.wording import (
    COVERAGE,
    OPTIMISTIC,
    Json,
    RowSet,
    coverage_sentence,
    finished_folds,
    sample_size,
    stamps,
)


@dataclass(frozen=True)
class FigureSpec:
    """One figure.

    Attributes:
        title: first sentence of the caption.
        reading: how it is read, for someone who sees it for the first time.
        closing: standing sentences on what its numbers are worth.
        rows: whose patients and images stand behind it.
    """

    name: str
    draw: Draw
    title: str
    reading: str
    closing: str = ""
    kind: str = "jpg"
    rows: RowSet = "dataset"

    @property
    def file(self) -> str:
        """File name in ``report/``."""
        return f"{self.name}.{self.kind}"


_INTERVAL = (
    "Numbers in brackets are 95 % confidence intervals over patients (patient jackknife; Wilson's "
    "formula with the effective number of images for recall)."
)
_CURVES = (
    "Thin lines are single folds, the thick line is their mean: sensitivity averaged at equal "
    "1 − specificity, precision averaged at equal recall. Folds are not pooled, since their models "
    "differ in scale. The dotted line is what guessing reaches: the diagonal for ROC, the "
    "prevalence among images for precision-recall. Above each panel stands the mean over folds of "
    "the area under the curve (AUC) or of the average precision (AP); where a fold holds too few "
    "patients of the class, average precision is of pooled folds, as the tables note. "
)
_MATRIX = (
    "Each row is a true class; colour is the share of the row, and each cell counts images. The "
    "diagonal also gives the recall of the class with its interval; the other cells show where "
    "the errors go. "
)
_MATRIX_COUNTS = "With several repeats of the outer folds an image is counted once in each."
_VALIDATION_COUNTS = (
    "An image is counted once for every outer fold on whose training side it lies, scored there by "
    "an inner fold that did not train on it. "
)

FIGURES = (
    FigureSpec(
        "Figure_Class_Distribution_All",
        class_distribution_all,
        "Class distribution of the whole data set.",
        "Left: images of each class and their share. Right: patients with at least one image of "
        "the class. The number of patients, not of images, sets the width of the intervals.",
    ),
    FigureSpec(
        "Figure_Class_Distribution_Train",
        class_distribution_train,
        "Class distribution of the training sides.",
        "Bars are means over the outer folds, dots are the single folds, and the figures above are "
        "the smallest and the largest count. Near-equal dots mean that the folds are stratified.",
    ),
    FigureSpec(
        "Figure_Train_Distribution_Original",
        train_distribution_original,
        "Training images of each study before resampling.",
        "A bar is the training side of one outer fold, or all rows for the final model, divided by "
        "class. Its scale is that of the figure after resampling, so the two can be compared.",
    ),
    FigureSpec(
        "Figure_Train_Distribution_Resampled",
        train_distribution_resampled,
        "Training images of each study after resampling.",
        "What one epoch of the refit sees, with the sampler that the search chose in brackets. "
        "Resampling touches training rows only; rows that score are never resampled.",
    ),
    FigureSpec(
        "Figure_Training_Loss",
        training_loss,
        "Training and validation loss of the chosen configuration.",
        "A panel is one study; both lines are means over its inner folds. The dotted line marks "
        "the number of epochs the search chose by its score, which need not be where the loss is "
        "lowest. Training loss is measured under dropout and resampling, so it may lie above "
        "the validation loss. No outer test row is involved.",
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
    ),
    FigureSpec(
        "Figure_Test_ROC_PR",
        test_curves,
        "ROC and precision-recall curves of the outer test rows, one class against the rest.",
        _CURVES,
        f"{_INTERVAL} {COVERAGE}",
        rows="tested",
    ),
    FigureSpec(
        "comprehensive_results",
        comprehensive,
        "The run at a glance.",
        "(a–c) By epoch, on the inner folds of the chosen configuration: thin lines are outer "
        "folds, thick lines their mean up to the shortest, triangles the chosen epochs. "
        "(d) Images of the outer test rows by true and predicted class; colour is the share of "
        "the row. (e) The score that each search reported against the score of the same procedure "
        "on its outer test rows; their mean difference is the optimism. (f) ROC curves of the "
        "outer test rows, one class against the rest.",
        f"{_INTERVAL} {COVERAGE}",
        kind="png",
        rows="tested",
    ),
)


def pictures(numbers: Json) -> dict[str, Picture]:
    """Numbered captions and descriptions by figure name."""
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return {
        plate.name: Picture(
            plate.name,
            f"{_label(plate, index)}. {plate.title}{marks}",
            " ".join(part for part in _description(plate, numbers) if part),
        )
        for index, plate in enumerate(FIGURES, start=1)
    }


def _label(plate: FigureSpec, index: int) -> str:
    """The overview repeats what the figures show and takes no number of its own."""
    return f"Figure {index}" if plate.name.startswith("Figure_") else "Overview"


def _description(plate: FigureSpec, numbers: Json) -> tuple[str, str, str]:
    count = f"n = {sample_size(numbers, plate.rows)}; {finished_folds(numbers)}."
    return plate.reading.strip(), count, plate.closing.replace(COVERAGE, coverage_sentence(numbers))
