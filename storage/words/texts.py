"""Texts as sheets and folders spell them: blanks, control characters, gaps and numbers."""

from __future__ import annotations

import re
import unicodedata

_GAPS = """
    na, n/a, n.a., nan, null, nil, unknown, unk, not available, missing, ?, ??, -, --,
    ---, ., .., #n/a, #na, #value!, #ref!, #name?, #num!, #div/0!, <na>, nat, not
    applicable, not known, undefined, unspecified, n/k, not reported, not recorded, not
    stated, not specified, not assessed, not done, no data, no information,
    tbd, pending, unbekannt, k.a., keine angabe, inconnu, inconnue, desconocido, desconocida,
    sconosciuto, onbekend, неизвестно, нет данных, 不明, 未知, 不确定, 不詳, 모름
"""
MISSING = frozenset(["", *(text.strip() for text in _GAPS.split(","))])
"""Texts, lower case, that stand for a missing value in any column."""

NONE = "none"
"""Missing in labels and numbers; where words stand, it is a word (``symptoms: none``)."""

_DASHES = str.maketrans({"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-"})
_WHOLE = re.compile(r"[+-]?\d+(?:[.,]0+)?")


def is_missing(text: str) -> bool:
    """Whether a text stands for a missing value, such as ``unknown``, ``?`` or ``#N/A``."""
    return text.strip().lower().translate(_DASHES) in MISSING


def clean(text: str) -> str:
    """Text without blanks around it, each control or invisible character replaced by a blank.

    Example:
        >>> clean("non\\x0bcancer ")
        'non cancer'
    """
    if text.isprintable():
        return text.strip()
    shown = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in text)
    kept = "".join(c for c in shown if unicodedata.category(c) not in {"Cf", "Cs", "Co", "Cn"})
    return kept.strip()


def spelling_key(text: str) -> str:
    """Key of texts that differ only in case, blanks and the way a whole number is written.

    Example:
        >>> spelling_key("Non  Cancer") == spelling_key("noncancer")
        True
        >>> [spelling_key(text) for text in ("1", "1.0", "01", "Cancer ")]
        ['1', '1', '1', 'cancer']
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_DASHES)
    key = "".join(plain.split()).replace("\u200b", "")
    if _WHOLE.fullmatch(key):
        return str(int(re.split("[.,]", key)[0]))
    return key
