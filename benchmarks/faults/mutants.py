"""Small faults planted in source files, and whether the tests of their room notice them.

``python -m benchmarks.faults.mutants storage/trials/journal.py study/splits.py --each 40 --seed 1``
prints each fault that no test noticed, and the share that was noticed. It works in a copy of the
tracked files. The room's tests run once without a fault, and it is recorded which of them execute
which line of the file. A fault is then shown to the tests that execute its statement and to those
of a file of its name (Hypothesis hides lines), the quick ones first. Where none does (a constant
of the module, a default of an argument), it is shown to all tests that execute the file and to
those of its own folder. Each fault gets a process that is forked after the large packages were
loaded. (mutmut and cosmic-ray load all packages anew for each fault, and neither draws a sample
of faults by a seed.)
"""

from __future__ import annotations

import argparse
import ast
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from benchmarks.shared.places import ROOT

LARGE = ("numpy", "pandas", "scipy.stats", "sklearn.metrics", "torch", "optuna", "docx")
"""Packages that tests load and that no fault touches."""
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
}
READ_SOURCES = ("tests/contracts/test_records.py", "tests/contracts/test_folders.py")
"""Tests that read all sources and execute none; every fault is shown to them."""
NOTICED, SURVIVED = "noticed", "survived"


@dataclass(frozen=True)
class Fault:
    """One change of a source file.

    Attributes:
        line: its line, from 1.
        before: text that is replaced.
        after: text in its place.
        start: position of the text in the file.
        statement: lines of the statement it stands in, without the statements inside that one;
            none for a statement of the module itself, which is executed as it is loaded.
    """

    line: int
    before: str
    after: str
    start: int
    statement: range

    def plant(self, text: str) -> str:
        """The file with the fault."""
        return text[: self.start] + self.after + text[self.start + len(self.before) :]


def list_faults(text: str) -> list[Fault]:
    """All faults that can be planted in a file, in order of their place."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = text.splitlines()

    def position(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def replace(node: ast.expr, after: str) -> Fault:
        end_line = node.end_lineno or node.lineno
        end = position(end_line, node.end_col_offset or 0)
        start = position(node.lineno, node.col_offset)
        own = statements.get(node.lineno, range(node.lineno, end_line + 1))  # none: a decorator
        return Fault(node.lineno, text[start:end], after, start, own)

    tree = ast.parse(text)
    statements = _list_statements(tree)
    said = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = [
        replace(node, after)
        for node in ast.walk(tree)
        if isinstance(node, ast.expr) and id(node) not in said
        for after in _changes(node)
    ]
    return sorted(found, key=lambda fault: (fault.start, fault.after))


def _list_statements(tree: ast.Module) -> dict[int, range]:
    """The innermost statement of each line, as its lines."""
    found: dict[int, range] = {}
    for node in ast.walk(tree):  # from the outside to the inside
        if isinstance(node, ast.stmt) and node in tree.body and not hasattr(node, "body"):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found.update(dict.fromkeys(lines, range(0)))
        elif isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            lines = range(node.lineno, max(last, node.lineno) + 1)
            found.update(dict.fromkeys(lines, lines))
    return found


def _changes(node: ast.expr) -> Iterator[str]:
    """Texts that may stand in the place of an expression."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield f"({ast.unparse(left)} {COMPARISONS[type(op)]} {ast.unparse(right)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            yield f"({ast.unparse(left)} {ARITHMETIC[type(op)]} {ast.unparse(right)})"
        case ast.BoolOp(op=op, values=values):
            word = " or " if isinstance(op, ast.And) else " and "
            yield f"({word.join(f'({ast.unparse(value)})' for value in values)})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"({ast.unparse(operand)})"
        case ast.Constant(value=bool() as value):
            yield str(not value)
        case ast.Constant(value=int() | float() as value):
            yield str(value + 1)
        case ast.IfExp(test=test, body=body, orelse=other):
            yield f"({ast.unparse(other)} if {ast.unparse(test)} else {ast.unparse(body)})"


def list_tests(room: str) -> list[str]:
    """Test files of a room, the folder below the top level: ``tests/storage`` for ``storage``."""
    return [str(test) for test in sorted((Path("tests") / room).rglob("test_*.py"))]


def notice(tests: Sequence[str], seconds: float, plugin: object = None) -> str:
    """Whether the tests, in a process of their own, fail or take too long."""
    child = os.fork()
    if child == 0:
        _run_tests(tests, plugin)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return SURVIVED if os.waitstatus_to_exitcode(status) == 0 else NOTICED
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return NOTICED


def _run_tests(tests: Sequence[str], plugin: object) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    log = os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    words = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    code = 1
    try:
        code = int(pytest.main(words, plugins=[plugin] if plugin else None))
    finally:
        os._exit(code)


@dataclass
class Tested:
    """One test: its name, its seconds, and the lines of each file that it executes."""

    name: str
    seconds: float
    lines: dict[str, list[int]]


class LinesOfTests:
    """A plugin of pytest: which lines of some files each test executes, and how long it takes."""

    def __init__(self, files: Sequence[str], target: Path) -> None:
        self.files = {str(Path(file).resolve()): file for file in files}
        self.target = target
        self.found: list[Tested] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        lines: dict[str, set[int]] = {name: set() for name in self.files}

        def trace_call(frame: FrameType, event: str, argument: object) -> Any:
            return trace_line if frame.f_code.co_filename in lines else None

        def trace_line(frame: FrameType, event: str, argument: object) -> Any:
            lines[frame.f_code.co_filename].add(frame.f_lineno)
            return trace_line

        began = time.monotonic()
        threading.settrace(trace_call)
        sys.settrace(trace_call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            executed = {self.files[name]: sorted(of) for name, of in lines.items() if of}
            self.found.append(Tested(item.nodeid, time.monotonic() - began, executed))

    def pytest_sessionfinish(self) -> None:
        self.found.sort(key=lambda test: test.seconds)
        self.target.write_text(json.dumps([asdict(test) for test in self.found]), encoding="utf-8")


def trace_tests(room: str, files: Sequence[str], shown: Sequence[str] = ()) -> list[Tested]:
    """The tests of a room, the quickest first, and what they execute of some files.

    Args:
        room: the room.
        files: the files.
        shown: files and folders of tests in place of all of the room.

    Raises:
        SystemExit: the tests fail without a fault.
    """
    target = Path("lines_of_tests.json")
    if notice(shown or list_tests(room), 3600, LinesOfTests(files, target)) != SURVIVED:
        log = Path("tests.log").read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"{room}: its tests fail without a fault:\n{log[-3000:]}")
    return [Tested(**test) for test in json.loads(target.read_text(encoding="utf-8"))]


def try_file(
    file: str, tests: Sequence[Tested], each: int, seed: int, seconds: float
) -> tuple[int, list[Fault]]:
    """Plant faults in one file; return how many were tried, and those that no test noticed."""
    path = Path(file)
    text = path.read_text(encoding="utf-8")
    room = f"tests/{path.parent}/"
    every = [test for test in tests if file in test.lines or test.name.startswith(room)]
    own = {
        test.name for test in tests if test.name.split("::")[0].endswith(f"/test_{path.stem}.py")
    }
    tests = [test for test in tests if file in test.lines or test.name in own]
    faults = list_faults(text)
    chosen = random.Random(f"{seed} {file}").sample(faults, min(each, len(faults)))
    survivors = []
    for fault in sorted(chosen, key=lambda one: one.start):
        hit = [t for t in tests if not set(fault.statement).isdisjoint(t.lines.get(file, ()))]
        shown = [t for t in tests if t in hit or t.name in own] if hit else every
        limit = max(seconds, 3 * sum(test.seconds for test in shown))
        path.write_text(fault.plant(text), encoding="utf-8")
        if not shown or notice([*(test.name for test in shown), *READ_SOURCES], limit) == SURVIVED:
            survivors.append(fault)
            print(f"{file}:{fault.line}: {fault.before!r} -> {fault.after!r}", flush=True)
    path.write_text(text, encoding="utf-8")
    return len(chosen), survivors


def copy_tree(target: Path) -> None:
    """Copy the tracked files of the checkout, with the changes that are not committed."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def main() -> None:
    """Try the named files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="source files, from the root")
    parser.add_argument("--each", type=int, default=40, metavar="N", help="faults of each file")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="for each fault, at least"
    )
    parser.add_argument("--tests", nargs="+", default=(), metavar="PATH", help="not all of a room")
    options = parser.parse_args()
    for name in LARGE:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="outerfold-mutants-") as folder:
        copy_tree(Path(folder))
        os.chdir(folder)
        for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
            del sys.modules[name]
        sys.path[:] = [folder, *(p for p in sys.path if p not in ("", str(ROOT)))]
        sys.dont_write_bytecode = True
        tried = missed = 0
        for room, files in itertools.groupby(sorted(options.files), lambda f: Path(f).parts[0]):
            ours = list(files)
            tests = trace_tests(room, ours, options.tests)
            for file in ours:
                count, survivors = try_file(
                    file, tests, options.each, options.seed, options.seconds
                )
                print(f"{file}: {count - len(survivors)} of {count} noticed", flush=True)
                tried, missed = tried + count, missed + len(survivors)
    print(f"in all: {tried - missed} of {tried} noticed")


if __name__ == "__main__":
    main()
