"""A killed study goes on as if it had never stopped, and no number depends on the worker count."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.trials.journal import discard_interrupted
from outerfold.study.engines.local import LocalEngine, quiet_optuna
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import Session, open_session
from tests.factories import begin_run, make_config, make_rows
from tests.places import ROOT

OPTIONS = [
    "--task",
    "multimodal",
    "--trials",
    "4",
    "--epochs",
    "5",
    "--outer-folds",
    "2",
    "--inner-folds",
    "2",
    "--encoder",
    "bundled:efficientnet_lite0",
    "--encoder-backend",
    "torch",
]


@pytest.fixture(autouse=True)
def _one_session_a_test() -> None:
    open_session.cache_clear()
    quiet_optuna()


def start(data: Path, run: Path, cache: Path, workers: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OUTERFOLD_CACHE": str(cache)}
    where = ["--data", str(data / "images"), "--config", str(data / "study.toml")]
    command = [sys.executable, str(ROOT / "run_study.py"), *OPTIONS, *where]
    return subprocess.Popen(
        [*command, "--run", str(run), "--workers", str(workers)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def results(run: Path) -> dict[str, Any]:
    """``results.json`` without what may differ: time and provenance."""
    kept: dict[str, Any] = json.loads((run / "report" / "results.json").read_text())
    return {key: value for key, value in kept.items() if key not in ("timing", "provenance")}


def wait_for_trials(run: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until the log tells of ``count`` ended trials."""
    log = run / "run.log"
    while process.poll() is None:
        if log.exists() and log.read_text().count(" trial ") >= count:
            return
        time.sleep(0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and a search space with at most one augmented view."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "study.toml").write_text("[space.augmented_views]\nvalues = [0, 1]\n")
    write_demo(folder / "images", task="multimodal", patients=24)
    return folder


@pytest.fixture
def _heard() -> Iterator[None]:
    """A shell's background jobs ignore Ctrl-C, and hand that down to what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("_heard")
def test_workers_ctrl_c_and_a_kill_change_no_result(tmp_path: Path, data: Path) -> None:
    """Ctrl-C ends within seconds and says how to go on; a kill says nothing."""
    cache = tmp_path / "cache"
    whole = start(data, tmp_path / "one" / "run", cache, workers=1)
    assert whole.wait(timeout=400) == 0, whole.stdout.read().decode() if whole.stdout else ""
    stopped = tmp_path / "two" / "run"
    process = start(data, stopped, cache, workers=2)
    wait_for_trials(stopped, 1, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert re.search(rb"To continue: python \S*run_study.py --task multimodal", out)
    assert not (stopped / "report").exists()
    process = start(data, stopped, cache, workers=2)
    wait_for_trials(stopped, 5, process)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = start(data, stopped, cache, workers=2)
    assert last.wait(timeout=400) == 0, last.stdout.read().decode() if last.stdout else ""
    assert results(stopped) == results(tmp_path / "one" / "run")
    for table in ("predictions.csv", "predictions_validation.csv"):
        one, two = (folder / "report" / table for folder in (tmp_path / "one" / "run", stopped))
        assert one.read_text() == two.read_text()


def test_an_interrupted_trial_leaves_no_trace_in_the_search(tmp_path: Path) -> None:
    """The study with a trial cut off after some epochs equals the one that ran through."""
    data, source = make_rows(signal=0.3)
    config = make_config(trials=6)
    told: list[list[Any]] = []
    for name in ("through", "cut"):
        open_session.cache_clear()
        prepared, context = begin_run(tmp_path / name / "run", data, source, config)
        for number in range(config.trials):
            if name == "cut" and number in (0, 2, 4):
                cut_trial(Session(context), number)
                assert discard_interrupted(prepared.folder) == {"outer-0": 1}
                open_session.cache_clear()
            run_and_keep_job(Job(context, "outer-0", number, "cpu"))
        session = Session(context)
        trials = session.study("outer-0").get_trials()
        assert trials[0].params == session.default.params
        assert trials[0].state.name == "COMPLETE"
        told.append(
            [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials]
        )
    assert told[0] == told[1]


def cut_trial(session: Session, number: int) -> None:
    """Ask, report misleading epochs, and vanish."""
    trial = session.study("outer-0", number).ask()
    session.space(trial)
    for epoch in (1, 2, 3):
        trial.report(0.999, epoch)
        trial.should_prune()


def children(parent: int) -> list[int]:
    """Processes whose parent is ``parent``."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes under /proc")
def test_workers_go_with_a_killed_driver(tmp_path: Path) -> None:
    data, source = make_rows(patients=24)
    config = make_config(trials=50, epochs=50)
    _, context = begin_run(tmp_path / "run", data, source, config)
    child = os.fork()
    if child == 0:
        engine = LocalEngine(["cpu"])
        engine.submit(Job(context, "outer-0", 0, "cpu")).result()
        (tmp_path / "worked").touch()
        time.sleep(60)
        os._exit(0)
    deadline = time.monotonic() + 60
    while not (tmp_path / "worked").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = children(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
