"""What holds for every record of the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.contracts.test_folders import FILES
from tests.places import ROOT

CHANGED = {
    "pipelines/heads/random_streams.py": {"RandomStreams"},
    "pipelines/rows/batches.py": {"FoldOrder"},
    "pipelines/training/micro_batches.py": {"MicroBatches"},
    "reports/render/picture.py": {"_Page"},
    "study/schedule/schedule.py": {"_Study"},
}
"""Dataclasses that change as work goes on, by file."""
ARRAYS = ("FloatArray", "IntArray", "BoolArray", "StrArray", "NDArray", "Tensor")


def records() -> Iterator[tuple[str, ast.ClassDef, dict[str, bool]]]:
    """File, class and options of every dataclass."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for by in node.decorator_list:
                    called = by.func if isinstance(by, ast.Call) else by
                    if getattr(called, "id", "") == "dataclass":
                        words = by.keywords if isinstance(by, ast.Call) else []
                        options = {str(w.arg): ast.literal_eval(w.value) for w in words}
                        yield path.relative_to(ROOT).as_posix(), node, options


RECORDS = list(records())


def test_a_record_does_not_change() -> None:
    changed = {(file, one.name) for file, one, how in RECORDS if not how.get("frozen")}
    assert changed == {(file, name) for file, names in CHANGED.items() for name in names}
    assert len(RECORDS) > 150


@pytest.mark.parametrize(
    ("file", "one", "how"), RECORDS, ids=[f"{file}:{one.name}" for file, one, _ in RECORDS]
)
def test_a_record_of_arrays_is_compared_by_identity(
    file: str, one: ast.ClassDef, how: dict[str, bool]
) -> None:
    """The ``==`` of dataclasses fails for arrays, whose own gives an array."""
    fields = [node for node in one.body if isinstance(node, ast.AnnAssign)]
    kinds = [ast.unparse(field.annotation) for field in fields]
    if any(kind.split("[")[0].split(" ")[0] in ARRAYS for kind in kinds):
        assert how.get("eq") is False, f"{file}: {one.name}"
