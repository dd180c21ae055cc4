"""One check of a verification, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from outerfold.storage.errors import DataError

MOST_FINDINGS = 5
"""Findings of one check that are listed; the others are counted."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        told: what was compared with what, in numbers, if it holds.
        findings: what does not hold; empty if all does.
    """

    name: str
    told: str
    findings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def lines(self) -> list[str]:
        """Text of the check, one line for each finding."""
        if self.holds:
            return [self.told]
        left = len(self.findings) - MOST_FINDINGS
        more = [f"and {left} more"] if left > 0 else []
        return [*self.findings[:MOST_FINDINGS], *more]


def carry_out(name: str, work: Callable[[], tuple[str, Iterable[str]]]) -> Check:
    """Carry out a check; data that cannot be read are a finding.

    Args:
        name: what is checked.
        work: returns what was compared and what does not hold.
    """
    try:
        told, findings = work()
    except (DataError, OSError) as error:
        return Check(name, "", (str(error),))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return Check(name, "", (f"a file has another form ({type(error).__name__}: {error})",))
    return Check(name, told, tuple(findings))
