"""Coverage of the performance that the delivered model then has on other real patients.

    python -m benchmarks.coverage.real_coverage --data DATA/bus-bra --workers 2

Each replicate draws patients of BUS-BRA (breast ultrasound, benign or malignant by pathology), runs
the whole protocol on them and scores the delivered model on all other patients: this is the truth.
The patients are halved once by a hash of their names. The ways to widen an interval are compared
and tuned on half A; half B gives the figures of coverage. Finished studies are kept under --out
with the scores of all their models, and are used again while the code that made them is unchanged.
The script writes real_coverage.md beside this file. With --tuning 0 it counts alone, by the
intervals as they are, and writes real_coverage_again.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
from joblib import Parallel, delayed

from benchmarks.coverage.interval_ways import (
    KINDS,
    LEVEL,
    SHOWN,
    TARGETS,
    TODAY,
    Cell,
    Facts,
    Studies,
    Way,
    cell,
    facts_of,
    match_constant,
    shipped_way,
    summarise,
    tune,
)
from benchmarks.shared.kept_searches import half
from benchmarks.shared.kept_studies import kept_study, sources
from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import BENCHMARKS
from benchmarks.shared.small_studies import SEARCHED, Pool, Setting, pathology_pool, small_config
from outerfold.reports.intervals.jackknife import Of
from outerfold.storage.records import FloatArray
from outerfold.study.config.gather import cache_folder
from outerfold.study.engines.local import ONE_THREAD
from outerfold.study.setup.provenance import versions

NAME, AGAIN = "real_coverage", "real_coverage_again"
PATIENTS = 150
SHORT = small_config("multimodal")
CONFIGS = {
    "6 epochs": SHORT,
    "12 epochs": replace(SHORT, epochs=12, batch_size=32),
    "default space": SEARCHED,
}
"""Configuration by name of the setting."""
WORDS: dict[Of, str] = {"model": "the delivered model", "procedure": "models made this way"}
NOT_COUNTED = (
    "**The studies of half B have not been run yet.** The tables below are of half A, on which the "
    "intervals were tuned, so they flatter them: they are no proof of coverage."
)
ENOUGH, FEWEST = 0.92, 0.90
"""Shares of truths to be held: by nearly all cells, and by every one."""


def main() -> None:
    chosen = _options()
    pool = pathology_pool(chosen.data, cache_folder())
    tuning = _studies(half(pool, 0), chosen.tuning, chosen)
    found = _studies(half(pool, 1), chosen.replicates, chosen)
    target = (BENCHMARKS / "coverage") if not chosen.quick else chosen.out
    path = target / (f"{NAME}.md" if chosen.tuning else f"{AGAIN}.md")
    text = page(tuning, found) if chosen.tuning else page_again(found)
    path.write_text(text + "\n", encoding="utf-8")
    print(path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of BUS-BRA")
    parser.add_argument("--tuning", type=int, default=40, help="studies a setting of half A, or 0")
    parser.add_argument("--replicates", type=int, default=200, help="studies a setting of half B")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME, help="finished studies")
    parser.add_argument("--quick", action="store_true", help="the page is written under --out")
    return parser.parse_args()


def _studies(pool: Pool, count: int, chosen: argparse.Namespace) -> dict[str, Studies]:
    """Facts of every study of every setting; studies that are not on disk yet are run."""
    settings = [
        Setting(name, config, PATIENTS, pool.data.fingerprint) for name, config in CONFIGS.items()
    ]
    folder = chosen.out / sources() / pool.data.fingerprint[-6:].replace(" ", "-")
    work = [(setting, number) for number in range(count) for setting in settings]
    os.environ.update(ONE_THREAD)  # workers inherit it
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        each = Parallel(n_jobs=chosen.workers)(
            delayed(_facts)(pool, setting, number, folder) for setting, number in work
        )
    return {
        setting.name: [facts for (one, _), facts in zip(work, each, strict=True) if one == setting]
        for setting in settings
    }


def _facts(pool: Pool, setting: Setting, number: int, folder: Path) -> dict[str, Facts]:
    return facts_of(joblib.load(kept_study(pool, setting, number, folder)))


def page(tuning: Mapping[str, Studies], found: Mapping[str, Studies]) -> str:
    """Text of real_coverage.md."""
    counts = {name: len(studies) for name, studies in found.items()}
    counted = min(counts.values(), default=0) > 1
    parts = [
        "# Coverage on real patients",
        _text(counts if counted else {name: len(each) for name, each in tuning.items()}),
        _verdict(found) if counted else NOT_COUNTED,
        "## How the intervals were chosen, on half A",
        _tuning_text(tuning),
        markdown(
            TUNED_HEADER,
            [
                row
                for of in TARGETS
                for row in (
                    *(_tuned_row(tuning, kind, tune(tuning, kind, of)[0], of) for kind in KINDS),
                    _tuned_row(tuning, "**as reports use it**", shipped_way(of), of),
                )
            ],
        ),
    ]
    if counted:
        parts.append("## Against one constant, on half B")
        parts += [_against_constant(tuning, found, of) for of in TARGETS]
    parts += _by_setting(found if counted else tuning, "B" if counted else "A")
    return "\n\n".join([*parts, _facts_text(tuning, found)])


def page_again(found: Mapping[str, Studies]) -> str:
    """Text of real_coverage_again.md: coverage by the intervals as they are."""
    parts = [
        "# Coverage on real patients, counted again",
        "The intervals are those that [real_coverage.md](real_coverage.md) tuned and counted, when "
        "a decision was fitted to single networks. Here it is fitted to the mean of two, as a "
        "study's is now, and nothing was tuned again. "
        + _text({name: len(studies) for name, studies in found.items()}),
        _verdict(found),
        *_by_setting(found, "B"),
    ]
    return "\n\n".join([*parts, _facts_text({"half A": []}, found)])


def _by_setting(found: Mapping[str, Studies], of_half: str) -> Iterator[str]:
    """Sections of each setting."""
    for name, studies in found.items():
        yield f"## {name.capitalize()}, {len(studies)} studies of half {of_half}"
        yield _pessimism(studies)
        yield markdown(HEADER, [_row(studies, metric) for metric in SHOWN])


HEADER = (
    "metric",
    "held: delivered model",
    "truth below / above",
    "by the constant 1.4",
    "held: models made this way",
    "mean width: model, way, constant",
    "mean estimate",
    "mean truth",
    "sd of the error",
    "sd of the truth",
)


def _row(studies: Studies, name: str) -> tuple[str, ...]:
    model, way = (cell(studies, name, shipped_way(of), of) for of in TARGETS)
    today = cell(studies, name, TODAY, "model")
    truth = np.array([study[name].truth for study in studies])
    count = len(studies)
    return (
        SHOWN[name],
        f"{model.held.sum():.0f} of {count}",
        f"{(model.truth < model.low).sum()} / {(model.truth > model.high).sum()}",
        f"{today.held.sum():.0f} of {count}",
        f"{way.held.sum():.0f} of {count}",
        ", ".join(f"{(one.high - one.low).mean():.3f}" for one in (model, way, today)),
        f"{model.estimate.mean():.3f}",
        f"{truth.mean():.3f}",
        f"{(model.estimate - model.truth).std(ddof=1):.3f}",
        f"{truth.std(ddof=1):.3f}",
    )


def _cells(found: Mapping[str, Studies]) -> dict[str, Cell]:
    return {
        f"{SHOWN[name]} of {WORDS[of]}, {setting}": cell(studies, name, shipped_way(of), of)
        for setting, studies in found.items()
        for of in TARGETS
        for name in SHOWN
    }


def _verdict(found: Mapping[str, Studies]) -> str:
    """How many cells reach the shares that were set before, and which do not."""
    held = {name: float(one.held.mean()) for name, one in _cells(found).items()}
    missed = [f"{name} ({100 * share:.0f} %)" for name, share in held.items() if share < ENOUGH]
    few = [name for name, share in held.items() if share < FEWEST]
    mean = np.mean(list(held.values()))
    words = (
        f"{len(held) - len(missed)} of {len(held)} cells (seven metrics, three settings, two "
        f"intervals) hold in at least {100 * ENOUGH:.0f} % of the studies, "
        f"{len(held) - len(few)} in at least {100 * FEWEST:.0f} %; the mean over cells is "
        f"{100 * mean:.1f} %."
    )
    return words + (f" Below {100 * ENOUGH:.0f} %: {'; '.join(missed)}." if missed else "")


def _against_constant(tuning: Mapping[str, Studies], found: Mapping[str, Studies], of: Of) -> str:
    """Interval score of the reports' rule divided by that of a constant of the same coverage."""
    way = shipped_way(of)
    constant = match_constant(tuning, summarise(tuning, way, of).coverage, of)
    ours, other = (_scores(found, one, of) for one in (way, constant))
    ratios = {name: ours[name].mean() / other[name].mean() for name in SHOWN}
    mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
    bound = _upper_bound(ours, other)
    each = ", ".join(f"{SHOWN[name]} {ratio:.3f}" for name, ratio in ratios.items())
    return (
        f"Of {WORDS[of]}: the constant of the same coverage on half A is {constant.factor:g}. "
        f"Interval score divided by that constant's: {each}. Geometric mean **{mean:.3f}**, 95 % "
        f"upper bound over studies {bound:.3f}."
    )


def _scores(found: Mapping[str, Studies], way: Way, of: Of) -> dict[str, FloatArray]:
    """Interval scores (settings, studies) by metric."""
    count = min(len(studies) for studies in found.values())
    return {
        name: np.array([cell(one, name, way, of).score[:count] for one in found.values()])
        for name in SHOWN
    }


def _upper_bound(ours: dict[str, FloatArray], other: dict[str, FloatArray]) -> float:
    """One-sided 95 % bound of the geometric mean of ratios, from 2000 resamples of studies."""
    rng, means = np.random.default_rng(0), []
    settings, count = next(iter(ours.values())).shape
    for _ in range(2000):
        at = rng.integers(0, count, (settings, count))
        ratio = [
            np.take_along_axis(ours[name], at, 1).mean()
            / np.take_along_axis(other[name], at, 1).mean()
            for name in SHOWN
        ]
        means.append(np.exp(np.mean(np.log(ratio))))
    return float(np.quantile(means, 0.95))


TUNED_HEADER = (
    "of",
    "kind",
    "factor",
    "factor for probabilities",
    "share within",
    "share between",
    "score",
    "coverage",
    "least",
)


def _tuned_row(tuning: Mapping[str, Studies], name: str, way: Way, of: Of) -> tuple[str, ...]:
    found = summarise(tuning, way, of)
    return (
        WORDS[of],
        name,
        f"{way.factor:g}",
        f"{way.probabilities:g}",
        f"{way.within:g}",
        f"{way.between:g}",
        f"{found.score:.4f}",
        f"{100 * found.coverage:.1f} %",
        f"{100 * found.least:.0f} %",
    )


def _pessimism(studies: Studies) -> str:
    facts = [study["roc_auc"] for study in studies]
    gap = np.array([one.truth - one.outer for one in facts])
    error = np.array([one.leave.estimate - one.outer for one in facts])
    return (
        f"On the other patients, the ROC-AUC of the delivered model is {gap.mean():+.3f} (standard "
        f"error {gap.std(ddof=1) / np.sqrt(len(gap)):.3f}) from that of the outer folds' models, "
        f"which had 80 % of the patients; the estimate differs from the latter by "
        f"{error.mean():+.3f} ({error.std(ddof=1) / np.sqrt(len(error)):.3f})."
    )


def _text(counts: Mapping[str, int]) -> str:
    return (
        f"Each study draws {PATIENTS} patients of BUS-BRA (breast ultrasound, benign or malignant "
        "by pathology; 1064 patients in two halves), runs the whole protocol on them, calibration "
        "and threshold included, and delivers a model. The truth is the score of that model on all "
        "patients of the half that were not drawn. It is itself estimated; its error adds to every "
        "error of an interval, so the errors are moved towards their mean by exactly that "
        "variance. *Held: models made this way*: the interval of the procedure contains the mean "
        "truth over studies. Studies share patients, so they are not fully independent. "
        + "; ".join(f"{name}: {count} studies" for name, count in counts.items())
        + "."
    )


def _tuning_text(tuning: Mapping[str, Studies]) -> str:
    count = min(len(studies) for studies in tuning.values())
    return (
        f"{count} studies a setting. Each row is the best of its kind by the geometric mean over "
        "cells of the interval score (Gneiting & Raftery 2007; less is better): a factor of the "
        "patients' standard error and shares of the measured variances, the same for all metrics "
        "and settings. *constant* adds the variance of the folds' thresholds and measures no "
        "model. *within* is the variance of a jackknife over inner folds, *between* that of the "
        "outer folds beyond their patients', *both* adds a share of each. *own factor* has another "
        "factor for the Brier score, and *gain* also lengthens the better side for the step from "
        "an outer fold's patients to all patients. The rule of the reports has larger factors than "
        "the best score asks for: it also has to hold in the simulated studies of "
        "[coverage.md](coverage.md), whose models differ less and whose thresholds differ more."
    )


def _facts_text(tuning: Mapping[str, Studies], found: Mapping[str, Studies]) -> str:
    counts = [
        min((len(studies) for studies in each.values()), default=0) for each in (tuning, found)
    ]
    known = versions()
    config = CONFIGS["default space"]
    lines = [
        "## Facts",
        "",
        f"- Made with `python -m benchmarks.coverage.{NAME} --data DATA/bus-bra --tuning "
        f"{counts[0]} --replicates {counts[1]}`.",
        f"- 6 and 12 epochs: 5 outer and {SHORT.inner_folds} inner folds, {SHORT.trials} trials, "
        f"batches of 128 and 32. Default space: {config.inner_folds} inner folds, {config.trials} "
        f"trials, at most {config.epochs} epochs, searched batches. Pruner `{config.pruner}`, "
        f"encoder `{config.encoder}`, `--final folds` with one network a fold; without augmented "
        "views and attention, which take most of the time. The first trial is the default "
        "configuration, and Optuna's sampler draws the next nine at random.",
        f"- Level {100 * LEVEL:.0f} %. "
        + ", ".join(f"{package} {known[package]}" for package in TOLD)
        + ".",
    ]
    return "\n".join(lines)


TOLD = ("python", "numpy", "scikit-learn", "optuna", "torch")


if __name__ == "__main__":
    main()
