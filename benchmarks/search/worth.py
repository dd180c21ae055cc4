"""Coverage and power of what a search was worth, on real patients.

    python -m benchmarks.search.worth --data DATA/bus-bra --workers 2

Each study draws patients of BUS-BRA, runs the whole protocol on them, and delivers a model. The
default configuration is refitted on the same patients, and both models score all other patients:
the difference of their scores is the truth. In the second half of the page a default is planted
that truly loses. Finished chunks are kept under --out and reused while the code that made them is
unchanged. The script writes worth.md beside this file.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.shared.chunks import (
    Arrays,
    Chunk,
    chunks_of,
    join_chunks,
    run_chunks,
    source_hash,
)
from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import ROOT
from benchmarks.shared.small_studies import (
    Pool,
    Setting,
    draw_patients,
    pathology_pool,
    rows_of_others,
    run_all_studies,
    shipped_rows,
    small_config,
    sources,
)
from benchmarks.shared.study_pages import at, facts, options, write_page
from outerfold.objectives import spaces
from outerfold.objectives.metrics import METRICS
from outerfold.reports.intervals.coded_rows import code_rows
from outerfold.reports.intervals.jackknife import jackknife_error
from outerfold.reports.intervals.leave_one_out import overall_leave_outs
from outerfold.reports.results.worth import worth_entry
from outerfold.storage.records import FINAL, Dataset, FloatArray, Predictions
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.gather import cache_folder
from outerfold.study.config.record import StudyConfig
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.finish import end_trial
from outerfold.study.worker.session import WorkerContext, open_session

NAME = "worth"
HERE = Path(__file__).parent
CHUNK = 2
CONFIG = small_config("multimodal")
SHOWN = {
    "roc_auc": "ROC-AUC",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "brier": "Brier score",
}
FIELDS = ("difference", "truth", "truth_error", "chosen", "final_chosen", "inner", "seconds")


@dataclass(frozen=True)
class Planted(Setting):
    """Setting whose default configuration has some other values.

    Attributes:
        values: name and value of each hyper-parameter that is planted.
    """

    values: tuple[tuple[str, float], ...] = ()


COVERAGE, POWER = "coverage", "power"
PATIENTS = {COVERAGE: 150, POWER: 400}
LOSES: tuple[tuple[str, float], ...] = (("learning_rate", 1.25e-4),)
"""Planted values of a default that learns too slowly for the few epochs of these studies."""


def main() -> None:
    chosen = options(__doc__, NAME, data=True)
    pool = pathology_pool(chosen.data, cache_folder())
    made = pool.data.fingerprint
    settings = [
        Planted(COVERAGE, CONFIG, PATIENTS[COVERAGE], made),
        Planted(POWER, CONFIG, PATIENTS[POWER], made, LOSES),
    ]
    folder = chosen.out / _sources()
    each = [
        chunks_of(setting, chosen.replicates, size=CHUNK, seed=chosen.seed, folder=folder)
        for setting in settings
    ]
    in_turn = [chunk for row in zip(*each, strict=True) for chunk in row]
    run_chunks(in_turn, partial(studies_of_worth, pool), chosen.workers)
    found = [(s, join_chunks(parts)) for s, parts in zip(settings, each, strict=True)]
    write_page(chosen, NAME, page(found, chosen.seed), folder=HERE)


def studies_of_worth(pool: Pool, chunk: Chunk) -> Arrays:
    """Run every study of a chunk; the first axis of each array is the study."""
    quiet_optuna()
    torch.set_num_threads(1)
    setting: Planted = chunk.setting
    table = spaces.defaults_of(setting.config.task)
    # It is planted in place, since a worker process gets copies of this file's own names.
    before = dict(table)
    table.update(setting.values)
    try:
        found = []
        for number in range(chunk.first, chunk.first + chunk.count):
            seed = derive_seed(chunk.seed, "worth", setting.name, number)
            data, others = draw_patients(pool.data, setting.patients, seed)
            config = replace(setting.config, seed=seed)
            found.append(study_of_worth(replace(pool, data=data), config, others))
    finally:
        table.update(before)
    return {name: np.array([one[name] for one in found]) for name in FIELDS}


def study_of_worth(pool: Pool, config: StudyConfig, others: Dataset) -> Arrays:
    """Run one study of all rows of ``pool``, and try both delivered models on other patients.

    Returns:
        difference (metrics, 3): estimate, low, high of the report, in the order of ``METRICS``;
        NaN where there is none. truth, truth_error (metrics,): difference of the two models on the
        other patients, and its patient-jackknife error. chosen: number of outer folds that chose
        the default; final_chosen: whether the delivered model is the default. inner: mean score
        that the searches chose by. seconds: CPU seconds.
    """
    start = time.process_time()
    with TemporaryDirectory(prefix="worth-") as where:
        folder = RunFolder(Path(where) / "run")
        run = run_all_studies(folder, pool, config, ship=True)
        worth = worth_entry(run)
        tuned = shipped_rows(folder, pool.embeddings, others)
        default = tuned if worth["final_chosen"] else _default_rows(folder, pool, others)
    if worth["reason"] is not None:
        raise RuntimeError(worth["reason"])
    differences = {name: each["difference"] for name, each in worth["overall"].items()}
    truth, error = true_difference(tuned, default)
    numbers = [[differences[name][key] for key in ("estimate", "low", "high")] for name in METRICS]
    return {
        "difference": np.array(numbers, dtype=np.float64),
        "truth": truth,
        "truth_error": error,
        "chosen": np.array(len(worth["chosen"])),
        "final_chosen": np.array(worth["final_chosen"]),
        "inner": np.array(np.mean([study.inner_score for study in run.outer])),
        "seconds": np.array(time.process_time() - start),
    }


def _default_rows(folder: RunFolder, pool: Pool, others: Dataset) -> Predictions:
    """Predictions of other patients by the default configuration, refitted on all rows."""
    session = open_session(WorkerContext(folder.path, pool.embeddings))
    trial = session.study(FINAL).get_trials()[0]
    ended, _, _ = end_trial(session, FINAL, trial, "cpu")
    calibrated = ended.decision.calibrate(ended.fitted.predict(others.features))
    return rows_of_others(others, calibrated, ended.decision.decide(calibrated))


def true_difference(tuned: Predictions, default: Predictions) -> tuple[FloatArray, FloatArray]:
    """Difference (metrics,) of two models on the same patients, and its jackknife error."""
    one, other = (overall_leave_outs(code_rows(rows)) for rows in (tuned, default))
    changes = [one[name].without - other[name].without for name in METRICS]
    return (
        np.array([one[name].estimate - other[name].estimate for name in METRICS]),
        np.array([jackknife_error(change)[0] for change in changes]),
    )


def covered(arrays: Arrays, metric: str) -> np.ndarray:
    """Whether each study's interval holds the truth (studies,).

    A difference of 0 without an interval, of a search that chose the default in every outer fold,
    holds it only if the delivered model is the default as well.
    """
    (_, low, high), truth = at(arrays["difference"], metric).T, at(arrays["truth"], metric)
    inside = (low <= truth) & (truth <= high)
    return np.where(np.isnan(low), arrays["final_chosen"].astype(bool), inside)


def page(found: Sequence[tuple[Planted, Arrays]], seed: int) -> str:
    """Text of worth.md."""
    (first, arrays), (second, losing) = found
    return "\n\n".join(
        [
            "# What the search was worth: coverage and power, on real patients",
            _text(first),
            "## Coverage",
            _coverage_text(arrays),
            markdown(COVERAGE_HEADER, [_coverage_row(arrays, name) for name in SHOWN]),
            "## Power",
            _power_text(second, losing),
            markdown(POWER_HEADER, [_power_row(losing, name) for name in SHOWN]),
            facts(NAME, found, seed, room="search"),
        ]
    )


COVERAGE_HEADER = [
    "metric",
    "covered",
    "truth below / above",
    "mean estimate",
    "mean truth",
    "median width",
    "sd of the truth",
    "standard error of a truth",
]
POWER_HEADER = [
    "metric",
    "interval on the side of the searched configuration",
    "covered",
    "mean estimate",
    "mean truth",
    "median width",
]


def _coverage_row(arrays: Arrays, name: str) -> list[str]:
    (estimate, low, high), truth = at(arrays["difference"], name).T, at(arrays["truth"], name)
    return [
        SHOWN[name],
        f"{covered(arrays, name).sum()} of {len(truth)}",
        f"{(truth < low).sum()} / {(truth > high).sum()}",
        f"{estimate.mean():+.3f}",
        f"{truth.mean():+.3f}",
        f"{np.nanmedian(high - low):.3f}",
        f"{truth.std(ddof=1):.3f}",
        f"{at(arrays['truth_error'], name).mean():.3f}",
    ]


def _power_row(arrays: Arrays, name: str) -> list[str]:
    (estimate, low, high), truth = at(arrays["difference"], name).T, at(arrays["truth"], name)
    clear = low > 0 if METRICS[name].direction == "maximize" else high < 0
    return [
        SHOWN[name],
        f"{clear.sum()} of {len(truth)}",
        f"{covered(arrays, name).sum()} of {len(truth)}",
        f"{estimate.mean():+.3f}",
        f"{truth.mean():+.3f}",
        f"{np.nanmedian(high - low):.3f}",
    ]


def _text(setting: Planted) -> str:
    return (
        f"Each study draws patients of BUS-BRA (breast ultrasound, benign or malignant by "
        f"pathology; 1064 patients), runs the whole protocol on them, and reports the tuned minus "
        f"the default configuration with its paired interval. The truth is the difference between "
        f"the delivered model and the default configuration, refitted on the same "
        f"{setting.patients} patients, on all patients that were not drawn. The default "
        f"configuration has the values of `DEFAULTS`, batches of {setting.config.batch_size} and "
        f"no attention, since these studies fix both."
    )


def _coverage_text(arrays: Arrays) -> str:
    always = int(np.isnan(at(arrays["difference"], "roc_auc")[:, 1]).sum())
    shipped = int(arrays["final_chosen"].sum())
    count = len(arrays["chosen"])
    return (
        f"The target is 93 of 100. The searches chose the default configuration in "
        f"{arrays['chosen'].mean():.1f} outer folds of a study on average; {shipped} of {count} "
        f"studies delivered it. In {always} of {count} studies every outer fold chose it, so there "
        f"is a difference of 0 without an interval, which counts as covered only if the delivered "
        f"model is the default as well."
    )


def _power_text(setting: Planted, arrays: Arrays) -> str:
    values = ", ".join(f"`{name}` {value:g}" for name, value in setting.values)
    return (
        f"The default configuration is planted: {values}. It truly loses "
        f"{at(arrays['truth'], 'roc_auc').mean():.3f} ROC-AUC on average over studies of "
        f"{setting.patients} patients. The target is 80 of 100 intervals above 0."
    )


def _sources() -> str:
    own = [ROOT / "reports" / "results" / f"{name}.py" for name in ("entries", "worth")]
    return f"{sources()}-{source_hash([*own, Path(__file__)])}"


if __name__ == "__main__":
    main()
