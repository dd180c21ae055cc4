"""Durations as users type them: 90s, 30m, 2h, 1h30m."""

from __future__ import annotations

import re

from outerfold.storage.errors import DataError, shorten

LONGEST_HOURS = 8760
"""Hours of a year, the longest time that a run may have."""
MOST_DIGITS = 9

_FORM = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_seconds(text: str, *, option: str) -> int:
    """Duration ``text`` in seconds.

    Raises:
        DataError: the text is no duration, is zero or is more than a year; the message names
            ``option``.

    Example:
        >>> parse_seconds("1h30m", option="max-time")
        5400
    """
    found = _FORM.fullmatch(text)
    parts = [part or "0" for part in found.groups()] if found else ["0"] * 3
    if max(map(len, parts)) > MOST_DIGITS:
        parts = [str(LONGEST_HOURS + 1), "0", "0"]
    total = sum(seconds * int(part) for seconds, part in zip((3600, 60, 1), parts, strict=True))
    if not total:
        raise DataError(
            f"--{option} {shorten(text)}: a time is hours, minutes and seconds in this order, as "
            "in 2h, 30m, 90s or 1h30m"
        )
    if total > 3600 * LONGEST_HOURS:
        raise DataError(f"--{option} {shorten(text)}: a time is at most {LONGEST_HOURS}h, a year")
    return total
