"""The inner objective: one configuration scored by folds that advance epoch by epoch together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.trial import BaseTrial

from outerfold.objectives.metrics import METRICS, decision_scores
from outerfold.objectives.spaces import Space
from outerfold.pipelines._base import Epoch, Pipeline, Training
from outerfold.pipelines.rows.training_rows import ImageSource, Sources, TrainingRows, source_of
from outerfold.storage.records import EpochRow, FloatArray, Fold, TrainSide
from outerfold.storage.seeds import derive

SMOOTHING = 3
"""Epochs averaged before the best is chosen; the largest of many noisy means flatters."""


@dataclass(frozen=True)
class Protocol:
    """How long folds train and what is searched for.

    Attributes:
        metric: a key of ``METRICS``.
        epochs: most epochs of a trial.
        patience: epochs without a new best fold mean after which a trial ends.
        tta: augmented views over which, with the image itself, a row that scores is averaged.
            The search scores by the same rule as the test, or its optimism would not be one.
    """

    metric: str
    epochs: int
    patience: int
    tta: int = 0


@dataclass(frozen=True, eq=False)
class Replay:
    """The chosen configuration run once more, to keep what a search throws away.

    Attributes:
        epochs: chosen number of epochs, of the mean of the networks.
        score: the value that the trial's own network has again.
        probabilities: for each inner fold (val rows, classes), the mean of the networks after
            ``epochs`` epochs.
        history: every epoch the trial ran, of the mean of the networks.
    """

    epochs: int
    score: float
    probabilities: tuple[FloatArray, ...]
    history: tuple[EpochRow, ...]


class InnerObjective:
    """Scores a trial by the mean over inner folds, on rows those folds did not train on.

    It is given the training side of one outer fold and nothing else, so it cannot see a test row.

    Args:
        train: the training side; only ``OuterFold.train_side`` makes one.
        folds: cut from ``train``.
        source: frozen representations of its images, by each encoder where there are several.
        space: what a trial's parameters mean.
        seed: of this study; a trial's own seed is derived from it and the trial's number.
    """

    def __init__(
        self,
        train: TrainSide,
        folds: Sequence[Fold],
        source: Sources,
        space: Space,
        *,
        protocol: Protocol,
        seed: int,
        device: str,
    ) -> None:
        self.train, self.folds, self.source, self.space = train, folds, source, space
        self.protocol, self.seed, self.device = protocol, seed, device
        self.metric = METRICS[protocol.metric]
        self._labels = [train.select(fold.val).labels for fold in folds]
        self._rows: dict[tuple[str, bool, int], TrainingRows] = {}

    def __call__(self, trial: optuna.Trial) -> float:
        """The best epoch's smoothed fold mean, in the metric's own unit.

        Sets ``epochs`` (that epoch), ``length`` (epochs trained) and ``fold_scores`` on the trial,
        and what the training remarks on itself.

        Raises:
            optuna.TrialPruned: given up on a fold mean.
            TrainingDiverged: a probability is no longer a number.
        """
        training = self._start(trial)
        try:
            curve = self._train(trial, training)
        finally:
            for name, remark in training.remarks().items():
                trial.set_user_attr(name, remark)
        best, value = self._best(curve)
        trial.set_user_attr("epochs", best)
        trial.set_user_attr("length", len(curve))
        trial.set_user_attr("fold_scores", curve[best - 1].tolist())
        return value

    def _train(self, trial: optuna.Trial, training: Training) -> list[FloatArray]:
        """Fold scores of every epoch until patience ends."""
        curve: list[FloatArray] = []
        for epoch in training:
            curve.append(self._fold_scores(epoch.probabilities))
            trial.report(float(curve[-1].mean()), epoch.number)
            if self._out_of_patience(curve):
                break
            if epoch.number < self.protocol.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return curve

    def replay(self, trial: BaseTrial, *, length: int, networks: int = 1) -> Replay:
        """Run a finished trial's configuration again for ``length`` epochs.

        Args:
            networks: trained in each fold and averaged; the first is the trial's own, the others
                differ in nothing but their seeds.
        """
        own, curve, history, kept = [], [], [], []
        for members in self._start(trial, networks):
            epoch = average_networks(members, networks)
            own.append(self._fold_scores(members.probabilities[: len(self.folds)]))
            curve.append(self._fold_scores(epoch.probabilities))
            history.append(self._row(epoch))
            kept.append(epoch.probabilities)
            if epoch.number == length:
                break
        best, _ = self._best(curve)
        return Replay(best, self._best(own)[1], kept[best - 1], tuple(history))

    def rows(self, pipeline: Pipeline, networks: int = 1) -> TrainingRows:
        """The training side as this pipeline reads it; prepared once, kept for later trials."""
        key = pipeline.encoder, pipeline.tokens, networks
        if key not in self._rows:
            self._rows[key] = TrainingRows(
                self.train,
                copies(self.folds, networks),
                self.source_of(pipeline),
                tokens=pipeline.tokens,
                seed=self.seed,
                tta=self.protocol.tta,
            )
        return self._rows[key]

    def source_of(self, pipeline: Pipeline) -> ImageSource:
        """Where the images are represented as this pipeline reads them."""
        return source_of(self.source, pipeline.encoder)

    def _start(self, trial: BaseTrial, networks: int = 1) -> Training:
        pipeline = self.space(trial)
        return pipeline.start(
            self.rows(pipeline, networks),
            budget=self.protocol.epochs,
            seed=derive(self.seed, "trial", trial.number),
            device=self.device,
        )

    def _fold_scores(self, probabilities: Sequence[FloatArray]) -> FloatArray:
        pairs = zip(self._labels, probabilities, strict=True)
        return np.array([self.metric.score(labels, scores) for labels, scores in pairs])

    def _upwards(self, curve: Sequence[FloatArray]) -> FloatArray:
        means = np.array([scores.mean() for scores in curve])
        return means if self.metric.direction == "maximize" else -means

    def _out_of_patience(self, curve: Sequence[FloatArray]) -> bool:
        return len(curve) - 1 - int(self._upwards(curve).argmax()) >= self.protocol.patience

    def _best(self, curve: Sequence[FloatArray]) -> tuple[int, float]:
        smooth = smoothed(self._upwards(curve))
        best = int(smooth.argmax())
        return best + 1, float(abs(smooth[best]))

    def _row(self, epoch: Epoch) -> EpochRow:
        scores = []
        for labels, probabilities in zip(self._labels, epoch.probabilities, strict=True):
            decided = decision_scores(labels, probabilities.argmax(axis=1), probabilities.shape[1])
            auc = METRICS["roc_auc"].score(labels, probabilities)
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


def copies(folds: Sequence[Fold], networks: int) -> list[Fold]:
    """The folds, then the same rows under other names, whose training draws other seeds."""
    others = range(2, networks + 1)
    again = [replace(fold, name=f"{fold.name}, network {i}") for i in others for fold in folds]
    return [*folds, *again]


def average_networks(epoch: Epoch, networks: int) -> Epoch:
    """An epoch of ``copies`` as one of the folds, each the mean of its networks."""
    folds = len(epoch.probabilities) // networks
    return Epoch(
        epoch.number,
        epoch.fit_loss.reshape(networks, folds).mean(0),
        epoch.val_loss.reshape(networks, folds).mean(0),
        tuple(np.mean(epoch.probabilities[fold::folds], axis=0) for fold in range(folds)),
    )


def smoothed(curve: FloatArray) -> FloatArray:
    """Centred mean of ``SMOOTHING`` epochs, of as many as there are at either end, (epochs,)."""
    reach = SMOOTHING // 2
    windows = (curve[max(0, i - reach) : i + reach + 1] for i in range(len(curve)))
    return np.array([window.mean() for window in windows])
