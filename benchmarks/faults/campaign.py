"""Campaign of faults, and its page faults.md.

``python -m benchmarks.faults.campaign --kills 200 --journals 200 --files 100 --doors 3000`` takes
hours; each number may be smaller. Give it no priority where others work on the machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.faults.damage import damage_files, damage_journals, in_cache
from benchmarks.faults.doors import try_doors
from benchmarks.faults.kills import kill_runs
from benchmarks.shared.markdown import markdown

PAGE = Path(__file__).with_name("faults.md")
ENDS = ("identical", "refused", "different", "traceback")
DOOR_ENDS = ("done", "refused", "traceback")


def main() -> None:
    """Carry out the parts that are asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("kills", "journals", "files", "doors"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    options = parser.parse_args()
    parts: dict[str, tuple[int, Callable[[Path, int, int], Counter[str]]]] = {
        "SIGKILL of a study's processes": (options.kills, kill_runs),
        "damaged journals": (options.journals, damage_journals),
        "damaged files of a run or its cache": (options.files, damage_files),
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="outerfold-faults-") as place:
        folder = Path(place)
        in_cache(folder)
        os.chdir(folder)
        ended = {
            name: work(folder, count, options.seed)
            for name, (count, work) in parts.items()
            if count
        }
        doors = try_doors(folder, options.doors, options.seed) if options.doors else {}
    minutes = (time.monotonic() - began) / 60
    options.page.write_text(page(options, ended, doors, minutes), encoding="utf-8")


def page(
    options: argparse.Namespace,
    ended: dict[str, Counter[str]],
    doors: dict[str, Counter[str]],
    minutes: float,
) -> str:
    """Text of the page."""
    words = " ".join(
        f"--{n} {getattr(options, n)}" for n in ("kills", "journals", "files", "doors")
    )
    lines = [
        "# What faults does a study survive?",
        "",
        f"`python -m benchmarks.faults.campaign {words} --seed {options.seed}`, "
        f"{datetime.now(UTC).date()}, {minutes:.0f} minutes. A fault may end in two ways: the "
        "study goes on to the same numbers, splits, models and tables (identical), or it is "
        "refused with a sentence (exit code 2). Different results and "
        "tracebacks are faults of outerfold.",
        "",
        "The study has 24 patients, two outer and two inner folds and three trials. Kills meet the "
        "command as users start it. After them, and in the other parts, it goes on in one process, "
        "without figures. The page is from this very campaign; larger numbers take hours.",
        "",
    ]
    if ended:
        rows = [
            [name, str(sum(found.values())), *(str(found[end]) for end in ENDS), _others(found)]
            for name, found in ended.items()
        ]
        lines += [markdown(["Fault", "Number", *ENDS, "other"], rows), ""]
    if doors:
        rows = [
            [
                name,
                str(sum(found.values())),
                *(str(found[e]) for e in DOOR_ENDS),
                _others(found, DOOR_ENDS),
            ]
            for name, found in doors.items()
        ]
        lines += [markdown(["Input", "Number", "done", "refused", "traceback", "other"], rows), ""]
    return "\n".join(lines)


def _others(found: Counter[str], known: tuple[str, ...] = ENDS) -> str:
    return ", ".join(f"{end}: {n}" for end, n in sorted(found.items()) if end not in known) or "0"


if __name__ == "__main__":
    main()
