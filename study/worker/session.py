"""What a worker process keeps between jobs of one run: data, folds, objectives, trial storage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import optuna
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from outerfold.objectives.inner import InnerObjective, Protocol
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.pruning import PRUNERS
from outerfold.objectives.spaces import Space, space
from outerfold.pipelines.rows.training_rows import Sources
from outerfold.storage.records import Dataset, OuterFold
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.numerics import refuse_other_numerics
from outerfold.storage.seeds import derive
from outerfold.storage.trials.database import retry
from outerfold.storage.trials.journal import open_trials, study_name
from outerfold.storage.trials.ownership import RUN, claim_run
from outerfold.storage.trials.trial_view import TrialView
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges
from outerfold.study.schedule.patience import count_visible

SHOWN_SECONDS = 30.0
"""How long a network file system may take to show a trial on another machine."""


@dataclass(frozen=True)
class WorkerContext:
    """Where a worker finds a run; small, whatever the number of images.

    Attributes:
        run: the run directory.
        embeddings: handle of the frozen representations, by each encoder where there are several.
        storage: database URL for trials, or None for the run's journal.
        driver: token of the command that works on the run; "" of none in particular.
        encoded_on: kind of device that the representations were computed on.
    """

    run: Path
    embeddings: Sources
    storage: str | None = None
    driver: str = ""
    encoded_on: str = "cpu"


class Session:
    """One run as a worker process sees it."""

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.folder = RunFolder(context.run)
        self.embeddings = context.embeddings
        refuse_other_numerics(self.folder)
        self.config = StudyConfig.from_toml(self.folder.read_config())
        self.data: Dataset = self.folder.read_dataset()
        self.folds: dict[str, OuterFold] = {
            fold.name: fold for fold in self.folder.read_splits(self.data)
        }
        self.trials: BaseStorage = open_trials(self.folder, context.storage, wait=True)
        self.space: Space = space(
            self.config.task,
            build_ranges(self.config, self.data),
            checkpointing=self.config.checkpointing,
        )
        self._objectives: dict[tuple[str, str], InnerObjective] = {}

    def objective(self, study: str, device: str) -> InnerObjective:
        """The inner objective of one study; given the training side and nothing else."""
        key = (study, device)
        if key not in self._objectives:
            fold = self.folds[study]
            self._objectives[key] = InnerObjective(
                fold.train_side(self.data),
                fold.inner,
                self.embeddings,
                self.space,
                protocol=Protocol(
                    self.config.metric,
                    self.config.epochs,
                    self.config.patience_epochs,
                    self.config.tta,
                ),
                seed=derive(self.config.seed, study),
                device=device,
            )
        return self._objectives[key]

    def study(self, name: str, number: int = 0) -> optuna.Study:
        """One study as it is kept, with the sampler and the pruner of trial ``number``.

        The sampler is seeded by (seed, study, trial), so a resumed study goes on as if it had
        never stopped. Bergstra et al. (2011); multivariate, and grouped so that parameters that
        occur in some trials only are still sampled together.
        """
        sampler = TPESampler(
            seed=derive(self.config.seed, name, "sampler", number) % 2**32,
            group=True,
            constant_liar=False,
        )
        return optuna.load_study(
            study_name=study_name(self.folder, name, self.context.storage),
            storage=self.trials,
            sampler=sampler,
            pruner=PRUNERS[self.config.pruner](self.config.epochs),
        )

    def study_as_seen(self, name: str, number: int) -> optuna.Study:
        """One study as trial ``number`` sees it, to be asked for that trial and for no other.

        The trials are only read; what comes of the new one is for the driver to keep.

        Raises:
            RuntimeError: earlier trials that it has to see are not in the storage.
        """
        kept = retry(lambda: self.study(name, number))
        count = count_visible(number, self.config.in_flight)
        seen = _first_ended(kept, count)
        study_as_seen = TrialView(name, kept.direction, seen, number)
        return optuna.load_study(
            study_name=name, storage=study_as_seen, sampler=kept.sampler, pruner=kept.pruner
        )


def _first_ended(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The first ``count`` trials; waits for a shared file system to show what it was given."""
    until = time.monotonic() + SHOWN_SECONDS
    while True:
        trials = retry(lambda: study.get_trials(deepcopy=False))[:count]
        if len(trials) == count and all(trial.state.is_finished() for trial in trials):
            return trials
        if time.monotonic() > until:
            raise RuntimeError(
                f"{study.study_name}: trial storage shows {len(trials)} ended trials where {count} "
                "have ended; is another process writing to this run?"
            )
        time.sleep(0.2)


@lru_cache(maxsize=1)
def open_session(context: WorkerContext) -> Session:
    """The session of a run; one a process."""
    return Session(context)


def create_studies(
    context: WorkerContext, config: StudyConfig, names: list[str]
) -> dict[str, optuna.Study]:
    """One fresh study an outer fold and one for all rows; none learns from another.

    Raises:
        DataError: the studies of these names are another run's, or this run's are elsewhere.
    """
    folder = RunFolder(context.run)
    trials = open_trials(folder, context.storage)
    run = claim_run(folder, trials, context.storage)
    direction = METRICS[config.metric].direction
    studies = {}
    for name in names:
        study = optuna.create_study(
            study_name=study_name(folder, name, context.storage),
            storage=trials,
            direction=direction,
            load_if_exists=True,
        )
        if context.storage is not None and study.user_attrs.get(RUN) is None:
            study.set_user_attr(RUN, run)
        studies[name] = study
    return studies
