"""Figures of a report may be drawn in other processes; the files are the same."""

from __future__ import annotations

from concurrent.futures import Future
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky.process_executor import BrokenProcessPool

from outerfold.reports import drawing
from outerfold.reports.drawing import PICTURE, VECTORS, Drawer, draw, drawer
from outerfold.reports.journal_style import LANCET, printed_in
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.write import write_report
from outerfold.storage.registry import Registry, adding_for

NAME = "Figure_Test_Confusion_Matrix"


class Processes:
    """Stands in for other processes that have taken one task, and died or not."""

    def __init__(self, taken: str, error: Exception | None) -> None:
        self.taken, self.error, self.asked = taken, error, list[str]()

    def submit(self, function: Any, name: str, *rest: Any) -> Future[Any]:
        self.asked.append(name)
        future: Future[Any] = Future()
        if name == self.taken:
            future.set_running_or_notify_cancel()
            if self.error is None:
                future.set_result({"jpg": b"drawn there"})
            else:
                future.set_exception(self.error)
        return future


def test_a_report_drawn_by_two_processes_is_the_same(
    binary: Evidence, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST", 1)
    drawn_here = list[str]()

    def draw_here(name: str, *rest: Any) -> Any:
        drawn_here.append(name)
        return draw(name, *rest)

    monkeypatch.setattr(drawing, "draw", draw_here)
    written = write_report(binary.run, tmp_path, cores=2)
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    for path in written:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    assert "comprehensive_results" not in drawn_here  # the last one: the other process begins there


def test_another_process_draws_in_the_printed_style(
    binary: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST", 1)
    with drawer(cores=2) as figures, printed_in(LANCET):
        figures.begin(VECTORS, (NAME,), binary)
        begun = figures._begun[NAME, VECTORS].result()
        assert begun == draw(NAME, VECTORS, binary)
    assert begun != draw(NAME, VECTORS, binary)  # in the plain style


def test_what_no_process_has_begun_is_drawn_here(
    binary: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "draw", lambda name, what, evidence: {"jpg": b"drawn here"})
    processes = Processes("b", None)
    figures = Drawer(processes)  # type: ignore[arg-type]
    figures.begin(PICTURE, ("a", "b"), binary)
    assert processes.asked == ["b", "a"]
    assert figures.draw(PICTURE, "a", binary) == {"jpg": b"drawn here"}
    assert figures.draw(PICTURE, "b", binary) == {"jpg": b"drawn there"}


def test_a_figure_whose_process_died_is_drawn_here(
    binary: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "draw", lambda name, what, evidence: {"jpg": b"drawn here"})
    figures = Drawer(Processes("a", BrokenProcessPool("died")))  # type: ignore[arg-type]
    figures.begin(PICTURE, ("a",), binary)
    assert figures.draw(PICTURE, "a", binary) == {"jpg": b"drawn here"}


def test_nothing_is_begun_elsewhere_on_one_core_in_a_daemon_or_beside_a_plugin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawing, "MOST", 1)
    monkeypatch.setattr(drawing, "open_processes", lambda count: pytest.fail("a process started"))
    with drawer(cores=1):
        pass
    monkeypatch.setitem(current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with drawer(cores=2):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(drawing, "MOST", 1)
    monkeypatch.setattr(drawing, "open_processes", lambda count: pytest.fail("a process started"))
    shapes: Registry[Any] = Registry("shape")
    with adding_for("a plugin"):
        shapes.add(type("Shape", (), {"name": "disk"}))
    try:
        with drawer(cores=2):
            pass
    finally:
        shapes.withdraw("a plugin")
