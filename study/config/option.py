"""Option of a run: a field of a record, with the metadata from which every list of options comes.

The parser and its help, the keys of a configuration file, the checks of values, ``protocol`` of
``results.json`` and the table of ``docs/options.md`` are made from these fields. So a new option is
a field of ``StudyConfig``, ``Execution`` or ``Shorthand``, and the place that uses it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, ParamSpec, Union, get_args, get_origin, get_type_hints

from outerfold.storage.errors import DataError, shorten, unknown_name

DATA, PROTOCOL, MODEL = "data", "protocol", "model"
EXECUTION = "execution (changes no result)"
GROUPS = ("", DATA, PROTOCOL, MODEL, EXECUTION)
"""Groups of options in help, in order; options of the first have no group."""

KEY = "option"
"""Key of the metadata of a field that holds its ``Option``."""

P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an option does, and which values it takes.

    Attributes:
        about: what it does, in help and in the table of options.
        group: one of ``GROUPS``.
        usual: default in words; None for the default of the field.
        said: whether help names the default, too.
        note: Markdown that the table of options adds.
        metavar: word for the value; empty for the usual one of its type.
        choices: allowed values, or a function that returns them; empty for any value.
        least: smallest whole number.
        most: largest whole number.
        word: word that is allowed besides numbers.
        before: name of the option before which help lists it; empty for its place in the record.
        typed: whether the command line has it.
        keyed: whether a configuration file may set it.
        stated: whether ``protocol`` of results.json states it, if it determines the results.
    """

    about: str = ""
    group: str = ""
    usual: str | None = None
    said: bool = True
    note: str = ""
    metavar: str = ""
    choices: tuple[str, ...] | Callable[[], Iterable[str]] = ()
    least: int = 0
    most: int = 0
    word: str = ""
    before: str = ""
    typed: bool = True
    keyed: bool = True
    stated: bool = True


def _as_metadata(make: Callable[P, Option]) -> Callable[P, dict[str, Option]]:
    def metadata(*args: P.args, **kwargs: P.kwargs) -> dict[str, Option]:
        return {KEY: make(*args, **kwargs)}

    return metadata


option = _as_metadata(Option)
"""Metadata of a field that is an option; arguments are the attributes of ``Option``."""


@dataclass(frozen=True)
class OptionField:
    """A field of a record that is an option.

    Attributes:
        name: name of the field, which is the key in a configuration file.
        kind: type of the value; ``int`` also for options that allow a word besides numbers.
        default: default of the field; None where the field has none, or one that is made.
        option: its metadata.
    """

    name: str
    kind: type
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """Name on the command line, such as ``--outer-folds``."""
        return "--" + self.name.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed values; empty for any value."""
        found = self.option.choices
        return tuple(found()) if callable(found) else found

    @property
    def usual(self) -> str:
        """Default in words."""
        return str(self.default) if self.option.usual is None else self.option.usual

    def help_text(self, usual: str = "") -> str:
        """Text of help.

        Args:
            usual: default in words, in place of the option's own.
        """
        told = usual or (self.usual if self.option.said else "")
        return f"{self.option.about} ({told})" if told else self.option.about


def options_of(record: type) -> tuple[OptionField, ...]:
    """Options of a dataclass, in the order of its fields."""
    return _read_fields(record)


@cache
def _read_fields(record: type) -> tuple[OptionField, ...]:
    hints = get_type_hints(record)
    return tuple(
        OptionField(
            f.name,
            _kind(hints[f.name]),
            None if f.default is MISSING else f.default,
            f.metadata[KEY],
        )
        for f in fields(record)
        if KEY in f.metadata
    )


def _kind(hint: Any) -> type:
    """Type of an option's value, from the annotation of its field."""
    union = get_origin(hint) in (Union, types.UnionType)
    first = next(a for a in get_args(hint) if a is not type(None)) if union else hint
    origin = get_origin(first)
    found: type = str if origin is Literal else (origin or first)
    return found


def list_options(records: Iterable[type]) -> list[OptionField]:
    """Options of several records by group, in the order of help."""
    every = [one for record in records for one in options_of(record)]
    listed = [one for group in GROUPS for one in every if one.option.group == group]
    for one in [each for each in listed if each.option.before]:
        listed.remove(one)
        names = [other.name for other in listed]
        listed.insert(names.index(one.option.before), one)
    return listed


def stated_options(record: type) -> tuple[str, ...]:
    """Names of the options that ``protocol`` of results.json states."""
    return tuple(one.name for one in options_of(record) if one.option.stated)


def check_types(table: Mapping[str, Any], record: type) -> None:
    """Check that each value in ``table`` is text, a list, a number or a table, as its field needs.

    Whole numbers are checked with their bounds, by ``check_values``.

    Raises:
        DataError: a value has the wrong type.
    """
    for one in options_of(record):
        words, fits = _TYPE_CHECKS.get(one.kind, ("", lambda value: True))
        if one.name in table and not fits(table[one.name]):
            raise DataError(f"{one.name} must be {words}, found {shorten(table[one.name])}")


def check_values(values: Mapping[str, Any], record: type) -> None:
    """Check that each value is one of the choices, or within the bounds, of its option.

    Args:
        values: values by name; others than options of ``record`` are ignored.
        record: dataclass of the options.

    Raises:
        DataError: a value is not allowed.
    """
    for one in options_of(record):
        if one.name not in values:
            continue
        value = values[one.name]
        if type(value) is type(one.default) and value == one.default:
            continue
        if one.kind is int:
            _check_number(one, value)
        elif one.choices and value not in one.choices:
            raise DataError(f"{one.flag}: {unknown_name('value', value, one.choices)}")


def _check_number(one: OptionField, value: object) -> None:
    least, most, word = one.option.least, one.option.most, one.option.word
    if word and value == word:
        return
    other = f" (or {word})" if word else ""
    if type(value) is not int or value < least:
        bound = f"at least {least}"
    elif value > most:
        bound = f"at most {most}"
    else:
        return
    raise DataError(f"{one.flag} must be a whole number of {bound}, found {shorten(value)}{other}")


def _are_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)


_TYPE_CHECKS: dict[type, tuple[str, Callable[[object], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    Path: ("text", lambda value: isinstance(value, (str, Path))),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    float: ("a number", lambda value: type(value) in (int, float)),
    tuple: ("a list of texts", _are_texts),
    Mapping: ("a table", lambda value: isinstance(value, Mapping)),
}
"""Name and check of each type of option."""
