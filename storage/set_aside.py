"""Rows that are left out because they cannot be used, and how many may be without a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outerfold.storage.errors import DataError, Question, first_three

FEWEST, SHARE, CLASS_SHARE = 3, 0.01, 0.05
"""Rows that may be left out: three or 1 % of all, whichever is more, and 5 % of any class."""


@dataclass(frozen=True)
class SetAside:
    """One file or row that is left out, why, and its class where that is known."""

    id: str
    why: str
    label: str = ""


def require_few(
    out: Sequence[SetAside], classes: Mapping[str, int], *, allowed: bool, strict: bool
) -> None:
    """Check that few enough rows are left out; ``allowed`` lifts the limit, ``strict`` refuses all.

    Args:
        out: rows that are left out.
        classes: rows of each class, with those of ``out`` whose class is known.

    Raises:
        DataError: more than the limit are left out and nobody allowed it, or any with ``strict``.
    """
    if not out or (allowed and not strict):
        return
    what = f"{first_three(f'{row.id}: {row.why}' for row in out)}"
    if strict:
        raise DataError(f"--strict: {what} cannot be used; correct or remove them")
    unlabelled = sum(not row.label for row in out)
    most = max(FEWEST, SHARE * (sum(classes.values()) + unlabelled))
    by_class = Counter(row.label for row in out if row.label)
    over = [name for name, count in by_class.items() if count > CLASS_SHARE * classes[name]]
    if len(out) > most or over:
        limit = (
            f"more than {CLASS_SHARE:.0%} of class {over[0]!r}"
            if over
            else f"more than {int(most)}"
        )
        raise Question(
            f"{what} cannot be used, {limit}; correct them, or add --set-aside to leave them out"
        )
