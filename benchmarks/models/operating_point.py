"""How well sensitivity, specificity and probabilities carry over to patients that no model saw.

    python -m benchmarks.models.operating_point --data DATA --studies 16 --workers 2

Each study draws patients, searches on their inner folds and keeps every epoch of its best trials
(``benchmarks.shared.kept_searches``). Rules for epoch and trial, calibrations, thresholds and ways
of making the model are then compared on the same trainings, on the patients that were not drawn.
Of BUS-BRA only patients of one half (by a hash of their id) are used, so that the other half stays
untouched for figures of coverage. The script writes operating_point.md beside this file.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import scipy.stats
from joblib import Parallel, delayed

from benchmarks.models.batch_statistics import STATISTICS
from benchmarks.models.operating_rules import CALIBRATIONS, EPOCHS, MEASURES, Way, measure
from benchmarks.shared.kept_searches import KeptSearch, half, kept_search
from benchmarks.shared.markdown import bounds, interval, markdown
from benchmarks.shared.places import real_data
from benchmarks.shared.small_studies import (
    SEARCHED,
    Pool,
    Setting,
    demo_pool,
    pathology_pool,
    small_config,
    ultrasound_pool,
)
from outerfold.storage.records import FloatArray
from outerfold.study.config.gather import cache_folder

HERE = Path(__file__).parent
NETWORKS = 3
OWN = "corrected for the start"
MOST_LOST = 0.005
"""ROC-AUC that a rule may lose."""
SHORT = replace(small_config("multimodal"), pruner="none")
DEFAULT = replace(SEARCHED, pruner="none")
"""The default space without views and attention. No trial is pruned, so that the rules for trials
have something to choose from."""
BEFORE = Way("refit, Youden", threshold="youden", model="refit", networks=0)
FINAL = [
    Way("mean of the folds' networks, calibrated as one"),
    Way("refit (`--final refit`)", model="refit", networks=0),
    Way("folds, as many networks each", networks=0),
    Way("folds, a calibration each", model="each"),
    Way("folds, calibrated before the mean", model="common"),
    Way("folds, mean of logits", model="logits"),
]
RULES: Mapping[str, Sequence[Way]] = {
    "How the model is made": FINAL,
    "Epoch": [Way(name, epoch=name) for name in EPOCHS],
    "Trial": [
        Way("best value"),
        Way("least log loss within a standard error", near_trials=True),
        Way(
            "epoch and trial of least log loss within a standard error",
            epoch="least log loss within a standard error",
            near_trials=True,
        ),
    ],
    "Calibration": [Way(name, calibration=name) for name in CALIBRATIONS],
    "Threshold": [Way("prevalence"), Way("Youden", threshold="youden")],
}
"""Tables of ways; the first of each is the project's own."""


@dataclass(frozen=True)
class Source:
    """Data set of a setting: its pool of patients, and how many a study draws."""

    name: str
    pool: Pool
    patients: int


def main() -> None:
    options = _options()
    sources = [
        Source("bus-bra", half(pathology_pool(options.data / "bus-bra", cache_folder()), 0), 150),
        Source("breast-usg", ultrasound_pool(options.data / "breast-usg", cache_folder()), 150),
        Source("demo", demo_pool("multimodal", cache_folder()), 100),
    ]
    whole = {source.name: _searches(source, "default", options) for source in sources}
    short = {way: _searches(sources[0], "short", options, way) for way in STATISTICS}
    text = page(whole, short)
    (HERE / "operating_point.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def _searches(
    source: Source, kind: str, options: argparse.Namespace, statistics: str = OWN
) -> list[KeptSearch]:
    config = DEFAULT if kind == "default" else SHORT
    setting = Setting(
        f"{source.name} {kind}", config, source.patients, source.pool.data.fingerprint
    )
    jobs = (
        delayed(_search)(source.pool, setting, number, options.out, statistics)
        for number in range(options.studies)
    )
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        paths: list[Path] = Parallel(n_jobs=options.workers)(jobs)
    return [joblib.load(path) for path in paths]


def _search(pool: Pool, setting: Setting, number: int, out: Path, statistics: str) -> Path:
    with STATISTICS[statistics]():
        return kept_search(pool, setting, number, NETWORKS, out / statistics.replace(" ", "-"))


def page(
    whole: Mapping[str, Sequence[KeptSearch]], short: Mapping[str, Sequence[KeptSearch]]
) -> str:
    """Text of operating_point.md.

    Args:
        whole: searches of the default space by data set.
        short: searches of the short setting by a key of ``STATISTICS``.
    """
    parts = ["# Does the operating point carry over?", _text(whole)]
    ways = (BEFORE, FINAL[1], FINAL[0])
    rows = [
        [name, way.name, *_columns(searches, way)]
        for name, searches in short.items()
        for way in ways
    ]
    parts += ["## Statistics of batch normalisation: bus-bra, 6 epochs, batches of 128"]
    parts += [markdown(["statistics", "way", *HEADER], rows)]
    rows = [
        [name, way.name, *_columns(searches, way)]
        for name, searches in whole.items()
        for way in (*ways, *FINAL[2:])
    ]
    parts += ["## Default space, by data set", markdown(["data", "way", *HEADER], rows)]
    for title, ways in RULES.items():
        parts += [f"## {title}", _compare(whole, ways)]
    return "\n\n".join([*parts, "## All rules together", _together(whole)])


HEADER = [
    "ROC-AUC",
    "Brier",
    "balanced accuracy",
    "lowest",
    "sd of sensitivity",
    "mean of absolute (signed) sensitivity minus out-of-fold",
    "specificity likewise",
    "median slope",
]


def _columns(searches: Sequence[KeptSearch], way: Way) -> list[str]:
    found = np.array([measure(search, way) for search in searches]).T
    auc, brier, balanced, sensitivity, _, moved, likewise, slope = found
    return [
        f"{auc.mean():.3f}",
        f"{brier.mean():.4f}",
        f"{balanced.mean():.3f}",
        f"{balanced.min():.2f}",
        f"{sensitivity.std(ddof=1):.3f}",
        *(f"{np.abs(one).mean():.3f} ({one.mean():+.3f})" for one in (moved, likewise)),
        f"{np.median(slope):.2f}",
    ]


def _compare(whole: Mapping[str, Sequence[KeptSearch]], ways: Sequence[Way]) -> str:
    searches = [search for each in whole.values() for search in each]
    rows = [[ways[0].name, *_columns(searches, ways[0]), "", ""]]
    for way, apart in _differences(whole, ways).items():
        rows.append([way.name, *_columns(searches, way), *(interval(one) for one in apart)])
    return markdown(["way", *HEADER, "Brier minus the first (95 %)", "ROC-AUC likewise"], rows)


def _differences(
    whole: Mapping[str, Sequence[KeptSearch]], ways: Sequence[Way]
) -> dict[Way, FloatArray]:
    """Brier score and ROC-AUC (2, searches) of each later way minus those of the first."""
    searches = [search for each in whole.values() for search in each]
    at = [MEASURES.index("Brier score"), MEASURES.index("ROC-AUC")]
    own = np.array([measure(search, ways[0]) for search in searches])
    return {
        way: (np.array([measure(search, way) for search in searches]) - own)[:, at].T
        for way in ways[1:]
    }


def _together(whole: Mapping[str, Sequence[KeptSearch]]) -> str:
    """Rules that pass by themselves, and those that are left where all are counted."""
    apart = {
        way: found
        for ways in RULES.values()
        for way, found in _differences(whole, ways).items()
        if way.threshold == ways[0].threshold  # a threshold moves no probability
    }
    p = [float(scipy.stats.ttest_1samp(brier, 0).pvalue) for brier, _ in apart.values()]
    passed, left = [], []
    for (way, (brier, auc)), own, corrected in zip(
        apart.items(), p, holm(np.array(p)), strict=True
    ):
        if bounds(brier)[1] < 0 and auc.mean() > -MOST_LOST:
            passed.append(f"{way.name} (p = {own:.3f})")
        if corrected < 0.05 and brier.mean() < 0:
            left.append(way.name)
    return (
        f"{len(apart)} rules were compared with the project's own, each by itself. By itself, "
        f"{', '.join(passed) or 'none'} would be adopted. With the p values of a paired t test "
        f"corrected for {len(apart)} comparisons (Holm), {', '.join(left) or 'none'} lowers the "
        "Brier score."
    )


def holm(p: FloatArray) -> FloatArray:
    """P values corrected for their number (Holm 1979), shape ``(comparisons,)``.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    steps = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    corrected = np.empty_like(p)
    corrected[order] = steps
    return corrected


def _text(whole: Mapping[str, Sequence[KeptSearch]]) -> str:
    counts = ", ".join(f"{len(each)} of {name}" for name, each in whole.items())
    every = [search for each in whole.values() for search in each]
    return (
        f"Studies of the default space (12 trials, four inner folds): {counts}. Each draws 150 "
        "patients (100 of the demo), and its models score all other patients, for bus-bra those of "
        "the same half. Positive differences of sensitivity and specificity mean that the model "
        "does better on new patients than its out-of-fold rows promised. Decisions are fitted to "
        "single networks; those of a study are fitted to the mean of two since "
        "([second_division.md](second_division.md)). Networks of a refit: "
        f"{NETWORKS}. *Slope* is that of a logistic regression of the label on the log-odds; "
        "above 1 the probabilities are not sure enough. A rule is adopted if the 95 % interval "
        f"of the paired Brier difference lies below 0 and ROC-AUC loses at most {MOST_LOST}; "
        "otherwise the simpler rule stands. A search took "
        f"{np.mean([one.seconds[0] for one in every]):.0f} CPU seconds on average. For "
        "thresholds, what counts is how far sensitivity and specificity move."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=real_data(), help="holds the real data sets")
    parser.add_argument("--studies", type=int, default=16, help="of each data set (16)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / "operating_point")
    return parser.parse_args()


if __name__ == "__main__":
    main()
