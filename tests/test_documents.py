"""What the documents say can be checked: commands, options, defaults, tests, links."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import outerfold
from outerfold.objectives.spaces import Choice, Range, defaults_of, override_ranges, ranges_of
from outerfold.storage.tasks import TASKS
from outerfold.study.cli.main import VERBS, build_parser
from outerfold.study.cli.option_page import option_table
from outerfold.study.config.execution import Execution
from outerfold.study.config.gather import build_execution, build_study_config, gather_options
from outerfold.study.config.record import DEMO, StudyConfig
from tests.places import ROOT

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "benchmarks").rglob("*.md")),
    )
}
"""Texts of the documents by their path."""
README = PAGES["README.md"]
OPTIONS = PAGES["docs/options.md"]


def _blocks(language: str) -> list[str]:
    pattern = rf"^ *```{language}\n(.*?)^ *```"
    return [
        block
        for name, text in PAGES.items()
        if not name.startswith("benchmarks/")
        for block in re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    ]


def _commands() -> list[str]:
    made = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\t$(BIN)/python", "python")
    lines = "\n".join([*_blocks("sh"), made]).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`((?:python run_study\.py|outerfold)(?: [^`]+)?)`", _prose())
    typed = [line.split(" #")[0].strip() for line in [*lines, *inline]]
    return sorted({line for line in typed if line.startswith(("python run_study.py", "outerfold"))})


def _prose() -> str:
    return "\n".join(text for name, text in PAGES.items() if not name.startswith("benchmarks/"))


def _words(command: str) -> list[str]:
    """What comes after the program's name."""
    return shlex.split(re.sub(r"^(python run_study\.py|outerfold)", "", command))


@pytest.mark.parametrize("command", _commands())
def test_the_command_line_accepts_every_command_of_the_pages_and_makefile(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = _words(command)
    if not words or words == ["VERB", "--help"] or (len(words) == 1 and words[0] in VERBS):
        return
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(_blocks("toml")[0], encoding="utf-8")
    verb = words.pop(0) if words and not words[0].startswith("-") else "run"
    assert verb in VERBS
    options, rest = build_parser()[1][verb].parse_known_args(words)
    assert not rest or verb == "predict"
    if verb == "run":
        merged = gather_options(vars(options))
        build_execution(merged)
        build_study_config(merged, DEMO)


def test_the_pages_have_commands_for_every_verb() -> None:
    verbs = {words[0] for words in map(_words, _commands()) if words}
    assert set(VERBS) <= verbs | {"run"}


def test_the_options_page_has_the_table_that_the_options_give() -> None:
    """`make options` writes it again."""
    assert OPTIONS.count(option_table()) == 1


def _spelled(found: Range | Choice | None) -> str:
    if isinstance(found, Range):
        text = f"{found.low:g} to {found.high:g}" + (", log" if found.log else "")
        return f"{text}, step {found.step:g}" if found.step else text
    values = found.values if found else ()
    return ", ".join(f"{v:g}" if type(v) is float else str(v).lower() for v in values)


def test_the_options_page_tells_what_is_searched_and_from_where_to_where() -> None:
    section = OPTIONS.split("## Configuration file")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) \| ?(.*?) ?\|$", section, re.MULTILINE)
    names = {name for task in TASKS for name in ranges_of(task)}
    truth = {
        name: (_spelled(ranges_of("dbt").get(name)), _spelled(ranges_of("multimodal").get(name)))
        for name in names
    }
    assert {name: (dbt, multimodal) for name, dbt, multimodal in rows} == truth


def test_the_options_page_tells_the_default_configuration_of_each_task() -> None:
    section = OPTIONS.split("## The default configuration")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
    said = {task: {row[0]: row[1 + at] for row in rows} for at, task in enumerate(TASKS)}
    assert list(TASKS) == ["dbt", "multimodal"]
    assert said == {
        task: {name: _spelled(Choice((value,))) for name, value in defaults_of(task).items()}
        for task in TASKS
    }


def test_the_pages_configuration_files_are_accepted() -> None:
    blocks = [tomllib.loads(text) for text in _blocks("toml")]
    assert blocks
    for table in blocks:
        override_ranges(table["task"], table["space"])
        assert set(table) <= {f.name for f in (*fields(StudyConfig), *fields(Execution))}


@pytest.mark.parametrize("page", [name for name in PAGES if "tests/" in PAGES[name]])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"`(tests/[a-z_/]+\.py)(?:::([A-Za-z_:]+))?`", PAGES[page])
    for path, function in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not function or function.split("::")[-1] in found, f"{path}::{function}"


def test_the_promises_name_tests() -> None:
    rows = re.findall(r"^\| .* \| .* \| (`tests/.*) \|$", PAGES["docs/protocol.md"], re.MULTILINE)
    assert len(rows) >= 10


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_exists(page: str) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(link).is_file(), link


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "docs/intervals.md"])
def test_every_source_file_that_a_page_names_exists(page: str) -> None:
    """Whole paths stand from the root; a bare name is of the folder that the sentence names."""
    named = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", PAGES[page])
    assert [path for path in named if not (ROOT / path).is_file()] == []
    rooms = re.findall(r"`((?:study|reports|pipelines|storage|benchmarks)/[a-z_/]*)`", PAGES[page])
    assert [room for room in rooms if not (ROOT / room).is_dir()] == []


def test_every_command_module_that_a_page_names_exists() -> None:
    named = set(re.findall(r"python\s+-m\s+(benchmarks(?:\.[a-z_]+)+)", "\n".join(PAGES.values())))
    assert len(named) >= 8
    for module in named:
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module


def test_every_room_is_in_the_table_of_rooms() -> None:
    rooms = {
        folder.relative_to(ROOT).as_posix()
        for top in ("study", "reports", "objectives", "pipelines", "storage")
        for folder in (ROOT / top).iterdir()
        if (folder / "__init__.py").exists()
    }
    named = set(
        re.findall(r"^\| `([a-z]+/[a-z]+)` \|", PAGES["docs/architecture.md"], re.MULTILINE)
    )
    assert named == rooms


def test_the_page_of_public_names_has_those_that_there_are() -> None:
    section = PAGES["docs/api.md"].split("## Public names")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([A-Za-z_]+)` \|", section, re.MULTILINE)
    assert sorted(named) == sorted(outerfold.__all__)


def test_the_page_of_public_names_has_the_members_of_a_result() -> None:
    section = PAGES["docs/api.md"].split("## A result")[1]
    cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`([a-z_]+)(?:\(frame\))?`", cell)}
    members = {*vars(outerfold.RunResult), *(f.name for f in fields(outerfold.RunResult))}
    assert named == {name for name in members if not name.startswith("_")}


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= 150
    pages = {name for name in PAGES if name.startswith("docs/")} | {"CONTRIBUTING.md"}
    assert pages <= set(re.findall(r"\]\(([^)#]+)\)", README))
    assert (ROOT / "docs/example.png").stat().st_size < 300_000
