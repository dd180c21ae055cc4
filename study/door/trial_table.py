"""Table of the trials of a run."""

from __future__ import annotations

import optuna
import pandas as pd

from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.journal import check_trials, load_studies, open_trials
from outerfold.study.schedule.patience import state_word


def read_trials(folder: RunFolder, url: str | None) -> pd.DataFrame:
    """Row for each trial of each study of a run, see ``RunResult.trials``.

    Args:
        folder: directory of the run.
        url: URL of the database that holds the trials; None for the run's journal.

    Raises:
        DataError: the storage is not there or cannot be opened, or a trial was changed in it.
    """
    if url is None and not folder.journal.exists():
        raise DataError(
            f"{folder.journal}: is not there; name the database of the trials, as in "
            "outerfold.load(RUN, storage=URL)"
        )
    check_trials(folder, url)
    names = [fold.name for fold in folder.read_splits(folder.read_dataset())]
    studies = load_studies(open_trials(folder, url), folder, names, url)
    return pd.DataFrame(
        [
            _row(name, trial)
            for name, study in studies.items()
            for trial in study.get_trials(deepcopy=False)
        ]
    )


def _row(study: str, trial: optuna.trial.FrozenTrial) -> dict[str, object]:
    took = trial.duration
    return {
        "study": study,
        "number": trial.number,
        "state": state_word(trial),
        "inner_score": None if trial.values is None else trial.value,
        "seconds": None if took is None else took.total_seconds(),
        **{f"param_{name}": value for name, value in trial.params.items()},
    }
