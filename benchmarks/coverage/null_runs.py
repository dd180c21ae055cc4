"""Results of whole nested studies of images with shuffled labels, that is of pure noise.

    python -m benchmarks.coverage.null_runs --replicates 100 --workers 2

Each replicate draws patients of the demo, shuffles the labels among these patients, and runs the
whole protocol. The truth is a ROC-AUC of 0.5. Finished chunks are kept under --out and reused
while the code that made them is unchanged. The script writes null_runs.md beside this file.
"""

from __future__ import annotations

import numpy as np

from benchmarks.shared.chunks import Arrays
from benchmarks.shared.markdown import markdown
from benchmarks.shared.small_studies import Setting, demo_pool, small_config, without_signal
from benchmarks.shared.study_pages import at, facts, finished_studies, options, share, write_page
from outerfold.storage.readers.targets import Task
from outerfold.study.config.gather import cache_folder

NAME = "null_runs"
PATIENTS: dict[Task, int] = {"multimodal": 80, "dbt": 100}
TRUTH = 0.5


def main() -> None:
    chosen = options(__doc__, NAME)
    work = []
    for task, patients in PATIENTS.items():
        pool = demo_pool(task, cache_folder())
        work.append((Setting(task, small_config(task), patients, pool.data.fingerprint), pool))
    found = finished_studies(work, without_signal, chosen, replicates=chosen.replicates)
    write_page(chosen, NAME, page(found, chosen.seed))


def page(found: list[tuple[Setting, Arrays]], seed: int) -> str:
    """Text of null_runs.md."""
    header = ["", *(setting.name for setting, _ in found)]
    columns = [_column(setting, arrays) for setting, arrays in found]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return "\n\n".join(
        [
            "# Studies of pure noise",
            _text(found),
            markdown(header, rows),
            facts(NAME, found, seed),
        ]
    )


def _column(setting: Setting, arrays: Arrays) -> dict[str, str]:
    estimate, low, high = at(arrays["intervals"], "roc_auc").T
    inner, count = arrays["inner"], len(estimate)
    holds = (low <= TRUTH) & (high >= TRUTH)
    error = estimate.std(ddof=1) / np.sqrt(count)
    return {
        "studies": str(count),
        "patients per study": str(setting.patients),
        "95 % intervals of ROC-AUC that contain 0.5": share(holds),
        "wholly above 0.5 / wholly below": f"{(low > TRUTH).sum()} / {(high < TRUTH).sum()}",
        "mean estimate of ROC-AUC (standard error)": f"{estimate.mean():.4f} ({error:.4f})",
        "standard deviation of the estimates": f"{estimate.std(ddof=1):.3f}",
        "median width of the intervals": f"{np.median(high - low):.3f}",
        "mean score that the search chose by": f"**{inner.mean():.3f}**",
        "studies whose search scored above 0.5": share(inner > TRUTH),
        "trials pruned": f"{100 * arrays['pruned'].mean():.0f} %",
    }


def _text(found: list[tuple[Setting, Arrays]]) -> str:
    promised = " and ".join(f"{a['inner'].mean():.2f} ({s.name})" for s, a in found)
    told = " and ".join(f"{at(a['intervals'], 'roc_auc')[:, 0].mean():.3f}" for _, a in found)
    return (
        "Each study draws patients of the demo and shuffles the labels among these patients, so "
        "images and columns carry no information on the label, but all images of a patient keep "
        "the same label. Then the study runs the whole protocol: folds, Optuna's search with "
        "pruning, refit, temperature and threshold, one score of each outer fold, the report's "
        f"interval. The search's own best score is a ROC-AUC of {promised} on average, in data "
        "without any signal: this number must never be reported. The mean ROC-AUC of the outer "
        f"folds is {told}. For four classes, ROC-AUC is the mean over classes, one against the "
        "rest. Patients change their labels together with their places in the folds, so the mean "
        "over folds of a ROC-AUC has no bias here."
    )


if __name__ == "__main__":
    main()
