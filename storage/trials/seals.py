"""Hash of each ended trial, so that a trial that was changed in its storage is not used.

A flipped digit of a journal is still JSON, and only the hash shows it. Trials of an earlier version
have none, and are read as they are.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from hashlib import sha256

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

SEAL = "outerfold:sha256"
"""System attribute of a trial with the hash of the rest."""
SEALED = "outerfold:sealed"
"""Attribute of a study all of whose trials carry a hash."""
OF_OTHERS = (SEAL, "dashboard:", "artifacts:")
"""Beginnings of names of attributes that are no part of a trial's outcome."""
KEPT = "~kept"
"""Suffix of a study's copy in a database while the study is replaced."""


class ChangedTrial(ValueError):
    """A trial is not the one that was kept.

    Attributes:
        number: its place among the trials of its study.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def seal(study: str, trial: FrozenTrial) -> FrozenTrial:
    """Copy of an ended trial with its hash; ``study`` is the name of its study."""
    sealed = copy.copy(trial)
    digest = hash_trial(study, trial, trial.number)
    sealed.system_attrs = {**trial.system_attrs, SEAL: digest}
    return sealed


def hash_trial(study: str, trial: FrozenTrial, number: int) -> str:
    """SHA-256 of all that decides how the search goes on after a trial.

    Times are left out, because some databases round them.

    Args:
        study: name of the study, with or without the name of the run before it.
        trial: the trial.
        number: its number among the ended trials of the study.
    """
    attributes = {
        name: value for name, value in trial.system_attrs.items() if not name.startswith(OF_OTHERS)
    }
    content = [
        study.rpartition("/")[2].removesuffix(KEPT),
        number,
        trial.state.name,
        trial.values,
        trial.params,
        {name: distribution_to_json(each) for name, each in trial.distributions.items()},
        sorted(trial.intermediate_values.items()),
        trial.user_attrs,
        attributes,
    ]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_seals(study: str, trials: Sequence[FrozenTrial], *, sealed: bool) -> int:
    """Check each trial of a study against its hash; return the number of trials without one.

    Args:
        study: name of the study.
        trials: its trials in order of their number, none of them twice.
        sealed: whether each trial must have ended and carry a hash. Otherwise those before the
            first one with a hash are of an earlier version.

    Raises:
        ChangedTrial: a trial was changed, or is at the place of another.
    """
    first = next((at for at, trial in enumerate(trials) if SEAL in trial.system_attrs), len(trials))
    for at, trial in enumerate(trials):
        must = sealed or at >= first
        if must and trial.system_attrs.get(SEAL) != hash_trial(study, trial, at):
            raise ChangedTrial(trial.number)
    return 0 if sealed else first
