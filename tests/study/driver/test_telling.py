"""No step is silent: a plain log says what is done, and that it still is."""

from __future__ import annotations

import io
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from outerfold.study.config.execution import Execution
from outerfold.study.driver import one_run
from outerfold.study.driver import telling as module
from outerfold.study.driver.call import Call
from outerfold.study.driver.telling import counting, stepping, telling
from outerfold.study.exit_codes import EXIT_INTERRUPTED
from tests.study.driver.test_driver import begun


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=100)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_step_is_told_at_its_start_and_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.01)
    console = plain()
    with telling(console, "auditing 3 images"):
        until = time.monotonic() + 20
        while len(lines(console)) < 3 and time.monotonic() < until:
            time.sleep(0.005)
    first, second, *_ = lines(console)
    assert first == "- auditing 3 images"
    assert second.startswith("- auditing 3 images, for ")
    assert second.endswith(" s so far")
    count = len(lines(console))
    time.sleep(0.05)
    assert len(lines(console)) == count


def test_a_step_that_fails_is_told_no_longer() -> None:
    console = plain()
    with pytest.raises(ValueError, match="x"), telling(console, "reading the data"):
        raise ValueError("x")
    assert lines(console) == ["- reading the data"]


def test_counted_steps_get_a_line_at_times(monkeypatch: pytest.MonkeyPatch) -> None:
    console = plain()
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    with counting(console, "reading images") as step:
        step(0, 8)
        step(2, 8)
    assert len(lines(console)) == 1
    assert lines(console)[0].startswith("- reading images: 2 of 8, ")
    monkeypatch.setattr(module, "SILENT_SECONDS", 1e9)
    with counting(console, "reading images") as step:
        step(3, 8)
    assert len(lines(console)) == 1


def test_a_long_step_of_several_is_told_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.01)
    console = plain()
    with stepping(console, "writing the report") as step:
        step(3, 1200, "Report.docx")
        until = time.monotonic() + 20
        while len(lines(console)) < 3 and time.monotonic() < until:
            time.sleep(0.005)
    assert lines(console)[0] == "- writing the report"
    assert "- writing the report: Report.docx, 3 of 1,200 done, for 0 s so far" in lines(console)


def test_a_terminal_shows_the_step_beside_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with stepping(console, "writing the report") as step:
        step(3, 12, "Report.docx")
    assert "writing the report: Report.docx" in "".join(lines(console))
    assert "3/12" in "".join(lines(console))


def test_quiet_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    console = plain()
    with telling(console, "a", quiet=True), counting(console, "b", quiet=True) as step:
        step(1, 2)
    with stepping(console, "c", quiet=True) as begin:
        begin(0, 2, "d")
        time.sleep(0.01)
    assert lines(console) == []


@pytest.mark.parametrize("owns_process", [True, False])
def test_ctrl_c_while_the_report_is_written_says_how_to_go_on(
    owns_process: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, _ = begun(tmp_path / "run")
    config, data = prepared.config, prepared.data

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(one_run, "_settle", lambda *_: (config, {}))
    monkeypatch.setattr(one_run, "begin_or_resume", lambda *_: prepared)
    monkeypatch.setattr(one_run, "_print_assumptions", lambda *_: None)
    monkeypatch.setattr(one_run, "_run_studies", lambda *_: {})
    monkeypatch.setattr(one_run, "_write_report", interrupt)
    said = io.StringIO()
    call = Call(Console(file=said, width=200), ("run",), "outerfold run again", 0.0, owns_process)
    expected = nullcontext() if owns_process else pytest.raises(KeyboardInterrupt)
    with expected:
        code = one_run._carry_out_one(
            config,
            prepared.folder.path,
            data=data,
            encoders={},
            workers=None,  # type: ignore[arg-type]
            how=Execution(quiet=True),
            call=call,
        )
        assert code == EXIT_INTERRUPTED
    assert "To continue: outerfold run again" in said.getvalue()
