"""Styles of journals: letters, colours and the print of numbers, for all figures and tables.

A report is written within ``printed_in``; what prints a number or draws a figure asks
``printed_style``. Files for programs (JSON and CSV) are written in ``PLAIN``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from outerfold.storage.errors import DataError, unknown_name

_DECIMAL = re.compile(r"(?<=\d)\.(?=\d)")


@dataclass(frozen=True, kw_only=True)
class JournalStyle:
    """How a journal prints figures and tables.

    Attributes:
        name: value of ``--style``.
        fonts: fonts of figures, the first that the machine has; empty for the usual one.
        size: size of the letters at axes, in points.
        face: font of the documents (DOCX).
        page: fonts of the page, as CSS; empty for the usual ones.
        colours: colours of six classes, told apart with every common colour blindness; but for the
            plain ones, whose bars have hatches and whose lines have dashes, also by their
            lightness alone. The first is that of the test rows, the last that of validation.
        decimal: sign between a number and its decimals.
        interval: words before the bounds of an interval in text and figures; in a table its head
            says them.
    """

    name: str
    fonts: tuple[str, ...] = ()
    size: float = 8
    face: str = "Arial"
    page: str = ""
    colours: tuple[str, ...]
    decimal: str = "."
    interval: str = ""

    def decimals(self, text: str) -> str:
        """The text with this style's decimal sign in its numbers.

        Example:
            >>> LANCET.decimals("standard error × 1.4.")
            'standard error × 1·4.'
        """
        return text if self.decimal == "." else _DECIMAL.sub(self.decimal, text)


PLAIN = JournalStyle(
    name="plain",
    # Okabe & Ito (2008): distinguishable with every common colour blindness.
    colours=("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
)
RADIOLOGY = JournalStyle(
    name="radiology",
    fonts=("Arial", "Helvetica", "Liberation Sans", "Nimbus Sans"),
    page="Arial, Helvetica, sans-serif",
    colours=("#483F78", "#EAB245", "#BB4C6B", "#23AAEC", "#056B13", "#EB5555"),
    interval="95% CI ",
)
LANCET = JournalStyle(
    name="lancet",
    fonts=("Times New Roman", "Liberation Serif", "Nimbus Roman", "STIXGeneral"),
    size=9,
    face="Times New Roman",
    page='"Times New Roman", Times, serif',
    colours=("#004187", "#F1AE5A", "#2A9C80", "#973D2E", "#C18EEB", "#CA4511"),
    decimal="·",
)
STYLES: Mapping[str, JournalStyle] = {one.name: one for one in (PLAIN, RADIOLOGY, LANCET)}
"""Styles by the value of ``--style``."""

_PRINTED: ContextVar[JournalStyle] = ContextVar("printed", default=PLAIN)


def printed_style() -> JournalStyle:
    """Style of the documents that are being written."""
    return _PRINTED.get()


@contextmanager
def printed_in(style: JournalStyle) -> Iterator[None]:
    """Print numbers and figures in a style."""
    before = _PRINTED.set(style)
    try:
        yield
    finally:
        _PRINTED.reset(before)


def style_of(protocol: Mapping[str, Any]) -> JournalStyle:
    """Style that a report was asked for; plain where it was asked for none.

    Raises:
        DataError: there is no such style; a similar name is suggested.
    """
    name = str(protocol.get("style", PLAIN.name))
    if name not in STYLES:
        raise DataError(f"--style: {unknown_name('value', name, STYLES)}")
    return STYLES[name]


def with_style(protocol: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The protocol with a style; the plain one is not stated, as it is nothing special."""
    kept = {key: value for key, value in protocol.items() if key != "style"}
    return kept if name in ("", PLAIN.name) else {**kept, "style": name}
