"""Sentences without the names in them, for documents that are mailed."""

from __future__ import annotations

import re

_TEXT = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LIST = re.compile(rf"\[{_TEXT}(?:, {_TEXT})*\]")
_COUNTED = re.compile(rf"{_LIST.pattern} \((\d+) in all\)")
_QUOTED_REASON = re.compile(r"\(the first: .*\)")


def without_names(text: str) -> str:
    """Sentence of an audit or a reader with the number of things in place of their names.

    Example:
        >>> without_names("images ['Smith/a.png', 'b.png'] (12 in all) are dark")
        'images 12 (named in dataset.json) are dark'
    """
    counted = _COUNTED.sub(lambda found: f"{found[1]} (named in dataset.json)", text)
    listed = _LIST.sub("(named in dataset.json)", counted)
    return _QUOTED_REASON.sub("(the first: see dataset.json)", listed)
