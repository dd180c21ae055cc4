"""How often the first page of a report warns, and whether the models it warns of are odd.

    python -m benchmarks.coverage.cautions --data DATA/bus-bra --workers 2

Each study draws patients of BUS-BRA, runs the whole protocol on them and scores the models of its
outer folds on all other patients. There the calibration slope of each model is known well, so that
a fold that page 1 calls odd can be told from one that is. The script writes cautions.md beside this
file. Finished studies are kept under --out and used again while the code that made them is
unchanged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from joblib import Parallel, delayed

from benchmarks.shared.kept_studies import KeptStudy, kept_study, sources
from benchmarks.shared.markdown import markdown
from benchmarks.shared.small_studies import SEARCHED, Pool, Setting, pathology_pool
from benchmarks.shared.study_pages import TOLD, options, write_page
from outerfold.reports.analyses.calibration_slope import calibration_slope
from outerfold.reports.results.fold_entries import FAR_SLOPE
from outerfold.reports.results.results import results
from outerfold.reports.sections.page_one import caution_lines
from outerfold.storage.records import FINAL, FloatArray, Predictions
from outerfold.study.config.gather import cache_folder
from outerfold.study.engines.local import ONE_THREAD, quiet_optuna
from outerfold.study.setup.provenance import versions

NAME = "cautions"
PATIENTS = 400
CONFIG = SEARCHED


@dataclass(frozen=True, eq=False)
class Told:
    """What page 1 of one study says, and the slopes of its models on other patients.

    Attributes:
        cautions: the cautions.
        models: (folds,) slope of each fold's model, the mean of its networks.
        networks: (folds, networks) slope of each network with the calibration of its fold.
    """

    cautions: tuple[str, ...]
    models: FloatArray
    networks: FloatArray

    @property
    def healthy(self) -> bool:
        """Whether no model is far from calibrated."""
        return bool(((self.models >= 1 / FAR_SLOPE) & (self.models <= FAR_SLOPE)).all())


def tell(study: KeptStudy) -> Told:
    """Read a study's first page and score its models on the patients who were not drawn."""
    models, networks = [], []
    for name, model in study.models.items():
        if name == FINAL:
            continue
        rows = study.rows(name)
        models.append(_slope(rows))
        each = np.stack([1 - model.each, model.each], axis=-1).astype(np.float64)
        alone = [replace(rows, probabilities=model.decision.calibrate(one)) for one in each]
        networks.append([_slope(one) for one in alone])
    return Told(caution_lines(results(study.run)), np.array(models), np.array(networks))


def _slope(rows: Predictions) -> float:
    found = calibration_slope(rows).estimate
    assert found is not None
    return found


def main() -> None:
    chosen = options(__doc__, NAME, data=True)
    pool = pathology_pool(chosen.data, cache_folder())
    setting = Setting(NAME, CONFIG, PATIENTS, pool.data.fingerprint)
    folder = chosen.out / sources()
    os.environ.update(ONE_THREAD)  # workers inherit it
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        told: list[Told] = Parallel(n_jobs=chosen.workers)(
            delayed(partial(_told, pool, setting, folder=folder))(number)
            for number in range(chosen.replicates)
        )
    write_page(chosen, NAME, page(told))


def _told(pool: Pool, setting: Setting, number: int, *, folder: Path) -> Told:
    quiet_optuna()
    return tell(joblib.load(kept_study(pool, setting, number, folder)))


def page(told: list[Told]) -> str:
    """Text of cautions.md."""
    healthy = [one for one in told if one.healthy]
    others = [one for one in told if not one.healthy]
    kinds = {
        "an odd slope": "calibration slope",
        "odd decisions": " calls ",
        "a class that is hardly found": " finds ",
        "a Brier score worse than the prevalence's": "Brier score",
    }
    rows = [["studies", str(len(healthy)), str(len(others))]]
    for name, words in kinds.items():
        counts = [
            sum(any(words in line for line in one.cautions) for one in group)
            for group in (healthy, others)
        ]
        rows.append([name, *map(str, counts)])
    warned = [sum(bool(one.cautions) for one in group) for group in (healthy, others)]
    rows.append(["**any caution**", *(f"**{count}**" for count in warned)])
    return "\n\n".join(
        [
            "# How often does page 1 warn?",
            _text(),
            markdown(["", "all models calibrated", "a model is not"], rows),
            _slopes(told),
            f"{len(told)} studies; "
            + ", ".join(f"{n} {v}" for n, v in versions().items() if n in TOLD),
        ]
    )


def _text() -> str:
    return (
        f"Each study draws {PATIENTS} patients of BUS-BRA and runs the whole protocol "
        f"({CONFIG.outer_folds} x {CONFIG.inner_folds} folds, {CONFIG.trials} trials of up to "
        f"{CONFIG.epochs} epochs). The models of its outer folds then score all other patients. A "
        f"model counts as calibrated where its slope there lies between 1/{FAR_SLOPE:g} and "
        f"{FAR_SLOPE:g}; a study is healthy where all of its models are. The level at which a "
        "slope is odd was set after the first 23 studies, none of which has a caution with it."
    )


def _slopes(told: list[Told]) -> str:
    models = np.concatenate([one.models for one in told])
    networks = np.concatenate([one.networks.ravel() for one in told])
    low, middle, high = np.quantile(models, [0.05, 0.5, 0.95])
    return (
        f"On the other patients a fold's model has a slope of {middle:.2f} in the median "
        f"(5 to 95 %: {low:.2f} to {high:.2f}), and its single networks, with the same "
        "temperature, have "
        f"{np.median(networks):.2f}. The temperature is fitted to the mean of two networks on rows "
        "that neither has seen ([second_division.md](../models/second_division.md)). Fitted to "
        "single networks, as before, the models had a median slope of 1.51 in 22 studies, and 7 "
        "of these studies were healthy."
    )


if __name__ == "__main__":
    main()
