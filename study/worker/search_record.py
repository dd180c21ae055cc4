"""Record of a run's searches for its report, made from the trials that are kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from outerfold.storage.records import Search, TrialRow
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.search import write_search
from outerfold.storage.trials.database import retry
from outerfold.study.schedule.patience import state_word

FEWEST_COMPLETE = 10
"""Complete trials below which no importance is computed. PED-ANOVA compares the best tenth of them
with all others."""


def record_searches(folder: RunFolder, studies: Mapping[str, optuna.Study]) -> None:
    """Write the trials of all studies and the importance of their parameters to ``search.json``.

    Args:
        folder: directory of the run.
        studies: studies by name.
    """
    write_search(folder, {name: describe_search(study) for name, study in studies.items()})


def describe_search(study: optuna.Study) -> Search:
    """Ended trials of a study, and the importance of its parameters."""
    ended = [
        trial
        for trial in retry(lambda: study.get_trials(deepcopy=False))
        if trial.state.is_finished()
    ]
    rows = tuple(
        TrialRow(
            trial.number,
            state_word(trial),
            trial.value if trial.state == TrialState.COMPLETE else None,
            trial.last_step or 0,
            dict(trial.params),
        )
        for trial in ended
    )
    return Search(rows, _importance(study, sum(row.value is not None for row in rows)))


def _importance(study: optuna.Study, complete: int) -> dict[str, float]:
    """Importance by parameter (PED-ANOVA, Watanabe et al. 2023), largest first."""
    if complete < FEWEST_COMPLETE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError):  # a space without a parameter that all trials have
            return {}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
