"""Simulated study: folds, models, decisions, intervals, controls, and the truth of its refit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, stdtrit
from sklearn.linear_model import LogisticRegression

from benchmarks.shared.simulation.cohorts import Cell, Cohort, draw, project
from benchmarks.shared.simulation.learners import (
    OUT,
    Predict,
    fit_all_logistic,
    fit_head,
    fit_trees,
    logistic_probabilities,
)
from outerfold.objectives.measures.decisions import class_scores, confusion
from outerfold.objectives.measures.ranks import roc_auc, weighted_auc
from outerfold.objectives.metrics import METRICS, all_scores
from outerfold.reports.analyses.calibration_slope import TINY
from outerfold.reports.analyses.operating_points import (
    fixed_points,
    likelihood_ratios,
    sensitivity_at,
    specificity_at,
)
from outerfold.reports.analyses.recalibration import recalibration
from outerfold.reports.intervals.bootstrap import without_bias
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.jackknife import jackknife_interval
from outerfold.reports.intervals.leave_one_out import class_leave_outs, overall_leave_outs
from outerfold.reports.intervals.overall import (
    ConfidenceInterval,
    fixed_models,
    nadeau_bengio,
    overall,
    per_class,
)
from outerfold.reports.intervals.support import class_support, overall_support
from outerfold.reports.results.predictions import join_predictions
from outerfold.storage.records import WITHOUT, FloatArray, IntArray, Predictions

FOLDS, INNER = 5, 4
STRENGTHS = np.geomspace(0.03, 300, 10)
KEPT = (2, 4, 6, 8, 10)
"""Numbers of features kept; with ten penalties they make fifty configurations."""
CONTROLS = (
    "image bootstrap",
    "mean +/- 1.96 sd/sqrt(5)",
    "t over 5 folds",
    "patient bootstrap",
    "Nadeau-Bengio",
)
ANSWERS = (
    "slope",
    "intercept",
    "observed_expected",
    "scaled_brier",
    "lr_positive",
    "lr_negative",
    "sensitivity_at_90_specificity",
    "specificity_at_90_sensitivity",
)
"""Numbers of the report besides its metrics, for two classes."""


@dataclass(frozen=True, eq=False)
class Study:
    """Results of one study, and the truth.

    Attributes:
        metrics: names of the metrics.
        intervals: (metrics, 3) estimate, low, high by the constant; NaN where there is no interval.
        measured: (metrics, 4) low and high of the delivered model, then of models made this way,
            by the measured variation of models; NaN where there is no interval.
        truth: (metrics,) true performance of the refit on all rows.
        controls: (controls, 2) low and high of two-class ROC-AUC by worse methods; NaN for
            several classes.
        answers: (``ANSWERS``, 6) estimate, low and high of the delivered model, of models made
            this way, and the refit's true value; NaN for several classes.
        fold: (metrics, 3) low and high of the first fold's own model, and its true performance.
        unstable: (metrics,) 1 where the report warns of unstable thresholds, else 0.
        refused: number of earlier draws with too few patients of a class.
    """

    metrics: tuple[str, ...]
    intervals: FloatArray
    measured: FloatArray
    truth: FloatArray
    controls: FloatArray
    answers: FloatArray
    fold: FloatArray
    unstable: FloatArray
    refused: int


@dataclass(frozen=True, eq=False)
class _Models:
    """Out-of-fold probabilities (n, classes), thresholds (folds + 1,) and the truth of two models.

    The last threshold is that of the refit. ``true_probabilities`` are those of the refit in the
    whole population, and ``first_probabilities`` those of the first fold's model. ``inner`` holds
    probabilities (folds x inner, n, classes) of all rows by the inner folds' models, fold by fold,
    and ``inner_thresholds`` (folds x inner,) their thresholds, which were learnt without them.
    """

    probabilities: FloatArray
    thresholds: FloatArray
    true_labels: IntArray
    true_probabilities: FloatArray
    first_probabilities: FloatArray
    inner: FloatArray
    inner_thresholds: FloatArray


@dataclass(frozen=True, eq=False)
class _Choice:
    """Choice of a study's inner folds: its penalty (features,), and its threshold.

    ``inner`` (rows of the study,) is the inner fold of each row; ``penalties`` (inner, features)
    and ``thresholds`` (inner,) are those of the inner folds' models.
    """

    penalty: FloatArray
    threshold: float
    inner: IntArray
    penalties: FloatArray
    thresholds: FloatArray


def simulate(
    cell: Cell, seed: int, replicate: int, everyone: Cohort, *, whole: bool = True
) -> Study:
    """Simulate one replicate.

    Args:
        cell: the setting.
        seed, replicate: what the draws depend on, besides the name of the setting.
        everyone: ``population(cell)``.
        whole: whether inner folds' models are trained, for ``measured``, ``answers`` and ``fold``,
            which are NaN without them; the other numbers are the same.
    """
    rng = cell.rng(seed, replicate)
    cohort, refused = draw(cell, rng)
    fold = deal(cohort, cell, FOLDS, rng)
    models = _train(cell, cohort, fold, everyone, rng, whole=whole)
    predicted = decide(models.probabilities, models.thresholds[fold])
    predictions = _predictions(cohort, fold, models.probabilities, predicted)
    shown = _printed(cell, predictions)
    truth = _truth(models, models.true_probabilities, models.thresholds[-1])
    names = tuple(name for name in shown if name in truth)
    more = cell.split == "patients" and whole
    inner = _inner_rows(cohort, fold, models) if more else {}
    wide = _measured(cell, predictions, inner) if more else {}
    two = more and cell.classes == 2
    return Study(
        names,
        np.array([_three(shown[name]) for name in names]),
        np.array([_four(wide.get(name)) for name in names]),
        np.array([truth[name] for name in names]),
        _controls(predictions, cohort.patients, rng),
        _answers(predictions, inner, models) if two else np.full((len(ANSWERS), 6), np.nan),
        _first_fold(predictions, models, names) if more else np.full((len(names), 3), np.nan),
        np.array([any("unstable" in note for note in shown[name].notes) for name in names]) * 1.0,
        refused,
    )


def deal(cohort: Cohort, cell: Cell, folds: int, rng: np.random.Generator) -> IntArray:
    """Fold (n,) of each row.

    Patients are distributed over the folds within their class; images are, if the cell leaks.
    """
    unit = cohort.patients if cell.split == "patients" else np.arange(len(cohort.labels))
    names, at = np.unique(unit, return_inverse=True)
    worst = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(worst, at, cohort.labels)
    order = np.lexsort((rng.random(len(names)), worst))
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names)) % folds
    return place[at]


def decide(probabilities: FloatArray, threshold: FloatArray | float) -> IntArray:
    """Predicted class (n,): by the threshold for two classes, else the largest probability."""
    if probabilities.shape[1] > 2:
        return probabilities.argmax(axis=1)
    return (probabilities[:, 1] >= threshold).astype(np.int64)


def youden(labels: IntArray, scores: FloatArray) -> float:
    """Threshold with the largest sensitivity + specificity, halfway to the next lower score."""
    order = np.argsort(-scores)
    ranked, up = scores[order], labels[order] == 1
    gain = np.cumsum(up) / max(up.sum(), 1) - np.cumsum(~up) / max((~up).sum(), 1)
    gain[:-1][ranked[:-1] == ranked[1:]] = -np.inf
    best = int(gain.argmax())
    return float((ranked[best] + ranked[min(best + 1, len(ranked) - 1)]) / 2)


def _train(
    cell: Cell,
    cohort: Cohort,
    fold: IntArray,
    everyone: Cohort,
    rng: np.random.Generator,
    *,
    whole: bool,
) -> _Models:
    seen = np.concatenate([fold != np.arange(FOLDS)[:, None], np.ones((1, len(fold)), dtype=bool)])
    seed = int(rng.integers(2**31))
    choices = []
    for rows in seen:
        side = Cohort(cohort.x[rows], cohort.labels[rows], cohort.patients[rows])
        if cell.choice == "nothing":
            apart = np.random.default_rng([seed, len(choices)])
            choices.append(_fixed(cell, side, deal(side, cell, INNER, apart)))
        else:
            choices.append(_choose(cell, side, deal(side, cell, INNER, rng), seed))
    penalty = np.stack([one.penalty for one in choices])
    thresholds = np.array([one.threshold for one in choices])
    each = np.zeros((0, len(fold), cell.classes))
    if whole:
        each = _inner_probabilities(cell, cohort, seen, choices[:FOLDS], seed)
    inner = each, np.concatenate([one.thresholds for one in choices[:FOLDS]])
    if cell.learner == "logistic":
        return _logistic(cell, cohort, fold, seen, penalty, thresholds, everyone, inner)
    rows = seen.astype(float)
    models = _others(cell, cohort, rows, seed)
    held = np.stack([model(cohort.x) for model in models[:FOLDS]])[fold, np.arange(len(fold))]
    true, first = models[-1](everyone.x), models[0](everyone.x)
    return _Models(held, thresholds, everyone.labels, true, first, *inner)


def _inner_probabilities(
    cell: Cell, cohort: Cohort, seen: FloatArray, choices: list[_Choice], seed: int
) -> FloatArray:
    """Probabilities (folds x inner, n, classes) of all rows by the inner folds' models."""
    fits = np.zeros((FOLDS * INNER, len(cohort.labels)))
    for study, choice in enumerate(choices):
        at = np.flatnonzero(seen[study])
        for k in range(INNER):
            fits[study * INNER + k, at[choice.inner != k]] = 1
    if cell.learner != "logistic":
        return np.stack([model(cohort.x) for model in _others(cell, cohort, fits, seed)])
    penalty = np.concatenate([choice.penalties for choice in choices])
    betas = fit_all_logistic(cohort.x, cohort.labels, fits, penalty, cell.classes)
    return logistic_probabilities(cohort.x, betas)


def _fixed(cell: Cell, side: Cohort, inner: IntArray) -> _Choice:
    """No choice: one penalty, and the share of class 1 among the rows of each model."""
    positive = side.labels == 1
    shares = np.array([positive[inner != k].mean() for k in range(INNER)])
    ones = np.ones(cell.features)
    return _Choice(ones, positive.mean(), inner, np.tile(ones, (INNER, 1)), shares)


def _others(cell: Cell, cohort: Cohort, rows: FloatArray, seed: int) -> list[Predict]:
    if cell.learner == "tree":
        return fit_trees(cohort.x, cohort.labels, rows, seed)
    return fit_head(cohort.x, cohort.labels, rows, cell.classes, seed)


def _logistic(
    cell: Cell,
    cohort: Cohort,
    fold: IntArray,
    seen: FloatArray,
    penalty: FloatArray,
    thresholds: FloatArray,
    everyone: Cohort,
    inner: tuple[FloatArray, FloatArray],
) -> _Models:
    betas = fit_all_logistic(cohort.x, cohort.labels, seen * 1.0, penalty, cell.classes)
    held = logistic_probabilities(cohort.x, betas[:, :FOLDS])[fold, np.arange(len(fold))]
    if cell.classes > 2:
        first, true = logistic_probabilities(everyone.x, betas[:, [0, -1]])
        return _Models(held, thresholds, everyone.labels, true, first, *inner)
    found = []
    for model in (-1, 0):
        labels, scores = project(cell, betas[0, model, :-1], betas[0, model, -1])
        found.append(np.stack([expit(-scores), expit(scores)], axis=1))
    return _Models(held, thresholds, labels, found[0], found[1], *inner)


def _choose(cell: Cell, side: Cohort, inner: IntArray, seed: int) -> _Choice:
    """Choose penalty and threshold from the inner folds alone."""
    seen = (inner != np.arange(INNER)[:, None]) * 1.0
    at = np.arange(len(inner))
    if cell.learner != "logistic":
        models = _others(cell, side, seen, seed)
        held = np.stack([model(side.x) for model in models])[inner, at]
        ones = np.ones(cell.features)
        threshold, each = _thresholds(side.labels, held[:, 1], inner)
        return _Choice(ones, threshold, inner, np.tile(ones, (INNER, 1)), each)
    configurations = [(1.0, cell.features)]
    if cell.choice == "configuration":
        configurations = [(s, k) for s in STRENGTHS for k in KEPT]
    order = np.stack([_by_strength(side, rows > 0) for rows in seen])  # (inner, features) ranks
    penalty = np.stack([np.where(order < k, s, OUT) for s, k in configurations])
    fits = np.tile(seen, (len(configurations), 1))
    betas = fit_all_logistic(side.x, side.labels, fits, penalty.reshape(len(fits), -1), 2)
    p = logistic_probabilities(side.x, betas)[..., 1].reshape(len(configurations), INNER, -1)
    score = [
        np.mean([roc_auc(side.labels[inner == f] == 1, q[f, inner == f]) for f in range(INNER)])
        for q in p
    ]
    best = int(np.argmax(score))
    strength, kept = configurations[best]
    whole = _by_strength(side, np.ones(len(inner), dtype=bool))
    penalties = np.where(order < kept, strength, OUT)
    threshold, each = _thresholds(side.labels, p[best][inner, at], inner)
    return _Choice(np.where(whole < kept, strength, OUT), threshold, inner, penalties, each)


def _thresholds(labels: IntArray, scores: FloatArray, inner: IntArray) -> tuple[float, FloatArray]:
    """Youden's threshold on all out-of-fold scores, and without those of each inner fold."""
    each = [youden(labels[inner != k], scores[inner != k]) for k in range(INNER)]
    return youden(labels, scores), np.array(each)


def _by_strength(side: Cohort, rows: FloatArray) -> IntArray:
    """Rank (features,) of each feature by its difference between classes on these rows."""
    x, up = side.x[rows], side.labels[rows] == 1
    return np.argsort(np.argsort(-np.abs(x[up].mean(0) - x[~up].mean(0))))


def _predictions(
    cohort: Cohort, fold: IntArray, probabilities: FloatArray, predicted: IntArray
) -> Predictions:
    n = len(fold)
    return Predictions(
        np.char.add("i", np.arange(n).astype(str)),
        np.char.add("P", cohort.patients.astype(str)),
        np.char.add("outer-", fold.astype(str)),
        np.zeros(n, dtype=np.int64),
        cohort.labels,
        probabilities,
        predicted,
        tuple(f"class {c}" for c in range(probabilities.shape[1])),
    )


def _inner_rows(cohort: Cohort, fold: IntArray, models: _Models) -> dict[str, Predictions]:
    """Predictions of each fold's test rows by its inner folds' models, by name of the fold."""
    found = {}
    for study in range(FOLDS):
        at = np.flatnonzero(fold == study)
        test = Cohort(cohort.x[at], cohort.labels[at], cohort.patients[at])
        own = slice(study * INNER, (study + 1) * INNER)
        single, thresholds = models.inner[own][:, at], models.inner_thresholds[own]
        others = (single.sum(axis=0) - single) / (INNER - 1)
        parts = []
        for kind, scores in (("", single), (WITHOUT, others)):
            for k, p in enumerate(scores):
                decided = decide(p, thresholds[k])
                rows = _predictions(test, np.full(len(at), study), p, decided)
                parts.append(replace(rows, fold=np.full(len(at), f"{kind}inner-{k}")))
        joined = join_predictions(parts)
        assert joined is not None
        found[f"outer-{study}"] = joined
    return found


def _measured(
    cell: Cell, predictions: Predictions, inner: dict[str, Predictions]
) -> dict[str, ConfidenceInterval]:
    """The intervals of ``_printed`` by the measured variation."""
    last = cell.classes - 1
    found = dict(overall(predictions, tuned=True, variation=inner))
    own = per_class(predictions, tuned=True, variation=inner)[predictions.classes[last]]
    return found | {f"{name} (one class)": own[name] for name in ("precision", "f1")}


def _printed(cell: Cell, predictions: Predictions) -> dict[str, ConfidenceInterval]:
    """Intervals of the report, and of precision and F1 of the last class; a leak is accepted."""
    rows = code_rows(predictions, grouped=cell.split == "patients")
    tuned, last = cell.choice != "nothing", cell.classes - 1
    found = {}
    for name, leave in overall_leave_outs(rows).items():
        if name == "ece":
            leave = replace(leave, estimate=without_bias(rows, METRICS["ece"].how, leave.estimate))
        basis = overall_support(rows, name)
        found[name] = jackknife_interval(leave, basis, tuned=tuned, level=0.95)
    for name, leave in class_leave_outs(rows, last).items():
        if name in ("precision", "f1"):
            basis = class_support(rows, last, name)
            one = jackknife_interval(leave, basis, tuned=tuned, level=0.95)
            found[f"{name} (one class)"] = one
    return found


def _truth(models: _Models, p: FloatArray, threshold: float) -> dict[str, float]:
    """True performance of a model with these probabilities (population, classes)."""
    labels, predicted = models.true_labels, decide(p, threshold)
    each = class_scores(confusion(labels, predicted, p.shape[1]))
    last = {f"{name} (one class)": float(each[name][-1]) for name in ("precision", "f1")}
    return {**all_scores(labels, p, predicted), **last}


def _answers(
    predictions: Predictions, inner: dict[str, Predictions], models: _Models
) -> FloatArray:
    """Numbers of the report besides its metrics (see ``Study``), and those of the refit."""
    fitted = recalibration(predictions, inner, "model")
    printed = {
        **{name: getattr(fitted, name) for name in ("slope", "intercept", "scaled_brier")},
        "observed_expected": fitted.ratio,
        **likelihood_ratios(predictions, inner, "model"),
        **fixed_points(predictions, "model"),
    }
    truth = _true_answers(models)
    return np.array(
        [[printed[name].estimate, *_four(printed[name]), truth[name]] for name in ANSWERS]
    )


def _true_answers(models: _Models) -> dict[str, float]:
    """What the refit has in the whole population, by name of the answer."""
    positive, p = models.true_labels == 1, models.true_probabilities[:, 1]
    called, share = p >= models.thresholds[-1], float(positive.mean())
    odds = logit(np.clip(p, TINY, 1 - TINY))
    line = LogisticRegression(C=np.inf).fit(odds[:, None], positive)
    shift = brentq(lambda up: float(expit(odds + up).mean()) - share, -20, 20)
    found, alarms = float(called[positive].mean()), float(called[~positive].mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        up, down = np.divide(found, alarms), np.divide(1 - found, 1 - alarms)
    return {
        "slope": line.coef_[0, 0],
        "intercept": shift,
        "observed_expected": share / float(p.mean()),
        "scaled_brier": 1 - float(((p - positive) ** 2).mean()) / (share * (1 - share)),
        "lr_positive": float(up),
        "lr_negative": float(down),
        "sensitivity_at_90_specificity": sensitivity_at(positive, p),
        "specificity_at_90_sensitivity": specificity_at(positive, p),
    }


def _first_fold(predictions: Predictions, models: _Models, names: tuple[str, ...]) -> FloatArray:
    """Intervals (metrics, 3) of the first fold's own model, as the table by fold prints them."""
    own = fixed_models(predictions.take(predictions.fold == "outer-0"))["outer-0"]
    truth = _truth(models, models.first_probabilities, models.thresholds[0])
    ends = {name: _three(one)[1:] for name, one in own.items()}
    return np.array([[*ends.get(name, (np.nan, np.nan)), truth[name]] for name in names])


def _controls(predictions: Predictions, patients: IntArray, rng: np.random.Generator) -> FloatArray:
    """Intervals (controls, 2) of two-class ROC-AUC by methods that the report does not use."""
    if len(predictions.classes) > 2:
        return np.full((len(CONTROLS), 2), np.nan)
    up, p = predictions.labels == 1, predictions.probabilities[:, 1]
    places = [predictions.fold == name for name in np.unique(predictions.fold)]
    folds = np.array([roc_auc(up[at], p[at]) for at in places])
    there = folds[np.isfinite(folds)]
    error = there.std(ddof=1) / np.sqrt(len(there))
    reaches = (1.96 * error, stdtrit(len(there) - 1, 0.975) * error)
    corrected = nadeau_bengio(folds.tolist(), test_share=1 / (FOLDS - 1))
    return np.array(
        [
            _bootstrap(up, p, np.arange(len(up)), rng),
            *([there.mean() - reach, there.mean() + reach] for reach in reaches),
            _bootstrap(up, p, patients, rng),
            _three(corrected)[1:],
        ]
    )


def _bootstrap(
    up: IntArray, scores: FloatArray, unit: IntArray, rng: np.random.Generator
) -> FloatArray:
    """Percentile interval of pooled predictions if the units (n,) are drawn at random."""
    units = int(unit.max()) + 1
    drawn = rng.multinomial(units, np.full(units, 1 / units), 200)[:, unit]
    return np.nanpercentile(weighted_auc(up, scores, drawn * 1.0), [2.5, 97.5])


def _four(found: ConfidenceInterval | None) -> tuple[float, ...]:
    if found is None or found.low is None or found.high is None or found.procedure is None:
        return (np.nan,) * 4
    return (found.low, found.high, *found.procedure)


def _three(one: ConfidenceInterval) -> tuple[float, float, float]:
    low, high = (np.nan if end is None else end for end in (one.low, one.high))
    return one.estimate, low, high
