"""Left or right breast of each image, read from a table or from file names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from outerfold.storage.readers._base import pick_column
from outerfold.storage.words.headers import SIDE_NAMES

LEFT_WORDS, RIGHT_WORDS = ("left", "l"), ("right", "r")
SIDE_PATTERN = re.compile(
    r"(?<![a-z])(left|right)(?![a-z])"  # C_0029_1.LEFT_CC.jpg of Mini-DDSM
    r"|[-_](l|r)$",  # bus_0148-l.jpg of BUS-BRA
    re.IGNORECASE,
)


def find_sides(
    ids: Sequence[str], table: Mapping[str, Sequence[str]] | None = None, named: str = ""
) -> tuple[str, ...]:
    """Side of each of the n images, ``left`` or ``right``; empty if any side is not known.

    A side column of the table is used before file names.

    Args:
        ids: n image paths below the root.
        table: {column: n texts}.
        named: column of sides that the user names; empty takes one by its name.

    Raises:
        DataError: the named column is not in the table.
    """
    texts_of = {name: tuple(texts) for name, texts in (table or {}).items()}
    column = pick_column(texts_of, "--side-column", named, SIDE_NAMES, "the table")
    texts = list((table or {})[column]) if column else [_side_in_name(name) for name in ids]
    sides = [_read_side(text) for text in texts]
    return tuple(sides) if sides and all(sides) else ()


def _read_side(text: str) -> str:
    word = text.strip().lower()
    return "left" if word in LEFT_WORDS else "right" if word in RIGHT_WORDS else ""


def _side_in_name(name: str) -> str:
    """Side in a file name; empty if it holds no side or both."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    found = {_read_side(next(filter(None, match))) for match in SIDE_PATTERN.findall(stem)}
    return found.pop() if len(found) == 1 else ""
