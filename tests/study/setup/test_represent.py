"""What only representations show of the data is warned of in the run, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from outerfold.storage.runs.folder import RunFolder
from outerfold.study.setup import represent
from outerfold.study.setup.represent import audit_run_embeddings
from outerfold.study.setup.run_directory import PreparedRun
from tests.factories import ArraySource, make_config
from tests.storage.audit.test_cropped_copies import cohort, cropped, scan


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
