"""Damage to the journal, to files of a run and to its cache: never another result."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.tiny import Called, call, command, data_of, outcome_of, quick_runs
from outerfold.storage.trials.journal import _open_once

Damage = Callable[[bytes, random.Random], bytes]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _zero(data: bytes, chance: random.Random) -> bytes:
    first = chance.randrange(len(data))
    last = min(len(data), first + chance.choice([1, 16, 512, 4096]))
    return data[:first] + bytes(last - first) + data[last:]


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 8, 200])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _digit(data: bytes, chance: random.Random) -> bytes:
    """Another digit in the place of one, which leaves JSON and CSV valid."""
    places = [at for at, byte in enumerate(data[:200_000]) if 48 <= byte <= 57]
    if not places:
        return _flip(data, chance)
    at = chance.choice(places)
    return data[:at] + str((data[at] - 48 + chance.randint(1, 9)) % 10).encode() + data[at + 1 :]


def _lines(data: bytes, chance: random.Random) -> bytes:
    """A line removed, repeated, exchanged with another, or of garbage."""
    lines = data.split(b"\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = b'{"garbage": [1, 2'
    return b"\n".join(lines)


def _empty(data: bytes, chance: random.Random) -> bytes:
    return b""


DAMAGES: tuple[Damage, ...] = (_cut, _zero, _flip, _digit, _lines, _empty)
SOUND = frozenset({"identical", "refused"})
NO_RESULT = frozenset(
    {"run.log", "driver", ".lock", "devices.json", "provenance.json", "MODEL_CARD.md"}
)
"""Files that decide no result."""


def damage_journals(folder: Path, count: int, seed: int) -> Counter[str]:
    """Damage the journal of a study whose searches have ended, and let it go on."""
    chance, found = random.Random(seed), Counter[str]()
    with _prepared(folder) as (data, whole, expected):
        for _ in range(count):
            run = _copy(whole, folder / "journal")
            for study in (*run.glob("outer-*"), run / "final", run / "report"):
                shutil.rmtree(study, ignore_errors=True)
            kind = _harm(run / "trials.journal", chance)
            end = _go_on(data, run, expected)
            found[end] += 1
            if end not in SOUND:
                print(f"a journal {kind}: {end}", file=sys.stderr)
    return found


def damage_files(folder: Path, count: int, seed: int) -> Counter[str]:
    """Damage one file of a finished run or of its cache; report it, predict, and run it again."""
    chance, found = random.Random(seed), Counter[str]()
    with _prepared(folder) as (data, whole, expected):
        kept = folder / "cache-whole"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder / "cache", kept)
        for number in range(count):
            run = _copy(whole, folder / "file")
            cache = _copy(kept, folder / "cache")
            place = cache if number % 3 == 0 else run
            files = sorted(p for p in place.rglob("*") if p.is_file() and p.name not in NO_RESULT)
            files = [p for p in files if "report" not in p.parts and p.stat().st_size]
            harmed = chance.choice(files)
            kind = _harm(harmed, chance)
            end = _use(data, run, expected)
            found[end] += 1
            if end not in SOUND:
                print(f"{harmed.relative_to(folder)} {kind}: {end}", file=sys.stderr)
        _copy(kept, folder / "cache")
    return found


@contextmanager
def _prepared(folder: Path) -> Iterator[tuple[Path, Path, dict[str, object]]]:
    """Data, a finished run and its outcome, in this process."""
    data, whole = data_of(folder), folder / "whole-here"
    with quick_runs():
        if not (whole / "report" / "results.json").exists():
            done = call(*command(data, whole))
            if done.code != 0:
                raise SystemExit(f"the tiny study failed: {done.said}{done.trace}")
        yield data, whole, outcome_of(whole)


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    _open_once.cache_clear()
    return target


def _harm(path: Path, chance: random.Random) -> str:
    """Damage a file; return the kind of the damage."""
    before = path.read_bytes()
    after, kind = before, chance.choice(DAMAGES)
    while after == before:
        kind = chance.choice(DAMAGES)
        after = kind(before, chance)
    path.write_bytes(after)
    return kind.__name__.strip("_")


def _go_on(data: Path, run: Path, expected: dict[str, object]) -> str:
    return _judge([call(*command(data, run))], run, expected)


def _use(data: Path, run: Path, expected: dict[str, object]) -> str:
    image = next(path for path in sorted(data.rglob("*.jpg")) if "Mask" not in path.name)
    (run / "report" / "results.json").unlink()
    reported = call("report", run)
    if reported.code == 0 and (end := _judge([reported], run, expected)) != "identical":
        return end
    predicted = call("predict", run, image, "--offline")
    return _judge([reported, predicted, call(*command(data, run))], run, expected)


def _judge(calls: list[Called], run: Path, expected: dict[str, object]) -> str:
    for one in calls:
        if one.trace:
            print(one.trace, file=sys.stderr)
            return "traceback"
    last = calls[-1]
    if last.refused:
        return "refused"
    if last.code != 0:
        return f"exit code {last.code}"
    return compare(outcome_of(run), expected)


def compare(found: dict[str, object], expected: dict[str, object]) -> str:
    """``identical`` or ``different``; what differs is printed."""
    other = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    for name in other:
        print(f"differs: {name}: {str(found.get(name))[:300]}", file=sys.stderr)
    return "different" if other else "identical"


def in_cache(folder: Path) -> None:
    """Let all commands of this process keep their cache in the folder."""
    os.environ["OUTERFOLD_CACHE"] = str(folder / "cache")
