"""One seed for the whole run, and one derived from it for every use of chance."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and on what it is for, and on nothing else.

    Hashing keeps neighbouring uses (trial 7 and trial 8) unrelated; a sum would not.
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
