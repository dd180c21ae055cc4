"""On which out-of-fold scores is the mean of the inner folds' networks calibrated best?

    python -m benchmarks.models.second_division --data DATA --studies 12 --workers 2

Each study draws patients and runs the whole protocol on them. The models of its outer folds score
all other patients. Their calibration is then fitted on several scores of the same training rows:
those of the networks that the search chose by, those of networks that a second division of the
rows trained, and the mean of both. The script writes second_division.md beside this file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
from joblib import Parallel, delayed
from scipy.special import expit, logit

from benchmarks.shared.kept_searches import keep_file
from benchmarks.shared.kept_studies import sources
from benchmarks.shared.markdown import interval, markdown
from benchmarks.shared.places import real_data
from benchmarks.shared.small_studies import (
    SEARCHED,
    Pool,
    Setting,
    demo_pool,
    draw_patients,
    pathology_pool,
    run_all_studies,
    ultrasound_pool,
)
from benchmarks.shared.study_pages import TOLD, write_page
from outerfold.objectives.measures.ranks import roc_auc
from outerfold.pipelines.fitted.scaling import fit_scaling
from outerfold.storage.records import FloatArray, IntArray
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.gather import cache_folder
from outerfold.study.engines.local import ONE_THREAD, quiet_optuna
from outerfold.study.setup.provenance import versions
from outerfold.study.worker.finish import best_trial, end_trial
from outerfold.study.worker.session import Session, WorkerContext

HERE = Path(__file__).parent
CONFIG = SEARCHED
PATIENTS = {"bus-bra": 400, "breast-usg": 150, "demo": 100}
FAR = 2.0


@dataclass(frozen=True, eq=False)
class KeptFold:
    """One outer fold, with uncalibrated probabilities of the second class.

    Attributes:
        labels: (n,) of the training rows.
        first: (n,) out-of-fold scores by the inner folds' networks, which the search chose by.
        second: (n,) likewise by the networks of the second division.
        others: (m,) labels of the patients that were not drawn.
        each: (networks, m) scores of these by each network of the model.
    """

    labels: IntArray
    first: FloatArray
    second: FloatArray
    others: IntArray
    each: FloatArray


@dataclass(frozen=True)
class Line:
    """Calibration of the mean of networks: slope and intercept of its log-odds."""

    slope: float
    intercept: float

    def calibrate(self, scores: FloatArray) -> FloatArray:
        """Calibrated probabilities (n,) of scores (n,)."""
        return expit(self.slope * _odds(scores) + self.intercept)


def fit(labels: IntArray, scores: FloatArray) -> Line:
    """The project's own fit on scores (n,)."""
    found = fit_scaling(labels, np.stack([1 - scores, scores], axis=1))
    return Line(1 / found.temperature, found.shift)


def one_network(fold: KeptFold) -> Line:
    """Fitted to single networks, those that the search chose by."""
    return fit(fold.labels, fold.first)


def mean_of_two(fold: KeptFold) -> Line:
    """Fitted to the mean of two networks."""
    return fit(fold.labels, (fold.first + fold.second) / 2)


def extended(fold: KeptFold) -> Line:
    """Fitted to the mean of two networks, and extended to the mean of all of them."""
    found, r = mean_of_two(fold), reliability(fold)
    return _steeper(
        found, (1 + r) / 2 / (r + (1 - r) / len(fold.each)), (fold.first + fold.second) / 2
    )


def second_extended(fold: KeptFold) -> Line:
    """Fitted to single networks of the second division, and extended to the mean of all."""
    found, r = fit(fold.labels, fold.second), reliability(fold)
    return _steeper(found, 1 / (r + (1 - r) / len(fold.each)), fold.second)


WAYS: dict[str, Callable[[KeptFold], Line]] = {
    "one network, as before": one_network,
    "**the mean of two, as in a study**": mean_of_two,
    "the mean of two, extended to all networks": extended,
    "one network of the second division, extended to all": second_extended,
}


def reliability(fold: KeptFold) -> float:
    """Correlation of two networks' log-odds that the slopes of one and of two imply.

    The slope that calibrates the mean of m networks is that of one over r + (1 - r) / m, as the
    reliability of a mean of m measurements (Spearman 1910; Brown 1910).
    """
    one = np.sqrt(fit(fold.labels, fold.first).slope * fit(fold.labels, fold.second).slope)
    return float(np.clip(2 * one / mean_of_two(fold).slope - 1, 0, 1))


def _steeper(line: Line, factor: float, scores: FloatArray) -> Line:
    """The line turned about the mean log-odds of the rows."""
    middle = line.slope * _odds(scores).mean()
    return Line(line.slope * factor, line.intercept + middle * (1 - factor))


def _odds(scores: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(scores, 1e-12, 1 - 1e-12)))


def keep_study(pool: Pool, setting: Setting, number: int) -> list[dict[str, Any]]:
    """Draw patients, run the outer folds of the protocol on them, and score the others.

    Returns:
        The values of a ``KeptFold`` for each outer fold, which other scripts can read, too.
    """
    seed = derive_seed(0, f"second division {setting.name}", number)
    data, others = draw_patients(pool.data, setting.patients, seed)
    kept = []
    with TemporaryDirectory(prefix="second-division-") as where:
        folder = RunFolder(Path(where) / "run")
        config = replace(setting.config, seed=seed)
        run_all_studies(folder, replace(pool, data=data), config, ship=False)
        session = Session(WorkerContext(folder.path, pool.embeddings))
        for name in (fold.name for fold in session.folds.values() if fold.test):
            trial = best_trial(session.study(name), name)
            made = end_trial(session, name, trial, "cpu")[0]
            inner = session.objective(name, "cpu")
            labels = [inner.train.select(fold.val).labels for fold in inner.folds]
            each = made.fitted.predict_each(others.features)[..., 1]
            first, second = (
                np.concatenate(part)[:, 1].astype(np.float64)
                for part in (made.replay.probabilities, made.second)
            )
            one = KeptFold(np.concatenate(labels), first, second, others.labels, each)
            kept.append(vars(one))
    return kept


def main() -> None:
    chosen = _options()
    cache = cache_folder()
    pools = {
        "bus-bra": pathology_pool(chosen.data / "bus-bra", cache),
        "breast-usg": ultrasound_pool(chosen.data / "breast-usg", cache),
        "demo": demo_pool("multimodal", cache),
    }
    folder = chosen.out / sources()
    os.environ.update(ONE_THREAD)  # workers inherit it
    found: dict[str, list[list[KeptFold]]] = {}
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        for name, pool in pools.items():
            setting = Setting(name, CONFIG, PATIENTS[name], pool.data.fingerprint)
            paths = Parallel(n_jobs=chosen.workers)(
                delayed(partial(_kept, pool, setting, folder))(number)
                for number in range(chosen.studies)
            )
            found[name] = [_read(path) for path in paths]
    write_page(chosen, "second_division", page(found), folder=HERE)


def _kept(pool: Pool, setting: Setting, folder: Path, number: int) -> Path:
    quiet_optuna()
    return keep_file(
        folder, setting, number, lambda: keep_study(pool, setting, number), of=repr(setting)
    )


def _read(path: Path) -> list[KeptFold]:
    return [KeptFold(**values) for values in joblib.load(path)]


def page(found: dict[str, list[list[KeptFold]]]) -> str:
    """Text of second_division.md; ``found`` holds the folds of each study by data set."""
    header = [
        "calibration fitted to",
        "slope, median (5 to 95 %)",
        f"beyond {FAR:g} or 1/{FAR:g}",
        "Brier minus the first (95 %)",
        "log loss minus the first (95 %)",
    ]
    parts = [f"# {(__doc__ or '').splitlines()[0]}", _text(found)]
    for name, studies in found.items():
        parts += [
            f"## {name}: {len(studies)} studies of {PATIENTS[name]} patients",
            markdown(header, _rows(studies)),
            _optimism([fold for study in studies for fold in study]),
        ]
    known = versions()
    parts.append(", ".join(f"{package} {known[package]}" for package in TOLD))
    return "\n\n".join(parts)


def _text(found: dict[str, list[list[KeptFold]]]) -> str:
    count = sum(map(len, found.values()))
    return (
        f"{count} studies ({CONFIG.outer_folds} x {CONFIG.inner_folds} folds, {CONFIG.trials} "
        f"trials of up to {CONFIG.epochs} epochs). The model of an outer fold is the mean of its "
        f"{CONFIG.inner_folds} networks in every row; the fitted slope and intercept alone differ. "
        "Slope, Brier score and log loss are those of the patients who were not drawn. A slope "
        "above 1 says that the probabilities are not sure enough, one below 1 that they are too "
        "sure. Intervals are over studies. The way was chosen on 26 other studies of the same data "
        "sets, in which it changed the Brier score by -0.0025, +0.0004 and -0.0003."
    )


def _rows(studies: list[list[KeptFold]]) -> list[list[str]]:
    scores = {
        name: np.array([[_score(fold, way(fold)) for fold in study] for study in studies])
        for name, way in WAYS.items()
    }
    base = next(iter(scores.values())).mean(1)
    rows = []
    for name, each in scores.items():
        slopes = each[..., 0].ravel()
        low, middle, high = np.quantile(slopes, [0.05, 0.5, 0.95])
        apart = each.mean(1) - base
        far = ((slopes > FAR) | (slopes < 1 / FAR)).sum()
        rows.append(
            [
                name,
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{far} of {len(slopes)}",
                *(interval(apart[:, at]) if apart.any() else "" for at in (1, 2)),
            ]
        )
    return rows


def _score(fold: KeptFold, line: Line) -> tuple[float, float, float]:
    """Slope, Brier score and log loss on the other patients."""
    p = np.clip(line.calibrate(fold.each.astype(np.float64).mean(0)), 1e-12, 1 - 1e-12)
    loss = -np.log(np.where(fold.others == 1, p, 1 - p)).mean()
    return fit(fold.others, p).slope, float(((p - fold.others) ** 2).mean()), float(loss)


def _optimism(folds: list[KeptFold]) -> str:
    """How much the scores that the search chose by flatter single networks."""
    auc, steep = [], []
    for fold in folds:
        alone = [one.astype(np.float64) for one in fold.each]
        new = np.mean([fit(fold.others, one).slope for one in alone])
        own = [fit(fold.labels, scores).slope for scores in (fold.first, fold.second)]
        steep.append(own / new)
        auc.append(
            [
                *(roc_auc(fold.labels == 1, scores) for scores in (fold.first, fold.second)),
                np.mean([roc_auc(fold.others == 1, one) for one in alone]),
            ]
        )
    chosen, again, new = np.mean(auc, axis=0)
    first, second = np.median(steep, axis=0)
    return (
        f"A single network has an ROC-AUC of {new:.3f} on other patients. Out of fold it has "
        f"{chosen:.3f} where the search chose by these scores, and {again:.3f} in the second "
        f"division. The slope of its log-odds out of fold is {first:.2f} and {second:.2f} times "
        "that on other patients (median)."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=real_data(), help="holds the real data sets")
    parser.add_argument("--studies", type=int, default=12, help="of each data set (12)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the page is written under --out")
    parser.add_argument("--out", type=Path, default=Path("runs") / "second_division")
    return parser.parse_args()


if __name__ == "__main__":
    main()
