"""Durations as users type them: 90s, 30m, 2h, 1h30m."""

from __future__ import annotations

import re

from outerfold.storage.errors import DataError

_FORM = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_seconds(text: str, *, option: str) -> int:
    """Duration ``text`` in seconds.

    Raises:
        DataError: the text is no duration, or is zero; the message names ``option``.

    Example:
        >>> parse_seconds("1h30m", option="max-time")
        5400
    """
    found = _FORM.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise DataError(
            f"--{option} {text!r}: a time is hours, minutes and seconds in this order, as in 2h, "
            "30m, 90s or 1h30m"
        )
    return total
