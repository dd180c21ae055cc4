"""Names of columns, as sheets spell them."""

from __future__ import annotations

import re


def normalise(name: str) -> str:
    """A column's name for comparison: lower case, runs of other signs as ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
