"""Folders of the benchmarks' pages and inputs."""

from __future__ import annotations

import os
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent
"""Folder of the checkout."""
RESULTS = BENCHMARKS / "RESULTS.md"


def real_data() -> Path:
    """Folder of real images: ``$OUTERFOLD_DATA``, or else ``shared/data`` beside the checkout."""
    return Path(os.environ.get("OUTERFOLD_DATA", ROOT.parent / "shared" / "data"))
