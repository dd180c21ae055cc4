"""Scores of an outer fold's test rows by its inner folds' models, kept for intervals alone.

How these scores differ shows how much a model varies with the patients that train it. They are made
after the model of the fold has been scored, and nothing but intervals depends on them.
"""

from __future__ import annotations

import numpy as np

from outerfold.objectives.inner import InnerObjective
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.storage.records import WITHOUT, Dataset, FloatArray, OuterFold, Predictions
from outerfold.study.config.record import StudyConfig
from outerfold.study.worker.trial_model import TrialModel, decide_by


def score_inner_models(
    test: Dataset, fold: OuterFold, objective: InnerObjective, made: TrialModel, config: StudyConfig
) -> Predictions:
    """Score the test rows by each inner fold's model, and by the mean of all others.

    The model of an inner fold is the mean of its networks. Calibration and threshold of both are
    fitted on the out-of-fold rows of the other inner folds, for as many models as are averaged. So
    the mean of all others with its decision is the study's model without one inner fold.

    Args:
        test: rows of the outer test fold.
        fold: the outer fold.
        objective: inner objective of the study.
        made: model of the trial.
        config: options of the run.

    Returns:
        Every test row twice for each inner fold: the row's fold is the name of the inner fold, and
        that name after ``WITHOUT`` where all other models scored it.
    """
    each = made.replay.fitted.predict_each(test.features)
    names = [inner.name for inner in objective.folds]
    models = np.stack([each[at :: len(names)].mean(0) for at in range(len(names))])
    parts: list[tuple[str, FloatArray, Decision]] = []
    for at, name in enumerate(names):
        others = [other for other in range(len(names)) if other != at]
        for key, who in ((name, [at]), (WITHOUT + name, others)):
            scores = made.out_of_fold if len(who) > 1 else made.replay.probabilities
            decision = decide_by(others, objective, scores, config)
            parts.append((key, models[who].mean(0), decision))
    calibrated = [decision.calibrate(scores) for _, scores, decision in parts]
    decided = [one[2].decide(p) for one, p in zip(parts, calibrated, strict=True)]
    n, times = len(test), len(parts)
    return Predictions(
        np.tile(test.ids, times),
        np.tile(test.patients, times),
        np.repeat(np.array([name for name, _, _ in parts]), n),
        np.full(n * times, fold.repeat),
        np.tile(test.labels, times),
        np.concatenate(calibrated),
        np.concatenate(decided),
        test.classes,
        np.tile(test.groups, times),
    )
