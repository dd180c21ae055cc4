"""Ids of patients: which words are none, and which spellings may be one patient."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from outerfold.storage.words.texts import NONE, is_missing

_REMOVED = """
    removed anonymous anonymised anonymized anon deidentified de-identified redacted withheld
    masked hidden deleted tbd xxx xxxx xxxxx
"""
NO_IDS = frozenset(_REMOVED.split())
"""Words, lower case, that stand where an id was taken away."""

MOST_IN_A_CHAIN = 5
"""Ids that may be grouped as one patient without a question."""

_SPOILT = re.compile(r"[+-]?\d+(?:[.,]\d+)?e\+\d+|#+", re.IGNORECASE)  # 1.2E+12, #####
_PREFIXED = re.compile(r"(p|pat|patient|pt|subj|subject|sub|id|no|nr|#)[\s_\-#:.]*(\d+)")
_SPELT = {"subject": "sub", "subj": "sub", "patient": "p", "pat": "p", "pt": "p"}
_FLOAT = re.compile(r"(\d+)\.0+")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+")
_APART = r"[\s_\-.]+"
_PARTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<id>.*[^\W_])(?:{_APART}|(?<=\d))(?P<part>l|r|left|right|lt|rt|links|rechts|gauche|droite)"
        rf"(?:{_APART}(?:cc|mlo|ml|lm))?",
        rf"(?P<part>l|r|left|right){_APART}(?P<id>.*\w)",
        rf"(?P<id>.*[^\W_]){_APART}(?P<part>g|d)",
        rf"(?P<id>.*[^\W_]){_APART}(?P<part>[lr]?(?:cc|mlo|ml|lm))",
        rf"(?P<id>.*[^\W_]){_APART}(?P<part>(?:v|t|visit|time|scan|exam|study){_APART[:-1]}*\d{{1,2}})",
        rf"(?P<id>.*[^\W_]){_APART}(?P<part>baseline|follow{_APART[:-1]}*up(?:\d*)|fu\d*|pre|post)",
        rf"(?P<id>.*[^\W_]){_APART}(?P<part>(?:19[5-9]|20[0-4])\d(?:[-_.]?\d\d[-_.]?\d\d)?)",
    )
)
"""Ids that name a breast, a view, a visit or a day and no patient, such as ``P7_L``, ``P7_V2``."""
MOST = 0.8
"""Share of ids of one such form from which on they name parts of patients."""


def is_no_patient(text: str) -> bool:
    """Whether a text names no patient: a gap, ``removed``, or a number that a spreadsheet spoilt.

    Example:
        >>> [is_no_patient(text) for text in ("nan", "unknown", "1.2E+12", "12e4", "P7")]
        [True, True, True, False, False]
    """
    word = text.strip().lower()
    return is_missing(word) or word == NONE or word in NO_IDS or bool(_SPOILT.fullmatch(word))


def patient_key(text: str) -> str:
    """Key of ids that differ in case, leading zeros, ``.0``, separators and thousands only.

    Example:
        >>> [patient_key(text) for text in ("P007", "p7", "7.0", "12e4", "A-03")]
        ['p7', 'p7', '7', '12e4', 'a-3']
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    plain = "".join(str(unicodedata.decimal(c, c)) for c in plain)
    whole = _FLOAT.fullmatch(plain)
    plain = whole[1] if whole else plain
    plain = plain.replace(",", "") if _THOUSANDS.fullmatch(plain) else plain
    named = _PREFIXED.fullmatch(plain)
    plain = _SPELT.get(named[1], named[1]) + named[2] if named else plain
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s_\-]+", "-", plain))


def group_spellings(ids: Iterable[str]) -> dict[str, str]:
    """Group of each id: ids that may be one patient have the same, the first of them by sort order.

    A bare number joins the one id that has P, PAT, SUBJ or ID before the same number; where two
    such ids exist, it joins none. Where most ids name a breast, a view, a visit or a day, those of
    one stem are one patient.

    Example:
        >>> sorted(group_spellings(["7", "P7", "p007", "S7"]).items())
        [('7', '7'), ('P7', '7'), ('S7', 'S7'), ('p007', '7')]
    """
    every = sorted(set(ids))
    bare = _without_parts(every)
    keys = {name: patient_key(bare.get(name, name)) for name in every}
    prefixed: dict[str, set[str]] = defaultdict(set)
    for key in set(keys.values()):
        named = _PREFIXED.fullmatch(key)
        if named:
            prefixed[named[2]].add(key)
    joined = {key: names.copy().pop() for key, names in prefixed.items() if len(names) == 1}
    first: dict[str, str] = {}
    for name in every:
        first.setdefault(joined.get(keys[name], keys[name]), name)
    return {name: first[joined.get(keys[name], keys[name])] for name in every}


def _without_parts(ids: list[str]) -> dict[str, str]:
    """The ids that end in a side, a view, a visit or a day, without it; empty unless most do."""
    for pattern in _PARTS:
        matches = {name: match for name in ids if (match := pattern.fullmatch(name))}
        parts = {match["part"].lower() for match in matches.values()}
        if len(matches) >= MOST * len(ids) and len(parts) > 1:
            return {name: match["id"] for name, match in matches.items()}
    return {}
