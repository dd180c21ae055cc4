"""Times as they are typed: 90s, 30m, 2h, 1h30m."""

from __future__ import annotations

import re

from outerfold.storage.errors import DataError

_FORM = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def seconds_of(text: str, *, option: str) -> int:
    """Seconds; ``DataError`` names the option where this is no time, or none at all."""
    found = _FORM.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise DataError(
            f"--{option} {text!r}: a time is hours, minutes and seconds in this order, as in 2h, "
            "30m, 90s or 1h30m"
        )
    return total
