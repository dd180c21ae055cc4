"""Parts of a document, for every file format: DOCX, HTML, Markdown, picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A section title."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text; ``strong`` marks a warning that every reader must see."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table with three rules, its caption above and notes below it.

    A newline in a cell starts a new line there.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its name, its numbered caption, and how to read it."""

    name: str
    caption: str
    description: str = ""


Block = Heading | Paragraph | Table | Picture
