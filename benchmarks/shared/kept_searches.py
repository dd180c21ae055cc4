"""Searches of which every epoch of every trial is kept, for comparing rules of choice afterwards.

One study draws patients, searches on their inner folds, and trains each complete trial once more
with several networks a fold and several networks on all rows. After each epoch all networks score
their validation rows and the patients that were not drawn. So any rule that chooses a trial and an
epoch, calibrates or decides is tried later on the same trainings, without training again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from benchmarks.shared.small_studies import Pool, Setting, draw_patients
from outerfold.objectives.inner import InnerObjective, Protocol, repeat_folds
from outerfold.objectives.pruning import PRUNERS
from outerfold.objectives.spaces import make_space
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import Dataset, Fold
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.search_space import build_ranges
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.run_directory import make_splits

Table = NDArray[np.float32]

KEPT = 4
"""Complete trials that are trained again, those with the best scores."""


@dataclass(frozen=True, eq=False)
class KeptTrial:
    """Probability of the second class after every epoch of one complete trial.

    Attributes:
        value: score of the search.
        inner: (epochs, networks, rows) of the drawn rows, each scored by its own fold's networks;
            network 0 is the trial's own.
        folds: (epochs, networks, folds, others) of the other patients by the inner networks.
        refit: (epochs, networks, others) of the other patients by networks of all drawn rows.
    """

    value: float
    inner: Table
    folds: Table
    refit: Table


@dataclass(frozen=True, eq=False)
class KeptSearch:
    """One study: its labels and its complete trials.

    Attributes:
        labels, fold: (rows,) label and inner fold of the drawn rows.
        others: (others,) labels of the patients that were not drawn.
        trials: the best ``KEPT`` complete trials, in order of their number.
        seconds: CPU seconds of the search, and of the further networks.
    """

    labels: NDArray[np.int64]
    fold: NDArray[np.int64]
    others: NDArray[np.int64]
    trials: tuple[KeptTrial, ...]
    seconds: tuple[float, float]


def half(pool: Pool, which: int) -> Pool:
    """Rows of the patients whose hashed id falls into half ``which``, 0 or 1."""
    of = [hashlib.sha256(name.encode()).digest()[0] % 2 for name in pool.data.patients.tolist()]
    data = pool.data.select(pool.data.ids[np.array(of) == which].tolist())
    return replace(pool, data=replace(data, fingerprint=f"{pool.data.fingerprint} half {which}"))


def kept_search(pool: Pool, setting: Setting, number: int, networks: int, folder: Path) -> Path:
    """File of study ``number`` of a setting; the study is run where the file is not there yet."""
    return keep_file(
        folder,
        setting,
        number,
        lambda: keep_search(pool, setting, number, networks),
        of=f"{setting!r} {networks}",
    )


def keep_file(
    folder: Path, setting: Setting, number: int, make: Callable[[], object], *, of: str
) -> Path:
    """File of study ``number`` of a setting, made where it is not there yet.

    Args:
        folder: folder of the files.
        setting: setting, whose name begins the name of the file.
        number: number of the study.
        make: computes what the file holds, with one thread.
        of: everything that it depends on besides the number; its hash is part of the name.
    """
    key = hashlib.sha256(of.encode()).hexdigest()[:8]
    path = folder / f"{setting.name}-{key}-{number:03d}.joblib".replace(" ", "-")
    if not path.exists():
        quiet_optuna()
        torch.set_num_threads(1)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        joblib.dump(make(), draft, compress=3)
        draft.replace(path)
    return path


def keep_search(pool: Pool, setting: Setting, number: int, networks: int) -> KeptSearch:
    """Draw patients and search on all their rows, as the study of the shipped model does."""
    began = time.process_time()
    seed = derive_seed(0, setting.name, number)
    data, others = draw_patients(pool.data, setting.patients, seed)
    config = replace(setting.config, seed=seed)
    final = make_splits(config, data).final
    objective = InnerObjective(
        final.train_side(data),
        final.inner,
        pool.embeddings,
        make_space(config.task, build_ranges(config, data)),
        protocol=Protocol(config.metric, config.epochs, config.patience_epochs),
        seed=derive_seed(config.seed, "final"),
        device="cpu",
    )
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=config.seed % 2**32, group=True, multivariate=True),
        pruner=PRUNERS[config.pruner](config.epochs),
    )
    study.optimize(objective, n_trials=config.trials)
    searched = time.process_time()
    complete = [t for t in study.get_trials() if t.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: -(trial.value or 0.0))[:KEPT]
    trials = sorted(best, key=lambda trial: trial.number)
    kept = tuple(_keep_trial(objective, trial, pool.data, others, networks) for trial in trials)
    folds = [objective.train.select(fold.val) for fold in final.inner]
    return KeptSearch(
        np.concatenate([rows.labels for rows in folds]),
        np.repeat(np.arange(len(folds)), [len(rows) for rows in folds]),
        others.labels,
        kept,
        (searched - began, time.process_time() - searched),
    )


def _keep_trial(
    objective: InnerObjective, trial: FrozenTrial, data: Dataset, others: Dataset, networks: int
) -> KeptTrial:
    own = objective.folds
    drawn, rest = objective.train.ids.tolist(), others.ids.tolist()
    apart = frozenset(others.patients.tolist())
    inner = [replace(f, val=(*f.val, *rest), val_patients=f.val_patients | apart) for f in own]
    whole = Fold("refit", tuple(drawn), tuple(rest), frozenset(objective.train.patients), apart)
    every = [*repeat_folds(inner, networks), *repeat_folds([whole], networks)]
    pipeline = objective.space(FixedTrial(trial.params))
    source = objective.source_of(pipeline)
    rows = TrainingRows(data, every, source, tokens=False, seed=objective.seed)
    training = pipeline.start(
        rows,
        budget=objective.protocol.epochs,
        seed=derive_seed(objective.seed, "trial", trial.number),
        device="cpu",
    )
    tables: list[list[Any]] = [[], [], []]
    sizes = [len(fold.val) for fold in own]
    for epoch in training:
        scores = [p[:, 1].astype(np.float32) for p in epoch.probabilities]
        parts = [scores[n * len(own) : (n + 1) * len(own)] for n in range(networks)]
        pairs = [list(zip(part, sizes, strict=True)) for part in parts]
        tables[0].append([np.concatenate([p[:n] for p, n in pair]) for pair in pairs])
        tables[1].append([[p[n:] for p, n in pair] for pair in pairs])
        tables[2].append(scores[networks * len(own) :])
        if epoch.number == trial.user_attrs["length"]:
            break
    assert trial.value is not None
    return KeptTrial(trial.value, *(np.array(table, np.float32) for table in tables))
