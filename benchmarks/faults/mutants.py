"""Small faults planted in source files, and whether the tests of their room notice them.

``python -m benchmarks.faults.mutants storage/trials/journal.py study/splits.py --each 40 --seed 1``
prints each fault that no test noticed, and the share that was noticed. It works in a copy of the
tracked files. Each fault gets a process that is forked after the large packages were loaded, so
that a test file takes seconds. (mutmut and cosmic-ray load all packages anew for each fault, and
neither draws a sample of faults by a seed.)
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared.places import ROOT

LARGE = ("numpy", "pandas", "scipy.stats", "sklearn.metrics", "torch", "optuna", "pytest")
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
NOTICED, SURVIVED = "noticed", "survived"


@dataclass(frozen=True)
class Fault:
    """One change of a source file.

    Attributes:
        line: its line, from 1.
        before: text that is replaced.
        after: text in its place.
        start: position of the text in the file.
    """

    line: int
    before: str
    after: str
    start: int

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
        end = position(node.end_lineno or node.lineno, node.end_col_offset or 0)
        start = position(node.lineno, node.col_offset)
        return Fault(node.lineno, text[start:end], after, start)

    tree = ast.parse(text)
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


def list_tests(file: str, *, own_only: bool = False) -> list[str]:
    """Tests of the room of a file: those with its name first, then the others of its folder."""
    path = Path(file)
    room = Path("tests") / path.parent
    own = sorted(room.glob(f"test_{path.stem}*.py"))
    rest = [test for test in sorted(room.glob("test_*.py")) if test not in own]
    return [str(test) for test in (own if own_only else (*own, *rest))]


def notice(tests: list[str], seconds: float) -> str:
    """Whether the tests, in a process of their own, fail or take too long."""
    child = os.fork()
    if child == 0:
        _run_tests(tests)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return SURVIVED if os.waitstatus_to_exitcode(status) == 0 else NOTICED
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return NOTICED


def _run_tests(tests: list[str]) -> None:
    import pytest

    os.setsid()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    code = 1
    try:
        code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *tests]))
    finally:
        os._exit(code)


def try_file(
    file: str, each: int, seed: int, seconds: float, *, own_only: bool = False
) -> tuple[int, list[Fault]]:
    """Plant faults in one file; return how many were tried, and those that no test noticed.

    Raises:
        SystemExit: the tests fail without a fault.
    """
    path = Path(file)
    text = path.read_text(encoding="utf-8")
    tests = list_tests(file, own_only=own_only)
    if notice(tests, 10 * seconds) != SURVIVED:
        raise SystemExit(f"{file}: its tests fail without a fault: {' '.join(tests)}")
    faults = list_faults(text)
    chosen = random.Random(f"{seed} {file}").sample(faults, min(each, len(faults)))
    survivors = []
    for fault in sorted(chosen, key=lambda one: one.start):
        path.write_text(fault.plant(text), encoding="utf-8")
        if notice(tests, seconds) == SURVIVED:
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
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="for each fault")
    parser.add_argument("--own", action="store_true", help="only tests with the file's name")
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
        for file in options.files:
            count, survivors = try_file(
                file, options.each, options.seed, options.seconds, own_only=options.own
            )
            print(f"{file}: {count - len(survivors)} of {count} noticed", flush=True)
            tried, missed = tried + count, missed + len(survivors)
    print(f"in all: {tried - missed} of {tried} noticed")


if __name__ == "__main__":
    main()
