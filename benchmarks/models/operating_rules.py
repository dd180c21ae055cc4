"""Ways to choose, calibrate, decide and average, tried on searches of which every epoch is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from benchmarks.shared.kept_searches import KeptSearch, KeptTrial
from outerfold.objectives.choice import SMOOTHING, smoothed
from outerfold.objectives.measures.ranks import roc_auc
from outerfold.pipelines.fitted.calibration import Rule, fit_threshold
from outerfold.pipelines.fitted.scaling import fit_scaling, scale_logs
from outerfold.storage.records import BoolArray, FloatArray, IntArray

MEASURES = (
    "ROC-AUC",
    "Brier score",
    "balanced accuracy",
    "sensitivity",
    "specificity",
    "sensitivity minus out-of-fold",
    "specificity minus out-of-fold",
    "calibration slope",
)
Calibrate = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Way:
    """One way from a kept search to a model.

    Attributes:
        name: name in the table.
        epoch: a key of ``EPOCHS``.
        near_trials: whether the trial with the smallest cross-fitted log loss is taken among those
            within a standard error of the best, instead of the best.
        calibration: a key of ``CALIBRATIONS``.
        threshold: rule of the threshold.
        model: ``refit``, or how the inner folds' networks are averaged: ``mean`` of probabilities
            with one calibration, ``logits`` likewise, ``each`` with a calibration of its own, or
            ``common`` with one calibration before the mean.
        networks: networks averaged for each fold or for the refit; 0 for all that were kept.
    """

    name: str
    epoch: str = "best smoothed mean"
    near_trials: bool = False
    calibration: str = "ridge 1"
    threshold: Rule = "prevalence"
    model: str = "mean"
    networks: int = 1


def measure(search: KeptSearch, way: Way) -> FloatArray:
    """The ``MEASURES`` of one way on the patients that were not drawn."""
    trial = _choose_trial(search, way)
    epoch = EPOCHS[way.epoch](search, trial)
    used = way.networks or trial.inner.shape[1]
    own = trial.inner[epoch, :used].mean(0).astype(np.float64)
    if way.model == "refit":
        new = trial.refit[epoch, :used].mean(0)[None].astype(np.float64)
    else:
        new = trial.folds[epoch, :used].mean(0).astype(np.float64)
    known, scored = _average(search, own, new, way)
    threshold = fit_threshold(search.labels == 1, known, way.threshold, 0.9)
    before, after = (
        ((p[y == 1] >= threshold).mean(), (p[y == 0] < threshold).mean())
        for y, p in ((search.labels, known), (search.others, scored))
    )
    y = search.others
    steepness = LogisticRegression(C=1e6).fit(_odds(scored)[:, None], y).coef_[0, 0]
    found = [roc_auc(y == 1, scored), ((scored - y) ** 2).mean(), np.mean(after), *after]
    return np.array([*found, *np.subtract(after, before), steepness])


def _average(
    search: KeptSearch, own: FloatArray, new: FloatArray, way: Way
) -> tuple[FloatArray, FloatArray]:
    """Calibrated probabilities of the drawn rows (rows,) and of the others (others,).

    Args:
        own: (rows,) out-of-fold.
        new: (folds, others), or (1, others) for a refit.
    """
    fit, labels = CALIBRATIONS[way.calibration], search.labels
    if way.model == "each":
        known, each = np.empty(len(own)), []
        for k, scored in enumerate(new):
            mine = search.fold == k
            calibrate = fit(labels[mine], own[mine])
            known[mine] = calibrate(own[mine])
            each.append(calibrate(scored))
        return known, np.mean(each, axis=0)
    calibrate = fit(labels, own)
    if way.model == "common":
        return calibrate(own), np.mean([calibrate(scored) for scored in new], axis=0)
    mean = expit(np.mean(_odds(new), axis=0)) if way.model == "logits" else new.mean(0)
    return calibrate(own), calibrate(mean)


def _choose_trial(search: KeptSearch, way: Way) -> KeptTrial:
    epochs = [EPOCHS[way.epoch](search, trial) for trial in search.trials]
    pairs = list(zip(search.trials, epochs, strict=True))
    scores = np.array([_smooth_scores(search, trial)[epoch] for trial, epoch in pairs])
    if not way.near_trials:
        return search.trials[int(scores.mean(1).argmax())]
    losses = [_losses(search, trial, [epoch])[0] for trial, epoch in pairs]
    return search.trials[int(np.where(_within_error(scores), losses, np.inf).argmin())]


def _smooth_scores(search: KeptSearch, trial: KeptTrial, width: int = SMOOTHING) -> FloatArray:
    """ROC-AUC (epochs, folds) of the trial's own networks, smoothed over epochs."""
    folds = np.unique(search.fold)
    scores = np.array(
        [
            [roc_auc(search.labels[at] == 1, row[at]) for at in (search.fold == k for k in folds)]
            for row in trial.inner[:, 0].astype(np.float64)
        ]
    )
    if width == SMOOTHING:
        return np.stack([smoothed(column) for column in scores.T], axis=1)
    reach = width // 2
    windows = (scores[max(0, i - reach) : i + reach + 1] for i in range(len(scores)))
    return np.array([window.mean(0) for window in windows])


def _within_error(scores: FloatArray) -> BoolArray:
    """Rows (n, folds) whose paired difference from the best is within its standard error."""
    best = int(scores.mean(1).argmax())
    apart = scores[best] - scores
    return np.asarray(apart.mean(1) <= apart.std(1, ddof=1) / np.sqrt(scores.shape[1]))


def _losses(search: KeptSearch, trial: KeptTrial, epochs: list[int]) -> FloatArray:
    """Mean log loss of these epochs, each fold's rows calibrated on the other folds."""
    found = np.empty(len(epochs))
    for i, epoch in enumerate(epochs):
        own, loss = trial.inner[epoch, 0].astype(np.float64), np.empty(len(search.labels))
        for k in np.unique(search.fold):
            mine = search.fold == k
            p = _ridge(search.labels[~mine], own[~mine])(own[mine])
            loss[mine] = -np.log(np.where(search.labels[mine] == 1, p, 1 - p))
        found[i] = loss.mean()
    return found


def _least_loss(search: KeptSearch, trial: KeptTrial, *, near: bool) -> int:
    scores = _smooth_scores(search, trial)
    epochs = np.flatnonzero(_within_error(scores) if near else np.ones(len(scores), bool)).tolist()
    return int(epochs[int(_losses(search, trial, epochs).argmin())])


EPOCHS: dict[str, Callable[[KeptSearch, KeptTrial], int]] = {
    "best smoothed mean": lambda s, t: int(_smooth_scores(s, t).mean(1).argmax()),
    "smoothed over 5": lambda s, t: int(_smooth_scores(s, t, 5).mean(1).argmax()),
    "smoothed over 7": lambda s, t: int(_smooth_scores(s, t, 7).mean(1).argmax()),
    "median of folds": lambda s, t: int(np.median(_smooth_scores(s, t), axis=1).argmax()),
    "least log loss": lambda s, t: _least_loss(s, t, near=False),
    "least log loss within a standard error": lambda s, t: _least_loss(s, t, near=True),
}
"""Rules that choose an epoch, counted from 0, from the trial's own networks."""


def _two(p: FloatArray) -> FloatArray:
    return np.stack([1 - p, p], axis=1)


def _odds(p: FloatArray) -> FloatArray:
    near = np.clip(p, 1e-7, 1 - 1e-7)
    return np.log(near) - np.log1p(-near)


def _ridge(labels: IntArray, p: FloatArray) -> Calibrate:
    """The project's own fit."""
    found = fit_scaling(labels, _two(p))
    return lambda q: scale_logs(_two(q), found.temperature, found.shift)[:, 1]


def _logistic(penalty: float) -> Callable[[IntArray, FloatArray], Calibrate]:
    """Logistic regression of standardised log-odds; ``penalty`` on the slope, in rows."""

    def fit(labels: IntArray, p: FloatArray) -> Calibrate:
        odds = _odds(p)
        mean, spread = odds.mean(), odds.std() + 1e-9
        model = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=1000)
        model.fit(((odds - mean) / spread)[:, None], labels)
        return lambda q: model.predict_proba(((_odds(q) - mean) / spread)[:, None])[:, 1]  # type: ignore[no-any-return]

    return fit


def _beta(labels: IntArray, p: FloatArray) -> Calibrate:
    """Beta calibration (Kull, Silva Filho & Flach 2017)."""

    def design(q: FloatArray) -> FloatArray:
        return np.stack([np.log(np.clip(q, 1e-7, 1)), -np.log(np.clip(1 - q, 1e-7, 1))], axis=1)

    model = LogisticRegression(C=100, max_iter=1000).fit(design(p), labels)
    return lambda q: model.predict_proba(design(q))[:, 1]  # type: ignore[no-any-return]


CALIBRATIONS: dict[str, Callable[[IntArray, FloatArray], Calibrate]] = {
    "ridge 1": _ridge,
    "no ridge": _logistic(1e-4),
    "ridge 0.1": _logistic(0.1),
    "ridge 3": _logistic(3.0),
    "beta": _beta,
}
