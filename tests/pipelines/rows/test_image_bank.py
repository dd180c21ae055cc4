"""Rows that stay on disk train as rows in memory do, and what is made of many is made of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from outerfold.pipelines._base import Epoch
from outerfold.pipelines.images.embeddings import Embeddings, EmbeddingTable, write_table
from outerfold.pipelines.rows import smote_large as blends
from outerfold.pipelines.rows import training_rows as rows_module
from outerfold.pipelines.rows.image_bank import ImageBank
from outerfold.pipelines.rows.resample import resample_many
from outerfold.pipelines.rows.training_rows import Scaler, TrainingRows
from outerfold.storage.cache.row_store import RowCache
from tests.factories import WIDTH
from tests.pipelines.rows.fold_factories import cut, pipeline, small


def stored(folder: Path, ids: list[str], views: list[np.ndarray]) -> Embeddings:
    """A row store of ``views``, each (n, WIDTH), with strangers' rows before and between."""
    from outerfold.pipelines.images.embeddings import row_name

    cache = RowCache.open(folder / "pooled", {"of": "a test"}, (WIDTH,), np.float32)
    contents = {name: f"{i:064x}" for i, name in enumerate(ids)}
    with cache.writing() as writer:
        for view, values in enumerate(views):
            writer.append([f"f{view:063x}"], np.full((1, WIDTH), 99, np.float32))
            order = np.random.default_rng(view).permutation(len(ids))
            names = [row_name(contents[ids[i]], view, "a") for i in order]
            writer.append(names, values[order].astype(np.float32))
    place = cache.folder.relative_to(folder).as_posix()
    return write_table(folder, EmbeddingTable(place, None, WIDTH, 0, len(views), "a", contents))


def two_sources(folder: Path) -> tuple[TrainingRows, TrainingRows]:
    """The same training side with its rows in memory and on disk."""
    data, memory = small()
    ids = data.ids.tolist()
    disk = stored(folder, ids, [memory.pooled(ids, view) for view in range(memory.views)])
    folds = cut(data)
    one, other = (TrainingRows(data, folds, s, tokens=False, seed=5) for s in (memory, disk))
    return one, other


def epochs(rows: TrainingRows, sampler: str) -> list[Epoch]:
    training = pipeline(sampler=sampler).start(rows, budget=3, seed=1, device="cpu")
    return list(training)


@pytest.mark.parametrize("sampler", ["none", "weighted", "smote", "smote_tomek"])
def test_rows_left_on_disk_train_bit_for_bit_as_rows_in_memory(
    tmp_path: Path, sampler: str
) -> None:
    memory, disk = two_sources(tmp_path)
    for one, other in zip(epochs(memory, sampler), epochs(disk, sampler), strict=True):
        for mine, theirs in zip(one.probabilities, other.probabilities, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_bank_of_rows_on_disk_copies_none_of_them(tmp_path: Path) -> None:
    _, disk = two_sources(tmp_path)
    resampled = [disk.resampled(i, "none") for i in range(len(disk.folds))]
    bank = ImageBank(disk, resampled, [0, 1, 2], torch.device("cpu"))
    store = disk.images.rows  # type: ignore[union-attr]
    assert np.shares_memory(bank._stored.numpy(), store)
    np.testing.assert_array_equal(bank.gather(np.arange(4)).numpy(), disk.images[:4])


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_statistics_taken_in_parts_are_those_of_the_whole(part: int) -> None:
    inputs = np.random.default_rng(0).normal(40, 3, size=(501, 17)).astype(np.float32)
    parts = [inputs[start : start + part] for start in range(0, 501, part)]
    found = Scaler.from_chunks(lambda: iter(parts), 501)
    np.testing.assert_array_equal(found.mean, inputs.mean(axis=0, dtype=np.float64))
    np.testing.assert_array_equal(found.scale, inputs.std(axis=0, dtype=np.float64))


def test_many_rows_are_balanced_by_pairs_of_their_own_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blends, "POOL", 30)
    monkeypatch.setattr("outerfold.pipelines.rows.resample.POOL", 30)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [200, 40, 10])
    inputs = (10.0 * labels[:, None] + rng.normal(size=(250, 4))).astype(np.float32)
    found = resample_many("smote_tomek", lambda at: inputs[at], labels, seed=3)
    assert np.bincount(found.labels).tolist() == [200, 200, 200]
    kinds = found.labels[250:]
    assert (labels[found.pairs.first] == kinds).all()
    assert (labels[found.pairs.second] == kinds).all()
    assert (found.pairs.first != found.pairs.second).all()
    made = found.pairs.between(inputs)
    assert np.abs(made.mean(axis=1) - 10 * kinds).max() < 3
    assert "30 rows of a class" in found.note
    assert "no Tomek links" in found.note


def test_rows_made_of_many_train_from_disk_as_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MANY", 10)
    memory, disk = two_sources(tmp_path)
    assert len(memory.resampled(0, "smote").pairs)
    one, other = epochs(memory, "smote"), epochs(disk, "smote")
    np.testing.assert_array_equal(one[-1].probabilities[0], other[-1].probabilities[0])
