"""Table of the options of `run` in docs/options.md.

``python -m outerfold.study.cli.option_page docs/options.md`` writes it again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from outerfold.study.cli.options import value_word
from outerfold.study.config.execution import RECORDS
from outerfold.study.config.option import OptionField, list_options

HEAD = "| Option | Default | |\n| --- | --- | --- |\n"


def option_table(records: Iterable[type] = RECORDS) -> str:
    """Markdown table of all options of the command line, in the order of help."""
    options = [one for one in list_options(records) if one.option.typed]
    return HEAD + "".join(f"| {' | '.join(_cells(one))} |\n" for one in options)


def _cells(one: OptionField) -> tuple[str, str, str]:
    """Option, default and what it does."""
    word = "" if one.kind is bool else f" {value_word(one)}"
    usual = f"`{one.usual}`" if one.option.usual is None else one.usual
    named = [choice for choice in one.choices if not re.search(rf"\b{choice}\b", one.option.about)]
    choices = ", ".join(f"`{choice}`" for choice in one.choices) if named else ""
    parts = [one.option.about, choices and f"one of {choices}", one.option.note]
    return f"`{one.flag}{word}`", usual, "; ".join(filter(None, parts))


def replace_table(page: str) -> str:
    """The page with the table of options as it is now."""
    return re.sub(rf"{re.escape(HEAD)}(\|.*\n)+", lambda found: option_table(), page)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(replace_table(path.read_text(encoding="utf-8")), encoding="utf-8")
