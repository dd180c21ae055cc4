"""Sentences and marks that would mislead, each planted with a healthy twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.figures.counts import sampler_of
from outerfold.reports.figures.style import compose
from outerfold.reports.results.results import gather_evidence, results
from outerfold.reports.sections.summary import optimism_section
from outerfold.reports.sections.tables import Footnotes
from tests.reports.run_factory import FOUR, make_run


def test_no_two_footnotes_share_a_mark():
    notes = Footnotes()
    marks = [notes.mark(f"remark {at}") for at in range(60)]
    assert len(set(marks)) == 60
    assert [notes.mark(f"remark {at}") for at in range(60)] == marks


def test_a_resampled_fold_with_attention_is_labelled_with_its_token_sampler():
    run = make_run()
    params = {**run.outer[0].params, "attention": True, "token_sampler": "over"}
    del params["sampler"]
    outer = (replace(run.outer[0], params=params), *run.outer[1:])
    evidence = gather_evidence(replace(run, outer=outer))
    figure = compose(FIGURES["Figure_Train_Distribution_Resampled"].draw, evidence)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[0] == "outer-0 (over)"
    assert labels[1] == f"outer-1 ({sampler_of(run.outer[1].params)})"


def test_a_search_that_chose_its_first_trial_is_said_to_have_hardly_searched():
    run = make_run()
    kept = tuple(
        replace(study, default=replace(study.default, chosen=True, test=None, variation=None))
        for study in run.outer
    )
    texts = [b.text for b in optimism_section(results(replace(run, outer=kept)))]
    assert any("hardly searched: in 5 of 5" in text for text in texts)
    assert not any("hardly" in b.text for b in optimism_section(results(run)))


def test_classes_are_told_apart_without_colour():
    evidence = gather_evidence(make_run(FOUR))
    bars = compose(FIGURES["Figure_Class_Distribution_All"].draw, evidence).axes[0].patches
    assert len({bar.get_hatch() for bar in bars}) == 4
    roc = compose(FIGURES["comprehensive_results"].draw, evidence).axes[5]
    named = [line for line in roc.get_lines() if line.get_label() in FOUR]
    assert len({line.get_linestyle() for line in named}) == 4


def test_no_text_is_white_on_light_blue():
    evidence = gather_evidence(make_run())
    axes = compose(FIGURES["Figure_Test_Confusion_Matrix"].draw, evidence).axes[0]
    counts = np.array(evidence.numbers["confusion"])
    share = (counts / counts.sum(1, keepdims=True)).ravel()
    for text, full in zip(axes.texts, share, strict=True):
        assert (text.get_color() == "white") == (full > 0.65)


def test_losses_of_folds_are_not_averaged():
    run = make_run()
    loss = compose(FIGURES["comprehensive_results"].draw, gather_evidence(run)).axes[0]
    longest = [len(line.get_xdata()) for line in loss.get_lines() if line.get_marker() == "None"]
    assert sum(n > 1 for n in longest) == 2 * len(run.outer)


@pytest.mark.parametrize(("params", "name"), [({"sampler": "smote"}, "smote"), ({}, "")])
def test_the_sampler_of_a_configuration(params, name):
    assert sampler_of(params) == name
