"""Which breast an image shows, where the sheet or the file names tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from outerfold.storage.readers._base import find_column

SIDE_NAMES = ("side", "laterality")
LEFT_WORDS, RIGHT_WORDS = ("left", "l"), ("right", "r")
SIDE_PATTERN = re.compile(
    r"(?<![a-z])(left|right)(?![a-z])"  # C_0029_1.LEFT_CC.jpg of Mini-DDSM
    r"|[-_](l|r)$",  # bus_0148-l.jpg of BUS-BRA
    re.IGNORECASE,
)


def find_sides(
    ids: Sequence[str], table: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """``left`` or ``right`` of each image, or nothing where one of them is not told.

    A column of the sheet wins over file names, which count only if they tell of every image.

    Args:
        ids: n image paths below the root.
        table: {column: n texts}.
    """
    column = find_column(table or {}, SIDE_NAMES)
    told = list((table or {})[column]) if column else [_named(name) for name in ids]
    sides = [_side(text) for text in told]
    return tuple(sides) if sides and all(sides) else ()


def _side(text: str) -> str:
    word = text.strip().lower()
    return "left" if word in LEFT_WORDS else "right" if word in RIGHT_WORDS else ""


def _named(name: str) -> str:
    """The one side that a file name holds; empty for none or both."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    found = {_side(next(filter(None, match))) for match in SIDE_PATTERN.findall(stem)}
    return found.pop() if len(found) == 1 else ""
