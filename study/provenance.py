"""How a run came about: versions, commit, command, devices, time."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from storage.files import read_json, write_json
from storage.run_folder import RunFolder

PACKAGES = (
    "albumentations", "imbalanced-learn", "joblib", "numpy", "optuna", "pandas", "scikit-learn",
    "scipy", "timm", "torch", "torchvision",
)  # fmt: skip


def write_provenance(
    folder: RunFolder, *, devices: Sequence[str], command: Sequence[str], seconds: float
) -> None:
    """Keep how the run was made; the time of earlier, interrupted calls is added up."""
    path = folder.path / "provenance.json"
    before = read_json(path)["timing"] if path.exists() else {"wall_seconds": 0.0, "calls": 0}
    write_json(
        path,
        {
            "timing": {
                "wall_seconds": round(before["wall_seconds"] + seconds, 1),
                "calls": before["calls"] + 1,
            },
            "provenance": {
                "versions": versions(),
                "git": _commit(),
                "command": " ".join(command),
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
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def command_line() -> list[str]:
    """What was typed."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
