"""No step is silent: a plain log says what is done, and that it still is."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from outerfold.study.driver import telling as module
from outerfold.study.driver.telling import counting, telling


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


def test_quiet_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    console = plain()
    with telling(console, "a", quiet=True), counting(console, "b", quiet=True) as step:
        step(1, 2)
    assert lines(console) == []
