"""Both sides of the throughput comparison run the same study, and say what they ran."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.shared.own_study import trial_by_trial, whole_study
from benchmarks.shared.small_studies import Pool
from benchmarks.speed import throughput
from outerfold.study.config.search_space import build_ranges
from outerfold.study.setup.run_directory import make_splits
from tests.factories import make_config, make_rows

CONFIG = make_config(
    "dbt", trials=2, epochs=3, networks=1, outer_folds=2, inner_folds=2, space=throughput.FIXED
)


@pytest.fixture(scope="module")
def pool() -> Pool:
    data, source = make_rows(patients=24)
    return Pool(data, source, {"name": "array:test", "weights": ""})


def test_the_watch_sees_every_trial_and_no_more_training_than_there_was(
    pool: Pool, tmp_path: Path
) -> None:
    found = trial_by_trial(tmp_path / "run", pool, CONFIG)
    assert found["trials"] == CONFIG.outer_folds * CONFIG.trials
    assert 0 < found["training_cpu"] < found["cpu"]
    assert 0 < found["training_wall"] < found["wall"]


def test_both_studies_are_of_the_same_splits_and_number_of_trials(
    pool: Pool, tmp_path: Path
) -> None:
    pytest.importorskip("skorch", reason="the extra `benchmarks` is not installed")
    pytest.importorskip("optuna_integration", reason="the extra `benchmarks` is not installed")
    from benchmarks.shared.speed.rival_study import inner_fold_of, rival_study

    folds = list(make_splits(CONFIG, pool.data).outer)
    inputs = pool.embeddings.pooled(pool.data.ids.tolist())
    rival = rival_study(pool.data, inputs, folds, CONFIG, build_ranges(CONFIG, pool.data))
    own = whole_study(tmp_path / "run", pool, replace(CONFIG, pruner="none"), workers=1)
    assert own["trials"] == rival["trials"] == CONFIG.outer_folds * CONFIG.trials
    assert own["inner"] == rival["inner"] == [CONFIG.inner_folds] * CONFIG.outer_folds
    assert own["tested"] == rival["tested"] == [sorted(fold.test) for fold in folds]
    assert own["epochs"] == CONFIG.epochs * own["trials"]
    for fold in folds:
        of = inner_fold_of(fold)
        for k, inner in enumerate(fold.inner):
            assert {fold.train[at] for at in np.flatnonzero(of == k)} == set(inner.val)
    for one in (own, rival):
        assert len(one["scores"]) == CONFIG.outer_folds
        assert one["cpu"] > 0


def test_both_carry_out_a_trial_of_the_same_configuration(pool: Pool) -> None:
    pytest.importorskip("skorch", reason="the extra `benchmarks` is not installed")
    pytest.importorskip("optuna_integration", reason="the extra `benchmarks` is not installed")
    found = throughput.same_trials(pool, CONFIG)
    assert [one["batch_size"] for one in found] == [32, 64, 128]
    assert all(one["own"] > 0 and one["rival"] > 0 for one in found)


def test_a_section_replaces_itself_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    throughput.put_section(page, "## Throughput", "first")
    page.write_text(page.read_text() + "\n## Scaling\n\nthe other\n")
    throughput.put_section(page, "## Throughput", "second")
    assert page.read_text() == "# Results\n\n## Throughput\n\nsecond\n\n## Scaling\n\nthe other\n"
