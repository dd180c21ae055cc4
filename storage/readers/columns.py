"""Conversion of text columns to numbers, by the texts in the file and without any statistic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from outerfold.storage.errors import first_three, suggest_name
from outerfold.storage.names import normalise
from outerfold.storage.readers._base import find_column
from outerfold.storage.records import Column, DataError, FloatArray

DEFAULT_COLUMNS = ("age", "density", "family_history")
"""Columns that the multimodal task uses, where present, if the user names none."""

MISSING = frozenset({"", "na", "n/a", "nan", "null", "unknown", "not available", "?", "-"})
"""Texts, lower case, that stand for a missing value."""

YES = frozenset({"yes", "y", "true"})
NO = frozenset({"no", "n", "false"})
YES_NO_LEVELS = ("no", "yes")

NUMERIC_SHARE = 0.8
"""Share of numbers in a column from which on its other texts count as typing errors, not levels."""


def is_missing(text: str) -> bool:
    """Whether a text stands for a missing value, such as ``unknown`` or ``?``."""
    return text.strip().lower() in MISSING


def choose_columns(
    available: Sequence[str], asked: Sequence[str], source: str
) -> tuple[tuple[str, str], ...]:
    """Pairs (name for the model, name in the source) of the requested columns.

    Args:
        available: column names of the source.
        asked: requested names, in upper or lower case.
        source: name of the source in messages.

    Raises:
        DataError: a column does not exist, or is named twice.
    """
    chosen = []
    for name in asked:
        found = find_column(available, [name])
        if found is None:
            raise DataError(
                f"column {name!r} is not in {source or 'the data, which have no table'}"
                f"{suggest_name(name, available)}; available: {sorted(available)}"
            )
        chosen.append((_model_name(found), found))
    twice = [found for i, (_, found) in enumerate(chosen) if found in [f for _, f in chosen[:i]]]
    if twice:
        raise DataError(f"columns {twice[:3]} are named twice in {list(asked)}; name each once")
    return tuple(chosen)


def parse_column(name: str, texts: Sequence[str]) -> tuple[Column, FloatArray]:
    """Description of a column of n texts, and its values (n,), NaN for missing.

    Numbers stay numbers, yes/no words become 0/1, other texts become positions in sorted levels.

    Raises:
        DataError: a column of numbers also holds a few texts, or infinities.
    """
    column = describe_column(name, [text for text in texts if not is_missing(text)])
    return column, np.array([encode_value(column, text) for text in texts], dtype=np.float64)


def describe_column(name: str, present: Sequence[str]) -> Column:
    """Description of a column (name, kind, levels) by its texts that are not missing.

    Raises:
        DataError: most texts are numbers (``NUMERIC_SHARE``), but not all.
    """
    words = {text.strip().lower() for text in present}
    if words and words <= YES | NO:
        return Column(name, "binary", YES_NO_LEVELS)
    texts = sorted({text.strip() for text in present if _parse_number(text) is None})
    if not texts:
        return Column(name)
    numbers = sum(_parse_number(text) is not None for text in present)
    if numbers >= NUMERIC_SHARE * len(present):
        raise DataError(
            f"column {name!r}: {numbers} of {len(present)} values are numbers, "
            f"but not {first_three(texts)}; correct them or leave them empty"
        )
    by_lower: dict[str, str] = {}
    for text in sorted({text.strip() for text in present}):
        by_lower.setdefault(text.lower(), text)
    return Column(name, "categorical", tuple(by_lower[key] for key in sorted(by_lower)))


def encode_value(column: Column, text: str) -> float:
    """Value of one text in a column; NaN if it stands for missing.

    Raises:
        DataError: the text is neither a finite number nor one of the column's levels.
    """
    if is_missing(text):
        return math.nan
    if column.kind == "numeric":
        number = _parse_number(text)
        if number is None or not math.isfinite(number):
            raise DataError(f"column {column.name!r} holds numbers, found {text!r}")
        return number
    word = text.strip().lower()
    if column.kind == "binary" and column.levels == YES_NO_LEVELS and word in YES | NO:
        return float(word in YES)
    codes = {level.lower(): code for code, level in enumerate(column.levels)}
    if word not in codes:
        raise DataError(
            f"column {column.name!r} has the levels {list(column.levels)}, found {text!r}"
            f"{suggest_name(text, column.levels)}"
        )
    return float(codes[word])


def _parse_number(text: str) -> float | None:
    if "_" in text:  # Python reads 1_000 as a number; in a table it is a code
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _model_name(found: str) -> str:
    """Model's name of a source column: a fixed name for a default column, else the source's."""
    return normalise(found) if normalise(found) in DEFAULT_COLUMNS else found
