"""Which encoders a run names, and which weights file is whose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from outerfold.storage.errors import DataError


def encoder_names(text: str) -> tuple[str, ...]:
    """``A,B`` as two names.

    Raises:
        DataError: no name, or one twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise DataError(f"--encoder {text!r}: a name is missing; separate names by one comma")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"--encoder {text}: names {twice[0]} twice; a choice is of different ones")
    return names


def weights_by_encoder(names: Sequence[str], text: str) -> dict[str, str]:
    """The weights file of each encoder that has one.

    Args:
        names: of all encoders of the run.
        text: ``OWNER_FILE`` for the only encoder, or ``NAME=FILE`` pairs separated by commas.

    Raises:
        DataError: it is not said of which encoder a file is.
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
            f"--weights {text}: does not say of which of {len(names)} encoders each file is; write "
            f"{names[0]}=FILE, separated by commas"
        )
    return found


def spelt_weights(names: Sequence[str], files: Mapping[str, str]) -> str:
    """What ``weights_by_encoder`` reads, with whole paths."""
    whole = {name: str(Path(file).expanduser().resolve()) for name, file in files.items()}
    if len(names) == 1:
        return whole.get(names[0], "")
    return ",".join(f"{name}={file}" for name, file in whole.items())
