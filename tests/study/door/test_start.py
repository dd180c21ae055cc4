"""The Python door refuses what the command line refuses, and leaves the host's process alone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import outerfold
from outerfold.study.cli.main import main
from outerfold.study.door.start import describe_call
from outerfold.study.driver.telling import LogLines, log_to
from tests.places import ROOT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"--task must be one of \['dbt', 'multimodal'\], found nothing"),
        ({"trails": 3}, "outerfold.run: unknown option 'trails'; did you mean 'trials'"),
        ({"ablated": "sampler"}, "outerfold.run: unknown option 'ablated'"),
        ({"ablate": ["sampler"]}, "outerfold.run makes one run; compare levels with `outerfold"),
        ({"metric": 5}, "metric must be text, found 5"),
        ({"columns": "age"}, "columns must be a list of texts, found 'age'"),
        ({"quiet": 1}, "quiet must be true or false, found 1"),
        ({"trials": 10**40}, "--trials must be a whole number of at most 1000000, found 10000"),
        ({"trials": "3"}, "--trials must be a whole number of at least 1, found '3'"),
        ({"metric": "rocauc"}, "--metric: unknown value 'rocauc'; did you mean 'roc_auc'"),
        ({"workers": -1}, "--workers must be a whole number of at least 0, found -1"),
        ({"preset": "publishd"}, "--preset: unknown value 'publishd'; did you mean 'published'"),
        ({"data": "no-such-folder"}, "--data no-such-folder: no such folder or file"),
        ({"config": "none.toml"}, "--config none.toml: cannot be read"),
    ],
)
def test_what_the_command_line_refuses_is_raised(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(outerfold.DataError, match=message):
        outerfold.run(**({"task": "multimodal", **options} if options else {}))
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_call_replace_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('task = "dbt"\nmetric = "rocauc"\ndata = "nowhere"\n')
    with pytest.raises(outerfold.DataError, match="--metric: unknown value 'rocauc'"):
        outerfold.run(config=path)
    with pytest.raises(outerfold.DataError, match="--data nowhere: no such folder"):
        outerfold.run(config=path, metric="roc_auc")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(outerfold.DataError, match=r"not a run directory \(no config.toml\)"):
        outerfold.load(tmp_path)


def test_a_path_that_is_none_and_a_plugin_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(outerfold.DataError, match="run must be a text or a path, found 3"):
        outerfold.load(3)  # type: ignore[arg-type]
    with pytest.raises(outerfold.DataError, match="unknown entry point 'nope'"):
        outerfold.load(tmp_path, plugin="nope")


def test_the_call_is_told_as_it_can_be_typed() -> None:
    told = describe_call({"task": "dbt", "run": Path("a b"), "columns": ("age",), "trials": 3})
    assert told == "outerfold.run(task='dbt', run='a b', columns=('age',), trials=3)"


class Heard(logging.Handler):
    """Handler that keeps the messages that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_the_file_of_a_run_gets_all_and_the_host_what_it_asked_for(
    tmp_path: Path, level: int
) -> None:
    log, heard = logging.getLogger("outerfold"), Heard()
    log.addHandler(heard)
    before = log.level
    log.setLevel(level)
    try:
        handlers = list(log.handlers)
        with log_to(tmp_path / "run.log", alone=False):
            print("first\nsecond", file=LogLines(log))
            logging.getLogger("outerfold.below").warning("loud")
        assert log.handlers == handlers
        assert (log.level, log.propagate) == (level, True)
        log.warning("after")
    finally:
        log.removeHandler(heard)
        log.setLevel(before)
    quiet = ["first", "second"] if level == logging.INFO else []
    assert heard.said == [*quiet, "loud", "after"]
    kept = [line.split(maxsplit=2)[2] for line in (tmp_path / "run.log").read_text().splitlines()]
    assert kept == ["INFO first", "INFO second", "WARNING loud"]


SCRIPT = """
import logging, os, signal, sys, threading
import outerfold
import pandas as pd

data, run = sys.argv[1:]
options = dict(
    task="multimodal", data=data, run=run, trials=1, epochs=1, outer_folds=2, inner_folds=2,
    networks=1, final="ensemble", encoder="bundled:efficientnet_lite0", encoder_backend="torch",
    workers=1, space={"augmented_views": {"values": [0]}, "attention": {"values": [False]}},
)


class Interrupt(logging.Handler):
    done = False

    def emit(self, record):
        if record.getMessage().startswith("outer-0 trial 0: ") and not self.done:
            self.done = True
            os.kill(os.getpid(), signal.SIGINT)


def own(number, frame):
    raise SystemExit("the handler of the host")


def workers():
    tasks = f"/proc/self/task/{os.getpid()}/children"
    commands = [open(f"/proc/{each}/cmdline").read() for each in open(tasks).read().split()]
    return [command for command in commands if "resource_tracker" not in command]


log, interrupt = logging.getLogger("outerfold"), Interrupt()
log.setLevel(logging.INFO)
log.addHandler(interrupt)
signal.signal(signal.SIGTERM, own)
try:
    outerfold.run(**options)
except KeyboardInterrupt:
    print("interrupted", workers())
result = outerfold.run(**options)
print("as before", signal.getsignal(signal.SIGTERM) is own, log.handlers == [interrupt])
print("left", workers(), threading.active_count())
files = [os.path.join(data, name) for name in result.predictions["id"][:2]]
new = pd.DataFrame({"file": files, "age": [50.0, None], "note": "x"}, index=["a", "b"])
result.predict_proba(new).to_csv(f"{run}/found.csv")
print(result.trials.shape[0], result.folds.shape[0], set(result.splits["role"]) == {"test", "val"})
print(list(result.predictions.columns))
print(result.numbers["provenance"]["command"])
print(result.predictions["id"][0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are listed in /proc")
def test_a_script_without_a_guard_runs_a_study_and_goes_on_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = outerfold.write_demo(tmp_path / "demo", task="multimodal", patients=16)
    script, run = tmp_path / "analysis.py", tmp_path / "run"
    script.write_text(SCRIPT)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OUTERFOLD_CACHE": str(tmp_path / "cache"),
    }
    words = [str(script), str(data), str(run)]
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[:3] == ["interrupted []", "as before True True", "left [] 1"]
    assert said[3] == "2 2 True"
    assert said[4] == str(
        ["id", "patient", "fold", "repeat", "label", "p_other", "p_Cancer", "predicted"]
    )
    assert said[5].startswith(f"outerfold.run(task='multimodal', data='{data}', run='{run}', tri")
    log = (run / "run.log").read_text()
    assert f"To continue: {said[5]}" in log
    assert said[5] == json.loads((run / "provenance.json").read_text())["provenance"]["command"]
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    assert main(["predict", str(run), str(data / said[6]), "--age", "50"]) == 0
    found = (run / "found.csv").read_text().splitlines()
    assert found[0] == ",other,Cancer"
    told = capsys.readouterr().out.splitlines()[1].split(",")[1:3]
    assert [f"{float(p):.6f}" for p in found[1].split(",")[1:]] == told
