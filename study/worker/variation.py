"""Scores of an outer fold's test rows by each inner fold's model, kept for intervals alone.

The spread of these models, which trained on other patients each, shows how much a model varies with
the patients that train it. They are scored after the model of the fold, and nothing but the widths
of intervals depends on them.
"""

from __future__ import annotations

import numpy as np

from outerfold.objectives.inner import InnerObjective
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.storage.records import Dataset, OuterFold, Predictions
from outerfold.study.config.record import StudyConfig
from outerfold.study.worker.trial_model import TrialModel


def score_inner_models(
    test: Dataset, fold: OuterFold, objective: InnerObjective, made: TrialModel, config: StudyConfig
) -> Predictions:
    """Score the test rows by each inner fold's model, with a decision learnt without that model.

    A model is the mean of its inner fold's networks. Its calibration and threshold are fitted on
    the out-of-fold rows of the other inner folds, so they carry over to it as the study's own
    decision carries over to the model that is scored.

    Args:
        test: rows of the outer test fold.
        fold: the outer fold.
        objective: inner objective of the study.
        made: model of the trial.
        config: options of the run.

    Returns:
        Every test row once for each inner fold, whose name stands as the row's fold.
    """
    each = made.replay.fitted.predict_each(test.features)
    names = [inner.name for inner in objective.folds]
    labels = [objective.train.select(inner.val).labels for inner in objective.folds]
    calibrated, decided = [], []
    for at in range(len(names)):
        others = [other for other in range(len(names)) if other != at]
        decision = Decision.fit(
            np.concatenate([labels[other] for other in others]),
            np.concatenate([made.replay.probabilities[other] for other in others]),
            rule=config.threshold,  # type: ignore[arg-type]
            target=config.threshold_target,
        )
        calibrated.append(decision.calibrate(each[at :: len(names)].mean(0)))
        decided.append(decision.decide(calibrated[-1]))
    n, times = len(test), len(names)
    return Predictions(
        np.tile(test.ids, times),
        np.tile(test.patients, times),
        np.repeat(np.array(names), n),
        np.full(n * times, fold.repeat),
        np.tile(test.labels, times),
        np.concatenate(calibrated),
        np.concatenate(decided),
        test.classes,
    )
