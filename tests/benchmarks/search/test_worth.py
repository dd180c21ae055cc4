"""The benchmark of what searches are worth: whose truth it takes, and that it counts rightly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search import worth
from benchmarks.search.worth import Planted, covered, page, studies_of_worth, true_difference
from benchmarks.shared import study_pages
from benchmarks.shared.chunks import Arrays, Chunk
from benchmarks.shared.small_studies import Pool, draw_patients, rows_of_others
from benchmarks.shared.study_pages import at
from outerfold.objectives.metrics import METRICS
from outerfold.objectives.spaces import defaults_of
from outerfold.study.engines.local import ONE_THREAD
from outerfold.study.worker.session import open_session
from tests.factories import make_rows

CONFIG = replace(worth.CONFIG, trials=3, epochs=2, outer_folds=3, inner_folds=2)
LOSES = (("learning_rate", 1e-4),)
SETTING = Planted("rows", CONFIG, 30, "f")


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    open_session.cache_clear()
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def pool() -> Pool:
    data, source = make_rows(patients=60, images=2, signal=0.5)
    card = {"name": "array:test", "weights": "", "weights_sha256": "", "fit": "pad", "crop": "none"}
    return Pool(data, source, card)


def chunk(folder: Path, setting: Planted = SETTING, first: int = 0, count: int = 1) -> Chunk:
    return Chunk(setting, first, count, 0, folder)


def test_a_study_has_a_difference_and_the_truth_of_both_delivered_models(
    pool: Pool, tmp_path: Path
) -> None:
    found = studies_of_worth(pool, chunk(tmp_path, count=2))
    assert found["difference"].shape == (2, len(METRICS), 3)
    assert np.isfinite(found["truth"]).all()
    for study in range(2):
        same = found["truth_error"][study] == 0
        assert same.all() == bool(found["final_chosen"][study])
    second = studies_of_worth(pool, chunk(tmp_path, first=1))
    np.testing.assert_array_equal(second["truth"][0], found["truth"][1])


def test_a_default_is_planted_for_its_studies_alone(pool: Pool, tmp_path: Path) -> None:
    before = dict(defaults_of("multimodal"))
    plain = studies_of_worth(pool, chunk(tmp_path))
    losing = studies_of_worth(pool, chunk(tmp_path, replace(SETTING, values=LOSES)))
    assert defaults_of("multimodal") == before
    assert not np.array_equal(plain["difference"], losing["difference"])


def test_the_truth_is_the_difference_on_the_same_patients(pool: Pool) -> None:
    _, others = draw_patients(pool.data, 30, seed=0)
    rng = np.random.default_rng(0)
    good = np.clip(0.5 + 0.3 * (others.labels - 0.5) + rng.normal(0, 0.1, len(others)), 0.01, 0.99)
    rows = [
        rows_of_others(others, np.stack([1 - p, p], axis=1), (p > 0.5).astype(np.int64))
        for p in (good, rng.random(len(others)))
    ]
    truth, error = true_difference(rows[0], rows[1])
    score = METRICS["roc_auc"].score
    areas = [score(each.labels, each.probabilities) for each in rows]
    assert truth[list(METRICS).index("roc_auc")] == pytest.approx(areas[0] - areas[1])
    assert (error > 0).all()
    assert not true_difference(rows[0], rows[0])[1].any()


def made_up(differences: list[list[float]], truths: list[float], final: list[bool]) -> Arrays:
    """Arrays of studies that say the same of every metric."""
    count = len(truths)
    return {
        "difference": np.repeat(np.array(differences)[:, None], len(METRICS), axis=1),
        "truth": np.repeat(np.array(truths)[:, None], len(METRICS), axis=1),
        "truth_error": np.full((count, len(METRICS)), 0.01),
        "chosen": np.full(count, 2),
        "final_chosen": np.array(final),
        "inner": np.full(count, 0.7),
        "seconds": np.full(count, 9.0),
    }


def test_the_page_counts_which_intervals_hold_the_truth_and_which_lie_above_zero() -> None:
    none = [0.0, np.nan, np.nan]
    arrays = made_up(
        [[0.05, 0.01, 0.09], [0.05, 0.01, 0.09], none, none, [0.0, -0.1, 0.1]],
        [0.05, 0.1, 0.0, 0.03, -0.05],
        [False, False, True, False, False],
    )
    assert covered(arrays, "roc_auc").tolist() == [True, False, True, False, True]
    text = page([(SETTING, arrays), (replace(SETTING, values=LOSES), arrays)], seed=0)
    assert "| ROC-AUC | 3 of 5 | 0 / 1 |" in text
    assert "| ROC-AUC | 2 of 5 | 3 of 5 |" in text
    assert "| Brier score | 0 of 5 | 3 of 5 |" in text  # the smaller is the better
    assert "In 2 of 5 studies every outer fold chose it" in text
    assert "planted: `learning_rate` 0.0001" in text
    assert np.isnan(at(arrays["difference"], "roc_auc")[2, 1])


def test_a_quick_run_writes_its_page_beside_its_chunks(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = worth.HERE / "worth.md"
    before = own.read_bytes() if own.exists() else None
    monkeypatch.setattr(worth, "pathology_pool", lambda root, cache: pool)
    monkeypatch.setattr(worth, "CONFIG", CONFIG)
    monkeypatch.setattr(worth, "PATIENTS", dict.fromkeys(worth.PATIENTS, 30))
    monkeypatch.setattr(study_pages, "QUICK", 2)
    words = ["worth", "--quick", "--workers", "1", "--out", str(tmp_path), "--data", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    worth.main()
    text = (tmp_path / "worth.md").read_text(encoding="utf-8")
    assert "python -m benchmarks.search.worth --replicates 2 --seed 0" in text
    assert (own.read_bytes() if own.exists() else None) == before
