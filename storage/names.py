"""Comparison of column names that tables spell in different ways."""

from __future__ import annotations

import re


def normalise(name: str) -> str:
    """Column name for comparison: lower case, each run of other characters replaced by ``_``.

    Example:
        >>> normalise(" Patient-ID ")
        'patient_id'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
