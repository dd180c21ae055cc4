"""Coverage of the performance that the delivered model then has on other real patients.

    python -m benchmarks.coverage.real_coverage --data DATA/bus-bra --workers 2

Each replicate draws patients of BUS-BRA (breast ultrasound, benign or malignant by pathology), runs
the whole protocol on them and scores the delivered model on all other patients: this is the truth.
Finished chunks are kept under --out and reused while the code that made them is unchanged. The
script writes real_coverage.md beside this file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.shared.chunks import Arrays
from benchmarks.shared.markdown import markdown
from benchmarks.shared.small_studies import Setting, draw_patients, pathology_pool, small_config
from benchmarks.shared.study_pages import at, facts, finished_studies, options, write_page
from outerfold.storage.records import FloatArray
from outerfold.study.config.gather import cache_folder

NAME = "real_coverage"
PATIENTS = 150
SHORT = small_config("multimodal")
SETTINGS = (
    ("pathology", SHORT, 1.0),
    # A study takes twice the time, so there are fewer of them.
    ("longer training", replace(SHORT, epochs=12, batch_size=32), 0.4),
)
"""Name, configuration, and the share of ``--replicates`` that is run."""
SHOWN = {
    "roc_auc": "ROC-AUC",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "brier": "Brier score",
}


def main() -> None:
    chosen = options(__doc__, NAME, data=True)
    pool = pathology_pool(chosen.data, cache_folder())
    found = []
    for name, config, part in SETTINGS:
        setting = Setting(name, config, PATIENTS, pool.data.fingerprint)
        count = max(2, round(part * chosen.replicates))
        found += finished_studies([(setting, pool)], draw_patients, chosen, replicates=count)
    write_page(chosen, NAME, page(found, chosen.seed))


def page(found: list[tuple[Setting, Arrays]], seed: int) -> str:
    """Text of real_coverage.md."""
    parts = ["# Coverage for the delivered model, on real patients", _text(found)]
    for setting, arrays in found:
        config = setting.config
        parts += [
            f"## {setting.name.capitalize()}: at most {config.epochs} epochs, batches of "
            f"{config.batch_size}, {len(arrays['inner'])} studies",
            _optimism(arrays),
            markdown(HEADER, [_row(arrays, name) for name in SHOWN]),
        ]
    if (seed, len(found[0][1]["inner"])) == (0, 100):
        parts.append(FOUND)
    return "\n\n".join([*parts, facts(NAME, found, seed)])


FOUND = """## Causes of the misses

These causes were found for the run with seed 0 and 100 studies (40 of the longer ones):

- **ROC-AUC** has too little coverage: 91 of 100 (Monte-Carlo standard error 2.9) and 35 of 40
  (5.2). Models of a search this small differ from study to study by about 0.04, not much less than
  the estimates do, and the delivered model is a single draw, while an estimate is a mean over five
  models. A standard error multiplied by 1.4 is too small for that.
- The longer studies miss on one side, because their estimates are 0.036 too low. The outer folds'
  own models were tested on the same other patients: they were 0.022 (standard error 0.005) worse
  than the delivered model, since they had 80 % of the patients and of the steps. The estimates
  were 0.014 (0.008) below the true performance of those models, which may be chance. So most of
  the difference is the pessimism of cross-validation on a steep learning curve.
- **Sensitivity, specificity, accuracy** after 6 epochs: in the three studies that were examined,
  all probabilities of a model that has made a dozen steps lie around a value that differs from
  model to model. The temperature and the threshold, learnt from the inner folds' pooled rows, fit
  the values of those folds and not that of the refit, and some refits predict one class for every
  image. The intervals are therefore 0.8 wide, but a refit with only one predicted class is outside
  them. Twice the epochs, with more than twice the steps, solve most of the problem (37 and 36 of
  40).
- **Brier score** has too little coverage in both settings. The likely cause, not examined further:
  the choice of the search (sampler, class weights, focal loss) shifts the probabilities of the
  delivered model, a temperature cannot shift them back, and the shifts of five pooled folds
  average out."""

HEADER = [
    "metric",
    "covered",
    "covered, error of the truth removed",
    "procedure covered",
    "truth below / above",
    "mean width",
    "mean estimate",
    "mean truth",
    "mean error (standard error)",
    "sd of the error",
    "sd of the truth",
    "standard error of a truth",
]


def without_noise(error: FloatArray, noise: FloatArray) -> FloatArray:
    """Errors (studies,) moved towards their mean, so that the variance of ``noise`` is removed.

    Args:
        noise: standard error of each truth (studies,). Its variance is subtracted, as for
            independent normal errors.
    """
    kept = max(0.0, 1 - float((noise**2).mean()) / float(error.var(ddof=1)))
    return np.asarray(error.mean() + (error - error.mean()) * np.sqrt(kept))


def _row(arrays: Arrays, name: str) -> list[str]:
    (estimate, low, high), truth = at(arrays["intervals"], name).T, at(arrays["truth"], name)
    noise, error = at(arrays["truth_error"], name), estimate - truth
    nearer = estimate - without_noise(error, noise)
    of = f"of {np.isfinite(low).sum()}"
    return [
        SHOWN[name],
        f"{_covered(low, truth, high)} {of}",
        f"{_covered(low, nearer, high)} {of}",
        f"{_covered(low, np.full_like(truth, truth.mean()), high)} {of}",
        f"{(truth < low).sum()} / {(truth > high).sum()}",
        f"{np.nanmean(high - low):.3f}",
        f"{estimate.mean():.3f}",
        f"{truth.mean():.3f}",
        f"{error.mean():+.4f} ({error.std(ddof=1) / np.sqrt(len(error)):.4f})",
        f"{error.std(ddof=1):.3f}",
        f"{truth.std(ddof=1):.3f}",
        f"{noise.mean():.3f}",
    ]


def _covered(low: FloatArray, truth: FloatArray, high: FloatArray) -> int:
    return int(((low <= truth) & (truth <= high)).sum())


def _optimism(arrays: Arrays) -> str:
    inner, estimate = arrays["inner"].mean(), at(arrays["intervals"], "roc_auc")[:, 0].mean()
    truth = at(arrays["truth"], "roc_auc").mean()
    return (
        f"The score by which the search chose is a ROC-AUC of {inner:.3f} on average. It differs "
        f"by {inner - estimate:+.3f} from the score of the outer folds and by "
        f"{inner - truth:+.3f} from the truth."
    )


def _text(found: list[tuple[Setting, Arrays]]) -> str:
    return (
        f"Each study draws {found[0][0].patients} patients of BUS-BRA (breast ultrasound, benign "
        "or malignant by pathology; 1064 patients), runs the whole protocol on them, threshold "
        "included, and delivers a model. The truth is the score of that model on all patients that "
        "were not drawn. So the truth is itself estimated: its standard error (patient jackknife, "
        "last column) adds to every error, and an interval that covers in exactly 95 % of cases "
        "contains fewer of these truths. In the column *error of the truth removed*, the errors "
        "are moved towards their mean by exactly that variance; in the column before it, which "
        "counts for the target of 93 %, they are not. *Procedure covered*: the interval contains "
        "the mean truth over studies, that is the expected performance of the procedure's models. "
        "*sd of the truth*: how much the delivered models of different studies differ, which no "
        "jackknife over fixed models can measure. Studies share patients, so they are not fully "
        "independent. Models of the outer folds train on 80 % of the patients and the delivered "
        "model on all, so a small pessimism is expected."
    )


if __name__ == "__main__":
    main()
