"""`outerfold doctor` reads all that a run keeps, and names what is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from outerfold.storage.cache.inventory import record_stores
from outerfold.storage.cache.row_store import RowCache
from outerfold.study.cli.main import main
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import open_session
from tests.factories import begin_run, make_config, make_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one finished study, and a table of the cache that it reads."""
    open_session.cache_clear()
    quiet_optuna()
    data, source = make_rows(patients=24, signal=0.5)
    config = make_config(trials=2, outer_folds=2, inner_folds=2, networks=1, epochs=1)
    home = tmp_path_factory.mktemp("doctor")
    prepared, context = begin_run(home / "run", data, source, config)
    for number in (0, 1, None):
        run_and_keep_job(Job(context, "outer-0", number, "cpu"))
    table = RowCache.open(home / "cache" / "pooled", {"encoder": "e", "device": "cpu"}, (4,), "f4")
    with table.writing() as writer:
        writer.append(["a" * 64, "b" * 64], np.ones((2, 4), np.float32))
    name = table.folder.relative_to(home / "cache").as_posix()
    record_stores(prepared.folder.path, home / "cache", [name])
    return home


def empty_journal(home: Path) -> None:
    (home / "run" / "trials.journal").write_bytes(b"")


def spoil_journal(home: Path) -> None:
    journal = home / "run" / "trials.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"garbage\n", *lines[3:]]))


def spoil_model(home: Path) -> None:
    (home / "run" / "outer-0" / "model.pt").write_bytes(b"garbage")


def spoil_splits(home: Path) -> None:
    path = home / "run" / "splits.json"
    path.write_bytes(path.read_bytes()[:-40])


def spoil_table(home: Path) -> None:
    path = next((home / "cache").rglob("rows.bin"))
    path.write_bytes(b"\xff" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (empty_journal, "trials.journal has none of its trials"),
        (spoil_journal, "trials.journal: line 4 of"),
        (spoil_model, "outer-0/model.pt: is not the file that was written"),
        (spoil_splits, "splits.json: cannot be read as JSON"),
        (spoil_table, "2 of 2 rows are damaged; the run's command computes them anew"),
    ],
)
def test_what_is_damaged_is_named_and_the_code_is_1(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    named: str,
) -> None:
    shutil.copytree(made, tmp_path / "copy")
    record_stores(
        tmp_path / "copy" / "run",
        tmp_path / "copy" / "cache",
        [next((made / "cache").glob("*/*")).relative_to(made / "cache").as_posix()],
    )
    spoil(tmp_path / "copy")
    assert main(["doctor", str(tmp_path / "copy" / "run")]) == 1
    said = capsys.readouterr().out
    assert "damaged: " in said
    assert named in said
    assert "studies are finished" not in said


def test_a_whole_run_needs_no_repair(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(made / "run")]) == 0
    said = capsys.readouterr().out
    assert "nothing to repair" in said
    assert "1 of 3 studies are finished; give the run's command again to continue" in said
