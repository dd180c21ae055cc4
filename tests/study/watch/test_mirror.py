"""The dashboard shows notes, names, scores and pictures, and writes nothing into the run."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from outerfold.storage.runs.folder import RunFolder
from outerfold.study.watch.mirror import CONFUSION, CURVE, Mirror, open_mirror
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows
from tests.study.watch.test_dashboard import ask
from tests.study.watch.test_status import half

__all__ = ["half"]


@pytest.fixture(scope="module")
def port(half: RunFolder) -> Iterator[int]:
    with ExitStack() as stack:
        server = open_mirror(half, None, 0, stack)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
        server.server_close()


def study(port: int, name: str) -> dict[str, Any]:
    """Answer of the real dashboard for a study."""
    listed = json.loads(ask(port, "GET", "/api/studies")[1])["study_summaries"]
    number = next(one["study_id"] for one in listed if one["study_name"] == name)
    found: dict[str, Any] = json.loads(ask(port, "GET", f"/api/studies/{number}")[1])
    return {**found, "id": number}


def test_each_study_has_a_note_with_its_fold_plan_best_score_and_time_left(port: int) -> None:
    note = study(port, "outer-0")["note"]["body"]
    assert "scored once, at its end" in note
    assert "**Plan**: 3 trials of at most 2 epochs, pruner" in note
    assert "0 left, finished. Best inner roc_auc: 0." in note
    waits = study(port, "final")["note"]["body"]
    assert "All rows" in waits
    assert "3 left. Best inner roc_auc: none yet" in waits
    assert "4 of at most 9 trials" in waits


def test_the_metric_has_its_name_and_a_table_can_be_sorted_by_each_folds_score(port: int) -> None:
    found = study(port, "outer-0")
    assert found["objective_names"] == ["inner roc_auc"]
    names = {attr["key"] for attr in found["union_user_attrs"] if attr["sortable"]}
    assert {"epochs", "score of fold 0", "score of fold 1"} <= names


def test_pictures_are_served_and_nothing_is_written_into_the_run(
    port: int, half: RunFolder
) -> None:
    before = {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()}
    found = study(port, "outer-0")
    kept = {one["filename"]: one["artifact_id"] for one in found["artifacts"]}
    assert set(kept) == {CURVE, CONFUSION}
    for name in kept:
        code, _ = picture(port, f"/artifacts/{found['id']}/{kept[name]}")
        assert code == 200
    assert [one["filename"] for one in study(port, "outer-1")["artifacts"]] in ([CURVE], [])
    assert {path: path.read_bytes() for path in half.path.rglob("*") if path.is_file()} == before


def picture(port: int, path: str) -> tuple[int, bytes]:
    import http.client

    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    line.request("GET", path)
    answer = line.getresponse()
    contents = answer.read()
    assert contents.startswith(b"\x89PNG")
    return answer.status, contents


def test_later_trials_and_a_better_best_appear(tmp_path: Path) -> None:
    open_session.cache_clear()
    data, source = make_rows(patients=24, signal=0.5)
    config = make_config(trials=2, outer_folds=2, inner_folds=2, networks=1, epochs=1)
    prepared, context = begin_run(tmp_path / "run", data, source, config)
    step(context, 0)
    now = [0.0]
    mirror = Mirror(prepared.folder, None, empty(tmp_path / "pictures"), clock=lambda: now[0])
    step(context, 1)
    mirror.update()
    assert count(mirror) == 1
    now[0] = 6.0
    mirror.update()
    assert count(mirror) == 2
    now[0] = 12.0
    (prepared.folder.path / "config.toml").rename(tmp_path / "away.toml")
    mirror.update()
    assert count(mirror) == 2, "a run that cannot be read is shown as it was"


def step(context: WorkerContext, number: int) -> None:
    run_and_keep_job(Job(context, "outer-0", number, "cpu"))


def count(mirror: Mirror) -> int:
    return len(mirror._study("outer-0").trials)


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
