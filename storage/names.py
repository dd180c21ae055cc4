"""Comparison of column names that tables spell in different ways."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from outerfold.storage.errors import DataError

_SPELT = str.maketrans({"≤": "<=", "≥": ">=", "−": "-"})
# A limit before its number (`<50`), letters and digits, and signs at the end of a word (`er+`).
# Without possessive quantifiers, which Python 3.11.2 matches wrongly.
_WORD = re.compile(r"(?:[<>]=?(?=\d))?[^ +%<>=-]+(?:[+%-]+(?![^ <>=]))?")


def normalise(name: str) -> str:
    """Column name for comparison: letters and digits of any script, with ``_`` between words.

    Case, full-width forms, blanks and separating signs make no difference. The signs ``+``, ``-``
    and ``%`` at the end of a word and ``<`` and ``>`` before a number are kept.

    Example:
        >>> normalise(" Patient-ID ")
        'patient_id'
        >>> [normalise(name) for name in ("ER+", "ER -", "Größe (mm²)", "age < 50")]
        ['er+', 'er', 'grösse_mm2', 'age_<50']
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    kept = "".join(map(_kept, plain.translate(_SPELT)))
    words = _WORD.findall(re.sub(r"([<>]=?) +(?=\d)", r"\1", kept))
    return "_".join(words) or "".join(plain.split())


def _kept(character: str) -> str:
    """A letter, digit or sign that carries meaning; a blank for others."""
    if character in "+%<>=":
        return character
    kind = unicodedata.category(character)
    if kind == "Cf":  # invisible, such as the joiners of Persian
        return ""
    if kind == "Pd":
        return "-"
    meant = kind[0] in "LMN" or (kind[0] == "S" and not character.isascii())
    return character if meant else " "


def same_names(names: Iterable[str], name: str) -> list[str]:
    """Those of ``names`` that are ``name`` but for their spelling."""
    key = normalise(name)
    return [one for one in names if normalise(one) == key]


def match_name(names: Iterable[str], name: str, choice: str = "") -> str | None:
    """The one of ``names`` that a user calls ``name``: spelt exactly so, else but for its spelling.

    Args:
        names: names of the columns of a table, as spelt there.
        name: the name that is looked for.
        choice: what a message says that chooses one of several, such as ``--side-column``.

    Returns:
        None where there is no such name.

    Raises:
        DataError: several are called so, and none is spelt exactly so.
    """
    found = same_names(names, name)
    return name if found.count(name) == 1 else require_one(found, choice)


def match_names(wanted: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """The one of ``names`` for each of the ``wanted`` that has one, by ``wanted``.

    A name that is spelt exactly as one of the ``wanted`` stands for that one alone.

    Raises:
        DataError: several are called like one of the ``wanted``, and none is spelt exactly so.

    Example:
        >>> match_names(["age", "density"], ["Age", "file"])
        {'age': 'Age'}
    """
    every, there = list(wanted), list(names)
    free = [name for name in there if name not in every]
    found = {one: match_name(there if one in there else free, one) for one in every}
    return {one: name for one, name in found.items() if name is not None}


def require_one(found: list[str], choice: str = "") -> str | None:
    """The one name in ``found``; None where it is empty.

    Raises:
        DataError: there are several, which differ in their spelling only.
    """
    if len(found) > 1:
        how = f"choose one with {choice} and its exact name, or " if choice else ""
        raise DataError(
            f"columns {found} have one name but for their spelling, so it is not clear which one "
            f"is meant; {how}rename or remove one"
        )
    return found[0] if found else None
