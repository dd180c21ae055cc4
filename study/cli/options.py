"""Options of the command line, made from the records of `study/config`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from outerfold.study.config.execution import RECORDS, Execution
from outerfold.study.config.option import DATA, GROUPS, OptionField, list_options
from outerfold.study.config.record import StudyConfig

Group = argparse._ActionsContainer


def add_run_options(parser: argparse.ArgumentParser, records: Iterable[type] = RECORDS) -> None:
    """Add every option of ``run``, in the groups of its help."""
    options = [one for one in list_options(records) if one.option.typed]
    for name in GROUPS:
        group: Group = parser.add_argument_group(name) if name else parser
        for one in options:
            if one.option.group == name:
                _add_option(group, one)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which rows and columns are read; ``--data`` must be given."""
    group = parser.add_argument_group(DATA)
    for one in list_options([StudyConfig, Execution]):
        if one.option.group == DATA:
            _add_option(group, one, required=one.name == "data")


def add_options(
    parser: argparse.ArgumentParser,
    usual: Mapping[str, str],
    records: Iterable[type] = (StudyConfig, Execution),
    **settings: object,
) -> None:
    """Add some options of a run to another verb.

    Args:
        parser: parser of the verb.
        usual: default of each option in words for the help, by name of the option.
        records: records of the options.
        settings: further settings of argparse for each option.
    """
    for one in list_options(records):
        if one.name in usual:
            _add_option(parser, one, help=one.help_text(usual[one.name]), **settings)


def _add_option(group: Group, one: OptionField, **settings: object) -> None:
    """Add one option; ``settings`` replace those that its record gives to argparse."""
    kind, word = one.kind, one.option.word
    found: dict[str, Any] = {"help": one.help_text()}
    if kind is bool:
        found.update(action="store_true", default=None)
    elif one.choices:
        found["choices"] = one.choices
    else:
        found["metavar"] = value_word(one)
    if kind is int:
        found["type"] = partial(_parse_number, word=word) if word else int
    elif kind is tuple:
        found["type"] = split_names
    elif kind in (float, Path):
        found["type"] = kind
    group.add_argument(one.flag, **{**found, **settings})


def value_word(one: OptionField) -> str:
    """Word for the value of an option, such as ``N`` for a number; a choice gets an initial."""
    usual = one.name.split("_")[-1][0].upper() if one.choices else one.name.upper()
    return one.option.metavar or {int: "N", float: "X", tuple: "A,B"}.get(one.kind, usual)


def split_names(text: str) -> tuple[str, ...]:
    """Names in a text, separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("needs at least one name; separate names by commas")
    return names


def _parse_number(text: str, *, word: str) -> int | str:
    if text == word:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"needs a whole number or {word}, found {text!r}"
        ) from None
