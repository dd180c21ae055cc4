"""Gain from a shift in addition to the temperature, on finished runs or small studies of BUS-BRA.

    python -m benchmarks.models.calibration RUN...
    python -m benchmarks.models.calibration --data DATA/bus-bra --studies 4

For every outer fold of finished two-class runs, the script recovers the uncalibrated probabilities
from the stored ones, fits both calibrations on the inner out-of-fold rows, and scores the fold's
own test rows. Nothing is trained, so the comparison is paired row by row.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.shared.small_studies import (
    Pool,
    draw_patients,
    pathology_pool,
    run_all_studies,
    small_config,
)
from outerfold.objectives.metrics import brier, ece
from outerfold.pipelines.fitted.calibration import Decision, fit_temperature
from outerfold.storage.records import DataError, FloatArray, FoldResult, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.results import read_run
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.gather import cache_folder
from outerfold.study.engines.local import quiet_optuna


def uncalibrated(probabilities: FloatArray, kept: FoldResult) -> FloatArray:
    """Probabilities of the networks before calibration, up to rounding of the stored ones."""
    back = Decision(1 / kept.temperature, None, -kept.shift * kept.temperature)
    return back.calibrate(probabilities)


def compare_calibrations(kept: FoldResult) -> tuple[FloatArray, float]:
    """Scores (2, 2) of both calibrations, and the shift.

    Rows are the temperature alone and the temperature with the shift; columns are the Brier score
    and the calibration error.
    """
    assert kept.test is not None
    inner, test = (uncalibrated(rows.probabilities, kept) for rows in (kept.validation, kept.test))
    labels = kept.validation.labels
    ways = Decision(fit_temperature(labels, inner), None), Decision.fit(labels, inner)
    scores = [
        [score(kept.test.labels, way.calibrate(test)) for score in (brier, ece)] for way in ways
    ]
    return np.array(scores), ways[1].shift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, help="folder of BUS-BRA")
    parser.add_argument("--studies", type=int, default=4, help="of 150 patients each")
    options = parser.parse_args()
    print(
        "| Run | Outer folds | Mean shift | Brier, temperature | Brier, with shift | "
        "Difference (SE) | ECE, temperature | ECE, with shift |\n" + "|" + " --- |" * 8
    )
    for path in options.runs:
        row(read_run(RunFolder(path)))
    if options.data is not None:
        pool = pathology_pool(options.data, cache_folder())
        for number in range(options.studies):
            row(small_study(pool, number))


def small_study(pool: Pool, number: int) -> Run:
    """Run the outer folds of one study in ``real_coverage``'s short setting."""
    quiet_optuna()
    seed = derive_seed(0, "cal", number)
    data, _ = draw_patients(pool.data, 150, seed)
    config = replace(small_config("multimodal"), seed=seed)
    with TemporaryDirectory(prefix="calibration-") as place:
        return run_all_studies(
            RunFolder(Path(place) / "run"), replace(pool, data=data), config, ship=False
        )


def row(run: Run) -> None:
    """Print one line of the table."""
    if len(run.classes) != 2:
        raise DataError(
            f"{run.name}: has {len(run.classes)} classes; a shift needs exactly two classes"
        )
    found = [compare_calibrations(fold) for fold in run.outer]
    scores, shifts = np.stack([one for one, _ in found]), [shift for _, shift in found]
    gain = scores[:, 1, 0] - scores[:, 0, 0]
    (before, ece_before), (after, ece_after) = scores.mean(axis=0)
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    print(
        f"| {run.dataset['name']} | {len(found)} | {np.mean(shifts):+.2f} | {before:.3f} | "
        f"{after:.3f} | {gain.mean():+.4f} ({error:.4f}) | {ece_before:.3f} | "
        f"{ece_after:.3f} |"
    )


if __name__ == "__main__":
    main()
