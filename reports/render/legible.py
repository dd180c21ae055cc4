"""Names of classes as pictures show them: a key stands for a name that no font here draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

from matplotlib import font_manager

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.render.palette import font_families
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.schema import Results
from outerfold.storage.records import Predictions

Key = Mapping[str, str]
"""What a picture shows in place of a name, by name."""


def picture_key(numbers: Results) -> dict[str, str]:
    """``class 1`` and so on for each class whose name has a letter that no font here draws.

    Empty where all names can be drawn. Documents and pages show the names: their readers' programs
    have fonts of their own.
    """
    names = enumerate(numbers["dataset"]["classes"], 1)
    return {name: f"class {at}" for at, name in names if not _is_drawn(name, font_families())}


def key_sentence(numbers: Results) -> str:
    """Sentence that says which class each key of a picture stands for; empty without keys."""
    listed = [f"{short} is {name}" for name, short in picture_key(numbers).items()]
    return f"In the picture, {' and '.join(listed)}." if listed else ""


def legible_evidence(evidence: Evidence) -> Evidence:
    """The evidence with keys in place of class names that no font here draws."""
    key = picture_key(evidence.numbers)
    if not key:
        return evidence
    return replace(
        evidence,
        run=replace(evidence.run, classes=_of_all(evidence.run.classes, key)),
        numbers=cast(Results, _renamed(evidence.numbers, key)),
        test=_with_keys(evidence.test, key),
        validation=_with_keys(evidence.validation, key),
        levels={
            name: replace(rows, classes=_of_all(rows.classes, key))
            for name, rows in evidence.levels.items()
        },
    )


def legible_blocks(blocks: Iterable[Block], numbers: Results) -> list[Block]:
    """The blocks of a page that is drawn, with keys, and a note that explains them."""
    key = picture_key(numbers)
    if not key:
        return list(blocks)
    shown = [_legible_block(block, key) for block in blocks]
    note = (
        f"No font of the machine that drew this page has the letters of {len(key)} names, so "
        f"{', '.join(key.values())} stand for the classes at these places in results.json."
    )
    return [*shown, Paragraph(note)]


def _legible_block(block: Block, key: Key) -> Block:
    match block:
        case Heading(text):
            return Heading(_with_key(text, key))
        case Paragraph(text, strong):
            return Paragraph(_with_key(text, key), strong)
        case Table(caption, header, rows, notes):
            return Table(
                _with_key(caption, key),
                _of_all(header, key),
                tuple(_of_all(row, key) for row in rows),
                _of_all(notes, key),
            )
    return block


def _with_keys(rows: Predictions | None, key: Key) -> Predictions | None:
    return None if rows is None else replace(rows, classes=_of_all(rows.classes, key))


def _of_all(texts: Sequence[str], key: Key) -> tuple[str, ...]:
    return tuple(_with_key(text, key) for text in texts)


def _with_key(text: str, key: Key) -> str:
    for name in sorted(key, key=len, reverse=True):
        text = text.replace(name, key[name])
    return text


def _renamed(value: object, key: Key) -> object:
    """A part of ``results.json`` with keys in place of names, in its own keys too."""
    match value:
        case str():
            return _with_key(value, key)
        case list():
            return [_renamed(one, key) for one in value]
        case dict():
            parts: dict[Any, Any] = value
            return {_renamed(name, key): _renamed(one, key) for name, one in parts.items()}
    return value


@cache
def _is_drawn(text: str, families: tuple[str, ...]) -> bool:
    letters = {ord(letter) for letter in text if not letter.isspace()}
    for family in families:
        path = font_manager.findfont(font_manager.FontProperties(family=family))
        letters -= set(font_manager.get_font(path).get_charmap())
    return not letters
