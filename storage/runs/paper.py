"""What an author knows and a run does not: the file ``paper.toml`` in a run's folder."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from outerfold.storage.errors import DataError, unknown_name

FILE = "paper.toml"
KEYS = {
    "context": "the healthcare context, and models that exist already",
    "purpose": "target population, intended use and users of the model",
    "inequalities": "known inequalities between groups of patients",
    "design": "whether the data were collected before or after the study was planned",
    "source": "sources of the data, and whom they represent",
    "dates": "first and last date of the data",
    "setting": "number and location of the centres, and their kind",
    "eligibility": "who was included and who was not, and in which order patients were found",
    "treatments": "treatments that the patients received",
    "deidentification": "how identities were removed",
    "acquisition": "how the images were made: devices, protocol",
    "reference_standard": "what decided the class, when it was assessed, and why it was chosen",
    "assessors": "who assessed it, with which qualification, and how readers agreed",
    "blinding": "who was blinded to what",
    "predictors": "how and when the columns were measured, and by whom",
    "sample_size": "how the number of patients was arrived at",
    "fairness": "what was done for fairness between groups",
    "ethics": "ethics committee, and consent or its waiver",
    "funding": "funders and their role",
    "conflicts": "conflicts of interest",
    "protocol": "where the protocol is",
    "registration": "register and number",
    "data_sharing": "where the data can be had",
    "code_sharing": "where code and model can be had",
    "involvement": "involvement of patients and the public",
    "external": "tests on data of another place",
    "interpretation": "what the results mean, and what they mean for practice",
    "limitations": "limits beyond those that the report lists",
    "users": "what a user must know to use the model",
    "next_steps": "what research comes next",
}
"""What each key of the file is for."""

_NO_TEXT = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ufffd\U00010000-\U0010ffff]")
"""A character that XML, and so a DOCX or SVG file, cannot hold, or that shows nothing."""


def read_paper(folder: Path) -> dict[str, str]:
    """Read the author's words; empty where the folder has no such file.

    Args:
        folder: folder of a run.

    Raises:
        DataError: the file is no TOML, has an unknown key, or a value that is not text, or a text
            with control characters.
    """
    path = folder / FILE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as TOML ({error}); mend it or take it away"
        ) from None
    for key, value in found.items():
        if key not in KEYS:
            raise DataError(f"{path}: {unknown_name('key', key, KEYS)}")
        if not isinstance(value, str):
            raise DataError(f"{path}: {key} must be text in quotation marks, found {value!r}")
        odd = _NO_TEXT.search(value)
        if odd:
            raise DataError(
                f"{path}: {key} holds the control character U+{ord(odd[0]):04X}, which no document "
                "can show; take it away, or put a text with backslashes between single quotation "
                "marks ('...'), where TOML reads a backslash as it stands"
            )
    return {key: value.strip() for key, value in found.items() if value.strip()}
