"""What only representations show of the data is warned of in the run, once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from outerfold.pipelines.augmentation.views import STYLES, Views
from outerfold.pipelines.encoders.backends.choose import with_backend
from outerfold.pipelines.images.activations import count_missing_views
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.setup import represent
from outerfold.study.setup.represent import (
    audit_run_embeddings,
    build_division,
    build_encoders,
    embed_rows,
    expect_encoding,
    timed_at_once,
)
from outerfold.study.setup.run_directory import PreparedRun
from tests.factories import ArraySource, make_config
from tests.pipelines.encoders.backends.test_backends import small
from tests.storage.audit.test_cropped_copies import cohort, cropped, scan
from tests.storage.images.image_factories import class_folders

NO_VIEWS = {"augmented_views": {"values": [0]}, "attention": {"values": [False]}}


def test_a_cropped_copy_is_a_warning_of_the_run_and_is_looked_for_once(tmp_path: Path) -> None:
    data, embeddings = cohort(tmp_path / "d", cropped(scan(3)))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_dataset(data, ["one from before"])
    prepared = PreparedRun(folder, make_config(), data, ())
    source = ArraySource(tuple(data.ids.tolist()), embeddings[None, :, None, :])
    (found,) = audit_run_embeddings(prepared, source)  # type: ignore[arg-type]
    assert "image-03 ~ image-39" in found
    assert folder.read_audit() == ["one from before", found]
    noise = ArraySource(source.ids, np.zeros_like(source.values))
    assert audit_run_embeddings(prepared, noise) == ()  # type: ignore[arg-type]
    assert folder.read_audit() == ["one from before", found]
    assert folder.read_dataset().ids.tolist() == data.ids.tolist()


def test_too_many_images_for_a_search_of_all_pairs_are_said_to_be_unsearched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(represent, "MOST_IMAGES", 39)
    data, embeddings = cohort(tmp_path / "d", cropped(scan(3)))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_dataset(data, [])
    source = ArraySource(tuple(data.ids.tolist()), embeddings[None, :, None, :])
    (found,) = audit_run_embeddings(PreparedRun(folder, make_config(), data, ()), source)  # type: ignore[arg-type]
    assert found.startswith("cropped copies under two patients were not searched for: there are 40")
    assert folder.read_audit() == [found]


def test_the_encoding_is_expected_from_the_rate_of_a_few_images_which_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second for 4 images at a time, so a quarter of a second an image."""
    class_folders(tmp_path / "data", {"benign": 10, "cancer": 10})
    data = read_dataset(tmp_path / "data", task="multimodal")
    config = make_config(encoder="bundled:efficientnet_lite0", outer_folds=2, space=NO_VIEWS)
    prepared = PreparedRun(RunFolder(tmp_path / "run"), config, data, ())
    encoders, clock = build_encoders(config), iter(range(100))
    monkeypatch.setattr(represent, "TIMED_AT_ONCE", 4)
    monkeypatch.setattr(represent, "TIMED_VIEWS", 8)
    ticks = SimpleNamespace(perf_counter=lambda: float(next(clock)))
    monkeypatch.setattr(represent, "time", ticks)
    how = {"cache": tmp_path / "cache", "device": "cpu"}
    expected = expect_encoding(prepared, encoders, **how)  # type: ignore[arg-type]
    assert expected == pytest.approx((20 - 3 * 4) / 4)
    views = Views((0,), STYLES[0])
    division = build_division(config, encoders[config.encoder])
    left = count_missing_views(data.features, division, views=views, tokens=False, **how)  # type: ignore[arg-type]
    assert left == 20 - 3 * 4
    embed_rows(prepared, encoders, progress=lambda done, total: None, **how)  # type: ignore[arg-type]
    assert expect_encoding(prepared, encoders, **how) == 0.0  # type: ignore[arg-type]


def test_a_gpu_is_measured_with_whole_batches() -> None:
    encoder = with_backend(small(), "torch", Path())
    assert [timed_at_once(encoder, device) for device in ("cpu", "cuda:0")] == [8, 64]
