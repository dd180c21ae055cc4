"""What every pipeline must do; subclass it and say how one is made."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from itertools import islice

import numpy as np
import pytest

from outerfold.pipelines._base import Epoch, Pipeline
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import Dataset
from tests.factories import ArraySource, make_config, make_rows, splits_of


class PipelineContract:
    """Guarantees of `outerfold.pipelines._base.Pipeline` and of what it starts."""

    classes: tuple[str, ...]

    def make(self) -> Pipeline:
        raise NotImplementedError

    def data(self) -> tuple[Dataset, ArraySource]:
        return make_rows(patients=36, classes=self.classes)

    def rows(self) -> TrainingRows:
        data, source = self.data()
        fold = splits_of(data, make_config()).outer[0]
        return TrainingRows(
            fold.train_side(data), fold.inner, source, tokens=self.make().tokens, seed=0
        )

    def epochs(self, rows: TrainingRows, *, seed: int = 0, count: int = 2) -> list[Epoch]:
        training = self.make().start(rows, budget=5, seed=seed, device="cpu")
        return list(islice(iter(training), count))

    def test_is_a_frozen_dataclass_of_hyper_parameters(self) -> None:
        pipeline = self.make()
        assert is_dataclass(pipeline)
        with pytest.raises(AttributeError):
            setattr(pipeline, fields(pipeline)[0].name, 1)

    def test_every_epoch_holds_probabilities_of_every_fold(self) -> None:
        rows = self.rows()
        for number, epoch in enumerate(self.epochs(rows), start=1):
            assert epoch.number == number
            for fold, probabilities in zip(rows.folds, epoch.probabilities, strict=True):
                assert probabilities.shape == (len(fold.val), len(self.classes))
                assert np.allclose(probabilities.sum(axis=1), 1)

    def test_the_same_seed_gives_the_same_bits_and_another_seed_others(self) -> None:
        one, same, other = (self.epochs(self.rows(), seed=seed)[-1] for seed in (1, 1, 2))
        assert all(map(np.array_equal, one.probabilities, same.probabilities))
        assert not any(map(np.array_equal, one.probabilities, other.probabilities))

    def test_a_fitted_model_scores_rows_one_by_one_as_it_does_together(self) -> None:
        data, _ = self.data()
        rows = self.rows()
        training = self.make().start(rows, budget=5, seed=0, device="cpu")
        next(iter(training))
        fitted = training.fitted(1)
        features = data.features
        together = fitted.predict(features)
        assert together.shape == (len(data), len(self.classes))
        alone = [fitted.predict(features.select([name])) for name in features.ids[:5].tolist()]
        assert np.allclose(np.concatenate(alone), together[:5], atol=1e-6)
