"""Provenance of a run: versions, commit, command, devices and time."""

from __future__ import annotations

import platform
import socket
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.errors import DataError
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.database import without_password

DEVICES = "devices.json"
PACKAGES = (
    "albucore",
    "albumentations",
    "imbalanced-learn",
    "joblib",
    "numpy",
    "opencv-python-headless",
    "openvino",
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
    timing: Mapping[str, Any],
    backend: str = "",
    precision: str = "",
    space: Mapping[str, Any] | None = None,
) -> None:
    """Write ``provenance.json`` into the run directory.

    Args:
        folder: the run directory.
        devices: devices that trained.
        command: words of the command line, or the call in Python.
        timing: seconds of this call: ``wall_seconds``, ``search_seconds`` (search and ends of
            studies) and ``expected_seconds`` (the plan's estimate of the latter). The first two are
            added to those of earlier, interrupted calls; the estimate of the first call is kept.
            The same holds for ``parts`` and ``expected_parts``, which have seconds by part of the
            run (``Cost.parts``); both may be absent.
        backend: backend of the encoders; empty for a run that began before backends had names,
            whose encoders torch computes.
        precision: number format of the encoders; empty for float32.
        space: what the search could draw, by parameter.
    """
    path = folder.path / "provenance.json"
    before = read_json(path)["timing"] if path.exists() else {}
    write_json(
        path,
        {
            "timing": {**_add_times(before, timing), "calls": before.get("calls", 0) + 1},
            "provenance": {
                "versions": versions(),
                "git": _commit(),
                "command": without_password(" ".join(command)),
                "devices": list(devices),
                "encoder_backend": backend or "torch",
                "encoder_precision": precision or "float32",
                "search_space": dict(space or {}),
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        },
    )


def write_devices(
    folder: RunFolder, *, train: Sequence[str], encode: str, backend: str, precision: str
) -> None:
    """Write what the present command works with to ``devices.json``, for whoever watches the run.

    Args:
        folder: the run directory.
        train: device of each worker.
        encode: device of the process that encodes the images.
        backend: backend of the encoders; empty for torch.
        precision: number format of the encoders; empty for float32.
    """
    write_json(
        folder.path / DEVICES,
        {
            "host": socket.gethostname(),
            "train": list(train),
            "encode": encode,
            "backend": backend or "torch",
            "precision": precision or "float32",
        },
    )


def describe_devices(folder: RunFolder) -> str:
    """Devices of the latest command in one sentence; empty where none is known."""
    path = folder.path / DEVICES
    if not path.exists():
        return ""
    try:
        kept = read_json(path)
        counts = Counter(map(str, kept["train"]))
        train = ", ".join(f"{count} on {device}" for device, count in counts.items())
        return (
            f"Workers: {train}. Images are encoded on {kept['encode']} of {kept['host']} "
            f"({kept['backend']}, {kept['precision']})."
        )
    except (DataError, KeyError, TypeError):  # the next command of the run writes it anew
        return ""


def _add_times(before: Mapping[str, Any], timing: Mapping[str, Any]) -> dict[str, Any]:
    """Times of this call added to those of earlier calls; the plan of the first call stands."""
    planned = before.get("expected_parts") or timing.get("expected_parts", {})
    earlier, took = before.get("parts", {}), timing.get("parts", {})
    expected = before.get("expected_seconds") or timing["expected_seconds"]
    return {
        **{
            name: round(before.get(name, 0.0) + timing[name], 1)
            for name in ("wall_seconds", "search_seconds")
        },
        "expected_seconds": round(expected, 1),
        "expected_parts": {name: round(part, 1) for name, part in planned.items()},
        "parts": {name: round(earlier.get(name, 0.0) + part, 1) for name, part in took.items()},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect numbers, by name; or ``absent``."""
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
