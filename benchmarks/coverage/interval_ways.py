"""Ways to widen an interval for the variation of models, compared on kept studies.

Every way is one rule for all metrics: factors of the patients' standard error, and shares of the
variances that are measured. The constant measures no model: it is the rule for predictions without
models, with the variance of the folds' thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from benchmarks.shared.kept_studies import KeptStudy
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.jackknife import (
    WIDENINGS,
    Of,
    TotalError,
    add_variances,
    fold_noise,
    interval_bounds,
    jackknife_error,
)
from outerfold.reports.intervals.leave_one_out import overall_leave_outs
from outerfold.reports.intervals.leave_out_record import LeaveOut
from outerfold.reports.intervals.support import Support, overall_support
from outerfold.reports.intervals.variation import (
    leave_outs,
    overall_scores,
    variance_between,
    variance_within,
)
from outerfold.reports.results.predictions import inner_models, test_rows
from outerfold.storage.records import FINAL, FloatArray

SHOWN = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score",
}
KINDS = ("constant", "within", "between", "both", "own factor", "gain")
"""Kinds of ways; the last two add to ``both`` a factor of its own for scores of probabilities, and
the expected gain from more patients."""
FACTORS = (0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
SHARES = (0.1, 0.2, 0.4, 0.6)
TARGETS: tuple[Of, ...] = ("model", "procedure")
LEVEL = 0.95


@dataclass(frozen=True)
class Way:
    """One rule for all metrics.

    Attributes:
        factor: of the patients' standard error.
        probabilities: the same for scores of probabilities.
        within, between, thresholds: shares of the measured variances.
        gain: whether the expected gain from more patients lengthens the better side.
    """

    factor: float
    probabilities: float
    within: float = 0.0
    between: float = 0.0
    thresholds: float = 0.0
    gain: bool = False

    @property
    def constant(self) -> bool:
        """Whether no model is measured."""
        return self.thresholds > 0


TODAY = Way(1.4, 1.4, thresholds=1.0)
"""Rule where only predictions are known."""


@dataclass(frozen=True, eq=False)
class Facts:
    """All that a way needs of one metric of one study, and the truth.

    Attributes:
        leave: estimate and leave-outs.
        support: scale and sizes.
        patients, df: squared standard error of the patients, and its degrees of freedom.
        within, between: variances of models; ``between`` may be negative.
        truth, noise: score of the delivered model on other patients, and its standard error.
        outer: mean score of the outer folds' models on the same other patients.
    """

    leave: LeaveOut
    support: Support
    patients: float
    df: float
    within: float
    between: float
    truth: float
    noise: float
    outer: float


def facts_of(study: KeptStudy) -> dict[str, Facts]:
    """Facts of every shown metric of one study."""
    rows = test_rows(study.run)
    assert rows is not None
    coded, found = leave_outs(rows, overall_leave_outs, inner_models(study.run), overall_scores)
    scored = {
        name: overall_leave_outs(code_rows(study.rows(name)))
        for name in (*(fold.name for fold in study.run.outer), FINAL)
    }
    facts = {}
    for name in SHOWN:
        leave, other = found[name], scored[FINAL][name]
        assert leave.inner is not None
        error, df = jackknife_error(leave.without)
        facts[name] = Facts(
            leave,
            overall_support(coded, name),
            error**2,
            df,
            variance_within(leave.inner),
            variance_between(leave.by_fold, fold_noise(leave)),
            other.estimate,
            jackknife_error(other.without)[0],
            float(np.mean([scored[fold.name][name].estimate for fold in study.run.outer])),
        )
    return facts


def bounds(facts: Facts, way: Way) -> tuple[float, float]:
    """Interval of one metric of one study by a way."""
    factor = way.probabilities if facts.support.probabilities else way.factor
    patients = factor**2 * facts.patients
    models = way.thresholds * facts.leave.moved
    models += max(0.0, way.within * facts.within + way.between * facts.between)
    folds, inner = np.shape(facts.leave.inner)
    models_df = folds - 1 if way.constant else folds * (inner - 1)
    size, joint = add_variances(patients, facts.df, models, models_df)
    ahead = facts.leave.ahead if way.gain else 0.0
    error = TotalError(size, joint, 0.0, "", ahead)
    return interval_bounds(facts.leave, facts.support, error, LEVEL)[:2]


@dataclass(frozen=True, eq=False)
class Cell:
    """Intervals of one metric in one setting, and what they are to hold.

    Attributes:
        estimate, low, high: (studies,).
        truth: (studies,) what is to be held, with the truths' own error taken out.
    """

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    truth: FloatArray

    @property
    def held(self) -> FloatArray:
        """1 where the interval holds the truth, else 0 (studies,)."""
        return ((self.low <= self.truth) & (self.truth <= self.high)).astype(np.float64)

    @property
    def score(self) -> FloatArray:
        """Interval score (studies,); less is better.

        Source: Gneiting & Raftery (2007), JASA 102, equation 43.
        """
        below = np.maximum(0, self.low - self.truth)
        above = np.maximum(0, self.truth - self.high)
        return np.asarray(self.high - self.low + 2 / (1 - LEVEL) * (below + above))


Studies = Sequence[Mapping[str, Facts]]


def cell(studies: Studies, name: str, way: Way, of: Of) -> Cell:
    """Intervals of one metric by a way, against the delivered model's truth or its mean."""
    facts = [study[name] for study in studies]
    estimate = np.array([one.leave.estimate for one in facts])
    low, high = np.array([bounds(one, way) for one in facts]).T
    truth = np.array([one.truth for one in facts])
    if of == "procedure":
        return Cell(estimate, low, high, np.full(len(truth), truth.mean()))
    noise = np.array([one.noise for one in facts])
    return Cell(estimate, low, high, estimate - without_noise(estimate - truth, noise))


def without_noise(error: FloatArray, noise: FloatArray) -> FloatArray:
    """Errors (studies,) moved towards their mean, so that the variance of ``noise`` is removed.

    Args:
        noise: standard error of each truth (studies,). Its variance is subtracted, as for
            independent normal errors.
    """
    kept = max(0.0, 1 - float((noise**2).mean()) / float(error.var(ddof=1)))
    return np.asarray(error.mean() + (error - error.mean()) * np.sqrt(kept))


@dataclass(frozen=True)
class Summary:
    """A way over all settings and metrics.

    Attributes:
        score: geometric mean over cells of the mean interval score.
        coverage: mean over cells of the share of truths that are held.
        least: least share of any cell.
    """

    score: float
    coverage: float
    least: float


def summarise(settings: Mapping[str, Studies], way: Way, of: Of) -> Summary:
    """Summary of a way over all settings and metrics."""
    cells = [cell(studies, name, way, of) for studies in settings.values() for name in SHOWN]
    held = [one.held.mean() for one in cells]
    scores = [one.score.mean() for one in cells]
    return Summary(
        float(np.exp(np.mean(np.log(scores)))), float(np.mean(held)), float(np.min(held))
    )


def tune(settings: Mapping[str, Studies], kind: str, of: Of) -> tuple[Way, Summary]:
    """Best way of a kind by the score."""
    found = [(way, summarise(settings, way, of)) for way in ways(kind)]
    return min(found, key=lambda pair: pair[1].score)


def ways(kind: str) -> list[Way]:
    """All ways of a kind that are compared."""
    if kind == "constant":
        return [Way(f, f, thresholds=1.0) for f in FACTORS]
    none = (0.0,)
    within = none if kind == "between" else SHARES
    between = none if kind == "within" else SHARES
    own = kind in ("own factor", "gain")
    return [
        Way(f, p, w, b, gain=kind == "gain")
        for f, w, b in product(FACTORS, within, between)
        for p in (FACTORS if own else (f,))
    ]


def match_constant(settings: Mapping[str, Studies], coverage: float, of: Of) -> Way:
    """Constant rule, one factor for all metrics, with the least factor that covers as often."""
    for hundredths in range(80, 220, 2):
        way = Way(hundredths / 100, hundredths / 100, thresholds=1.0)
        if summarise(settings, way, of).coverage >= coverage - 1e-9:
            break
    return way


def shipped_way(of: Of) -> Way:
    """The rule that the reports use."""
    wide = WIDENINGS[of]
    return Way(wide.patients, wide.probabilities, wide.within, wide.between, gain=True)
