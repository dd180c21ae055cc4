"""HTML pages made of blocks and figures; each is one file that opens without a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture, Table
from outerfold.reports.render.page_style import CSS, SCRIPT
from outerfold.reports.render.palette import DPI, WIDTH
from outerfold.reports.schema import Results
from outerfold.reports.wording import stamps

_SCREEN = 1500  # pixels: sharp at 750 CSS pixels on a doubled display
_HEADING = re.compile(r'<h2 id="([^"]*)">(.*?)</h2>')


INSIDE = "inside.html"
"""File name of the page that ``outerfold explain`` writes beside the report."""
INSIDE_PLACE = "<!-- inside -->"
"""Text in the report that ``with_inside`` replaces with a link to that page."""


def with_inside(report: str) -> str:
    """Report with one link to the page of ``outerfold explain``; a second call adds no other."""
    return report.replace(INSIDE_PLACE, f'<a href="{INSIDE}">Looking inside</a>')


def html_page(name: str, body: str, numbers: Results) -> str:
    """Whole HTML page with its stamps and a list of its contents.

    The list names every heading. Without a script the page is complete; the script lets a reader
    sort a table by a column and save it as CSV.

    Args:
        name: title of the page, as HTML.
        body: contents of the page, as HTML.
    """
    marks = "  ·  ".join(stamps(numbers))
    banner = f'<aside class="banner" aria-label="Stamp">{escape(marks)}</aside>' if marks else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{CSS}</style></head>\n"
        f"<body>{banner}{_contents(body)}<main>\n{body}\n</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _contents(body: str) -> str:
    """Links to all headings of a page, which stay in sight where the window is wide."""
    links = (f'<a href="#{name}">{text}</a>' for name, text in _HEADING.findall(body))
    return f'<nav aria-label="Contents">{"".join(links)}{INSIDE_PLACE}</nav>'


def blocks_html(blocks: Iterable[Block]) -> str:
    """HTML of the blocks, from top to bottom."""
    return "\n".join(block_html(block) for block in blocks)


def block_html(block: Block) -> str:
    """HTML of one block."""
    match block:
        case Heading(text):
            return f'<h2 id="{anchor(text)}">{escape(text)}</h2>'
        case Paragraph(text, strong):
            return f'<p class="stamp">{escape(text)}</p>' if strong else f"<p>{escape(text)}</p>"
        case Table():
            return _table_html(block)
        case Picture(_, caption):
            return f"<p>{escape(caption)}</p>"


def _table_html(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in table.rows
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(table.caption)}">'
        f"<table><caption>{escape(table.caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{notes}"
    )


def figure_html(picture: Picture, image: bytes) -> str:
    """HTML of a figure with its caption; the image data are inside the page.

    Args:
        image: file contents of the figure.
    """
    source = base64.b64encode(_screen_jpeg(image)).decode()
    return (
        f'<figure id="{picture.name}"><img alt="{escape(picture.caption)}" '
        f'style="max-width: {_css_width(image):.0f}px" '
        f'src="data:image/jpeg;base64,{source}"><figcaption><b>{escape(picture.caption)}</b>'
        f"<span>{escape(picture.description)}</span></figcaption></figure>"
    )


def _screen_jpeg(image: bytes) -> bytes:
    target = BytesIO()
    with Image.open(BytesIO(image)) as opened:
        picture = opened.convert("RGB")
        picture.thumbnail((_SCREEN, 4 * _SCREEN), Image.Resampling.LANCZOS)
        picture.save(target, "JPEG", quality=88, subsampling=0)
    return target.getvalue()


def _css_width(image: bytes) -> float:
    """Width in CSS pixels: 750 for the full print width, less for a narrower figure."""
    with Image.open(BytesIO(image)) as opened:
        return 750 * opened.width / (WIDTH * DPI)


def definitions_html(things: Mapping[str, Any]) -> str:
    """HTML list of names, each with its value."""
    lines = (
        f"<dt>{escape(key)}</dt><dd>{_definition(value)}</dd>" for key, value in things.items()
    )
    return f"<dl>{''.join(lines)}</dl>"


def _definition(value: object) -> str:
    if isinstance(value, dict):
        return escape(", ".join(f"{key} {_short(one)}" for key, one in value.items()))
    if isinstance(value, list):
        return escape(", ".join(map(str, value)))
    return f"<code>{escape(str(value))}</code>"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {one}' for key, one in value.items())})"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def anchor(text: str) -> str:
    """Name of a heading for links to it."""
    return text.lower().replace(" ", "-")
