"""Figures of a report may be drawn in other processes; the files are the same."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future
from multiprocessing import current_process
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from joblib.externals.loky.process_executor import BrokenProcessPool

from outerfold.reports import drawing
from outerfold.reports.drawing import PICTURE, VECTORS, Drawer, draw
from outerfold.reports.journal_style import LANCET, printed_in
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.write import write_report
from outerfold.storage import processes
from outerfold.storage.processes import Beside, processes_beside
from outerfold.storage.registry import Registry, adding_for

DRAWING = "outerfold.reports.drawing"
NAME = "Figure_Test_Confusion_Matrix"


class Processes:
    """Stands in for one other process, which is held until a figure was drawn here, and may die."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, list[str]()
        self.held, self.begun = Event(), Event()

    def submit(self, function: Any, name: str, *rest: Any) -> Future[Any]:
        self.asked.append(name)
        self.begun.set()
        self.held.wait(30)
        future: Future[Any] = Future()
        if self.error is None:
            future.set_result({"jpg": b"drawn there"})
        else:
            future.set_exception(self.error)
        return future


def test_a_report_drawn_by_two_processes_is_the_same(
    binary: Evidence, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MOST_BESIDE", 1)
    drawn_here = list[str]()

    def draw_here(name: str, *rest: Any) -> Any:
        drawn_here.append(name)
        return draw(name, *rest)

    monkeypatch.setattr(drawing, "draw", draw_here)
    with processes_beside(2, DRAWING) as beside:
        written = write_report(binary.run, tmp_path, beside)
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    for path in written:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    assert "comprehensive_results" not in drawn_here  # the last one: the other process begins there


def test_another_process_draws_in_the_printed_style(
    binary: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MOST_BESIDE", 1)
    with processes_beside(2, DRAWING) as beside, Drawer(beside) as figures, printed_in(LANCET):
        figures.begin(VECTORS, (NAME,), binary)
        begun = figures._begun[NAME, VECTORS].result()
        assert begun == draw(NAME, VECTORS, binary)
    assert begun != draw(NAME, VECTORS, binary)  # in the plain style


def test_what_no_process_has_begun_is_drawn_here(
    binary: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "draw", lambda name, what, evidence: {"jpg": b"drawn here"})
    other = Processes()
    with Drawer(Beside(other, 1)) as figures:  # type: ignore[arg-type]
        figures.begin(PICTURE, ("a", "b", "c"), binary)
        assert other.begun.wait(30)
        assert figures.draw(PICTURE, "a", binary) == {"jpg": b"drawn here"}
        assert figures.draw(PICTURE, "b", binary) == {"jpg": b"drawn here"}
        other.held.set()
        assert figures.draw(PICTURE, "c", binary) == {"jpg": b"drawn there"}
    assert other.asked == ["c"]


def test_a_figure_whose_process_died_is_drawn_here(
    binary: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "draw", lambda name, what, evidence: {"jpg": b"drawn here"})
    other = Processes(BrokenProcessPool("died"))
    with Drawer(Beside(other, 1)) as figures:  # type: ignore[arg-type]
        figures.begin(PICTURE, ("a",), binary)
        assert other.begun.wait(30)
        other.held.set()
        assert figures.draw(PICTURE, "a", binary) == {"jpg": b"drawn here"}


def test_an_interrupted_report_leaves_no_process_and_no_word(tmp_path: Path) -> None:
    """Many figures wait when Ctrl-C comes; loky's thread must not stumble over them."""
    script = (
        "import time\n"
        "from outerfold.reports import drawing\n"
        "from outerfold.storage.processes import processes_beside\n"
        "class Sleeps(drawing.Drawer):\n"
        "    def _draw_there(self, name, what, evidence, style):\n"
        "        return self._pool.submit(time.sleep, 60).result()\n"
        "with processes_beside(3, 'json') as beside, Sleeps(beside) as figures:\n"
        "    figures.begin('picture', tuple('abcdefghijklmnop'), None)\n"
        "    time.sleep(2)\n"
        "    raise KeyboardInterrupt\n"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert time.monotonic() - began < 50
    assert "KeyError" not in ended.stderr
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "Thread" not in ended.stderr


def test_there_is_no_other_process_on_one_core_in_a_daemon_or_beside_a_plugin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_beside(cores: int) -> bool:
        with processes_beside(cores, DRAWING) as beside:
            return beside is None

    def opened(count: int) -> Any:
        raise AssertionError(f"{count} processes started")

    monkeypatch.setattr(processes, "MOST_BESIDE", 3)
    monkeypatch.setattr(processes, "open_processes", opened)
    assert none_beside(1)
    for cores, count in ((2, 1), (4, 3), (64, 3)):
        with pytest.raises(AssertionError, match=f"{count} processes started"):
            none_beside(cores)
    shapes: Registry[Any] = Registry("shape")
    with adding_for("a plugin"):
        shapes.add(type("Shape", (), {"name": "disk"}))
    try:
        assert none_beside(2)
    finally:
        shapes.withdraw("a plugin")
    monkeypatch.setitem(current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert none_beside(2)
