"""Benchmarks of whole studies: what they draw, that they run, that they count rightly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.coverage import null_runs
from benchmarks.shared.chunks import Arrays, Chunk, chunks_of, join_chunks, run_chunks
from benchmarks.shared.small_studies import (
    Pool,
    Setting,
    draw_patients,
    shuffled_by_patient,
    small_config,
    studies,
    without_signal,
)
from benchmarks.shared.study_pages import at
from outerfold.objectives.metrics import METRICS
from outerfold.storage.records import DataError
from outerfold.study.engines.local import ONE_THREAD
from outerfold.study.worker.jobs import open_session
from tests.factories import make_rows

SETTING = Setting("rows", small_config("multimodal", trials=2, epochs=2), 30, "f")


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    open_session.cache_clear()
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def pool() -> Pool:
    data, source = make_rows(patients=50, images=2, signal=0.5)
    return Pool(
        data,
        source,
        {
            "name": "array:test",
            "weights": "",
            "weights_sha256": "",
            "fit": "pad",
            "crop": "none",
        },
    )


def chunk(folder: Path, first: int = 0, count: int = 1) -> Chunk:
    return Chunk(SETTING, first, count, 0, folder)


def test_a_study_is_run_to_its_report_and_its_model_tried_on_the_other_patients(
    pool: Pool, tmp_path: Path
) -> None:
    found = studies(pool, draw_patients, chunk(tmp_path))
    estimate, low, high = found["intervals"][0].T
    assert found["intervals"].shape == (1, len(METRICS), 3)
    assert np.all((low <= estimate) & (estimate <= high))
    assert np.all(np.isfinite(found["truth"]))
    assert at(found["truth_error"], "roc_auc") > 0
    assert 0 < found["inner"][0] < 1


def test_a_study_of_noise_ships_nothing_and_depends_on_its_number_alone(
    pool: Pool, tmp_path: Path
) -> None:
    both = studies(pool, without_signal, chunk(tmp_path, first=2, count=2))
    second = studies(pool, without_signal, chunk(tmp_path, first=3))
    assert np.isnan(both["truth"]).all()
    np.testing.assert_array_equal(both["intervals"][1], second["intervals"][0])
    assert not np.array_equal(both["intervals"][0], both["intervals"][1])


def test_a_draw_parts_patients_and_loses_no_row(pool: Pool) -> None:
    mine, others = draw_patients(pool.data, 30, seed=1)
    assert len(set(mine.patients.tolist())) == 30
    assert not set(mine.patients.tolist()) & set(others.patients.tolist())
    assert sorted([*mine.ids, *others.ids]) == sorted(pool.data.ids)


def test_a_shuffle_keeps_one_label_a_patient_and_the_patients_of_each_class(pool: Pool) -> None:
    shuffled = shuffled_by_patient(pool.data, seed=1)

    def of_patients(data: Any) -> dict[str, int]:
        pairs = set(zip(data.patients.tolist(), data.labels.tolist(), strict=True))
        assert len(pairs) == len(set(data.patients.tolist()))
        return dict(pairs)

    before, after = of_patients(pool.data), of_patients(shuffled)
    assert Counter(before.values()) == Counter(after.values())
    assert before != after
    assert of_patients(shuffled_by_patient(pool.data, seed=2)) != after
    assert shuffled.features is pool.data.features
    assert shuffled.fingerprint != pool.data.fingerprint


def test_a_patient_of_two_classes_is_not_shuffled(pool: Pool) -> None:
    labels = pool.data.labels.copy()
    labels[0] = 1 - labels[0]
    torn = replace(pool.data, labels=labels)
    with pytest.raises(DataError, match=r"patients \['p000'\] have images of two classes"):
        shuffled_by_patient(torn, seed=0)


def test_finished_chunks_are_not_run_again(tmp_path: Path) -> None:
    chunks = chunks_of(SETTING, 5, size=2, seed=0, folder=tmp_path)
    run_chunks(chunks[:2], _numbers, workers=1)
    np.savez(chunks[0].context, number=np.array([7, 7]))
    run_chunks(chunks, _numbers, workers=1)
    assert join_chunks(chunks)["number"].tolist() == [7, 7, 2, 3, 4]


def test_the_page_counts_which_intervals_hold_the_truth() -> None:
    arrays = made_up(
        estimates=[0.5, 0.6, 0.7, 0.4], half=0.15, truths=[0.5, 0.5, 0.5, 0.2], noise=0.0
    )
    null = null_runs.page([(SETTING, arrays)], seed=0)
    assert "| 95 % intervals of ROC-AUC that contain 0.5 | 3 of 4 |" in null
    assert "| wholly above 0.5 / wholly below | 1 / 0 |" in null


def made_up(*, estimates: list[float], half: float, truths: list[float], noise: float) -> Arrays:
    """Arrays of studies that say the same of every metric."""
    estimate = np.repeat(np.array(estimates)[:, None], len(METRICS), axis=1)
    truth = np.repeat(np.array(truths)[:, None], len(METRICS), axis=1)
    single = np.full(len(estimates), 0.6)
    return {
        "intervals": np.stack([estimate, estimate - half, estimate + half], axis=-1),
        "truth": truth,
        "truth_error": np.full_like(truth, noise),
        "inner": single,
        "pruned": single,
        "seconds": single,
    }


def _numbers(one: Chunk) -> Arrays:
    return {"number": np.arange(one.first, one.first + one.count)}
