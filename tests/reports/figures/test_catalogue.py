from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from outerfold.reports.figures.catalogue import FIGURES, pictures
from outerfold.reports.figures.scores import GRID, precision_height, roc_height
from outerfold.reports.figures.style import compose, render
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.results import gather_evidence
from tests.reports.run_factory import FOUR, make_run, without_defaults, without_variation

NAMES = list(FIGURES)
ASKED = ("Figure_Subgroups", "Figure_Search_Parameters")
"""Figures that a report of the fixtures does not have."""


def plate(name):
    return FIGURES[name]


def drawn(name, evidence):
    """The figure of this name, drawn once."""
    fig = compose(plate(name).draw, evidence, rows=plate(name).rows)
    FigureCanvasAgg(fig).draw()
    return fig


def texts(fig):
    return [t for t in fig.findobj(Text) if t.get_visible() and t.get_text()]


def told(name, evidence):
    return " ".join(t.get_text() for t in texts(drawn(name, evidence)))


def test_the_figures_that_were_promised_are_there():
    assert {
        "Figure_Performance",
        "Figure_Subgroups",
        "Figure_Class_Distribution_All",
        "Figure_Class_Distribution_Train",
        "Figure_Train_Distribution_Original",
        "Figure_Train_Distribution_Resampled",
        "Figure_Training_Loss",
        "Figure_Search_History",
        "Figure_Search_Parameters",
        "Figure_Validation_Confusion_Matrix",
        "Figure_Test_Confusion_Matrix",
        "Figure_Validation_ROC_PR",
        "Figure_Test_ROC_PR",
        "comprehensive_results",
    } == set(NAMES)


@pytest.mark.parametrize("name", [one for one in NAMES if one not in ASKED])
def test_a_figure_has_300_dots_an_inch_and_is_not_blank(name, folder):
    with Image.open(folder / plate(name).file) as image:
        assert [round(d) for d in image.info["dpi"]] == [300, 300]
        ink = np.asarray(image.convert("L")) < 200
    assert 0.003 < ink.mean() < 0.6


@pytest.mark.parametrize("run", ["four", "partial", "nothing"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaves_its_figure_and_stamps_are_there_uncovered(name, run, request):
    evidence: Evidence = request.getfixturevalue(run)
    fig = drawn(name, evidence)
    ink, page = fig.get_tightbbox(), fig.bbox_inches
    assert ink.x0 >= -0.01
    assert ink.y0 >= -0.01
    assert ink.x1 <= page.x1 + 0.01
    assert ink.y1 <= page.y1 + 0.01
    loose = [*fig.texts, *(text for key in fig.legends for text in key.get_texts())]
    for one, other in combinations(loose, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), (one, other)
    stamped = " ".join(text.get_text() for text in fig.texts)
    assert ("SYNTHETIC DATA" in stamped) == evidence.run.synthetic
    assert ("INCOMPLETE: " in stamped) == (not evidence.run.complete)


def test_n_is_of_the_rows_behind_the_numbers_not_of_all_data(partial):
    patients = len(set(partial.test.patients.tolist()))
    assert patients < 110
    assert "inner out-of-fold rows, optimistic" in told("Figure_Validation_ROC_PR", partial)
    assert f"{patients} patients, {len(partial.test)} images" in told("Figure_Test_ROC_PR", partial)
    assert "110 patients, 275 images" in told("Figure_Class_Distribution_All", partial)


def test_the_glance_has_six_panels(binary):
    fig = compose(plate("comprehensive_results").draw, binary)
    titles = [axes.get_title(loc="left") for axes in fig.axes]
    assert [title[0] for title in titles] == list("abcdef")
    assert "Generalisation gap" in titles[4]


def test_several_classes_have_a_curve_each_and_two_have_one(binary, four):
    assert len(compose(plate("Figure_Test_ROC_PR").draw, binary).axes) == 2
    assert len(compose(plate("Figure_Test_ROC_PR").draw, four).axes) == 8


def test_six_classes_still_fit():
    six = (*FOUR, "Fifth class", "Sixth class")
    run = without_variation(without_defaults(make_run(FOUR, patients=40, folds=2)))
    wide = tuple(_wider(study, six) for study in run.outer)
    counts = {**run.dataset["classes"], "Fifth class": 0, "Sixth class": 0}
    data = {**run.dataset, "classes": counts}
    evidence = gather_evidence(replace(run, classes=six, outer=wide, final=None, dataset=data))
    for name in ("Figure_Test_Confusion_Matrix", "Figure_Test_ROC_PR", "comprehensive_results"):
        assert drawn(name, evidence).get_tightbbox().x0 >= -0.01


def _wider(study, classes):
    def stretched(rows):
        none = np.zeros((len(rows), len(classes) - 4))
        return replace(rows, classes=classes, probabilities=np.hstack([rows.probabilities, none]))

    return replace(
        study,
        validation=stretched(study.validation),
        test=stretched(study.test),
        resampled=(*study.resampled, 0, 0),
    )


def test_a_figure_is_the_same_bytes_twice(binary):
    one = render(plate("Figure_Test_ROC_PR").draw, binary)
    assert one == render(plate("Figure_Test_ROC_PR").draw, binary)
    assert Image.open(BytesIO(one)).size[0] == 2160


def test_the_area_below_the_drawn_curves_is_the_printed_number():
    rng = np.random.default_rng(3)
    member = rng.integers(0, 2, size=400)
    scores = np.round(rng.normal(size=400) + member, 1)  # rounded: ties count too
    drawn = np.trapezoid(roc_height(member, scores), GRID)
    assert drawn == pytest.approx(roc_auc_score(member, scores), abs=0.003)
    assert precision_height(member, scores).mean() == pytest.approx(
        average_precision_score(member, scores), abs=0.005
    )


def test_numbers_above_the_curves_are_those_of_the_results(four):
    shown = told("Figure_Test_ROC_PR", four)
    for metrics in four.numbers["per_class"].values():
        for key, label in (("roc_auc", "AUC"), ("average_precision", "AP")):
            entry = metrics[key]
            expected = f"{label} {entry['estimate']:.2f} ({entry['low']:.2f}–{entry['high']:.2f})"
            assert expected in shown


def test_captions_are_numbered_and_say_n_and_what_the_interval_is(binary):
    found = pictures(binary.numbers)
    numbered = [picture.caption.split(".")[0] for picture in found.values()]
    assert numbered == [*(f"Figure {i}" for i in range(1, 12)), "Overview"]
    for picture in found.values():
        assert "n = 110 patients, 275 images" in picture.description
        assert "[SYNTHETIC DATA]" in picture.caption
    assert "patient jackknife" in found["Figure_Test_ROC_PR"].description
    assert "Optimistic" in found["Figure_Validation_ROC_PR"].description
