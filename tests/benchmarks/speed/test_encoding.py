from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.shared.worktree import worktree
from benchmarks.speed import encoding
from tests.places import ROOT

ROW = encoding.Row(
    "bundled:efficientnet_lite0",
    "torchvision",
    "openvino",
    (10.0, 12.0, 8.0),
    (40.0, 42.0, 36.0),
    (0.2, 0.22, 0.21),
    (0.042, 0.044, 0.043),
    (0.039, 0.04, 0.041),
)


def test_a_ratio_is_that_of_a_pair_and_the_page_names_who_missed_a_target() -> None:
    assert ROW.ratios == [4.0, 3.5, 4.5]
    assert ROW.overhead == pytest.approx(1.075)
    slow = encoding.Row(
        "timm:efficientnet_b0", "torchvision", "torch", (10.0,), (24.0,), (4.0,), (1.0,), (1.0,)
    )
    told = {"files": 3000, "pairs": 3, "cores": 2, "before": "5960655"}
    text = encoding.page([ROW, slow], **told)
    assert "4.00 (3.50 to 4.50)" in text
    assert "Missed by: timm:efficientnet_b0 with torchvision." in text
    assert "All targets were met." in encoding.page([ROW], **told)


def test_both_trees_are_measured_and_their_start_cancels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that charges 5 s a start and 0.1 s an image."""
    monkeypatch.setattr(
        encoding,
        "ask",
        lambda tree, request, folder: {"wall": 5 + 0.1 * len(request["images"]), "cpu": 7.0},
    )
    found = encoding.slope(ROOT, {"what": "embed"}, [str(at) for at in range(30)], tmp_path)
    assert found["wall"] == pytest.approx(0.1)
    assert np.isnan(found["cpu"])


def test_a_real_measurement_of_this_tree(tmp_path: Path) -> None:
    paths = encoding.write_pictures(tmp_path / "images", 6)
    request = {
        "encoder": "bundled:efficientnet_lite0",
        "weights": "",
        "style": "albumentations",
        "kept": str(tmp_path / "kept"),
        "images": paths,
    }
    found = encoding.ask(ROOT, {**request, "what": "embed"}, tmp_path)
    assert found["backend"] in ("openvino", "torch")
    assert found["cpu"] > 0
    parts = encoding.ask(ROOT, {**request, "what": "parts"}, tmp_path)
    assert set(parts) == {"decode", "frame", "view", "backend"}
    assert encoding.sum_of_parts(parts) >= 3 * parts["backend"]


def test_the_older_tree_is_a_worktree_that_goes_away() -> None:
    inside = ["git", "-C", str(ROOT), "rev-parse", "--is-inside-work-tree"]
    if subprocess.run(inside, capture_output=True).returncode:
        pytest.skip("no git checkout")
    with worktree("HEAD") as tree:
        assert (tree / "pyproject.toml").exists()
    assert not tree.exists()
