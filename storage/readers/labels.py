"""Labels as they are written: one class for each spelling, and rows that have none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from outerfold.storage.errors import first_three
from outerfold.storage.names import normalise
from outerfold.storage.readers._base import Listing
from outerfold.storage.records import DataError
from outerfold.storage.words.class_names import is_cancer
from outerfold.storage.words.headers import LABEL_NAMES
from outerfold.storage.words.sheets import TextTable
from outerfold.storage.words.texts import NONE, clean, is_missing, spelling_key

_NO_CLASS = """
    unsorted unlabelled unlabeled unclassified uncategorised uncategorized todo excluded rejected
    discarded removed to_check tocheck check review backup bak tmp temp duplicate duplicates copies
    result results output outputs figures docs old archive misc trash deleted nondiagnostic
    non-diagnostic inconclusive train test val validation
"""
_UNSORTED = frozenset(_NO_CLASS.split())
"""Names, in lower case, of folders that hold images of no class."""
_LABEL_COLUMNS = frozenset(map(normalise, LABEL_NAMES))
_TRUTH = {"true": "1", "false": "0"}


def read_labels(listing: Listing, named: Sequence[str] = ()) -> Listing:
    """The listing with one spelling for each class, without the rows that have no label.

    Spellings that differ in case and blanks only are one class, and so are ``1``, ``1.0`` and
    ``True``; the most frequent spelling names it. ``nan``, ``NA``, ``unknown``, ``?`` and ``-``
    are no labels; ``-`` beside ``+`` is one, and so is each word in ``named``.

    Args:
        listing: n rows.
        named: classes that the user names.

    Raises:
        DataError: numbers and words stand side by side.
    """
    texts = [clean(label) for label in listing.labels]
    known = {text: _is_label(text, set(texts), named) for text in set(texts)}
    why = {row: f"no label ({t or 'empty'})" for row, t in enumerate(texts) if not known[t]}
    names, notes = _one_spelling([text for text in texts if known[text]])
    found = listing.put_aside(why, labels=())
    return replace(found, labels=names, assumptions=found.assumptions + notes)


def _is_label(text: str, every: Collection[str], named: Sequence[str]) -> bool:
    if spelling_key(text) in {spelling_key(name) for name in named}:
        return True
    if spelling_key(text) == "-":
        return any(spelling_key(other).strip("+") == "" and other.strip() for other in every)
    return not is_missing(text) and spelling_key(text) not in _UNSORTED | {NONE}


def _one_spelling(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class name of each text, and a sentence for each class of several spellings."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    keys = {text: _label_key(text) for text in set(texts)}
    for text in texts:
        counts[keys[text]][text] += 1
    _refuse_mixed(counts)
    name = {key: min(c, key=lambda text: (-c[text], text)) for key, c in counts.items()}
    notes = tuple(
        f"labels {sorted(c)[:4]} were read as one class, {name[key]!r}"
        for key, c in sorted(counts.items())
        if len(c) > 1
    )
    return tuple(name[keys[text]] for text in texts), notes


def _label_key(text: str) -> str:
    key = spelling_key(text)
    return _TRUTH.get(key, key)


def _refuse_mixed(counts: Mapping[str, Counter[str]]) -> None:
    numbers = [c.most_common(1)[0][0] for key, c in counts.items() if _is_number(key)]
    words = [
        c.most_common(1)[0][0] for key, c in counts.items() if not any(x.isdigit() for x in key)
    ]
    if numbers and words:
        raise DataError(
            f"labels {sorted(words)[:3]} and {sorted(numbers)[:3]} stand side by side, and nothing "
            "says which word each number means; write words or numbers in every row"
        )


def _is_number(key: str) -> bool:
    try:
        float(key.replace(",", "."))
    except ValueError:
        return False
    return True


def contradictions(
    ids: Sequence[str], labels: Sequence[str], label: str, table: TextTable
) -> tuple[str, ...]:
    """Sentences on columns that call rows cancer where the label denies it, or the reverse.

    Args:
        ids, labels: names and labels of n rows.
        label: column of the labels; empty for class folders.
        table: {column: n texts}.
    """
    said = {text: is_cancer(text, normalise(label)) for text in set(labels)}
    notes = []
    for name, texts in table.items():
        if normalise(name) not in _LABEL_COLUMNS or name == label:
            continue
        other = {text: is_cancer(text, normalise(name)) for text in set(texts)}
        rows = [
            f"{ids[row]}: {labels[row]}, {texts[row]}"
            for row, (one, two) in enumerate(zip(labels, texts, strict=True))
            if None not in {said[one], other[two]} and said[one] != other[two]
        ]
        if rows:
            notes.append(f"column {name!r} contradicts the label: {first_three(rows)}")
    return tuple(notes)
