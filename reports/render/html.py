"""HTML pages made of blocks and figures; each is one file that opens without a network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture, Table
from outerfold.reports.render.palette import DPI, WIDTH
from outerfold.reports.schema import Results
from outerfold.reports.wording import stamps

_SCREEN = 1500  # pixels: sharp at 750 CSS pixels on a doubled display

_CSS = """
:root { --ink: #1a1a1a; --quiet: #5f6368; --line: #d9dce1; --alarm: #b3261e; --blue: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #f4f5f7;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 2.5rem 4rem; background: #fff; }
header { border-bottom: 3px solid var(--blue); margin-bottom: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
nav { font-size: .9rem; margin: .4rem 0 1rem; }
nav a { color: var(--blue); margin-right: 1.1rem; text-decoration: none; }
.stamp { background: #fdecea; border-left: 4px solid var(--alarm); color: var(--alarm);
  font-weight: 600; padding: .6rem 1rem; margin: 1rem 0; }
.banner { position: sticky; top: 0; background: var(--alarm); color: #fff; text-align: center;
  font-weight: 700; letter-spacing: .06em; padding: .3rem; z-index: 1; }
.scroll { overflow-x: auto; margin-top: 1.3rem; }
header + p, .stamp + p:not(.stamp) { font-size: 1.15rem; }
table { border-collapse: collapse; font-size: .88rem; border-top: 2px solid var(--ink);
  border-bottom: 2px solid var(--ink); min-width: 50%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th { text-align: left; border-bottom: 1px solid var(--ink); vertical-align: bottom; }
th, td { padding: .3rem 1.2rem .3rem 0; white-space: pre-line; }
td { vertical-align: top; white-space: pre; }
.note { color: var(--quiet); font-size: .8rem; margin: .25rem 0; }
figure { margin: 1.6rem 0 2.2rem; }
img { width: 100%; height: auto; display: block; }
figcaption { font-size: .88rem; margin-top: .5rem; }
figcaption span { color: var(--quiet); display: block; margin-top: .2rem; }
code { font-size: .85rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .88rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { main { padding: 1rem .8rem 3rem; } table { font-size: .74rem; }
  th, td { padding-right: .5rem; } td { white-space: pre-line; } dl { display: block; } }
@media print { body { background: #fff; } main { max-width: none; padding: 0; }
  .banner { position: static; } figure, table { break-inside: avoid; }
  h2 { break-after: avoid; } nav { display: none; } }
"""


INSIDE = "inside.html"
"""File name of the page that ``outerfold explain`` writes beside the report."""
INSIDE_PLACE = "<!-- inside -->"
"""Text in the report that ``with_inside`` replaces with a link to that page."""


def with_inside(report: str) -> str:
    """Report with one link to the page of ``outerfold explain``; a second call adds no other."""
    return report.replace(INSIDE_PLACE, f'<a href="{INSIDE}">Looking inside</a>')


def html_page(name: str, body: str, numbers: Results) -> str:
    """Whole HTML page with its stamps.

    Args:
        name: title of the page, as HTML.
        body: contents of the page, as HTML.
    """
    marks = "  ·  ".join(stamps(numbers))
    banner = f'<div class="banner">{escape(marks)}</div>' if marks else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{_CSS}</style></head>\n"
        f"<body>{banner}<main>\n{body}\n</main></body></html>\n"
    )


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
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="scroll"><table><caption>{escape(table.caption)}</caption>'
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
