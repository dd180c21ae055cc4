"""Refusals whose message is for people; loads no package, so that ``--help`` need not wait."""

from collections.abc import Iterable
from difflib import get_close_matches


class DataError(ValueError):
    """The data break a rule; the message names the thing, the rule, what was found, what to do."""


class LeakError(DataError):
    """A row, a patient or a label is where it could flatter a score."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """``unknown key 'trails'; did you mean 'trials'?``."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"unknown {what} {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"known are {sorted(names)}"
    )


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'age'?)`` or nothing, to end a message with."""
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def first_three(names: Iterable[str]) -> str:
    """``['a', 'b', 'c'] (12 in all)`` for messages."""
    every = list(names)
    return f"{every[:3]} ({len(every)} in all)"
