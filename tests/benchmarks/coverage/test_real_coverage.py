"""Coverage of kept studies: the counted intervals are the reports', and counts are by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage import interval_ways, real_coverage
from benchmarks.coverage.interval_ways import (
    KINDS,
    SHOWN,
    TARGETS,
    TODAY,
    Cell,
    Facts,
    Way,
    bounds,
    cell,
    facts_of,
    match_constant,
    shipped_way,
    summarise,
    tune,
    ways,
    without_noise,
)
from benchmarks.shared.kept_studies import KeptStudy, ModelOnOthers
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.reports.results.results import results
from tests.reports.run_factory import BINARY, make_run, without_variation


def kept(seed: int) -> KeptStudy:
    run = make_run(BINARY, patients=60, seed=seed)
    rng = np.random.default_rng([9, seed])
    labels = rng.integers(0, 2, 300)
    odds = 1.5 * (labels - 0.5) + rng.normal(0, 1, (3, 300))
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    names = [*(study.name for study in run.outer), "final"]
    models = {name: ModelOnOthers(scores, Decision(1.0, 0.5)) for name in names}
    return KeptStudy(run, labels, np.arange(300) // 2, models, 1.0)


@pytest.fixture(scope="module")
def studies() -> list[dict[str, Facts]]:
    return [facts_of(kept(seed)) for seed in range(4)]


@pytest.mark.parametrize("seed", range(2))
def test_the_counted_intervals_are_those_of_the_reports(seed: int) -> None:
    study = kept(seed)
    facts = facts_of(study)
    measured = results(study.run)["overall"]
    constant = results(without_variation(study.run))["overall"]
    for name in SHOWN:
        entry, way = measured[name], measured[name]["procedure"]
        own = bounds(facts[name], shipped_way("model"))
        assert own == pytest.approx((entry["low"], entry["high"]))
        made = bounds(facts[name], shipped_way("procedure"))
        assert made == pytest.approx((way["low"], way["high"]))
        today = bounds(facts[name], TODAY)
        assert today == pytest.approx((constant[name]["low"], constant[name]["high"]))


def test_the_truth_is_the_score_of_the_mean_of_the_networks(
    studies: list[dict[str, Facts]],
) -> None:
    study = kept(0)
    model = study.models["final"]
    mean = model.each.mean(0)
    brier = float(np.mean((mean - study.labels) ** 2))
    assert studies[0]["brier"].truth == pytest.approx(brier, abs=1e-6)
    assert studies[0]["accuracy"].truth == np.mean((mean >= 0.5) == study.labels)


def test_a_miss_costs_forty_times_its_size() -> None:
    made = Cell(np.full(3, 0.5), np.full(3, 0.4), np.full(3, 0.6), np.array([0.5, 0.3, 0.65]))
    assert made.held.tolist() == [1, 0, 0]
    assert made.score == pytest.approx([0.2, 0.2 + 40 * 0.1, 0.2 + 40 * 0.05])


def test_the_procedures_truth_is_the_mean_truth(studies: list[dict[str, Facts]]) -> None:
    truths = [study["roc_auc"].truth for study in studies]
    made = cell(studies, "roc_auc", TODAY, "procedure")
    assert made.truth == pytest.approx(np.full(4, np.mean(truths)))


def test_wider_ways_cover_more_and_the_matching_constant_covers_enough(
    studies: list[dict[str, Facts]],
) -> None:
    settings = {"one": studies}
    narrow, wide = (Way(f, f, 0.1, 0.1) for f in (0.3, 3.0))
    for of in TARGETS:
        low, high = (summarise(settings, way, of).coverage for way in (narrow, wide))
        assert low < high
        reached = summarise(settings, TODAY, of).coverage
        found = match_constant(settings, reached, of)
        assert found.factor <= TODAY.factor
        assert summarise(settings, found, of).coverage >= reached


def test_tuning_finds_the_best_of_its_ways(
    studies: list[dict[str, Facts]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interval_ways, "FACTORS", (0.9, 1.4))
    monkeypatch.setattr(interval_ways, "SHARES", (0.2,))
    settings = {"one": studies}
    scores = []
    for kind in KINDS:
        way, summary = tune(settings, kind, "model")
        assert summary == summarise(settings, way, "model")
        assert summary.score == min(
            summarise(settings, other, "model").score for other in ways(kind)
        )
        assert way.constant == (kind == "constant")
        assert way.gain == (kind == "gain")
        scores.append(summary.score)
    assert scores[KINDS.index("own factor")] <= scores[KINDS.index("both")]


def test_the_page_tells_counts_and_what_falls_short(
    studies: list[dict[str, Facts]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interval_ways, "FACTORS", (1.0, 1.4))
    monkeypatch.setattr(interval_ways, "SHARES", (0.3,))
    far = [
        {name: replace(facts, truth=facts.truth - 0.5) for name, facts in study.items()}
        for study in studies
    ]
    text = real_coverage.page({"6 epochs": studies}, {"6 epochs": studies, "12 epochs": far})
    assert "## 6 epochs, 4 studies of half B" in text
    row = next(line for line in text.splitlines() if line.startswith("| specificity"))
    held = cell(studies, "specificity", shipped_way("model"), "model").held.sum()
    assert f"| {held:.0f} of 4 |" in row
    assert "Below 92 %" in text
    assert "specificity of the delivered model, 12 epochs (0 %)" in text
    assert "upper bound over studies" in text


def test_without_studies_of_half_b_the_page_says_that_nothing_is_proved(
    studies: list[dict[str, Facts]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interval_ways, "FACTORS", (1.0,))
    monkeypatch.setattr(interval_ways, "SHARES", (0.3,))
    text = real_coverage.page({"6 epochs": studies}, {"6 epochs": []})
    assert real_coverage.NOT_COUNTED in text
    assert "## 6 epochs, 4 studies of half A" in text
    assert "half B" not in text.replace(real_coverage.NOT_COUNTED, "").split("## How")[0]
    assert "Against one constant" not in text


def test_a_count_without_tuning_tells_the_same_cells(studies: list[dict[str, Facts]]) -> None:
    text = real_coverage.page_again({"6 epochs": studies})
    held = cell(studies, "specificity", shipped_way("model"), "model").held.sum()
    row = next(line for line in text.splitlines() if line.startswith("| specificity"))
    assert f"| {held:.0f} of 4 |" in row
    assert "How the intervals were chosen" not in text
    assert "--tuning 0 --replicates 4" in text


def test_taking_out_the_truths_own_error_leaves_the_rest_of_the_spread() -> None:
    rng = np.random.default_rng(0)
    error, noise = rng.normal(0.1, 0.3, 20_000), rng.normal(0, 0.4, 20_000)
    nearer = without_noise(error + noise, np.full(20_000, 0.4))
    assert nearer.mean() == pytest.approx((error + noise).mean())
    assert nearer.std() == pytest.approx(0.3, abs=0.01)
