"""The parts a document is made of, whatever it is written as: DOCX, HTML, Markdown, picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A section title."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text; ``strong`` for a stamp that nobody may overlook."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A three-rule table: caption above, notes below; a newline in a cell breaks its line."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure of the report by name, its numbered caption and how it is read."""

    name: str
    caption: str
    description: str = ""


Block = Heading | Paragraph | Table | Picture
