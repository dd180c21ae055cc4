"""Model of a trial: the mean of the inner folds' networks, or a refit on all training rows.

The mean of several networks is less spread than each of them, so a calibration that is right for
one is too flat for their mean. Each training row has been seen by all of the inner folds' networks
but one, so their mean has no out-of-fold score. The configuration is therefore trained once more on
a second division of the training rows. Then every row has out-of-fold scores by two networks, and
the decision is fitted on their mean. The second networks serve for this alone. Nothing was chosen
by their scores, so these do not flatter the configuration either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

import numpy as np
from optuna.trial import FixedTrial, FrozenTrial

from outerfold.objectives.inner import InnerObjective, repeat_folds
from outerfold.objectives.replay import Recorded, Replay
from outerfold.pipelines._base import Fitted, Training, TrainingDiverged
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.tails import CHANGES
from outerfold.storage.records import FloatArray, Fold
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.record import FOLDS, StudyConfig

OF_ONE = "is that of one network, and the mean of the networks may be less sure than it could be"
"""End of a note on a calibration without a second division."""


@dataclass(frozen=True, eq=False)
class TrialModel:
    """Model of one trial, made from the training rows of its study without any test row.

    Attributes:
        replay: networks of the trial, with their out-of-fold probabilities.
        decision: calibration and decision rule, fitted on the ``out_of_fold`` scores.
        fitted: networks of the inner folds, or networks refitted on all training rows.
        resampled: (classes,) images of each class in one epoch; with ``--final folds`` the mean
            over the inner folds.
        notes: sentences for the report.
        second: one array (val rows, classes) for each inner fold, the scores of its rows by the
            networks of the second division; empty where there are none.
    """

    replay: Replay
    decision: Decision
    fitted: Fitted
    resampled: FloatArray
    notes: tuple[str, ...]
    second: tuple[FloatArray, ...] = ()

    @property
    def out_of_fold(self) -> tuple[FloatArray, ...]:
        """One array (val rows, classes) for each inner fold: the mean of each row's scores."""
        return _mean_scores(self.replay.probabilities, self.second)


def make_model(
    objective: InnerObjective,
    trial: FrozenTrial,
    config: StudyConfig,
    recorded: Recorded | None = None,
    second: InnerObjective | None = None,
) -> TrialModel:
    """Make the model of a trial; only training rows are available here.

    With ``--final folds`` it is the mean of the inner folds' networks, with a calibration that is
    fitted to such a mean. Else the configuration is refitted on all training rows. Without a
    recording the trial is trained once more.

    Args:
        objective: inner objective of the study.
        trial: a complete trial.
        config: options of the run.
        recorded: recording of the trial, with one network a fold; None if there is none.
        second: objective on the second division of the training rows; None calibrates as for one
            network. A refit does not read it.
    """
    fixed, count = _fix_trial(trial), config.networks
    epochs = trial.user_attrs["epochs"]
    if recorded is not None:
        replay = objective.restore(fixed, recorded)
    else:
        length = trial.user_attrs["length"]
        replay = objective.replay(fixed, epochs=epochs, length=length, networks=count)
    notes = [_note_replay(trial, replay)]
    everyone = range(len(objective.folds))
    if config.final != FOLDS:
        decision = decide_by(everyone, objective, replay.probabilities, config)
        return _refitted(objective, fixed, replay, decision, notes, config)
    again: tuple[FloatArray, ...] = ()
    if second is not None:
        again, note = _score_again(objective, second, fixed, epochs, count)
        notes = [note, *notes]
    scores = _mean_scores(replay.probabilities, again)
    decision = decide_by(everyone, objective, scores, config)
    notes = [*replay.notes, decision.note, *notes]
    return TrialModel(
        replay, decision, replay.fitted, replay.resampled, tuple(filter(None, notes)), again
    )


def _refitted(
    objective: InnerObjective,
    trial: FixedTrial,
    replay: Replay,
    decision: Decision,
    notes: list[str],
    config: StudyConfig,
) -> TrialModel:
    """Model of a trial whose configuration is refitted on all training rows."""
    training = refit(objective, trial, replay.epochs, config.networks)
    rows = training.delivered(0)
    every = [rows.note, decision.note, *notes, _note_parts(training)]
    return TrialModel(
        replay,
        decision,
        training.fitted(*range(config.networks)),
        rows.seen(len(objective.train.classes)),
        tuple(filter(None, every)),
    )


def decide_by(
    folds: Sequence[int],
    objective: InnerObjective,
    scores: Sequence[FloatArray],
    config: StudyConfig,
) -> Decision:
    """Decision fitted on the out-of-fold rows of some inner folds.

    Args:
        folds: positions of these inner folds.
        objective: inner objective of the study.
        scores: one array (val rows, classes) for each inner fold: those of single networks for a
            decision on one, and ``TrialModel.out_of_fold`` for one on the mean of several.
        config: options of the run.
    """
    labels = [objective.train.select(objective.folds[at].val).labels for at in folds]
    return Decision.fit(
        np.concatenate(labels),
        np.concatenate([scores[at] for at in folds]),
        rule=config.threshold,  # type: ignore[arg-type]
        target=config.threshold_target,
    )


def _mean_scores(
    first: tuple[FloatArray, ...], second: tuple[FloatArray, ...]
) -> tuple[FloatArray, ...]:
    """Mean of the scores by both divisions, by inner fold; the first alone if there is no second.

    The mean of more than two networks would need a steeper slope still. It is not made so: the
    search chose by the first scores, which makes the slope too steep by about as much in studies of
    a hundred patients (``benchmarks/models/second_division.py``).
    """
    if not second:
        return first
    return tuple((one + other) / 2 for one, other in zip(first, second, strict=True))


def _score_again(
    objective: InnerObjective,
    second: InnerObjective,
    trial: FixedTrial,
    epochs: int,
    networks: int,
) -> tuple[tuple[FloatArray, ...], str]:
    """Scores of each inner fold's rows by networks of the second division, and a note.

    Where that training diverges there are no such scores, and the note says so.
    """
    try:
        scores = second.score_out_of_fold(trial, epochs=epochs, networks=networks)
    except TrainingDiverged as error:
        return (), (
            f"the networks of the second division of the training rows failed ({error}), so the "
            f"calibration {OF_ONE}"
        )
    rows = objective.train.features
    table = np.empty((len(rows), scores[0].shape[1]))
    for fold, own in zip(second.folds, scores, strict=True):
        table[rows.positions(fold.val)] = own
    return tuple(table[rows.positions(fold.val)] for fold in objective.folds), ""


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
