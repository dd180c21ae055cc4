from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss

from outerfold.reports.intervals.overall import overall
from outerfold.reports.results.results import results
from outerfold.reports.sections.model_card import markdown
from outerfold.reports.sections.summary import summary
from tests.reports.prediction_factory import make
from tests.reports.results.test_fold_entries import changed
from tests.reports.run_factory import FOUR, make_run


def test_values_without_information_are_those_of_a_dummy_model():
    run = make_run()
    answers, stated, labels = [], [], []
    for study in run.outer:
        train, test = study.validation, study.test
        for strategy, found in (("most_frequent", answers), ("prior", stated)):
            model = DummyClassifier(strategy=strategy).fit(np.zeros((len(train), 1)), train.labels)
            rows = np.zeros((len(test), 1))
            found.append(
                model.predict(rows) if strategy != "prior" else model.predict_proba(rows)[:, 1]
            )
        labels.append(test.labels)
    truth = np.concatenate(labels)
    entries = results(run)["overall"]
    assert entries["accuracy"]["no_information"] == pytest.approx(
        accuracy_score(truth, np.concatenate(answers))
    )
    assert entries["brier"]["no_information"] == pytest.approx(
        brier_score_loss(truth, np.concatenate(stated))
    )
    assert entries["average_precision"]["no_information"] == pytest.approx(
        average_precision_score(truth, np.zeros(len(truth)))
    )
    assert entries["sensitivity"]["no_information"] is None


def test_several_classes_and_patients_have_their_own_values():
    numbers = results(make_run(FOUR))
    assert numbers["overall"]["balanced_accuracy"]["no_information"] == 0.25
    patients = numbers["levels"]["patient"]["overall"]
    assert (
        patients["accuracy"]["no_information"] != numbers["overall"]["accuracy"]["no_information"]
    )


def test_a_brier_score_worse_than_the_constant_prevalence_is_said():
    run = make_run()
    flipped = run
    for fold in range(2):
        flipped = changed(flipped, fold, probabilities=run.outer[fold].test.probabilities[:, ::-1])
    text = markdown(summary(results(flipped)))
    assert text.index("is worse than") < text.index("## Data")
    assert "is worse than" not in markdown(summary(results(run)))


def test_a_calibration_error_that_the_correction_cut_at_0_is_said():
    found = None
    for seed in range(30):
        rows = make(patients=40, seed=seed, rarest=15)
        even = replace(
            rows,
            probabilities=np.tile([1 - rows.labels.mean(), rows.labels.mean()], (len(rows), 1)),
        )
        found = overall(even, tuned=True)["ece"]
        if found.estimate == 0:
            break
    assert found.estimate == 0
    assert any("cut it at 0" in note for note in found.notes)
    ordinary = overall(make(patients=60, rarest=20), tuned=True)["ece"]
    assert ordinary.estimate > 0
    assert not any("cut it at 0" in note for note in ordinary.notes)
