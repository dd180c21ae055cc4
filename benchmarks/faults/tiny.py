"""Tiny study of real files, carried out in this process, and what it leaves to be compared."""

from __future__ import annotations

import contextlib
import io
import json
import re
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outerfold.reports.results.results import results, results_text
from outerfold.storage.cache.files import write_text
from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.records import Run
from outerfold.study.cli.main import main
from outerfold.study.engines.local import EngineStarter
from outerfold.study.worker.jobs import Job, Outcome, run_job
from outerfold.study.worker.session import open_session

OPTIONS = (
    *("--trials", "3", "--epochs", "1", "--outer-folds", "2", "--inner-folds", "2"),
    *("--networks", "1", "--workers", "1", "--pruner", "none", "--encoder-backend", "torch"),
    *("--encoder", "bundled:efficientnet_lite0", "--quiet", "--offline"),
)
"""Options of the tiny study; it takes seconds once its images are encoded."""
CHANGING = ("timing", "provenance")
"""Entries of results.json that say when and where, not what."""


@dataclass(frozen=True)
class Called:
    """What one command did: its exit code, its texts, and a traceback if it raised."""

    code: int | None
    said: str
    trace: str = ""

    @property
    def refused(self) -> bool:
        """Whether it ended with a sentence, or an audit with the errors that it found."""
        sentence = r"outerfold: |^\d+ errors, \d+ warnings$"
        return self.code == 2 and bool(re.search(sentence, self.said, re.MULTILINE))


class Here:
    """Engine that runs each job in this process."""

    devices: Sequence[str] = ("cpu",)

    def submit(self, job: Job) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        try:
            future.set_result(run_job(job))
        except Exception as error:  # noqa: BLE001 - as a worker process hands it over
            future.set_exception(error)
        return future

    def end_hung(self, future: Future[Outcome], worker: str) -> bool:
        return False

    def close(self, *, kill: bool) -> None: ...


def write_numbers(run: Run, out: Path, *_: object) -> list[Path]:
    """The numbers of a report alone; its figures take most of its time."""
    return [write_text(out / "results.json", results_text(results(run)))]


@contextlib.contextmanager
def quick_runs() -> Iterator[None]:
    """Commands run their jobs here, draw nothing, and wait for no orphans."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "outerfold.study.driver.begin.make_starter", lambda *_: EngineStarter(Here, "cpu")
        )
        patch.setattr("outerfold.reports.write.write_report", write_numbers)
        patch.setattr("outerfold.study.cli.rewrite.write_whole_report", write_numbers)
        patch.setattr("outerfold.study.setup.run_directory.ORPHANS_GONE_SECONDS", 0.0)
        yield


def call(*words: str | Path) -> Called:
    """Carry out one command line in this process."""
    open_session.cache_clear()
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code: int | None = main([str(word) for word in words])
        except SystemExit as error:  # argparse ends --help so
            code = int(error.code or 0)
        except Exception:  # noqa: BLE001 - a traceback is what is looked for
            return Called(None, out.getvalue(), traceback.format_exc())
    return Called(code, out.getvalue())


def data_of(folder: Path) -> Path:
    """Images of the tiny study, made at the first call."""
    data = folder / "data"
    if not data.exists():
        write_demo(data, task="multimodal", patients=24)
    return data


def command(data: Path, run: Path) -> list[str | Path]:
    """Command line of the tiny study."""
    return ["run", "--task", "multimodal", "--data", data, "--run", run, *OPTIONS]


def outcome_of(run: Path) -> dict[str, Any]:
    """All that must be the same after a fault: numbers, splits, models, tables and trials."""
    numbers = json.loads((run / "report" / "results.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {k: v for k, v in numbers.items() if k not in CHANGING}
    for path in sorted(run.glob("*/manifest.json")):
        found[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    for name in ("splits.json", "search.json"):
        found[name] = json.loads((run / name).read_text(encoding="utf-8"))
    return found
