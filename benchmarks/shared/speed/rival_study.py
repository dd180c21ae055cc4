"""Nested study as a user would write it with other libraries: OptunaSearchCV over skorch."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna_integration import OptunaSearchCV
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from benchmarks.shared.speed.step_cost import Mlp
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.spaces import Choice, Range, Ranges
from outerfold.storage.records import Dataset, FloatArray, IntArray, OuterFold
from outerfold.study.config.record import StudyConfig

NAMES = {
    "learning_rate": "net__lr",
    "dropout": "net__module__dropout",
    "weight_decay": "net__optimizer__weight_decay",
    "batch_size": "net__batch_size",
    "label_smoothing": "net__criterion__label_smoothing",
}
"""Name of each hyper-parameter in outerfold, and its name in this search."""


def rival_study(
    data: Dataset, inputs: FloatArray, folds: list[OuterFold], config: StudyConfig, ranges: Ranges
) -> dict[str, Any]:
    """Search, refit and score each outer fold, one after the other.

    Args:
        inputs: (n, width) the same embeddings as in outerfold's study.
        folds: the same splits as in outerfold's study; their inner folds keep patients together.

    Returns:
        ``wall`` and ``cpu`` seconds, ``trials``, ``scores`` (of each outer fold), ``inner`` (the
        number of inner folds of each search) and ``tested`` (rows of each outer fold).
    """
    wall, cpu = time.perf_counter(), time.process_time()
    scores, trials, inner = [], [], []
    for fold in folds:
        search = _searched(data, inputs, fold, config, ranges)
        test = data.features.positions(fold.test)
        probabilities = search.predict_proba(inputs[test]).astype(np.float64)
        scores.append(METRICS[config.metric].score(data.labels[test], probabilities))
        trials.append(search.n_trials_)
        inner.append(search.n_splits_)
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "trials": sum(trials),
        "scores": scores,
        "inner": inner,
        "tested": [sorted(fold.test) for fold in folds],
    }


def seconds_a_trial(
    data: Dataset, inputs: FloatArray, folds: list[OuterFold], config: StudyConfig, ranges: Ranges
) -> float:
    """CPU seconds per trial of the same search, without its refit."""
    before = time.process_time()
    for fold in folds:
        _searched(data, inputs, fold, config, ranges, refit=False)
    return (time.process_time() - before) / (config.trials * len(folds))


def quicker_threads(width: int, rows: int = 512) -> int:
    """Number of threads, one or two, that trains a network of this width faster here."""
    seconds = {}
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows, width)).astype(np.float32)
    labels = rng.integers(0, 2, rows)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        network(width, 2, epochs=2).fit(inputs, labels)
        start = time.perf_counter()
        network(width, 2, epochs=4).fit(inputs, labels)
        seconds[threads] = time.perf_counter() - start
    return min(seconds, key=lambda threads: seconds[threads])


def network(width: int, classes: int, *, epochs: int) -> NeuralNetClassifier:
    """Classifier of the pipeline, with Adam and one cosine schedule as in outerfold."""
    return NeuralNetClassifier(
        Mlp,
        module__width=width,
        module__classes=classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=epochs,
        train_split=None,
        verbose=0,
        iterator_train__shuffle=True,
        iterator_train__drop_last=True,  # a last batch of one row has no variance
        callbacks=[("rate", LRScheduler(policy="CosineAnnealingLR", T_max=epochs))],
    )


def _searched(
    data: Dataset,
    inputs: FloatArray,
    fold: OuterFold,
    config: StudyConfig,
    ranges: Ranges,
    *,
    refit: bool = True,
) -> OptunaSearchCV:
    torch.manual_seed(config.seed)
    pipeline = Pipeline(
        [
            ("scale", StandardScaler()),
            ("net", network(inputs.shape[1], len(data.classes), epochs=config.epochs)),
        ]
    )
    search = OptunaSearchCV(
        pipeline,
        {NAMES[name]: _distribution(ranges[name]) for name in NAMES},
        cv=PredefinedSplit(inner_fold_of(fold)),
        n_trials=config.trials,
        scoring=config.metric,
        random_state=config.seed,
        refit=refit,
        error_score="raise",
    )
    train = data.features.positions(fold.train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(inputs[train], data.labels[train])
    return search


def inner_fold_of(fold: OuterFold) -> IntArray:
    """Inner fold (training rows,) in which each row validates, in the order of ``fold.train``."""
    of = {name: k for k, inner in enumerate(fold.inner) for name in inner.val}
    return np.array([of[name] for name in fold.train])


def _distribution(drawn: Range | Choice) -> BaseDistribution:
    if isinstance(drawn, Choice):
        return CategoricalDistribution(drawn.values)
    return FloatDistribution(drawn.low, drawn.high, log=drawn.log, step=drawn.step)
