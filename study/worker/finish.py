"""End of a study: choose a trial, fit the decision, make the model, score once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import FixedTrial, TrialState

from outerfold.objectives.choice import best_candidate
from outerfold.objectives.inner import InnerObjective
from outerfold.pipelines._base import TrainingDiverged
from outerfold.pipelines.augmentation.views import augmentation_key
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.saved.files import read_encoder_card, write_preprocessing
from outerfold.pipelines.training.tails import CHANGES
from outerfold.storage.records import (
    FINAL,
    DataError,
    Dataset,
    DefaultResult,
    FloatArray,
    FoldResult,
    OuterFold,
    Predictions,
    TrainSide,
)
from outerfold.storage.runs.results import write_result
from outerfold.storage.tasks import TASKS
from outerfold.storage.trials.ownership import refuse_former_driver
from outerfold.study.config.record import FOLDS, NESTED
from outerfold.study.schedule.patience import build_limit, count_trials, read_history
from outerfold.study.worker.recordings import load_recording
from outerfold.study.worker.session import Session
from outerfold.study.worker.trial_model import OF_ONE, TrialModel, make_model
from outerfold.study.worker.variation import score_inner_models

FAILURE, BY_MACHINE = "failure", "failed_by_machine"
"""Attributes of a failed trial: its reason, and a mark where the machine was the cause."""


class StudyFailed(RuntimeError):
    """No trial of a study was completed; the message gives the first cause."""


def finish(session: Session, name: str, device: str) -> FoldResult:
    """Choose, make the model, score one study, and write its results into the run directory.

    The default configuration is ended last, once nothing is left to be chosen.

    Args:
        session: session of the run.
        name: ``outer-0`` ... or ``final``.
        device: device token, such as ``cuda:0``.

    Raises:
        StudyFailed: no trial was completed.
        DataError: another driver has taken over the run.
    """
    study = session.study(name)
    best = best_trial(study, name)
    chosen, test, variation = end_trial(session, name, best, device)
    notes = (*chosen.notes, *_note_trials_in_parts(study), *_note_failures(study))
    chosen = replace(chosen, notes=notes)
    cut = not build_limit(session.config, study).reached(read_history(study))
    counts = count_trials(study.get_trials(deepcopy=False))
    result = _make_result(session, session.folds[name], best, chosen, test, counts)
    default = _end_default(session, study, best, name, device, twice=bool(chosen.second))
    result = replace(result, variation=variation, cut_by_time=cut, default=default)
    _write_study(session, result, chosen)
    return result


def end_trial(
    session: Session, name: str, trial: optuna.trial.FrozenTrial, device: str
) -> tuple[TrialModel, Predictions | None, Predictions | None]:
    """Make the model of any complete trial of a study, and score its test rows once.

    Returns:
        The model, its predictions of the test rows, and those of the inner folds' models; None
        for the final study, which has no test rows.
    """
    objective, fold = session.objective(name, device), session.folds[name]
    recorded = None
    if session.config.records_trials:
        recorded = load_recording(session.folder, name, trial)
    second, note = _second_objective(session, name, device)
    made = make_model(objective, trial, session.config, recorded, second)
    made = replace(made, notes=(*made.notes, *note))
    if name == FINAL:
        return made, None, None
    test = session.data.select(fold.test)
    own = _predict_test(test, fold, made)
    return made, own, score_inner_models(test, fold, objective, made, session.config)


def _second_objective(
    session: Session, name: str, device: str
) -> tuple[InnerObjective | None, list[str]]:
    """Objective on the second division of the training rows; None and a note if there is none.

    A search that is not nested reports its out-of-fold rows, so there the decision is theirs.
    """
    if session.config.final != FOLDS or session.config.protocol != NESTED:
        return None, []
    try:
        return session.second_objective(name, device), []
    except DataError:
        return None, [
            "no second division of the training rows was found that puts every class into every "
            f"fold, so the calibration {OF_ONE}"
        ]


def _end_default(
    session: Session,
    study: optuna.Study,
    best: optuna.trial.FrozenTrial,
    name: str,
    device: str,
    *,
    twice: bool,
) -> DefaultResult:
    """End the default configuration, trial 0, as the best trial was ended; it chooses nothing.

    Nothing is trained if the search chose it, or for the final study, which has no test rows.

    Args:
        twice: whether the best trial's decision was fitted on two scores of each row. The default
            has no result where its own was not fitted in the same way.
    """
    if not session.default.params:
        return DefaultResult(reason=session.default.reason)
    trial = study.get_trials(deepcopy=False)[0]
    if trial.number == best.number:
        return DefaultResult(trial.params, chosen=True)
    if trial.state != TrialState.COMPLETE:
        cause = trial.user_attrs.get(FAILURE, trial.state.name.lower())
        reason = f"the default configuration's trial of {name} was not completed: {cause}"
        return DefaultResult(trial.params, reason=reason)
    if name == FINAL:
        return DefaultResult(trial.params)
    return _score_default(session, trial, name, device, twice=twice)


def _score_default(
    session: Session, trial: optuna.trial.FrozenTrial, name: str, device: str, *, twice: bool
) -> DefaultResult:
    try:
        made, test, variation = end_trial(session, name, trial, device)
    except TrainingDiverged as error:
        reason = f"the default configuration's model of {name} failed: {error}"
        return DefaultResult(trial.params, reason=reason)
    if bool(made.second) != twice:
        reason = (
            f"in {name} the second networks of one of the two configurations failed, so their "
            "decisions cannot be compared"
        )
        return DefaultResult(trial.params, reason=reason)
    return DefaultResult(trial.params, epochs=made.replay.epochs, test=test, variation=variation)


def _write_study(session: Session, result: FoldResult, chosen: TrialModel) -> None:
    model = BytesIO()
    torch.save(dict(chosen.fitted.state()), model)
    pipeline = session.space(FixedTrial(result.params))
    refuse_former_driver(session.folder, session.context.driver)
    write_preprocessing(
        session.folder.study(result.name),
        pipeline,
        chosen.fitted,
        decision=chosen.decision,
        facts=_gather_facts(session, pipeline.encoder),
    )
    write_result(session.folder, result, model.getvalue())


def best_trial(study: optuna.Study, name: str) -> optuna.trial.FrozenTrial:
    """Completed trial with the best inner score; of equal ones, the first.

    Raises:
        StudyFailed: no trial was completed.
    """
    trials = study.get_trials(deepcopy=False)
    chosen = best_candidate(study)
    if chosen is not None:
        return next(trial for trial in trials if trial.number == chosen.number)
    causes = [trial.user_attrs[FAILURE] for trial in trials if FAILURE in trial.user_attrs]
    first = causes[0] if causes else "every trial was pruned"
    raise StudyFailed(
        f"{name}: none of {len(trials)} trials was completed; the first cause: {first}"
    )


def _gather_facts(session: Session, encoder: str) -> dict[str, Any]:
    return {
        "task": session.config.task,
        "classes": list(session.data.classes),
        "synthetic": session.data.synthetic,
        "encoder": read_encoder_card(session.folder, encoder),
        "trainable_blocks": session.config.trainable_blocks,
        "augmentation": augmentation_key(TASKS.named(session.config.task).style)
        if session.config.tta
        else "",
    }


def _note_trials_in_parts(study: optuna.Study) -> list[str]:
    trials = study.get_trials(deepcopy=False)
    sizes = [trial.user_attrs["micro_batch"] for trial in trials if CHANGES in trial.user_attrs]
    if not sizes:
        return []
    return [
        f"memory ran out in {len(sizes)} of {len(trials)} trials, so their batches were divided "
        f"into parts of at least {min(sizes)} images and their gradients added; batch "
        "normalisation used the parts"
    ]


def _note_failures(study: optuna.Study) -> list[str]:
    trials = study.get_trials(deepcopy=False)
    causes = [trial.user_attrs[FAILURE] for trial in trials if BY_MACHINE in trial.user_attrs]
    if not causes:
        return []
    return [
        f"{len(causes)} of {len(trials)} trials failed for lack of memory or by a fault of the "
        f"machine, also when they were run again alone, and count as failed; the first: {causes[0]}"
    ]


def _predict_test(test: Dataset, fold: OuterFold, chosen: TrialModel) -> Predictions:
    calibrated = chosen.decision.calibrate(chosen.fitted.predict(test.features))
    return _make_predictions(
        test, [fold.name] * len(test), fold.repeat, calibrated, chosen.decision
    )


def _predict_validation(train: TrainSide, fold: OuterFold, chosen: TrialModel) -> Predictions:
    rows = train.select([name for inner in fold.inner for name in inner.val])
    names = [inner.name for inner in fold.inner for _ in inner.val]
    calibrated = chosen.decision.calibrate(np.concatenate(chosen.out_of_fold))
    return _make_predictions(rows, names, fold.repeat, calibrated, chosen.decision)


def _make_predictions(
    rows: Dataset, folds: Sequence[str], repeat: int, calibrated: FloatArray, decision: Decision
) -> Predictions:
    return Predictions(
        rows.ids,
        rows.patients,
        np.array(folds),
        np.full(len(rows), repeat),
        rows.labels,
        calibrated,
        decision.decide(calibrated),
        rows.classes,
        rows.groups,
    )


def _make_result(
    session: Session,
    fold: OuterFold,
    best: optuna.trial.FrozenTrial,
    chosen: TrialModel,
    test: Predictions | None,
    trials: dict[str, int],
) -> FoldResult:
    return FoldResult(
        name=fold.name,
        repeat=fold.repeat,
        train_images=len(fold.train),
        test_images=len(fold.test),
        train_patients=len(fold.train_patients),
        test_patients=len(fold.test_patients),
        params=best.params,
        epochs=chosen.replay.epochs,
        inner_score=float(best.value or 0.0),
        temperature=chosen.decision.temperature,
        shift=chosen.decision.shift,
        threshold=chosen.decision.threshold,
        resampled=tuple(round(count) for count in chosen.resampled.tolist()),
        history=chosen.replay.history,
        validation=_predict_validation(fold.train_side(session.data), fold, chosen),
        test=test,
        trials=trials,
        notes=(*chosen.notes, *_note_one_class(test)),
        scores_a_row=2 if chosen.second else 1,
    )


def _note_one_class(test: Predictions | None) -> list[str]:
    if test is None or len(np.unique(test.predicted)) > 1 or len(np.unique(test.labels)) < 2:
        return []
    name = test.classes[int(test.predicted[0])]
    return [f"every one of the {len(test)} test images was classified as {name}"]
