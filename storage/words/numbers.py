"""Numbers as sheets spell them: decimal commas, ages, units and blanks; dates are none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from outerfold.storage.errors import DataError, first_three
from outerfold.storage.words.texts import NONE, is_missing

_YEARS = (
    "y|yr|yrs|years?|years? old|yo|y/o|jahre?|ans?|a[ñn]os?|anni|jaar|lat|let|лет|год|岁|歲|歳|세"
)
AGE_TEXT = re.compile(
    rf"(\d+(?:[.,]\d+)?)\s*(?:(?P<y>{_YEARS})|(?P<m>m|mo|months?)|(?P<w>w|weeks?)|(?P<d>d|days?))\.?",
    re.IGNORECASE,
)
PER_YEAR = {"y": 1.0, "m": 12.0, "w": 52.18, "d": 365.25}

_WITH_UNIT = re.compile(
    r"[+\-]?\d+(?:[.,]\d+)?\s*([a-zµμ°]{1,4}(?:/[a-zµμ0-9]{1,4}|[²³23])?|%)", re.IGNORECASE
)
"""A number with its unit, such as ``72 mm``, ``40%``, ``24.5 kg/m2``."""
_DATE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{2}|\d{4}))"
    r"(?:[ T]\d{1,2}:\d{2}.*)?"
)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u2009\u202f']\d{3})+(?:[.,]\d+)?")
"""Digits in threes, parted by blanks or apostrophes, such as ``1 510``."""
_EUROPEAN, _ENGLISH = (
    re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+"),
    re.compile(r"[+-]?\d{1,3}(?:,\d{3})+\.\d+"),
)
"""Thousands and decimals that say by themselves which is which: ``1.425,3`` and ``1,425.3``."""
_BLANKS = re.compile(r"[ \u00a0\u2009\u202f']")


def is_gap(text: str) -> bool:
    """Whether a text is a gap where numbers stand, where ``None`` is one, too."""
    return is_missing(text) or text.strip().lower() == NONE


def parse_number(text: str) -> float | None:
    """Number in a text: ``40.5``, ``40,5``, ``1 510``, ``061Y`` (a DICOM age), ``61 years``.

    Months, weeks and days of a DICOM age become years. None where the text is no number.

    Example:
        >>> [parse_number(text) for text in ("40,5", "1 510", "018M", "\u22129", "7 mm")]
        [40.5, 1510.0, 1.5, -9.0, None]
    """
    plain = text.strip().replace("\u2212", "-")
    age = AGE_TEXT.fullmatch(plain)
    if age is not None:
        return float(age[1].replace(",", ".")) / PER_YEAR[str(age.lastgroup)]
    if "_" in plain:  # Python reads 1_000 as a number; in a table it is a code
        return None
    if _GROUPED.fullmatch(plain):
        plain = _BLANKS.sub("", plain)
    elif _EUROPEAN.fullmatch(plain):
        plain = plain.replace(".", "")
    elif _ENGLISH.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        return float(plain.replace(",", ".") if plain.count(",") == 1 else plain)
    except ValueError:
        return None


def find_unit(name: str, present: Sequence[str]) -> str:
    """The unit behind every number of a column, such as ``mm``; empty where there is none.

    Args:
        present: the texts that are not missing.

    Raises:
        DataError: the texts are numbers, and their units differ or a part of them has none.

    Example:
        >>> find_unit("size", ["72 mm", "8mm"])
        'mm'
    """
    plain = [text.strip() for text in present]
    others = [text for text in plain if parse_number(text) is None]
    matches = [_WITH_UNIT.fullmatch(text) for text in others]
    units = sorted({match[1] for match in matches if match})
    if not units or not all(matches) or 5 * len(others) < len(plain):
        return ""
    bare = len(others) < len(plain)
    if len(max(units, key=len)) == 1 and units != ["%"] and (bare or len(units) > 1):
        return ""  # codes such as 1, 1a and 2b
    if bare or len(units) > 1:
        listed = ", ".join(units[:3])
        found = f"the unit {listed} and without a unit" if bare else f"several units, {listed}"
        raise DataError(
            f"column {name!r} holds numbers with {found}; write all of them in one unit"
        )
    return units[0]


def refuse_dates(name: str, present: Sequence[str]) -> None:
    """Refuse a column of dates, each of which would be a name of its own.

    Args:
        present: the texts that are not missing.

    Raises:
        DataError: nine of ten texts are dates.
    """
    dates = [text.strip() for text in present if _DATE.fullmatch(text.strip())]
    if dates and len(dates) >= 0.9 * len(present):
        raise DataError(
            f"column {name!r} holds dates, such as {dates[0]!r}, which no model here reads; write "
            "a number, such as the age or the year, or leave it out of --columns"
        )


def refuse_thousands(name: str, present: Sequence[str]) -> None:
    """Refuse numbers such as ``1,305``, which may be thousands or have three decimals.

    So are ``2.055`` and ``304`` side by side, where points may stand between thousands.

    Args:
        present: the texts that are not missing.

    Raises:
        DataError: every number with a comma, or with a point beside whole hundreds, has three
            digits behind it.
    """
    commas = [text.strip() for text in present if "," in text]
    if commas and all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text) for text in commas):
        raise DataError(
            f"column {name!r}: {first_three(sorted(set(commas)))} may be thousands or have three "
            "decimals; write them without commas"
        )
    points = [text.strip() for text in present if "." in text]
    whole = [text.strip() for text in present if "." not in text]
    if (
        points
        and all(re.fullmatch(r"[+-]?[1-9]\d{0,2}\.\d{3}", text) for text in points)
        and whole
        and all(re.fullmatch(r"[+-]?\d{1,3}", text) for text in whole)
        and any(len(text.lstrip("+-")) == 3 for text in whole)
    ):
        raise DataError(
            f"column {name!r}: {first_three(sorted(set(points)))} beside {whole[0]!r} may be "
            "thousands; write them without points"
        )
