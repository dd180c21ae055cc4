"""Model of a trial: the mean of the inner folds' networks, or a refit on all training rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose

import numpy as np
from optuna.trial import FixedTrial, FrozenTrial

from outerfold.objectives.inner import InnerObjective, repeat_folds
from outerfold.objectives.replay import Recorded, Replay
from outerfold.pipelines._base import Fitted, Training
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.tails import CHANGES
from outerfold.storage.records import FloatArray, Fold
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.record import FOLDS, StudyConfig


@dataclass(frozen=True, eq=False)
class TrialModel:
    """Model of one trial, made from the training rows of its study without any test row.

    Attributes:
        replay: networks of the trial, with their out-of-fold probabilities.
        decision: calibration and decision rule, fitted on these probabilities.
        fitted: networks of the inner folds, or networks refitted on all training rows.
        resampled: (classes,) images of each class in one epoch; with ``--final folds`` the mean
            over the inner folds.
        notes: sentences for the report.
    """

    replay: Replay
    decision: Decision
    fitted: Fitted
    resampled: FloatArray
    notes: tuple[str, ...]


def make_model(
    objective: InnerObjective,
    trial: FrozenTrial,
    config: StudyConfig,
    recorded: Recorded | None = None,
) -> TrialModel:
    """Make the model of a trial; only training rows are available here.

    With ``--final folds`` it is the mean of the inner folds' networks. Else the configuration is
    refitted on all training rows. Without a recording the trial is trained once more.

    Args:
        objective: inner objective of the study.
        trial: a complete trial.
        config: options of the run.
        recorded: recording of the trial, with one network a fold; None if there is none.
    """
    fixed = _fix_trial(trial)
    count, epochs = config.networks, trial.user_attrs["epochs"]
    if recorded is not None:
        replay = objective.restore(fixed, recorded)
    else:
        length = trial.user_attrs["length"]
        replay = objective.replay(fixed, epochs=epochs, length=length, networks=count)
    labels = np.concatenate([objective.train.select(fold.val).labels for fold in objective.folds])
    decision = Decision.fit(
        labels,
        np.concatenate(replay.probabilities),
        rule=config.threshold,  # type: ignore[arg-type]
        target=config.threshold_target,
    )
    notes = [*replay.notes, decision.note, _note_replay(trial, replay)]
    fitted, resampled = replay.fitted, replay.resampled
    if config.final != FOLDS:
        training = refit(objective, fixed, epochs, count)
        rows = training.delivered(0)
        notes = [rows.note, *notes[len(replay.notes) :], _note_parts(training)]
        fitted = training.fitted(*range(count))
        resampled = rows.seen(len(objective.train.classes))
    return TrialModel(replay, decision, fitted, resampled, tuple(filter(None, notes)))


def _fix_trial(trial: FrozenTrial) -> FixedTrial:
    fixed = FixedTrial(trial.params, number=trial.number)
    if CHANGES in trial.user_attrs:  # its batches are divided into the same parts again
        fixed.set_user_attr(CHANGES, trial.user_attrs[CHANGES])
    return fixed


def refit(objective: InnerObjective, trial: FixedTrial, epochs: int, networks: int) -> Training:
    """Train ``networks`` networks on all training rows for ``epochs``, without validation rows."""
    train = objective.train
    everything = Fold(
        "refit", tuple(train.ids.tolist()), (), frozenset(train.groups.tolist()), frozenset()
    )
    pipeline = objective.space(trial)
    rows = TrainingRows(
        train,
        repeat_folds([everything], networks),
        objective.source_of(pipeline),
        tokens=pipeline.tokens,
        seed=derive_seed(objective.seed, "refit"),
        tta=objective.protocol.tta,
    )
    training = pipeline.start(
        rows,
        budget=objective.protocol.epochs,
        seed=derive_seed(objective.seed, "refit"),
        device=objective.device,
    )
    for epoch in training:
        if epoch.number == epochs:
            break
    return training


def _note_replay(best: FrozenTrial, replay: Replay) -> str:
    # The stack of networks is another one than in the search, which may change the last digits.
    if best.value is not None and isclose(replay.score, best.value, rel_tol=1e-6):
        return ""
    return (
        f"the chosen trial scored {best.value} in the search and {replay.score} when run again; "
        "the arithmetic of this device is not exactly repeatable"
    )


def _note_parts(training: Training) -> str:
    rows = training.remarks().get("micro_batch")
    if rows is None:
        return ""
    return (
        f"memory ran out in the refit, so its batches were divided into parts of at least {rows} "
        "images and their gradients added; batch normalisation used the parts"
    )
