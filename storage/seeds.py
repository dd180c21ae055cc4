"""Seeds derived from the one seed of a run, a separate one for each use of random numbers."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends only on ``seed`` and on ``names``, which name its use.

    The hash gives unrelated seeds to similar uses (trial 7 and trial 8); a sum would not.

    Example:
        >>> derive_seed(0, "outer-0", "refit") == derive_seed(0, "outer-0", "refit")
        True
        >>> derive_seed(0, "outer-0", "refit") == derive_seed(0, "outer-1", "refit")
        False
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
