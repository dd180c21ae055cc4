"""HTML pages made of blocks and figures; each is one file that opens without a network.

Their markup, style sheet and script are files of the folder ``templates``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from outerfold.reports.blocks import Block, Heading, Paragraph, Table
from outerfold.reports.journal_style import printed_style
from outerfold.reports.render.palette import DPI, WIDTH
from outerfold.reports.schema import Results
from outerfold.reports.wording import stamps

_SCREEN = 1500  # pixels: sharp at 750 CSS pixels on a doubled display
INSIDE = "inside.html"
"""File name of the page that ``outerfold explain`` writes beside the report."""
INSIDE_PLACE = "<!-- inside -->"
"""Text in the report that ``with_inside`` replaces with a link to that page."""


@dataclass(frozen=True)
class _Shown:
    """A figure as the page holds it: base64 text of a JPG, and its width in CSS pixels."""

    data: Markup
    width: str


def with_inside(report: str) -> str:
    """Report with one link to the page of ``outerfold explain``; a second call adds no other."""
    return report.replace(INSIDE_PLACE, f'<a href="{INSIDE}">Looking inside</a>')


def html_page(
    title: str,
    blocks: Sequence[Block],
    numbers: Results,
    *,
    images: Mapping[str, bytes],
    drawings: Mapping[str, str] | None = None,
    definitions: Mapping[str, Any] | None = None,
    source: str = "results.json",
    back: str = "",
) -> str:
    """Whole HTML page with its stamps and a list of its contents.

    The list names every heading. Without a script the page is complete; the script lets a reader
    sort a table by a column and save it as CSV.

    Args:
        title: title of the page.
        blocks: contents of the page, from top to bottom.
        numbers: contents of ``results.json``.
        images: file contents of the figures by name; of another figure the page has the caption.
        drawings: SVG that stands in place of the picture, by name; empty for none.
        definitions: names with their values, listed below the blocks.
        source: file that holds every number of the page.
        back: file of the page that this one belongs to; empty for none.
    """
    drawn = drawings or {}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            blocks=blocks,
            marks="  ·  ".join(stamps(numbers)),
            pictures={
                name: Markup(drawn[name]) if drawn.get(name) else _shown(image)
                for name, image in images.items()
            },
            definitions=definitions or {},
            source=source,
            back=back,
            inside=Markup(INSIDE_PLACE),
            fonts=Markup(printed_style().page),
        )
    )


@cache
def _environment() -> Environment:
    loader = PackageLoader("outerfold.reports.render")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.tests |= {
        "heading": lambda block: isinstance(block, Heading),
        "paragraph": lambda block: isinstance(block, Paragraph),
        "table": lambda block: isinstance(block, Table),
    }
    made.filters |= {"anchor": anchor, "listed": _listed}
    for name in ("report.css", "report.js"):
        # Our own files, and no templates: the braces of a style sheet are its own.
        made.globals[name.replace(".", "_")] = Markup(loader.get_source(made, name)[0])
    return made


def _shown(image: bytes) -> _Shown:
    with Image.open(BytesIO(image)) as opened:
        width = 750 * opened.width / (WIDTH * DPI)  # 750 for the full print width
        picture = opened.convert("RGB")
    picture.thumbnail((_SCREEN, 4 * _SCREEN), Image.Resampling.LANCZOS)
    target = BytesIO()
    picture.save(target, "JPEG", quality=88, subsampling=0)
    return _Shown(Markup(base64.b64encode(target.getvalue()).decode()), f"{width:.0f}")


def _listed(value: object) -> str:
    """Text of a list, or of a table with its keys."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(one)}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {one}' for key, one in value.items())})"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def anchor(text: str) -> str:
    """Name of a heading for links to it."""
    return text.lower().replace(" ", "-")
