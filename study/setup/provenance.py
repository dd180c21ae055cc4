"""How a run came about: versions, commit, command, devices, time."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.database import without_password

PACKAGES = (
    "albucore",
    "albumentations",
    "imbalanced-learn",
    "joblib",
    "numpy",
    "opencv-python-headless",
    "optuna",
    "pandas",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "torchvision",
)


def write_provenance(
    folder: RunFolder,
    *,
    devices: Sequence[str],
    command: Sequence[str],
    timing: Mapping[str, float],
) -> None:
    """Keep how the run was made.

    Args:
        timing: ``wall_seconds``, ``search_seconds`` (search and refits, of which
            ``expected_seconds`` is what the plan said) of this call. Times of earlier,
            interrupted calls are added up; the plan of the first call stands.
    """
    path = folder.path / "provenance.json"
    before = read_json(path)["timing"] if path.exists() else {}
    expected = before.get("expected_seconds") or timing["expected_seconds"]
    write_json(
        path,
        {
            "timing": {
                **{
                    name: round(before.get(name, 0.0) + timing[name], 1)
                    for name in ("wall_seconds", "search_seconds")
                },
                "expected_seconds": round(expected, 1),
                "calls": before.get("calls", 0) + 1,
            },
            "provenance": {
                "versions": versions(),
                "git": _commit(),
                "command": without_password(" ".join(command)),
                "devices": list(devices),
            },
        },
    )


def versions() -> dict[str, str]:
    """Of Python and the packages that touch a number."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def command_line() -> list[str]:
    """What was typed."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
