"""A worker that does not see the driver's cache makes the same embeddings, or is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from outerfold.pipelines.images.embeddings import Embeddings
from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.study.config.gather import CACHE_VARIABLE
from outerfold.study.setup.data_source import Source
from outerfold.study.setup.represent import build_encoders, represent
from outerfold.study.setup.run_directory import begin_or_resume, read_source
from outerfold.study.worker.remote_embeddings import with_local_embeddings
from outerfold.study.worker.session import WorkerContext
from tests.factories import make_config
from tests.storage.images.image_factories import class_folders, write_picture


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerContext:
    """A run whose driver's cache is gone, and a cache of the worker's own."""
    data = class_folders(tmp_path / "data", {"benign": 12, "cancer": 12})
    config = make_config(
        encoder="bundled:efficientnet_lite0",
        outer_folds=2,
        inner_folds=2,
        space={"augmented_views": {"values": [0]}},
    )
    source = Source(data, str(data))
    ready = begin_or_resume(RunFolder(tmp_path / "run"), config, read_source(source, config))
    made = represent(
        ready,
        build_encoders(config),
        cache=tmp_path / "driver",
        device="cpu",
        progress=lambda done, total: None,
    )
    shutil.rmtree(tmp_path / "driver")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "worker"))
    with_local_embeddings.cache_clear()
    return WorkerContext(ready.folder.path, made)


def test_a_worker_without_the_cache_makes_the_same_table(
    context: WorkerContext, tmp_path: Path
) -> None:
    found = with_local_embeddings(context)
    assert isinstance(found.embeddings, Embeddings)
    assert isinstance(context.embeddings, Embeddings)
    assert found.embeddings.name == context.embeddings.name
    assert found.embeddings.cache == tmp_path / "worker"
    ids = RunFolder(context.run).read_dataset().ids.tolist()
    assert found.embeddings.pooled(ids).shape == (len(ids), 1280)


def test_a_worker_with_other_images_is_refused(context: WorkerContext, tmp_path: Path) -> None:
    write_picture(next((tmp_path / "data" / "benign").rglob("*.png")), 77)
    with pytest.raises(DataError, match=r"does not see the cache .*driver and made other embeddin"):
        with_local_embeddings(context)


def test_a_worker_without_the_images_is_refused(context: WorkerContext, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(
        DataError, match=r"and cannot make its own: .*; put OUTERFOLD_CACHE on a pa"
    ):
        with_local_embeddings(context)
