"""Parsing of the encoders that a run names, and of the weights file of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from outerfold.storage.errors import DataError


def encoder_names(text: str) -> tuple[str, ...]:
    """Names in the text of --encoder: ``A,B`` gives two names.

    Raises:
        DataError: a name is empty or occurs twice.

    Example:
        >>> encoder_names("timm:resnet50, clip:RN50")
        ('timm:resnet50', 'clip:RN50')
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise DataError(f"--encoder {text!r}: a name is missing; separate names by one comma")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"--encoder {text}: names {twice[0]} twice; name each encoder once")
    return names


def weights_by_encoder(names: Sequence[str], text: str) -> dict[str, str]:
    """Path of the weights file of each encoder that has one, by encoder name.

    Args:
        names: names of all encoders of the run.
        text: one path for the only encoder, or ``NAME=FILE`` pairs separated by commas.

    Raises:
        DataError: the text does not name the encoder of a file.
    """
    if not text:
        return {}
    known = "|".join(map(re.escape, names))
    parts = re.split(rf",(?=(?:{known})=)", text)
    pairs = [re.fullmatch(rf"({known})=(.+)", part) for part in parts]
    if len(names) == 1 and pairs == [None]:
        return {names[0]: text}
    found = {pair[1]: pair[2] for pair in pairs if pair}
    if len(found) < len(parts):
        raise DataError(
            f"--weights {text}: does not name one of the {len(names)} encoders for each file; "
            f"write {names[0]}=FILE, separated by commas"
        )
    return found


def format_weights(names: Sequence[str], files: Mapping[str, str]) -> str:
    """Text that ``weights_by_encoder`` reads, with absolute paths.

    Args:
        names: names of all encoders of the run.
        files: path of the weights file of each encoder that has one.
    """
    whole = {name: str(Path(file).expanduser().resolve()) for name, file in files.items()}
    if len(names) == 1:
        return whole.get(names[0], "")
    return ",".join(f"{name}={file}" for name, file in whole.items())
