"""Errors whose messages are for users; imports no package, so that ``--help`` answers at once."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

LONGEST = 60
"""Most characters of a value that a message shows."""


class DataError(ValueError):
    """The data or options break a rule.

    The message names the thing, the rule, what was found and what to do.
    """


class Question(DataError):
    """Something that the data do not say and an option answers; the message names the option."""


class LeakError(DataError):
    """A row, a patient or a label is in a place where it could make a score too good."""


class RunFailed(RuntimeError):
    """Studies of a run failed; the message names each of them, and its reason."""


def require_answers(questions: Sequence[Question]) -> None:
    """Ask all questions in one message.

    Raises:
        Question: there is at least one.
    """
    if len(questions) == 1:
        raise questions[0]
    if questions:
        listed = "; ".join(f"({at}) {question}" for at, question in enumerate(questions, 1))
        raise Question(f"{len(questions)} questions, which one command can answer: {listed}")


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not known: ``unknown key 'trails'; did you mean 'trials'?``.

    Args:
        what: kind of thing, such as ``key`` or ``encoder``.
        name: the unknown name.
        known: valid names; all are listed where none resembles ``name``.

    Example:
        >>> unknown_name("key", "trails", ["trials", "epochs"])
        "unknown key 'trails'; did you mean 'trials'?"
    """
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"unknown {what} {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"known are {sorted(names)}"
    )


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the error's class name where the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def suggest_name(name: str, known: Iterable[str]) -> str:
    """End of a message, ``; did you mean 'age'?``; empty where no known name is similar."""
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def first_three(names: Iterable[str]) -> str:
    """First three names and their number for a message: ``['a', 'b', 'c'] (12 in all)``."""
    every = list(names)
    return f"{every[:3]} ({len(every)} in all)"


def shorten(value: object) -> str:
    """Text of a value for a message, as Python writes it; a long one is cut.

    Example:
        >>> shorten("a" * 100)
        "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "one of more than 4,300 digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def as_path(found: object, what: str) -> Path:
    """Path that a caller gave as a text or a path.

    Raises:
        DataError: it is something else.

    Example:
        >>> as_path("runs/a", "run").name
        'a'
    """
    if not isinstance(found, str | PathLike):
        raise DataError(f"{what} must be a text or a path, found {shorten(found)}")
    return Path(found)
