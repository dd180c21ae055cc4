"""Each command that outerfold prints as the way on is a command, and does what is said."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from outerfold.storage.records import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.journal import check_trials, open_trials
from outerfold.study.cli import run as run_verb
from outerfold.study.cli.main import VERBS, build_parser
from tests.places import ROOT

PRINTED = re.compile(r"outerfold ([a-z]+)((?: --[a-z-]+)*)")
"""A verb and options in a sentence of the source."""


def resume_line(monkeypatch: pytest.MonkeyPatch, *argv: str) -> str:
    lines: list[str] = []

    class Begun:
        code = 0

    def keep(options: object, call: object) -> Begun:
        lines.append(call.again)  # type: ignore[attr-defined]
        return Begun()

    monkeypatch.setattr(run_verb, "begin", keep)
    monkeypatch.setattr(sys, "argv", list(argv))
    run_verb.run(argparse.Namespace())
    return lines[0]


@pytest.mark.parametrize(
    ("program", "begins"),
    [
        ("/home/me/.venv/bin/outerfold", "/home/me/.venv/bin/outerfold run "),
        ("/usr/lib/python3/outerfold/__main__.py", "python -m outerfold run "),
        ("../tree/run_study.py", "python ../tree/run_study.py run "),
    ],
)
def test_the_resume_line_is_the_command_that_was_typed(
    monkeypatch: pytest.MonkeyPatch, program: str, begins: str
) -> None:
    words = ["--data", "my data/it's", "--run", "runs/a b", "--trials", "7"]
    line = resume_line(monkeypatch, program, "run", "--task", "dbt", *words)
    assert line.startswith(begins)
    typed = shlex.split(line)[len(begins.split()) :]
    parsed = build_parser()[1]["run"].parse_args(typed)
    assert (str(parsed.data), str(parsed.run), parsed.trials) == ("my data/it's", "runs/a b", 7)


def test_the_resume_line_of_a_script_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    line = resume_line(monkeypatch, str(ROOT / "run_study.py"), "run", "--task", "none such")
    done = subprocess.run(
        line.replace("python", shlex.quote(sys.executable), 1),
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--task" in done.stderr
    assert "invalid choice: 'none such'" in done.stderr


def test_the_way_on_from_a_damaged_journal_is_a_command_that_mends_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a run")
    folder.path.mkdir()
    study = optuna.create_study(study_name="outer-0", storage=open_trials(folder))
    for value in (0.25, 0.5, 0.75):
        study.add_trial(optuna.trial.create_trial(value=value))
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[2])
    folder.journal.unlink()
    folder.journal.write_bytes(b"".join([*lines[:2], b"[1, 2\n", *lines[3:]]))
    with pytest.raises(DataError) as refused:
        check_trials(folder)
    (command,) = re.findall("`(.*?)`", str(refused.value))
    subprocess.run(command, shell=True, check=True)
    assert check_trials(folder) == 1


def test_every_printed_command_has_a_known_verb_and_known_options() -> None:
    _, verbs = build_parser()
    wrong, count = [], 0
    for folder in ("study", "reports", "objectives", "pipelines", "storage"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for verb, options in PRINTED.findall(path.read_text(encoding="utf-8")):
                if verb not in VERBS:
                    continue  # prose, such as "what outerfold wrote"
                count += 1
                unknown = set(options.split()) - set(verbs[verb].options())
                wrong += [f"{path.name}: outerfold {verb} {name}" for name in sorted(unknown)]
    assert wrong == []
    assert count > 10


def test_every_verb_reads_options_that_its_command_line_has() -> None:
    _, verbs = build_parser()
    tree = ast.parse((ROOT / "study" / "cli" / "verbs.py").read_text(encoding="utf-8"))
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or function.name not in verbs:
            continue
        known = {action.dest for action in verbs[function.name]._actions}
        known |= set(verbs[function.name]._defaults)
        read = {
            node.attr
            for node in ast.walk(function)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "options"
        }
        assert read <= known, function.name
