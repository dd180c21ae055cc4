"""Recorded curves are those of trainings without test rows, and of one network alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna

from benchmarks.search.pruners import curves
from benchmarks.shared.small_studies import Pool, small_config
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.spaces import make_space
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import Fold
from outerfold.storage.seeds import derive_seed
from outerfold.study.config.search_space import build_ranges
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.run_directory import make_splits
from tests.factories import make_rows

SEED = 5
CONFIG = replace(
    small_config("multimodal", trials=3, epochs=8), inner_folds=2, outer_folds=2, patience_epochs=3
)


def test_curves_are_those_of_each_network_and_end_with_the_patience() -> None:
    quiet_optuna()
    data, source = make_rows(patients=60, signal=0.5)
    fold = make_splits(CONFIG, data).outer[0]
    found = curves(Pool(data, source, {}), CONFIG, fold, SEED)
    everything = Fold("outer", fold.train, fold.test, fold.train_patients, fold.test_patients)
    score, lengths = METRICS[CONFIG.metric].score, set()
    space = make_space("multimodal", build_ranges(CONFIG, data))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    for number in range(CONFIG.trials):
        pipeline, own = space(study.ask()), found["inner"][0, number]
        length = int(np.isfinite(own).all(axis=1).sum())
        for rows, folds, kept in (
            (fold.train_side(data), fold.inner, own),
            (data, (everything,), found["outer"][0, number][:, None]),
        ):
            training = pipeline.start(
                TrainingRows(rows, folds, source, tokens=False, seed=SEED),
                budget=CONFIG.epochs,
                seed=derive_seed(SEED, number),
                device="cpu",
            )
            labels = [data.select(one.val).labels for one in folds]
            for epoch, scores in zip(training, kept[:length], strict=False):
                alone = [score(y, p) for y, p in zip(labels, epoch.probabilities, strict=True)]
                np.testing.assert_allclose(scores, alone, rtol=0, atol=1e-9)
            assert np.isnan(kept[length:]).all()
        means = own[:length].mean(axis=1)
        assert length == CONFIG.epochs or length - 1 - means.argmax() == CONFIG.patience_epochs
        lengths.add(length)
    assert min(lengths) < CONFIG.epochs, "patience ends a trial"
