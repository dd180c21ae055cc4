"""The inner objective: folds in step, the mean over all of them, the same number every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from outerfold.objectives.choice import smoothed
from outerfold.objectives.inner import (
    InnerObjective,
    Protocol,
    average_networks,
    repeat_folds,
)
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.pruning import PRUNERS
from outerfold.objectives.spaces import make_space, override_ranges
from outerfold.pipelines._base import Epoch, TrainingDiverged
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.storage.records import FloatArray, OuterFold, TrainSide
from outerfold.storage.seeds import derive_seed
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import open_session
from tests.factories import begin_run, make_config, make_rows
from tests.pipelines.rows.fold_factories import cut, small

SEED, EPOCHS = 17, 6
FAST = {"low": 0.05, "high": 0.2}
SMALL = {
    "batch_size": {"values": [32]},
    "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def objective(
    task: str = "multimodal",
    *,
    metric: str = "roc_auc",
    epochs: int = EPOCHS,
    patience: int = 99,
    seed: int = SEED,
    **changes: Any,
) -> InnerObjective:
    data, source = small(task, patients=30, signal=0.4)
    outer = OuterFold(
        "outer-0",
        0,
        tuple(data.ids.tolist()),
        (),
        frozenset(data.patients.tolist()),
        frozenset(),
        (),
    )
    return InnerObjective(
        outer.train_side(data),
        cut(data, (0.4, 0.3, 0.3)),
        source,
        make_space(task, override_ranges(task, {**SMALL, **changes})),
        protocol=Protocol(metric, epochs, patience),
        seed=seed,
        device="cpu",
    )


def searched(inner: InnerObjective, trials: int, *, pruner: str = "none") -> list[FrozenTrial]:
    study = optuna.create_study(
        direction=inner.metric.direction,
        sampler=optuna.samplers.RandomSampler(seed=1),
        pruner=PRUNERS[pruner](inner.protocol.epochs),
    )
    study.optimize(inner, n_trials=trials)
    return study.trials


def epochs_of(inner: InnerObjective, trial: FrozenTrial) -> list[Epoch]:
    """The trial's training, run outside the objective."""
    pipeline = inner.space(FixedTrial(trial.params))
    seed = derive_seed(inner.seed, "trial", trial.number)
    budget = inner.protocol.epochs
    return list(pipeline.start(inner.rows(pipeline), budget=budget, seed=seed, device="cpu"))


def fold_scores(inner: InnerObjective, epoch: Epoch) -> FloatArray:
    """(folds,) on the rows that validate, found again by their ids."""
    scores = []
    for fold, probabilities in zip(inner.folds, epoch.probabilities, strict=True):
        labels = inner.train.select(fold.val).labels
        scores.append(inner.metric.score(labels, probabilities))
    return np.array(scores)


def by_hand(curve: list[float]) -> list[float]:
    """Mean of each epoch and of its neighbours, where there are any."""
    return [
        float(np.mean([curve[j] for j in (i - 1, i, i + 1) if 0 <= j < len(curve)]))
        for i in range(len(curve))
    ]


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("multimodal", "roc_auc"),
        ("multimodal", "brier"),
        ("dbt", "roc_auc"),
        ("dbt", "f1"),
    ],
)
def test_a_trial_reports_after_each_epoch_the_mean_over_all_folds(task: str, metric: str) -> None:
    inner = objective(task, metric=metric)
    for trial in searched(inner, 3):
        epochs = epochs_of(inner, trial)
        assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
        for epoch in epochs:
            assert len(epoch.probabilities) == len(inner.folds) == 3
            mean = fold_scores(inner, epoch).mean()
            assert trial.intermediate_values[epoch.number] == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("pruner", ["halving", "median"])
def test_no_trial_completes_on_fewer_folds_and_pruning_acts_on_their_mean(pruner: str) -> None:
    inner = objective(epochs=5)
    trials = searched(inner, 7, pruner=pruner)
    states = {trial.state for trial in trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        epochs = epochs_of(inner, trial)
        for number, reported in trial.intermediate_values.items():
            assert reported == pytest.approx(fold_scores(inner, epochs[number - 1]).mean())
        if trial.state == TrialState.COMPLETE:
            best = trial.user_attrs["epochs"]
            kept = trial.user_attrs["fold_scores"]
            assert kept == fold_scores(inner, epochs[best - 1]).tolist()
            assert len(kept) == 3
        else:
            assert "epochs" not in trial.user_attrs
            assert (trial.last_step or 0) < 5


@pytest.mark.parametrize("metric", ["roc_auc", "brier"])
def test_the_value_is_the_best_epochs_smoothed_mean_in_the_metrics_own_unit(metric: str) -> None:
    inner = objective(metric=metric)
    choose = max if METRICS[metric].direction == "maximize" else min
    for trial in searched(inner, 4):
        smooth = by_hand(list(trial.intermediate_values.values()))
        best = choose(smooth)
        assert trial.value == pytest.approx(best, abs=1e-12)
        assert trial.value is not None
        assert trial.value > 0
        assert smooth[trial.user_attrs["epochs"] - 1] == pytest.approx(best, abs=1e-12)
        assert trial.user_attrs["length"] == EPOCHS


def test_a_search_that_minimises_finds_the_configuration_with_the_smallest_value() -> None:
    trials = searched(objective(metric="brier"), 5)
    study = optuna.create_study(direction=METRICS["brier"].direction)
    study.add_trials(trials)
    assert study.best_value == min(trial.value for trial in trials if trial.value is not None)


@pytest.mark.parametrize("metric", ["roc_auc", "brier"])
@pytest.mark.parametrize("patience", [1, 3])
def test_a_trial_ends_when_its_fold_mean_has_not_risen_for_the_patience(
    patience: int, metric: str
) -> None:
    longest = 10
    whole, patient = (
        searched(objective(metric=metric, epochs=longest, patience=p, learning_rate=FAST), 3)
        for p in (99, patience)
    )
    lengths = []
    for full, cut_short in zip(whole, patient, strict=True):
        means = np.array(list(full.intermediate_values.values()))
        upwards = means if metric == "roc_auc" else -means
        wanted = next(
            (n for n in range(1, longest + 1) if n - 1 - int(upwards[:n].argmax()) >= patience),
            longest,
        )
        lengths.append(wanted)
        assert cut_short.user_attrs["length"] == wanted
        assert list(cut_short.intermediate_values.values()) == means[:wanted].tolist()
    assert min(lengths) < longest


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
@pytest.mark.parametrize("metric", ["roc_auc", "brier"])
def test_a_replay_repeats_the_searchs_score_exactly(task: str, metric: str) -> None:
    """Also in another process's objective, after other trials, with patience and pruning."""
    trials = searched(objective(task, metric=metric, patience=3), 4, pruner="halving")
    afresh = objective(task, metric=metric, patience=3)
    for trial in trials[::-1]:
        if trial.state != TrialState.COMPLETE:
            continue
        fixed = FixedTrial(trial.params, number=trial.number)
        replay = afresh.replay(
            fixed, epochs=trial.user_attrs["epochs"], length=trial.user_attrs["length"]
        )
        assert replay.score == trial.value
        assert replay.epochs == trial.user_attrs["epochs"]
        assert len(replay.history) == trial.user_attrs["length"]
        kept = replace_probabilities(replay.epochs, replay.probabilities)
        assert fold_scores(afresh, kept).tolist() == trial.user_attrs["fold_scores"]


def replace_probabilities(number: int, probabilities: tuple[FloatArray, ...]) -> Epoch:
    return Epoch(number, np.zeros(0), np.zeros(0), probabilities)


def test_a_replays_history_is_what_the_trial_reported() -> None:
    inner = objective("dbt")
    (trial,) = searched(inner, 1)
    replay = inner.replay(FixedTrial(trial.params, number=0), epochs=EPOCHS, length=EPOCHS)
    assert [row.epoch for row in replay.history] == list(range(1, EPOCHS + 1))
    epochs = epochs_of(inner, trial)
    for row, epoch in zip(replay.history, epochs, strict=True):
        assert row.roc_auc == pytest.approx(trial.intermediate_values[row.epoch], abs=1e-12)
        assert row.fit_loss == epoch.fit_loss.mean()
        assert row.val_loss == epoch.val_loss.mean()
        right = [
            (p.argmax(axis=1) == inner.train.select(fold.val).labels).mean()
            for fold, p in zip(inner.folds, epoch.probabilities, strict=True)
        ]
        assert row.accuracy == pytest.approx(np.mean(right))


def test_a_trials_result_depends_on_its_number_and_the_seed_and_not_on_what_ran_before() -> None:
    params = searched(objective(), 1)[0].params
    inner = objective()
    third_alone = inner.replay(FixedTrial(params, number=3), epochs=EPOCHS, length=EPOCHS)
    inner.replay(FixedTrial(params, number=0), epochs=EPOCHS, length=EPOCHS)
    third_again = inner.replay(FixedTrial(params, number=3), epochs=EPOCHS, length=EPOCHS)
    other = inner.replay(FixedTrial(params, number=4), epochs=EPOCHS, length=EPOCHS)
    other_seed = objective(seed=SEED + 1).replay(
        FixedTrial(params, number=3), epochs=EPOCHS, length=EPOCHS
    )
    assert third_alone.score == third_again.score
    for p, q in zip(third_alone.probabilities, third_again.probabilities, strict=True):
        assert p.tobytes() == q.tobytes()
    assert len({third_alone.score, other.score, other_seed.score}) == 3


def test_every_training_row_is_scored_once_by_a_fold_that_did_not_train_on_it() -> None:
    inner = objective()
    (trial,) = searched(inner, 1)
    replay = inner.replay(FixedTrial(trial.params, number=0), epochs=EPOCHS, length=EPOCHS)
    scored = [name for fold in inner.folds for name in fold.val]
    assert sum(len(p) for p in replay.probabilities) == len(scored) == len(set(scored))
    for fold in inner.folds:
        assert not set(fold.val) & set(fold.fit)


@pytest.mark.parametrize("networks", [1, 2])
def test_a_replay_keeps_the_networks_of_the_chosen_epoch(networks: int) -> None:
    """Each fold's own networks give its validation rows the kept probabilities again."""
    inner = objective()
    (trial,) = searched(inner, 1)
    fixed = FixedTrial(trial.params, number=0)
    replay = inner.replay(fixed, epochs=2, length=EPOCHS, networks=networks)
    assert (replay.epochs, len(replay.history)) == (2, EPOCHS)
    assert replay.fitted.networks == networks * len(inner.folds)
    for at, (fold, kept) in enumerate(zip(inner.folds, replay.probabilities, strict=True)):
        each = replay.fitted.predict_each(inner.train.select(fold.val).features)
        np.testing.assert_allclose(each[at :: len(inner.folds)].mean(0), kept, atol=1e-6)
        assert np.abs(each.mean(0) - kept).max() > 1e-3


def test_a_trial_is_recorded_only_where_it_is_asked_for_and_can_be() -> None:
    inner = objective()
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    assert inner.run(trial)[1] is None
    other = objective()
    same = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    recording = other.run(same.ask(), record=True)[1]
    assert recording is not None
    fixed = FixedTrial(trial.params, number=0)
    epochs, length = trial.user_attrs["epochs"], trial.user_attrs["length"]
    again = inner.replay(fixed, epochs=epochs, length=length)
    restored = inner.restore(fixed, recording.end())
    assert (restored.epochs, restored.score) == (again.epochs, again.score)
    assert restored.history == again.history
    for one, other in zip(restored.probabilities, again.probabilities, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_trial_is_pruned_after_its_last_epoch() -> None:
    class Last(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
            return trial.last_step == 4

    for epochs, state in ((4, TrialState.COMPLETE), (5, TrialState.PRUNED)):
        study = optuna.create_study(direction="maximize", pruner=Last())
        study.optimize(objective(epochs=epochs), n_trials=1)
        assert study.trials[0].state == state


def test_a_fold_without_probabilities_is_an_error_and_no_mean_over_fewer_folds() -> None:
    inner = objective()
    scored = [np.full((len(fold.val), 2), 0.5) for fold in inner.folds]
    assert len(inner._score_folds(scored)) == 3
    with pytest.raises(ValueError, match="shorter"):
        inner._score_folds(scored[:-1])


def test_an_epoch_of_two_networks_a_fold_is_their_mean_fold_by_fold() -> None:
    losses = np.array([1.0, 2.0, 3.0, 5.0, 6.0, 9.0])  # three folds, twice
    each = tuple(np.full((2, 2), loss) for loss in losses)
    epoch = average_networks(Epoch(7, losses, losses + 10, each), networks=2)
    assert epoch.number == 7
    assert epoch.fit_loss.tolist() == [3.0, 4.0, 6.0]
    assert epoch.val_loss.tolist() == [13.0, 14.0, 16.0]
    assert [fold.tolist() for fold in epoch.probabilities] == [
        np.full((2, 2), mean).tolist() for mean in (3.0, 4.0, 6.0)
    ]


def test_a_number_that_is_none_fails_the_trial_and_not_the_objective() -> None:
    inner = objective(attention={"values": [False]}, sampler={"values": ["none"]})
    inner.source.values[:, 3] = np.nan  # type: ignore[attr-defined]
    with pytest.raises(TrainingDiverged, match="epoch 1: a loss or probability is no longer"):
        searched(inner, 1)


def test_a_diverged_trial_is_failed_says_why_and_the_study_goes_on(tmp_path: Path) -> None:
    data, source = make_rows(patients=36)
    source.values[:, 3] = np.nan
    config = make_config(space={**SMALL, "sampler": {"values": ["none"]}}, trials=2)
    _, context = begin_run(tmp_path / "run", data, source, config)
    for number in range(2):
        outcome = run_and_keep_job(Job(context, "final", number, "cpu"))
        assert outcome.state == "failed"
        assert outcome.reason.startswith("TrainingDiverged: epoch 1: a loss or probability is no")
        assert "Traceback" in outcome.trace
        assert outcome.value is None
    trials = open_session(context).study("final").trials
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 2
    assert [t.user_attrs["failure"] for t in trials][1] == outcome.reason
    end = run_and_keep_job(Job(context, "final", None, "cpu"))
    assert end.state == "failed"
    assert end.reason.startswith(
        "final: none of 2 trials was completed; the first cause: TrainingDiverged: epoch 1"
    )


def test_rows_are_prepared_once_for_embeddings_and_once_for_tokens() -> None:
    inner = objective("dbt")
    trials = searched(inner, 6)
    pipelines = [inner.space(FixedTrial(trial.params)) for trial in trials]
    assert {pipeline.tokens for pipeline in pipelines} == {False, True}
    prepared = {id(inner.rows(pipeline)) for pipeline in pipelines}
    assert len(prepared) == 2


def test_the_objective_prepares_nothing_outside_its_training_side() -> None:
    inner = objective()
    data = inner.train
    half = TrainSide(data.select(data.ids[: len(data) // 2].tolist()))
    stranger = replace(inner.folds[0], val=("elsewhere",))
    with pytest.raises(ValueError, match=r"ids \['elsewhere'\] are not among these"):
        InnerObjective(
            half,
            [stranger],
            inner.source,
            inner.space,
            protocol=inner.protocol,
            seed=1,
            device="cpu",
        )


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
def test_a_replay_of_several_networks_is_their_mean_and_still_knows_the_searchs_score(
    task: str,
) -> None:
    inner = objective(task)
    (trial,) = searched(inner, 1)
    fixed = FixedTrial(trial.params, number=0)
    replay = inner.replay(fixed, epochs=EPOCHS, length=EPOCHS, networks=3)
    assert replay.score == pytest.approx(trial.value, abs=1e-6)
    pipeline = inner.space(fixed)
    seed = derive_seed(SEED, "trial", 0)
    alone = [
        list(
            pipeline.start(
                TrainingRows(
                    inner.train,
                    repeat_folds(inner.folds, 3)[3 * i : 3 * i + 3],
                    inner.source,
                    tokens=pipeline.tokens,
                    seed=inner.seed,
                ),
                budget=EPOCHS,
                seed=seed,
                device="cpu",
            )
        )[replay.epochs - 1].probabilities
        for i in range(3)
    ]
    for fold, probabilities in enumerate(replay.probabilities):
        members = [one[fold] for one in alone]
        np.testing.assert_allclose(probabilities, np.mean(members, axis=0), atol=1e-5)
        assert np.abs(members[0] - members[1]).max() > 1e-3, "networks differ"


def test_paired_pruning_acts_on_the_fold_scores_that_the_journal_keeps(tmp_path: Path) -> None:
    """Trials are run as workers run them: each sees the earlier ones in the journal alone."""
    data, source = make_rows(patients=48, signal=0.4)
    config = make_config(space=SMALL, trials=8, pruner="paired", patience_epochs=99)
    _, context = begin_run(tmp_path / "run", data, source, config)
    for number in range(config.trials):
        run_and_keep_job(Job(context, "outer-0", number, "cpu"))
    inner, best = open_session(context).objective("outer-0", "cpu"), None
    ended = set()
    for trial in open_session(context).study("outer-0").trials:
        epochs = epochs_of(inner, trial)
        curve = np.array([fold_scores(inner, epoch) for epoch in epochs])
        length = len(trial.intermediate_values)
        assert trial.user_attrs["curve"] == curve[:length].tolist()
        behind = [n for n in range(3, len(curve)) if best is not None and is_behind(best, curve, n)]
        assert length == min([*behind, len(curve)])
        assert trial.state == (TrialState.PRUNED if behind else TrialState.COMPLETE)
        ended.add(trial.state)
        if not behind and (best is None or smoothed(curve.mean(1)).max() > best[0]):
            best = smoothed(curve.mean(1)).max(), curve
    assert ended == {TrialState.PRUNED, TrialState.COMPLETE}


def is_behind(best: tuple[float, FloatArray], curve: FloatArray, epoch: int) -> bool:
    """Whether the curve is behind by more than the paired standard error after this epoch."""
    ahead = best[1][epoch - 1] - curve[epoch - 1]
    return bool(ahead.mean() > ahead.std(ddof=1) / np.sqrt(len(ahead)))


def test_fold_scores_of_all_epochs_are_kept_only_where_the_pruner_reads_them() -> None:
    inner = objective(epochs=4)
    assert all("curve" in trial.user_attrs for trial in searched(inner, 2, pruner="paired"))
    assert not any("curve" in trial.user_attrs for trial in searched(inner, 2, pruner="halving"))
