"""Markdown tables for the pages."""

from __future__ import annotations


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Markdown text of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
