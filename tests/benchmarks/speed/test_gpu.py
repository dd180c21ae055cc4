"""The benchmark of a GPU: its parts without one, and that its code runs on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.shared.speed import card_rates, card_rows, card_studies
from benchmarks.shared.speed.card_rates import TINY, Row
from benchmarks.speed import gpu
from outerfold.pipelines.encoders.registry import build
from outerfold.storage.readers.read import read_dataset

TIMING = {"wall_seconds": 51.2, "parts": {"encoding": 6.0, "search": 30.0, "ends": 6.0}}


def finished(words: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """Stands for a study: the timing of its results."""
    return {"timing": TIMING, "metrics": {"roc_auc": 0.5}}


def test_busy_share_comes_from_all_samples() -> None:
    assert card_rates.busy_share("0\n100\n50\n[N/A]\n") == pytest.approx(0.5)
    assert card_rates.busy_share("") is None


def test_the_table_has_the_measured_rate_beside_that_of_a_plain_loop() -> None:
    text = gpu.section(
        [Row("a", "5/s", "7/s"), Row("b", "6/s")], ["dbt"], "A GPU", date(2026, 1, 2)
    )
    assert "| a | 5/s | 7/s |\n| b | 6/s | – |" in text
    assert text.endswith("Not run for lack of time: dbt.\n")
    assert "Random weights and synthetic images: speeds and equalities only." in text


def test_a_table_goes_to_the_end_of_its_own_section() -> None:
    new = "### A GPU\n\n| a |\n"
    text = gpu.appended("# Results\n\n## GPU\n\nNot run.\n\n## Other\n\nText.\n", new)
    assert text == f"# Results\n\n## GPU\n\nNot run.\n\n{new}\n## Other\n\nText.\n"
    twice = gpu.appended(gpu.appended("# Results\n", new), new)
    assert twice == f"# Results\n\n## GPU\n\n{new}\n{new}"
    assert gpu.RESULTS.read_text().startswith("# Results\n\n")


def test_images_are_what_the_readers_read_with_all_classes_and_whole_patients(
    tmp_path: Path,
) -> None:
    for subject in card_rows.SUBJECTS:
        root = card_rows.write_images(tmp_path / subject.task, subject, 24)
        data = read_dataset(root, task=subject.task, patient_regex=card_rows.PATIENT, columns=None)  # type: ignore[arg-type]
        assert len(data) == len(set(data.patients.tolist())) == 24
        assert len(data.classes) == len(subject.classes)
        assert Image.open(data.features.images[0]).size == (card_rows.SIDE, card_rows.SIDE)
    assert [column.name for column in data.features.columns] == ["age"]


def test_files_of_random_weights_fit_the_encoders_they_are_for(tmp_path: Path) -> None:
    for at, subject in enumerate(card_rows.SUBJECTS):
        weights = card_rows.random_weights(tmp_path / f"{at}.pt", subject.encoder)
        encoder = build(subject.encoder, weights=weights)
        assert (encoder.image_size, encoder.dim) == (224, (512, 1280)[at])


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run")
def test_without_a_gpu_it_says_in_one_sentence_that_it_was_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == (
        "benchmarks.speed.gpu was not run: PyTorch found no CUDA device.\n"
    )


def test_parts_that_would_end_too_late_are_left_out_and_listed(tmp_path: Path) -> None:
    card = gpu.Card("cpu", TINY, tmp_path, finished)
    rows, left_out = gpu.measure(card, ["equal", "rates", "demo", "dbt"], minutes=1.5)
    assert left_out == ["equal", "rates", "dbt"]
    assert rows == [Row("the demo's study", "51 s: encoding 6, search 30, ends 6", "at most 60 s")]


def test_the_dbt_task_is_extrapolated_and_marked_so(tmp_path: Path) -> None:
    _, row = card_studies.dbt_rows(tmp_path, finished, images=12, trials=3)
    assert row.value == "17 min, EXTRAPOLATED from 3 trials a study"


def test_a_trial_on_a_cpu_runs_its_code_finds_all_equal_and_keeps_no_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = gpu.RESULTS.read_text()
    assert gpu.main(["--device", "cpu", "--only", "equal", "rates"]) == 0
    said = capsys.readouterr().out
    assert "TRIED ON A CPU AT A SMALL SIZE: these numbers are no result." in said
    assert "DIFFERENT" not in said
    assert said.count("| heads: in a stack and alone | identical |") == 2
    assert "| timm:efficientnet_b0: activations at the cut |" in said
    assert gpu.RESULTS.read_text() == before
