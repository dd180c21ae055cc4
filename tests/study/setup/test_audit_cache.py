"""An audit is repeated exactly where something that it depends on has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from outerfold.storage.images.read import content_hash
from outerfold.storage.records import DataError
from outerfold.study.engines.local import EngineStarter, LocalEngine
from outerfold.study.setup.audit_cache import cached_warnings


def test_what_was_found_is_read_again_and_not_looked_for(tmp_path: Path) -> None:
    def never() -> tuple[str, ...]:
        raise AssertionError("looked for again")

    assert cached_warnings(tmp_path, lambda: ("a", "b"), data="x", outer_folds=5) == ("a", "b")
    assert cached_warnings(tmp_path, never, data="x", outer_folds=5) == ("a", "b")
    assert cached_warnings(tmp_path, lambda: (), data="y", outer_folds=5) == ()
    assert cached_warnings(tmp_path, lambda: ("c",), data="x", outer_folds=4) == ("c",)


def test_data_that_were_refused_are_audited_again(tmp_path: Path) -> None:
    def refuse() -> tuple[str, ...]:
        raise DataError("two labels")

    for _ in range(2):
        with pytest.raises(DataError, match="two labels"):
            cached_warnings(tmp_path, refuse, data="x")
    assert cached_warnings(tmp_path, lambda: (), data="x") == ()


def test_a_file_is_hashed_anew_once_its_contents_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    before = content_hash(file)
    file.write_bytes(b"two")
    assert content_hash(file) != before


def test_the_engine_that_was_measured_on_is_the_one_that_works() -> None:
    starter = EngineStarter(lambda: LocalEngine(["cpu"]), "cpu")
    measured_on = starter.waiting()
    taken = starter.take()
    try:
        assert taken is measured_on
        assert starter.waiting() is not taken
    finally:
        taken.close(kill=True)
        starter.close()
