"""Markdown tables, and intervals of paired differences, for the pages."""

from __future__ import annotations

import numpy as np

from outerfold.storage.records import FloatArray


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Markdown text of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bounds(apart: FloatArray) -> tuple[float, float]:
    """95 % interval of the mean of differences (studies,)."""
    mean, half_width = apart.mean(), 1.96 * apart.std(ddof=1) / np.sqrt(len(apart))
    return float(mean - half_width), float(mean + half_width)


def interval(apart: FloatArray) -> str:
    """The mean of differences (studies,) with its interval, such as ``-0.1 (-0.2 to +0.0)``."""
    low, high = bounds(apart)
    return f"{apart.mean():+.4f} ({low:+.4f} to {high:+.4f})"
