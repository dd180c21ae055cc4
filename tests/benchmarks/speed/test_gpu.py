"""The benchmark of a GPU: its parts without one, and that its code runs on a CPU."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.speed import gpu
from outerfold.pipelines.encoders.registry import build
from outerfold.storage.readers.read import read_dataset

MEASURED = gpu.Measured(
    "dbt",
    "clip:ViT-B/32",
    22_000,
    500.0,
    2000.0,
    900.0,
    1000.0,
    gpu.Watched(0.81, 3.5),
    12.5,
    2,
    gpu.Watched(0.4, 5.25),
)


def test_busy_share_and_peak_memory_come_from_all_samples() -> None:
    found = gpu.watched("0, 1024\n100, 4096\n50, 2048\n[N/A]\n")
    assert (found.busy, found.memory) == (pytest.approx(0.5), pytest.approx(4.0))
    assert gpu.watched("").busy is None


def test_the_table_states_the_rate_as_a_share_of_the_bare_encoders() -> None:
    text = gpu.section([MEASURED], "A GPU", date(2026, 1, 2))
    head, rule, row = text.strip().splitlines()[-3:]
    assert head.count("|") == rule.count("|") == row.count("|")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "dbt",
        "clip:ViT-B/32",
        "22,000",
        "500/s",
        "2,000/s",
        "900/s",
        "1,000/s",
        "50 %",
        "81 %",
        "12.5",
        "2",
        "40 %",
        "5.2 GiB",
    ]
    assert "Random weights and synthetic images: speeds only." in text


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
    for subject in gpu.SUBJECTS:
        root = gpu.write_images(tmp_path / subject.task, subject, 24)
        data = read_dataset(root, task=subject.task, patient_regex=gpu.PATIENT, columns=None)  # type: ignore[arg-type]
        assert len(data) == len(set(data.patients.tolist())) == 24
        assert len(data.classes) == len(subject.classes)
        assert Image.open(data.features.images[0]).size == (gpu.SIDE, gpu.SIDE)
    assert [column.name for column in data.features.columns] == ["age"]


def test_files_of_random_weights_fit_the_encoders_they_are_for(tmp_path: Path) -> None:
    for at, subject in enumerate(gpu.SUBJECTS):
        weights = gpu.random_weights(tmp_path / f"{at}.pt", subject.encoder)
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


@pytest.mark.slow
def test_a_trial_on_a_cpu_runs_all_its_code_and_keeps_no_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = gpu.RESULTS.read_text()
    words = ["--device", "cpu", "--images", "12", "--trials", "1", "--task", "multimodal"]
    assert gpu.main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("TEST ON A CPU AT A SMALL SIZE: these numbers are no result.")
    assert "| multimodal | timm:efficientnet_b0 | 12 |" in said
    assert gpu.RESULTS.read_text() == before
