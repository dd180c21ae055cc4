"""Errors of the machine are one sentence, SIGTERM ends like Ctrl-C, and no password is shown."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from outerfold.storage.records import DataError
from outerfold.storage.trials.database import without_password
from outerfold.study.cli import run as run_verb
from outerfold.study.cli.main import main
from outerfold.study.config.gather import cache_folder, read_toml


def acting(monkeypatch: pytest.MonkeyPatch, action: Callable[[object], int]) -> None:
    monkeypatch.setattr("outerfold.study.cli.main._find_action", lambda verb: action)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            errno.ENOSPC,
            "/data/run/best.json: the disk is full; free space there, and give the same",
        ),
        (errno.EACCES, "/data/run/best.json: permission denied; change its permissions, or name"),
        (errno.EROFS, "/data/run/best.json: the disk can only be read; name another place"),
        (errno.EMLINK, "/data/run/best.json: Too many links; check it, and try again"),
    ],
)
def test_an_error_of_the_machine_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, words: str
) -> None:
    def fail(options: object) -> int:
        raise OSError(number, os.strerror(number), "/data/run/best.json")

    acting(monkeypatch, fail)
    assert main(["doctor", "somewhere"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"outerfold: {words}")
    assert said.count("\n") == 1


def test_a_fault_of_outerfold_keeps_its_traceback_and_says_what_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> int:
        raise ZeroDivisionError("by nobody's will")

    acting(monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        main(["doctor", "somewhere"])
    assert "please report the lines below, the command and what" in capsys.readouterr().err


def test_sigterm_ends_any_verb_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(options: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    acting(monkeypatch, stopped)
    assert main(["doctor", "somewhere"]) == 130
    assert capsys.readouterr().err == "\nouterfold: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_terminal_without_a_letter_shows_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)

    def speak(options: object) -> int:
        print("Brüste")  # noqa: T201
        return 0

    acting(monkeypatch, speak)
    assert main(["doctor", "somewhere"]) == 0
    shown.flush()
    assert shown.buffer.getvalue() == b"Br\\xfcste\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", ["report", "doctor"])
def test_a_run_that_is_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "run").write_text("")
    assert main([verb, str(tmp_path / "run")]) == 2
    assert "run: not a run directory (no config.toml)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["seed = " + "9" * 5000, "seed = " + "[" * 5000, "\x00"])
def test_a_configuration_file_that_is_damaged_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(DataError, match=r"study.toml: not valid TOML \("):
        read_toml(tmp_path / "study.toml")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match="no home; set OUTERFOLD_CACHE to a folder"):
        cache_folder({})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hush@host:5432/db",
        "postgresql://me@host/db?password=hush&sslmode=require",
        "mysql://host/db?user=me&passwd=hush",
        "postgresql://host/db?sslpassword=hush",
    ],
)
def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert "hush" not in without_password(url)
    assert without_password(url).count("***") == 1
    calls: list[str] = []

    class Begun:
        code = 0

    def keep(options: object, call: object) -> Begun:
        calls.append(call.again)
        return Begun()

    monkeypatch.setattr(run_verb, "begin", keep)
    monkeypatch.setattr(sys, "argv", ["run_study.py", "--storage", url, "--trials", "3"])
    import argparse

    assert run_verb.run(argparse.Namespace()) == 0
    assert "hush" not in calls[0]
    assert calls[0].endswith("--trials 3  (with the password in place of ***)")
