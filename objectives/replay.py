"""What the end of a study needs of a trial: kept as it trained, or trained once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from outerfold.objectives.choice import OpenEpochs, choose_epoch
from outerfold.objectives.measures.decisions import decision_scores
from outerfold.objectives.metrics import METRICS
from outerfold.pipelines._base import Epoch, Fitted, RecordableTraining, Training
from outerfold.storage.records import EpochRow, FloatArray, IntArray

HELD_BYTES = 1 << 25
"""Bytes of probabilities held before their history rows are computed. Rows are needed of a trial
that is kept alone, and for a few thousand images a row takes longer than its probabilities are
worth in memory."""


@dataclass(frozen=True, eq=False)
class Replay:
    """Networks of a trial and what they scored, which a search discards.

    Attributes:
        epochs: number of epochs that the trial chose.
        fitted: networks of all inner folds after ``epochs`` epochs, in the order of
            ``repeat_folds``.
        resampled: (classes,) images of each class in one epoch, mean over the inner folds.
        score: value of the trial's own network; it repeats the value of the search.
        probabilities: one array (val rows, classes) for each inner fold, the mean of the networks
            after ``epochs`` epochs.
        history: one row for each epoch of the trial, for the mean of the networks.
        notes: sentences on the resampling of the inner folds, each once.
    """

    epochs: int
    fitted: Fitted
    resampled: FloatArray
    score: float
    probabilities: tuple[FloatArray, ...]
    history: tuple[EpochRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Recorded:
    """A ``Replay`` of one network a fold whose networks are weights alone, by name."""

    epochs: int
    weights: Mapping[str, Tensor]
    resampled: FloatArray
    score: float
    probabilities: tuple[FloatArray, ...]
    history: tuple[EpochRow, ...]
    notes: tuple[str, ...]


class Recording:
    """Recording of a training while it runs, so that it need not be trained once more.

    It holds the weights of the epochs that may still be chosen, which are two or three.

    Args:
        training: the training of all inner folds.
        labels: class indices (val rows,) of each inner fold.
        maximise: whether a higher mean over folds is better.
    """

    def __init__(
        self, training: RecordableTraining, labels: Sequence[IntArray], *, maximise: bool
    ) -> None:
        self._training, self._labels, self._maximise = training, labels, maximise
        self._open = OpenEpochs(maximise=maximise)
        self._means: list[float] = []
        self._weights: dict[int, dict[str, Tensor]] = {}
        self._probabilities: dict[int, tuple[FloatArray, ...]] = {}
        self._spare: list[dict[str, Tensor]] = []
        self._waiting: list[Epoch] = []
        self._history: list[EpochRow] = []

    def add(self, epoch: Epoch, mean: float) -> None:
        """Add an epoch that was just trained, with its mean score over folds."""
        self._means.append(mean)
        still_open = self._open.add(mean)
        for number in set(self._weights) - still_open:
            self._spare.append(self._weights.pop(number))
            del self._probabilities[number]
        self._weights[epoch.number] = self._copy_weights()
        self._probabilities[epoch.number] = epoch.probabilities
        self._waiting.append(epoch)
        size = sum(fold.nbytes for fold in epoch.probabilities)
        if size * len(self._waiting) > HELD_BYTES:
            self._compute_history()

    def end(self) -> Recorded:
        """Return what the chosen epoch gave, once the training has ended."""
        best, score = choose_epoch(np.array(self._means), maximise=self._maximise)
        self._compute_history()
        classes = self._probabilities[best][0].shape[1]
        resampled, notes = describe_resampling(self._training, len(self._labels), classes)
        return Recorded(
            best,
            {name: value.cpu() for name, value in self._weights[best].items()},
            resampled,
            score,
            self._probabilities[best],
            tuple(self._history),
            notes,
        )

    def _copy_weights(self) -> dict[str, Tensor]:
        now = self._training.weights()
        held = self._spare.pop() if self._spare else {k: torch.empty_like(now[k]) for k in now}
        for name, value in now.items():
            held[name].copy_(value)
        return held

    def _compute_history(self) -> None:
        self._history += [history_row(self._labels, epoch) for epoch in self._waiting]
        self._waiting.clear()


def describe_resampling(
    training: Training, folds: int, classes: int
) -> tuple[FloatArray, tuple[str, ...]]:
    """Images of each class in one epoch, (classes,) mean over ``folds``, and notes, each once."""
    rows = [training.delivered(at) for at in range(folds)]
    resampled: FloatArray = np.mean([one.seen(classes) for one in rows], axis=0)
    return resampled, tuple(dict.fromkeys(one.note for one in rows))


def history_row(labels: Sequence[IntArray], epoch: Epoch) -> EpochRow:
    """Scores of one epoch, the mean over inner folds.

    Args:
        labels: class indices (val rows,) of each fold.
        epoch: the epoch of these folds.
    """
    scores = []
    for own, probabilities in zip(labels, epoch.probabilities, strict=True):
        decided = decision_scores(own, probabilities.argmax(axis=1), probabilities.shape[1])
        auc = METRICS["roc_auc"].score(own, probabilities)
        scores.append((decided["accuracy"], decided["f1"], auc))
    accuracy, f1, roc_auc = np.mean(scores, axis=0).tolist()
    return EpochRow(
        epoch.number,
        float(epoch.fit_loss.mean()),
        float(epoch.val_loss.mean()),
        accuracy,
        f1,
        roc_auc,
    )
