"""Recorded curves are those of a real search, and their outer scores those of its models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest

from benchmarks.search.pruners import curves
from benchmarks.shared.small_studies import Pool, small_config
from outerfold.objectives.inner import InnerObjective, Protocol
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.pruning import CURVE, PairedPruner
from outerfold.objectives.spaces import make_space
from outerfold.study.config.search_space import build_ranges, default_of
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.run_directory import make_splits
from tests.factories import make_rows

SEED = 5
CONFIG = replace(
    small_config("multimodal", trials=3, epochs=8), inner_folds=2, outer_folds=2, patience_epochs=3
)


def test_curves_are_those_of_a_search_that_begins_with_the_default() -> None:
    quiet_optuna()
    data, source = make_rows(patients=60, signal=0.5)
    fold = make_splits(CONFIG, data).outer[0]
    found = curves(Pool(data, source, {}), CONFIG, fold, SEED)
    ranges = build_ranges(CONFIG, data)
    inner = InnerObjective(
        fold.train_side(data),
        fold.inner,
        source,
        make_space("multimodal", ranges),
        protocol=Protocol(CONFIG.metric, CONFIG.epochs, CONFIG.patience_epochs),
        seed=SEED,
        device="cpu",
    )
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=SEED),
        pruner=PairedPruner(errors=1e9),  # it keeps the fold scores and prunes nothing
    )
    study.enqueue_trial(dict(default_of(CONFIG, ranges).params))
    study.optimize(inner, n_trials=CONFIG.trials)
    assert study.trials[0].params["learning_rate"] == 1e-3
    test, lengths = data.select(fold.test), set()
    for trial, own, outer in zip(study.trials, found["inner"][0], found["outer"][0], strict=True):
        length = trial.user_attrs["length"]
        np.testing.assert_allclose(own[:length], trial.user_attrs[CURVE], rtol=0, atol=1e-12)
        assert np.isnan(own[length:]).all()
        assert np.isnan(outer[length:]).all()
        best = trial.user_attrs["epochs"]
        model = inner.replay(trial, epochs=best, length=length).fitted
        score = METRICS[CONFIG.metric].score(test.labels, model.predict(test.features))
        assert outer[best - 1] == pytest.approx(score, abs=1e-9)
        lengths.add(length)
    assert min(lengths) < CONFIG.epochs, "patience ends a trial"
