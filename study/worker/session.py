"""State of a worker process between jobs of one run: data, folds, objectives, trial storage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import optuna
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from outerfold.objectives.default import Default
from outerfold.objectives.inner import InnerObjective, Protocol
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.pruning import PRUNERS, Unpruned
from outerfold.objectives.spaces import Space, make_space
from outerfold.pipelines.rows.training_rows import Sources
from outerfold.storage.records import DataError, Dataset, OuterFold
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.numerics import refuse_other_numerics
from outerfold.storage.seeds import derive_seed
from outerfold.storage.trials.database import retry
from outerfold.storage.trials.journal import open_trials, study_name
from outerfold.storage.trials.ownership import RUN, claim_run
from outerfold.storage.trials.seals import SEALED
from outerfold.storage.trials.trial_view import TrialView
from outerfold.study.config.kept_run import require_kept_plugins
from outerfold.study.config.record import StudyConfig
from outerfold.study.config.search_space import build_ranges, default_of
from outerfold.study.plugins import load_plugins
from outerfold.study.schedule.patience import count_visible
from outerfold.study.splits import divide_again

SHOWN_SECONDS = 30.0
"""Seconds that a network file system may take to show a trial on another machine."""


@dataclass(frozen=True)
class WorkerContext:
    """Locations of a run's files for a worker; its size does not depend on the number of images.

    Attributes:
        run: the run directory.
        embeddings: handle of the frozen embeddings, one for each encoder if there are several.
        storage: database URL for trials, or None for the run's journal.
        driver: token of the command that drives the run; "" if there is none.
        encoded_on: kind of device that computed the embeddings, such as ``cpu``.
        plugins: files and entry points that a worker loads before anything else.
    """

    run: Path
    embeddings: Sources
    storage: str | None = None
    driver: str = ""
    encoded_on: str = "cpu"
    plugins: tuple[str, ...] = ()


class Session:
    """Run opened by a worker process.

    Raises:
        DataError: the run cannot be read, its storage cannot be opened, or another version of the
            arithmetic began it.
    """

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.folder = RunFolder(context.run)
        self.embeddings = context.embeddings
        refuse_other_numerics(self.folder)
        load_plugins(context.plugins)
        require_kept_plugins(self.folder)
        self.config = StudyConfig.from_toml(self.folder.read_config())
        self.data: Dataset = self.folder.read_dataset()
        self.folds: dict[str, OuterFold] = {
            fold.name: fold for fold in self.folder.read_splits(self.data)
        }
        self.trials: BaseStorage = open_trials(self.folder, context.storage, wait=True)
        ranges = build_ranges(self.config, self.data)
        self.default: Default = default_of(self.config, ranges)
        self.space: Space = make_space(
            self.config.task, ranges, checkpointing=self.config.checkpointing
        )
        self._objectives: dict[tuple[str, str], InnerObjective] = {}
        self._second: tuple[tuple[str, str], InnerObjective] | None = None

    def objective(self, study: str, device: str) -> InnerObjective:
        """Inner objective of one study, made from its training rows and nothing else."""
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
                seed=derive_seed(self.config.seed, study),
                device=device,
            )
        return self._objectives[key]

    def second_objective(self, study: str, device: str) -> InnerObjective:
        """Inner objective of one study on the second division of its training rows.

        The end of a study alone needs it, so that of the latest study is held alone.

        Raises:
            DataError: no second division puts every class into every fold.
        """
        key = (study, device)
        if self._second is None or self._second[0] != key:
            first = self.objective(study, device)
            folds = divide_again(first.train, self.folds[study], self.config.seed)
            self._second = key, first.with_folds(folds)
        return self._second[1]

    def study(self, name: str, number: int = 0) -> optuna.Study:
        """One study in the trial storage, with the sampler and the pruner of trial ``number``.

        The sampler's seed depends on (seed, study, trial), so a resumed study goes on as if it had
        never stopped. The sampler is the tree-structured Parzen estimator of Bergstra et al.
        (2011), multivariate, and grouped so that parameters that occur in some trials only are
        still sampled together.
        """
        sampler = TPESampler(
            seed=derive_seed(self.config.seed, name, "sampler", number) % 2**32,
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
        """Study with the trials that trial ``number`` may use; it serves for that trial only.

        It is a copy in memory. The driver adds the new trial to the storage. Trial 0 gets the
        parameters of the default configuration, where there is one, and is
        never pruned.

        Raises:
            RuntimeError: earlier trials that it must use are not in the storage.
        """
        kept = retry(lambda: self.study(name, number))
        count = count_visible(number, self.config.in_flight)
        seen = _wait_for_trials(kept, count)
        is_default = number == 0 and bool(self.default.params)
        study = optuna.load_study(
            study_name=name,
            storage=TrialView(name, kept.direction, seen, number),
            sampler=kept.sampler,
            pruner=Unpruned(kept.pruner) if is_default else kept.pruner,
        )
        if is_default:
            study.enqueue_trial(dict(self.default.params))
        return study


def _wait_for_trials(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """First ``count`` trials; waits until a shared file system shows them.

    Raises:
        RuntimeError: they did not appear within ``SHOWN_SECONDS``.
    """
    until = time.monotonic() + SHOWN_SECONDS
    while True:
        trials = retry(lambda: study.get_trials(deepcopy=False))[:count]
        if len(trials) == count and all(trial.state.is_finished() for trial in trials):
            return trials
        if time.monotonic() > until:
            raise RuntimeError(
                f"{study.study_name}: trial storage shows {len(trials)} ended trials, but {count} "
                "have ended; is another process writing to this run?"
            )
        time.sleep(0.2)


@lru_cache(maxsize=1)
def open_session(context: WorkerContext) -> Session:
    """Session of a run; a process opens it once."""
    return Session(context)


def create_studies(
    context: WorkerContext, config: StudyConfig, names: list[str]
) -> dict[str, optuna.Study]:
    """Studies by name, one for each of ``names``; they are made where they do not exist.

    Each study uses its own trials alone.

    Raises:
        DataError: studies of these names belong to another run, this run keeps its trials in
            another storage, or a study has the direction of another metric.
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
        if study.direction.name.lower() != direction:
            raise DataError(
                f"{study.study_name}: the trial storage says that its score is to be "
                f"{study.direction.name.lower()}d, but {config.metric} is not; restore the storage "
                "from a backup, or give another --run"
            )
        if SEALED not in study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr(SEALED, True)
        if context.storage is not None and study.user_attrs.get(RUN) is None:
            study.set_user_attr(RUN, run)
        studies[name] = study
    return studies
