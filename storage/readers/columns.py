"""Conversion of text columns to numbers, by the texts in the file and without any statistic."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from outerfold.storage.errors import first_three, suggest_name
from outerfold.storage.names import match_name, normalise, same_names
from outerfold.storage.records import BoolArray, Column, DataError, FloatArray, StrArray
from outerfold.storage.words.headers import FILE_NAMES, LESION_NAMES, PATIENT_NAMES
from outerfold.storage.words.numbers import (
    find_unit,
    is_gap,
    parse_number,
    refuse_dates,
    refuse_thousands,
)
from outerfold.storage.words.texts import NONE, is_missing

DEFAULT_COLUMNS = ("age", "density", "family_history")
"""Columns that the multimodal task uses, where present, if the user names none."""

YES = frozenset({"yes", "y", "true"})
NO = frozenset({"no", "n", "false"})
BITS = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}
"""Numbers that stand for no and yes in a column that also holds such words."""
YES_NO_LEVELS = ("no", "yes")

AGE = re.compile(r"(?:^|_)ages?(?:_|$)|^alter$|^edad$")
OLDEST = 120
CODE = 9.0
"""What stands for unknown among codes of up to 5, such as a density, where it occurs ``OFTEN``."""
OFTEN, YEARS_APART = 3, 8
"""How often an age of 0 or 99 occurs, and how far from the others, where it stands for none."""
HISTORY = re.compile(r"history|(?:^|_)(?:hx|fh|prior|previous|symptoms?|complaints?)(?:_|$)|family")
"""Normalised names of columns where ``None`` means no."""
SENTINEL = re.compile(r"-?(?:9{2,}|8{2,}|7{3,})|-[1-9]|-9{1,}(?:\.9+)?|-1e\+\d+")
"""Numbers, in their shortest form, that often stand for a missing value."""
_NEARLY_NUMBER = re.compile(r"[<>~≤≥=±≈(\[?*]*\s*\d+(?:[.,]\d+)?\s*[)\]?*+]*")
"""A number with a mark, such as ``<5``, ``~5``, ``5*`` or ``(5)``."""
NUMERIC_SHARE = 0.8
"""Share of numbers in a column from which on its other texts count as typing errors, not levels."""


def choose_columns(
    available: Sequence[str], asked: Sequence[str], source: str
) -> tuple[tuple[str, str], ...]:
    """Pairs (name for the model, name in the source) of the requested columns.

    Args:
        available: column names of the source.
        asked: requested names, in upper or lower case.
        source: name of the source in messages.

    Raises:
        DataError: a column does not exist, is named twice, or is one of several that differ in
            their spelling only.
    """
    chosen = []
    for name in asked:
        found = match_name(available, name, "--columns")
        if found is None:
            raise DataError(
                f"column {name!r} is not in {source or 'the data, which have no table'}"
                f"{suggest_name(name, available)}; available: {sorted(available)}"
            )
        chosen.append((_model_name(found, available), found))
    twice = [found for i, (_, found) in enumerate(chosen) if found in [f for _, f in chosen[:i]]]
    if twice:
        raise DataError(f"columns {twice[:3]} are named twice in {list(asked)}; name each once")
    return tuple(chosen)


def parse_column(
    name: str, texts: Sequence[str], gaps: Sequence[float] = ()
) -> tuple[Column, FloatArray, tuple[str, ...]]:
    """Description of a column of n texts, its values (n,), NaN for missing, and sentences.

    Numbers stay numbers, yes/no words become 0/1, other texts become positions in sorted levels.
    A unit that all numbers share is left out. Sentinels such as 999 and impossible values become
    missing. A sentence says so.

    Args:
        name: the column.
        texts: n texts.
        gaps: numbers that the source itself read as missing, besides sentinels.

    Raises:
        DataError: a column of numbers also holds a few texts, or numbers of several units; a
            column holds dates; most values of an age are none.
    """
    texts = _signs_as_words(texts)
    present = [text for text in texts if not is_missing(text)]
    refuse_dates(name, present)
    unit = find_unit(name, present)
    notes = []
    if unit:
        notes.append(f"column {name!r}: numbers with the unit {unit!r}, which was left out")
        texts = [text.strip().removesuffix(unit).strip() for text in texts]
        present = [text for text in texts if not is_missing(text)]
    column = describe_column(name, present)
    if column.kind != "numeric":
        return column, np.array([encode_value(column, text) for text in texts]), ()
    numbers = [math.nan if is_gap(text) else parse_number(text) for text in texts]
    values = np.array([math.nan if n is None else n for n in numbers], dtype=np.float64)
    column = replace(column, gaps=(*gaps, *np.unique(values[_sentinels(name, values)]).tolist()))
    for why, find in (
        ("stand for missing, since they repeat and lie apart from the rest", _sentinels),
        ("are impossible", _impossible),
    ):
        wrong = find(name, values)
        if wrong.any():
            shown = ", ".join(f"{v:g}" for v in sorted(set(values[wrong].tolist()))[:3])
            notes.append(f"column {name!r}: {shown} ({wrong.sum()} rows) {why}; read as missing")
            values[wrong] = math.nan
    return column, values, tuple(notes)


def find_gap(column: Column, value: float) -> str:
    """Why a number of a new row stands for missing; empty where it is a value.

    Example:
        >>> find_gap(Column("age"), 999.0)
        'is no age in years (0 to 120)'
    """
    if column.kind != "numeric" or math.isnan(value):
        return ""
    if value in column.gaps:
        return "stands for missing in the data of the run"
    if AGE.search(normalise(column.name)) and not 0 <= value <= OLDEST:
        return f"is no age in years (0 to {OLDEST})"
    return ""


def _signs_as_words(texts: Sequence[str]) -> Sequence[str]:
    """``+`` and ``-`` as yes and no, in a column that holds nothing else and some ``+``."""
    said = {text.strip() for text in texts if not is_missing(text)}
    if said != {"+"}:
        return texts
    return [{"+": "yes", "-": "no"}.get(text.strip(), text) for text in texts]


def _sentinels(name: str, values: FloatArray) -> BoolArray:
    """Rows (n,) whose value looks like a sentinel, repeats, and lies apart from the rest.

    Apart means farther away than the rest is wide, or negative where no other value is. Of the
    ages that a person can have, 0 and 99 are sentinels where they occur ``OFTEN`` and no other age
    is within ``YEARS_APART``.
    """
    found = np.zeros(len(values), dtype=np.bool_)
    counts = Counter(values[np.isfinite(values)].tolist())
    is_age = bool(AGE.search(normalise(name)))
    likely = {v for v, n in counts.items() if n > 1 and _looks_like_sentinel(v, is_age)}
    rest = [v for v in counts if v not in likely]
    if len(rest) < 2:
        return found
    low, high = min(rest), max(rest)
    width = max(high - low, 1.0)
    for value in likely:
        if is_age and 0 <= value <= OLDEST:
            far = counts[value] >= OFTEN and not low - YEARS_APART < value < high + YEARS_APART
        else:
            far = abs(value) >= 77 and (value - high > width or low - value > width)
            far |= value == CODE and counts[value] >= OFTEN and high <= 5 and CODE - high > width
        if far or value < 0 <= low:
            found |= values == value
    return found


def _looks_like_sentinel(value: float, is_age: bool) -> bool:
    if is_age and 0 <= value <= OLDEST:
        return value in {0.0, 99.0}
    return value == CODE or bool(SENTINEL.fullmatch(f"{value:g}"))


def _impossible(name: str, values: FloatArray) -> BoolArray:
    """Rows (n,) that are infinite, or an age below 0 or above ``OLDEST``.

    Raises:
        DataError: most values of an age are none, such as years of birth.
    """
    wrong = np.isinf(values)
    if AGE.search(normalise(name)):
        no_age = (values < 0) | (values > OLDEST)
        known = int(np.isfinite(values).sum())
        if 2 * no_age.sum() > known:
            raise DataError(
                f"column {name!r}: {no_age.sum()} of {known} values are no age in years (such as "
                f"{values[no_age][0]:g}); write ages in years, or leave it out of --columns"
            )
        wrong |= no_age
    return np.asarray(wrong, dtype=np.bool_)


def describe_column(name: str, present: Sequence[str]) -> Column:
    """Description of a column (name, kind, levels) by its texts that are not missing.

    Raises:
        DataError: most texts are numbers (``NUMERIC_SHARE``), but not all.
    """
    words = {text.strip().lower() for text in present}
    said = words - {NONE} - set(BITS)
    if said and said <= YES | NO:
        return Column(name, "binary", YES_NO_LEVELS)
    texts = sorted(
        {text.strip() for text in present if parse_number(text) is None and not is_gap(text)}
    )
    if not texts and any(not is_gap(text) for text in present):
        refuse_thousands(name, present)
        return Column(name)
    if not present:
        return Column(name)
    numbers = sum(parse_number(text) is not None for text in present)
    marked = 2 * numbers >= len(present) and all(map(_NEARLY_NUMBER.fullmatch, texts))
    if numbers >= NUMERIC_SHARE * len(present) or marked:
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
        if is_gap(text):
            return math.nan
        number = parse_number(text)
        if number is None or not math.isfinite(number):
            raise DataError(f"column {column.name!r} holds numbers, found {text!r}")
        return number
    word = text.strip().lower()
    if column.kind == "binary" and column.levels == YES_NO_LEVELS:
        if word in YES | NO:
            return float(word in YES)
        if word in BITS:
            return BITS[word]
        if word == NONE:  # a gap, but "family history: none" is an answer
            return 0.0 if HISTORY.search(normalise(column.name)) else math.nan
    codes = {level.lower(): code for code, level in enumerate(column.levels)}
    if word not in codes:
        raise DataError(
            f"column {column.name!r} has the levels {list(column.levels)}, found {text!r}"
            f"{suggest_name(text, column.levels)}"
        )
    return float(codes[word])


def _model_name(found: str, available: Sequence[str]) -> str:
    """Model's name of a source column: a fixed name for a default column, else the source's.

    A default column that the source has in several spellings keeps its own.
    """
    fixed = normalise(found)
    return fixed if fixed in DEFAULT_COLUMNS and same_names(available, found) == [found] else found


MOST_TEXTS = 30
"""Most values of a column of texts that a run keeps for reports; one with more is a description."""


def find_facts(table: Mapping[str, Sequence[str]]) -> dict[str, StrArray]:
    """Columns of a source that a run keeps for questions of a report, by name, as texts (n,).

    Columns that name files, patients or lesions are left out, and so are columns of texts with more
    than ``MOST_TEXTS`` values.
    """
    names = {normalise(name) for name in (*FILE_NAMES, *PATIENT_NAMES, *LESION_NAMES)}
    return {
        name: np.array(texts, dtype=np.str_)
        for name, texts in table.items()
        if normalise(name) not in names and _is_fact(name, texts)
    }


def _is_fact(name: str, texts: Sequence[str]) -> bool:
    """Whether a column holds numbers, or few different texts."""
    present = [text for text in texts if not is_missing(text)]
    try:
        return len(set(present)) <= MOST_TEXTS or describe_column(name, present).kind == "numeric"
    except DataError:  # numbers with a few texts among them
        return False
