"""Recordings of trials between the worker that trained them and the one that ends their study."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial

from outerfold.objectives.choice import best_candidate
from outerfold.objectives.replay import Recorded, Recording
from outerfold.storage.records import EpochRow
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import is_finished
from outerfold.storage.trials.recordings import (
    list_recordings,
    read_recording,
    remove_all_recordings,
    remove_recordings,
    write_recording,
)

_log = logging.getLogger("outerfold")

DEFAULT_TRIAL = 0
"""Number of the trial with the default configuration, which the end of an outer fold needs, too."""


def keep_recording(
    folder: RunFolder, name: str, study: optuna.Study, trial: FrozenTrial, recording: Recording
) -> None:
    """Write the recording of a complete trial, if the end of its study may need it.

    Args:
        folder: the run directory.
        name: name of the study.
        study: the study as the trial saw it, with the trial itself.
        trial: the complete trial.
        recording: recording of its training.
    """
    if trial.number not in _needed(study):
        return
    try:
        write_recording(folder, name, trial.number, _pack(trial, recording.end()))
    except OSError as error:  # a full disk, for example: the trial is then trained once more
        _log.warning("%s trial %d: its recording was not kept (%s)", name, trial.number, error)


def load_recording(folder: RunFolder, name: str, trial: FrozenTrial) -> Recorded | None:
    """Recording of this trial; None if there is none, or it is damaged or of another training."""
    contents = read_recording(folder, name, trial.number)
    if contents is None:
        return None
    kept = torch.load(BytesIO(contents), weights_only=True)
    if kept.pop("trial") != _identify(trial):
        return None
    return Recorded(
        epochs=kept["epochs"],
        weights=kept["weights"],
        resampled=kept["resampled"].numpy(),
        score=kept["score"],
        probabilities=tuple(fold.numpy() for fold in kept["probabilities"]),
        history=tuple(EpochRow(**row) for row in kept["history"]),
        notes=tuple(kept["notes"]),
    )


def discard_recordings(folder: RunFolder, name: str, study: optuna.Study) -> None:
    """Remove the recordings that the end of a study cannot need any more.

    Recordings of trials that are not in the storage yet are left alone.

    Args:
        folder: the run directory.
        name: name of the study.
        study: the study in the trial storage.
    """
    if is_finished(folder, name):
        remove_all_recordings(folder, name)
    elif list_recordings(folder, name):
        ended = {trial.number for trial in study.get_trials(deepcopy=False)}
        remove_recordings(folder, name, ended - _needed(study))


def _needed(study: optuna.Study) -> set[int]:
    """Numbers of the trials whose models the end of the study would make if it came now."""
    best = best_candidate(study)
    return {DEFAULT_TRIAL} if best is None else {DEFAULT_TRIAL, best.number}


def _pack(trial: FrozenTrial, recorded: Recorded) -> bytes:
    contents: dict[str, Any] = {
        "trial": _identify(trial),
        "epochs": recorded.epochs,
        "weights": dict(recorded.weights),
        "resampled": torch.from_numpy(recorded.resampled),
        "score": recorded.score,
        "probabilities": [torch.from_numpy(fold) for fold in recorded.probabilities],
        "history": [asdict(row) for row in recorded.history],
        "notes": list(recorded.notes),
    }
    packed = BytesIO()
    torch.save(contents, packed)
    return packed.getvalue()


def _identify(trial: FrozenTrial) -> Mapping[str, Any]:
    attributes = trial.user_attrs
    return {
        "params": trial.params,
        "value": trial.value,
        **{name: attributes[name] for name in ("epochs", "length", "fold_scores")},
    }
