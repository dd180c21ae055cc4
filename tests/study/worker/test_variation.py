"""Inner folds' models score the test rows with decisions that they took no part in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from outerfold.pipelines.fitted.calibration import Decision
from outerfold.storage.records import WITHOUT
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.finish import best_trial
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import Session, open_session
from outerfold.study.worker.trial_model import make_model
from outerfold.study.worker.variation import score_inner_models
from tests.factories import begin_run, make_config, make_rows

FOLD = "outer-1"


@pytest.fixture(params=["multimodal", "dbt"])
def session(tmp_path: Path, request: pytest.FixtureRequest) -> Session:
    open_session.cache_clear()
    quiet_optuna()
    classes = ("other", "cancer") if request.param == "multimodal" else ("a", "b", "c", "d")
    data, source = make_rows(patients=48, images=2, signal=0.5, classes=classes)
    config = make_config(request.param, trials=2, networks=2)
    _, context = begin_run(tmp_path / "run", data, source, config)
    for number in range(config.trials):
        assert not run_and_keep_job(Job(context, FOLD, number, "cpu")).trace
    return open_session(context)


def test_each_inner_model_decides_by_the_rows_of_the_others(session: Session) -> None:
    config, fold = session.config, session.folds[FOLD]
    objective = session.objective(FOLD, "cpu")
    second = session.second_objective(FOLD, "cpu")
    made = make_model(objective, best_trial(session.study(FOLD), FOLD), config, second=second)
    test = session.data.select(fold.test)
    rows = score_inner_models(test, fold, objective, made, config)
    each = made.replay.fitted.predict_each(test.features)
    names = [inner.name for inner in fold.inner]
    labels = [session.data.select(inner.val).labels for inner in fold.inner]
    means = (each[: len(names)] + each[len(names) :]) / 2
    assert set(rows.fold.tolist()) == {*names, *(WITHOUT + name for name in names)}
    for at, name in enumerate(names):
        rest = [other for other in range(len(names)) if other != at]
        for key, who in ((name, [at]), (WITHOUT + name, rest)):
            mean = means[who].mean(0)
            once = np.concatenate([made.replay.probabilities[other] for other in rest])
            again = np.concatenate([made.second[other] for other in rest])
            scores = once if len(who) == 1 else (once + again) / 2
            decision = Decision.fit(np.concatenate([labels[other] for other in rest]), scores)
            own = rows.take(rows.fold == key)
            assert own.ids.tolist() == list(fold.test)
            np.testing.assert_array_equal(own.labels, test.labels)
            np.testing.assert_allclose(own.probabilities, decision.calibrate(mean), atol=1e-12)
            np.testing.assert_array_equal(own.predicted, decision.decide(own.probabilities))
    assert len({rows.probabilities[rows.fold == name].tobytes() for name in names}) == len(names)
