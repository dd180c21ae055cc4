"""A Dask cluster and a PostgreSQL server, for real: same results, and no accident loses a trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from outerfold.reports.results.results import results
from outerfold.storage.cache.files import write_json
from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.records import DataError
from outerfold.storage.trials.journal import discard_interrupted
from outerfold.storage.trials.ownership import become_driver
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.driver.driver import carry_out_run, open_studies
from outerfold.study.driver.progress import StudyProgress
from outerfold.study.engines.dask import DaskEngine
from outerfold.study.engines.local import Engine, LocalEngine, quiet_optuna
from outerfold.study.plugins import identities, load_plugins
from outerfold.study.setup.run_directory import PreparedRun
from outerfold.study.worker.jobs import Job, Outcome, run_and_keep_job
from outerfold.study.worker.session import WorkerContext, open_session
from tests.factories import begin_run, make_config, make_rows
from tests.study.engines.servers import ROOT, Cluster, Database, database, free_port, until

pytestmark = pytest.mark.slow

CONFIG = make_config(
    trials=4, outer_folds=2, inner_folds=2, epochs=40, patience_epochs=40, networks=1, in_flight=2
)
"""Trials of about half a second, so that an accident finds some half done."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    open_session.cache_clear()
    quiet_optuna()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    for _ in range(2):
        running.add_worker()
    yield running
    running.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Database]:
    with database() as running:
        yield running


def begun(path: Path, storage: str | None = None) -> tuple[PreparedRun, WorkerContext]:
    data, source = make_rows(patients=30, signal=0.3)
    return begin_run(path, data, source, CONFIG, storage=storage)


class Watched(StudyProgress):
    """Counts what has ended."""

    ended = 0

    def update(self, outcome: Outcome) -> None:
        self.ended += 1
        super().update(outcome)


def drive(
    prepared: PreparedRun,
    context: WorkerContext,
    start: Callable[[], Engine],
    accident: Callable[[Callable[[int], None]], None] = lambda after: None,
) -> dict[str, Any]:
    """The whole run; its results, and each study's trials, but for times.

    ``accident`` runs beside it; what it is given waits until so many of the 15 jobs have ended,
    when others are under way.
    """
    progress = Watched(Console(quiet=True), trials=4, quiet=True, maximise=True)
    with progress, ThreadPoolExecutor(1) as beside:
        told_of = beside.submit(accident, lambda ended: until(lambda: progress.ended >= ended, 600))
        assert carry_out_run(prepared, context, start, progress) == {}
        told_of.result()
    write_json(prepared.folder.path / "provenance.json", {"timing": {}, "provenance": {}})
    numbers = results(read_kept_run(prepared.folder))
    return {
        "results": {k: v for k, v in numbers.items() if k != "provenance"},
        "trials": {name: told(study) for name, study in open_studies(prepared, context).items()},
    }


def told(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values) for t in study.get_trials()
    ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one worker of this machine and a journal make of the run."""
    quiet_optuna()
    found = drive(*begun(tmp_path_factory.mktemp("local") / "run"), lambda: LocalEngine(["cpu"]))
    assert [len(trials) for trials in found["trials"].values()] == [4, 4, 4]
    return found


def test_a_cluster_gives_the_results_of_this_machine(
    cluster: Cluster, expected: dict[str, Any], tmp_path: Path
) -> None:
    found = drive(*begun(tmp_path / "run"), lambda: DaskEngine(cluster.address))
    assert found == expected


def test_workers_of_a_cluster_load_the_plugin_of_a_run_and_refuse_changed_contents(
    cluster: Cluster, tmp_path: Path
) -> None:
    path, other = tmp_path / "own.py", tmp_path / "other" / "own.py"
    text = """
import numpy as np
from outerfold.objectives.measures.metric import Metric, Sums
from outerfold.objectives.metrics import METRICS

METRICS.add(
    Metric(name="own", label="Own", direction="maximize", needs="decisions",
           how=Sums(lambda labels, p, predicted: 0.5 * np.ones(len(labels))))
)
"""
    path.write_text(text)
    try:
        load_plugins([str(path)])
        config = replace(CONFIG, epochs=1, patience_epochs=1, metric="own", plugin=identities())
        data, source = make_rows(patients=30, signal=0.3)
        _, context = begin_run(tmp_path / "run", data, source, config)
        engine = DaskEngine(cluster.address)
        own = replace(context, plugins=(str(path),))
        assert engine.submit(Job(own, "outer-0", 0, "cpu")).result(60).value == pytest.approx(0.5)
        other.parent.mkdir()
        other.write_text(text.replace("0.5", "0.75"))
        changed = replace(context, plugins=(str(other),))
        with pytest.raises(DataError, match=r"was made with the plugin own\.py sha256:"):
            engine.submit(Job(changed, "outer-0", 0, "cpu")).result(60)
        engine.close(kill=False)
    finally:
        load_plugins(())


def test_workers_killed_in_mid_trial_lose_and_repeat_nothing(
    cluster: Cluster, server: Database, expected: dict[str, Any], tmp_path: Path
) -> None:
    """All of them at once, so that some trial is under way for certain."""

    def kill(after: Callable[[int], None]) -> None:
        after(3)
        cluster.replace_workers()

    prepared, context = begun(tmp_path / "kills", server.url)
    before = [worker.pid for worker in cluster.workers]
    found = drive(prepared, context, lambda: DaskEngine(cluster.address), kill)
    assert not set(before) & {worker.pid for worker in cluster.workers}
    assert found == expected


def test_a_restarted_scheduler_loses_and_repeats_nothing(
    cluster: Cluster, expected: dict[str, Any], tmp_path: Path
) -> None:
    def restart(after: Callable[[int], None]) -> None:
        after(3)
        cluster.restart_scheduler(signal.SIGKILL)

    prepared, context = begun(tmp_path / "run")
    before = cluster.scheduler.pid
    found = drive(prepared, context, lambda: DaskEngine(cluster.address), restart)
    assert cluster.scheduler.pid != before
    assert found == expected


def test_a_restarted_database_loses_and_repeats_nothing(
    cluster: Cluster, server: Database, expected: dict[str, Any], tmp_path: Path
) -> None:
    prepared, context = begun(tmp_path / "restarts", server.url)
    before = server.server.pid

    def restart(after: Callable[[int], None]) -> None:
        for ended, kind in ((2, signal.SIGINT), (6, signal.SIGQUIT)):
            after(ended)
            server.restart(kind, away=2.0)

    found = drive(prepared, context, lambda: DaskEngine(cluster.address), restart)
    assert server.server.pid != before
    assert found == expected


def test_the_command_works_by_a_cluster_and_a_database_and_tells_no_password(
    server: Database, tmp_path: Path
) -> None:
    """Scheduler and worker are started as README says."""
    data = write_demo(tmp_path / "demo", task="multimodal", patients=16)
    space = "[space.augmented_views]\nvalues = [0]\n[space.attention]\nvalues = [false]\n"
    (tmp_path / "study.toml").write_text(space)
    options = [
        "--task",
        "multimodal",
        "--data",
        str(data),
        "--config",
        str(tmp_path / "study.toml"),
        "--encoder",
        "bundled:efficientnet_lite0",
        "--encoder-backend",
        "torch",
        "--trials",
        "2",
        "--in-flight",
        "2",
        "--epochs",
        "3",
        "--networks",
        "1",
        "--outer-folds",
        "2",
        "--inner-folds",
        "2",
    ]
    command = [sys.executable, str(ROOT / "run_study.py"), *options, "--quiet"]
    environment = {**os.environ, "OUTERFOLD_CACHE": str(tmp_path / "cache")}
    running = Cluster(tmp_path, cache=tmp_path / "workers")
    url = server.url.replace("outerfold@", "outerfold:secret@")
    where = ["--engine", "dask", "--engine-address", running.address, "--storage", url]
    try:
        running.add_worker()
        done = subprocess.run(
            [*command, *where, "--run", str(tmp_path / "dask")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        running.close()
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "dask" / "report" / "results.json").read_text()
    assert "secret" not in text
    assert json.loads(text)["overall"]["roc_auc"]["by_fold"]
    assert not (tmp_path / "dask" / "trials.journal").exists()


def test_a_run_does_not_touch_the_studies_of_another_with_its_name(
    server: Database, tmp_path: Path
) -> None:
    prepared, context = begun(tmp_path / "one" / "name", server.url)
    open_studies(prepared, context)["outer-0"].ask()
    with pytest.raises(DataError, match=r"name: postgresql.* holds the study name/.* of another"):
        begun(tmp_path / "two" / "name", server.url)
    assert len(open_studies(prepared, context)["outer-0"].get_trials()) == 1
    with pytest.raises(
        DataError, match=r"its trials are kept in postgresql.* now names trials.jou"
    ):
        open_studies(prepared, replace(context, storage=None))


def test_trials_in_a_database_are_mended_as_in_a_journal(server: Database, tmp_path: Path) -> None:
    """One that never ended goes, and the second of two that a dropped connection made of one."""
    prepared, context = begun(tmp_path / "mended", server.url)
    study = open_studies(prepared, context)["outer-0"]
    for _ in range(2):
        study.tell(study.ask(), 0.5)
    study.add_trial(study.get_trials()[-1])
    study.ask()
    before = told(study)[:2]
    assert discard_interrupted(prepared.folder, server.url) == {"mended/outer-0": 2}
    assert told(open_studies(prepared, context)["outer-0"]) == before


def test_what_a_former_driver_had_begun_writes_no_result(tmp_path: Path) -> None:
    prepared, context = begun(tmp_path / "run")
    former = replace(context, driver=become_driver(prepared.folder))
    run_and_keep_job(Job(former, "outer-0", 0, "cpu"))
    become_driver(prepared.folder)
    with pytest.raises(DataError, match="another command has taken over; this job"):
        run_and_keep_job(Job(former, "outer-0", None, "cpu"))
    assert not (prepared.folder.study("outer-0") / "best.json").exists()


def test_an_address_where_no_scheduler_answers_is_refused() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(DataError, match=f"--engine-address {address}: no Dask scheduler answers"):
        DaskEngine(address)


def test_workers_with_several_threads_are_refused(tmp_path: Path) -> None:
    running = Cluster(tmp_path)
    try:
        running.add_worker("--nthreads", "2")
        with pytest.raises(DataError, match="have several threads, such as one on"):
            DaskEngine(running.address)
    finally:
        running.close()


def test_workers_that_declare_a_gpu_are_the_only_ones_and_get_its_token(tmp_path: Path) -> None:
    running = Cluster(tmp_path)
    try:
        running.add_worker("--resources", "GPU=1")
        running.add_worker()
        engine = DaskEngine(running.address)
        until(lambda: len(engine._client.scheduler_info()["workers"]) == 2)
        until(lambda: engine.devices == ("cuda:0",))
        _, context = begun(tmp_path / "run")
        with pytest.raises(DataError, match="declares the resource GPU, and torch finds none"):
            engine.submit(Job(context, "outer-0", 0, "cuda:0")).result(180)
        engine.close(kill=True)
    finally:
        running.close()
