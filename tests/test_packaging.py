"""What is shipped: the wheel, the pinned versions, and what the README says can be checked."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.places import ROOT

FOLDERS = ("storage", "pipelines", "objectives", "reports", "study")
DOOR = {"__init__.py", "__main__.py", "run_study.py"}
"""Modules of the folder ``outerfold/``, which lie beside the five folders in the wheel."""
FORGOTTEN = "storage/forgotten/__init__.py"
"""A subpackage that pyproject.toml does not know, planted in the tree the wheel is built from."""

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Built:
    """A wheel, unpacked, and the tree it was built from."""

    tree: Path
    unpacked: Path
    names: tuple[str, ...]

    def modules(self) -> set[str]:
        """Paths of modules below the one package."""
        names = (name.removeprefix("outerfold/") for name in self.names)
        return {name for name in names if name.endswith(".py")} - DOOR

    def sources(self) -> set[str]:
        """Paths of the five folders' modules in the tree."""
        found = (path for folder in FOLDERS for path in (self.tree / folder).rglob("*.py"))
        return {path.relative_to(self.tree).as_posix() for path in found}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("wheel")
    tree, unpacked = folder / "tree", folder / "unpacked"
    _copy_tree(tree)
    for planted in (FORGOTTEN, "runs/demo/notes.py", "data/fetch.py", "data/Cancer/a.png"):
        path = tree / planted
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, tree],
        check=True,
        capture_output=True,
        text=True,
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(unpacked)
        return Built(tree, unpacked, tuple(wheel.namelist()))


def _copy_tree(tree: Path) -> None:
    bytecode = shutil.ignore_patterns("__pycache__")
    for folder in (*FOLDERS, "outerfold", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=bytecode)
    for file in ("run_study.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / file, tree / file)


def _python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheels_only_top_level_name_is_outerfold(built: Built) -> None:
    top = {name.split("/")[0] for name in built.names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"outerfold"}


def test_every_module_is_in_the_wheel_and_a_forgotten_subpackage_would_be_missed(
    built: Built,
) -> None:
    assert built.sources() - built.modules() == {FORGOTTEN}
    assert built.modules() - built.sources() == set()


def test_the_wheel_holds_code_and_templates_and_no_tests_data_or_runs(built: Built) -> None:
    inside = {name.split("/")[1] for name in built.names if name.startswith("outerfold/")}
    assert inside == {*FOLDERS, *DOOR, "py.typed"}
    code = [name for name in built.names if name.startswith("outerfold/")]
    folder = Path("reports", "render", "templates")
    templates = {f"outerfold/{folder.as_posix()}/{path.name}" for path in (ROOT / folder).iterdir()}
    others = {name for name in code if not name.endswith(".py")}
    assert others == {"outerfold/py.typed", *templates}
    assert len(templates) > 3


def test_the_installed_command_works_in_any_folder_and_imports_only_the_wheel(
    built: Built, tmp_path: Path
) -> None:
    entry = configparser.ConfigParser()
    entry.read(next(built.unpacked.glob("*.dist-info")) / "entry_points.txt")
    module, _, name = entry["console_scripts"]["outerfold"].partition(":")
    command = (
        f"import sys; sys.path.insert(0, {str(built.unpacked)!r}); from {module} import {name}\n"
        f"code = {name}()\n"
        "import outerfold.run_study, outerfold.study.splits as splits\n"
        "print(splits.__file__); sys.exit(code)"
    )
    demo = tmp_path / "demo"
    done = _python(
        command, "data", "demo", "--task", "dbt", "--patients", "8", "--to", str(demo), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert str(built.unpacked) in done.stdout
    assert list(demo.rglob("*.png")) or list(demo.rglob("*.jpg"))


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_help_and_version_wait_for_no_heavy_library(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    command = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from outerfold.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'pandas', 'scipy', 'sklearn', 'optuna', 'matplotlib', 'PIL', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = _python(command, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("usage: outerfold", "outerfold "))
    assert done.stderr.strip() == "[]"


def test_constraints_pin_every_dependency_to_a_version_that_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = (Requirement(line) for line in lines if not line.startswith("#"))
    pins = {pin.name.lower(): str(pin.specifier) for pin in found}
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *chain.from_iterable(extras)]
    for requirement in map(Requirement, wanted):
        pinned = pins[requirement.name.lower()]
        assert pinned.startswith("=="), requirement.name
        assert requirement.specifier.contains(pinned.removeprefix("==")), requirement


def test_constraints_name_no_address_and_no_local_path() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|@|^-", text, re.MULTILINE)


def test_changelog_names_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PROJECT['project']['version']}]" in changelog
