"""Inner objective: scores one configuration on inner folds that train together, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.trial import BaseTrial

from outerfold.objectives.choice import choose_epoch
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.pruning import CURVE, compares_folds
from outerfold.objectives.replay import (
    Recorded,
    Recording,
    Replay,
    describe_resampling,
    history_row,
)
from outerfold.objectives.spaces import Space
from outerfold.pipelines._base import Epoch, Pipeline, RecordableTraining, Training
from outerfold.pipelines.rows.training_rows import ImageSource, Sources, TrainingRows, source_of
from outerfold.pipelines.training.heads import load_heads
from outerfold.storage.records import FloatArray, Fold, TrainSide
from outerfold.storage.seeds import derive_seed


@dataclass(frozen=True)
class Protocol:
    """Length of training and metric of the search.

    Attributes:
        metric: a key of ``METRICS``.
        epochs: largest number of epochs of a trial.
        patience: number of epochs without a new best fold mean after which a trial ends.
        tta: number of augmented views; the probability of a scored row is averaged over them and
            the image itself. The search and the test must score by the same rule; otherwise the
            difference between their scores would not measure the optimism of the search.
    """

    metric: str
    epochs: int
    patience: int
    tta: int = 0


class InnerObjective:
    """Objective that scores a trial by the mean over inner folds, on their validation rows.

    It receives the training side of one outer fold and nothing else, so it cannot see a test row.

    Args:
        train: the training side; only ``OuterFold.train_side`` makes one.
        folds: inner folds of ``train``.
        source: frozen representations of its images, one source for each encoder.
        space: function that turns a trial into a pipeline.
        protocol: length of training and metric.
        seed: seed of this study; each trial's seed is derived from it and the trial's number.
        device: ``cpu`` or ``cuda:N``.
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
        self._maximise = self.metric.direction == "maximize"
        self._labels = [train.select(fold.val).labels for fold in folds]
        self._rows: dict[tuple[str, bool, int], TrainingRows] = {}

    def __call__(self, trial: optuna.Trial) -> float:
        """Train one trial; return its value. See ``run``."""
        return self.run(trial)[0]

    def run(self, trial: optuna.Trial, *, record: bool = False) -> tuple[float, Recording | None]:
        """Train one trial; return the smoothed fold mean of its best epoch, in the metric's unit.

        With ``record`` its recording is returned, too, if this kind of training can be recorded.

        It sets the user attributes ``epochs`` (the best epoch), ``length`` (epochs trained) and
        ``fold_scores`` (of the best epoch) on the trial, and the training's ``remarks``. Where the
        pruner compares folds, ``curve`` (fold scores of every epoch) is set, too.

        Raises:
            optuna.TrialPruned: the pruner stopped the trial because of a fold mean.
            TrainingDiverged: a loss or a probability is no longer a finite number.
        """
        training = self._start_training(trial)
        recording = None
        if record and isinstance(training, RecordableTraining):
            recording = Recording(training, self._labels, maximise=self._maximise)
        try:
            curve = self._train(trial, training, recording)
        finally:
            for name, remark in training.remarks().items():
                trial.set_user_attr(name, remark)
        best, value = self._choose_epoch(curve)
        trial.set_user_attr("epochs", best)
        trial.set_user_attr("length", len(curve))
        trial.set_user_attr("fold_scores", curve[best - 1].tolist())
        return value, recording

    def _train(
        self, trial: optuna.Trial, training: Training, recording: Recording | None
    ) -> list[FloatArray]:
        """Train until the patience ends and return the fold scores (folds,) of every epoch."""
        curve: list[FloatArray] = []
        keeps_folds = compares_folds(trial.study.pruner)
        for epoch in training:
            curve.append(self._score_folds(epoch.probabilities))
            trial.report(float(curve[-1].mean()), epoch.number)
            if recording is not None:
                recording.add(epoch, float(curve[-1].mean()))
            if keeps_folds:  # no other pruner reads it, and it is the larger part of a trial
                trial.set_user_attr(CURVE, np.array(curve).tolist())
            if self._out_of_patience(curve):
                break
            if epoch.number < self.protocol.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return curve

    def replay(self, trial: BaseTrial, *, epochs: int, length: int, networks: int = 1) -> Replay:
        """Train a finished trial's configuration again for ``length`` epochs.

        Args:
            trial: the finished trial.
            epochs: number of epochs that the trial chose; at most ``length``.
            length: number of epochs that it trained.
            networks: number of networks that are trained in each fold and averaged; the first is
                the trial's own, the others differ only in their seeds.
        """
        curve, history = [], []
        training = self._start_training(trial, networks)
        everyone = range(len(self.folds) * networks)
        for members in training:
            epoch = average_networks(members, networks)
            curve.append(self._score_folds(members.probabilities[: len(self.folds)]))
            history.append(history_row(self._labels, epoch))
            if epoch.number == epochs:
                kept, fitted = epoch.probabilities, training.fitted(*everyone)
            if epoch.number == length:
                break
        resampled, notes = describe_resampling(training, len(self.folds), len(self.train.classes))
        score = self._choose_epoch(curve)[1]
        return Replay(epochs, fitted, resampled, score, kept, tuple(history), notes)

    def with_folds(self, folds: Sequence[Fold]) -> InnerObjective:
        """The same objective on other folds of the same training rows."""
        return InnerObjective(
            self.train,
            folds,
            self.source,
            self.space,
            protocol=self.protocol,
            seed=self.seed,
            device=self.device,
        )

    def score_out_of_fold(
        self, trial: BaseTrial, *, epochs: int, networks: int = 1
    ) -> tuple[FloatArray, ...]:
        """Train a finished trial's configuration for ``epochs`` epochs; return its scores alone.

        Args:
            trial: the finished trial.
            epochs: number of epochs.
            networks: number of networks of each fold, see ``replay``.

        Returns:
            One array (val rows, classes) for each fold, the mean of its networks.

        Raises:
            TrainingDiverged: a loss or a probability is no longer a finite number.
        """
        for members in self._start_training(trial, networks):
            if members.number == epochs:
                break
        return average_networks(members, networks).probabilities

    def restore(self, trial: BaseTrial, recorded: Recorded) -> Replay:
        """What ``replay`` would return for one network a fold, from a recording of the trial."""
        pipeline = self.space(trial)
        folds = range(len(self.folds))
        fitted = load_heads(pipeline.network, self.rows(pipeline), folds, recorded.weights)
        return Replay(
            recorded.epochs,
            fitted,
            recorded.resampled,
            recorded.score,
            recorded.probabilities,
            recorded.history,
            recorded.notes,
        )

    def rows(self, pipeline: Pipeline, networks: int = 1) -> TrainingRows:
        """Training side in the form that this pipeline reads; prepared once for all trials."""
        key = pipeline.encoder, pipeline.tokens, networks
        if key not in self._rows:
            self._rows[key] = TrainingRows(
                self.train,
                repeat_folds(self.folds, networks),
                self.source_of(pipeline),
                tokens=pipeline.tokens,
                seed=self.seed,
                tta=self.protocol.tta,
            )
        return self._rows[key]

    def source_of(self, pipeline: Pipeline) -> ImageSource:
        """Source of the image representations that this pipeline reads."""
        return source_of(self.source, pipeline.encoder)

    def _start_training(self, trial: BaseTrial, networks: int = 1) -> Training:
        pipeline = self.space(trial)
        return pipeline.start(
            self.rows(pipeline, networks),
            budget=self.protocol.epochs,
            seed=derive_seed(self.seed, "trial", trial.number),
            device=self.device,
        )

    def _score_folds(self, probabilities: Sequence[FloatArray]) -> FloatArray:
        pairs = zip(self._labels, probabilities, strict=True)
        return np.array([self.metric.score(labels, scores) for labels, scores in pairs])

    def _out_of_patience(self, curve: Sequence[FloatArray]) -> bool:
        means = np.array([scores.mean() for scores in curve])
        best = int(means.argmax() if self._maximise else means.argmin())
        return len(curve) - 1 - best >= self.protocol.patience

    def _choose_epoch(self, curve: Sequence[FloatArray]) -> tuple[int, float]:
        means = np.array([scores.mean() for scores in curve])
        return choose_epoch(means, maximise=self._maximise)


def repeat_folds(folds: Sequence[Fold], networks: int) -> list[Fold]:
    """Return the folds, then ``networks`` - 1 copies of each under other names, so other seeds.

    The copies have the same rows. Seeds are derived from a fold's name.
    """
    others = range(2, networks + 1)
    copied = [replace(fold, name=f"{fold.name}, network {i}") for i in others for fold in folds]
    return [*folds, *copied]


def average_networks(epoch: Epoch, networks: int) -> Epoch:
    """Average an epoch of ``repeat_folds`` over the networks of each fold.

    Args:
        epoch: epoch of ``networks`` * folds networks, in the order of ``repeat_folds``.
        networks: number of networks of each fold.
    """
    folds = len(epoch.probabilities) // networks
    return Epoch(
        epoch.number,
        epoch.fit_loss.reshape(networks, folds).mean(0),
        epoch.val_loss.reshape(networks, folds).mean(0),
        tuple(np.mean(epoch.probabilities[fold::folds], axis=0) for fold in range(folds)),
    )
