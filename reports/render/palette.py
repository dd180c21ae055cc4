"""Colours and sizes of all figures and pages, and conversion of a figure to bytes."""

from __future__ import annotations

from functools import cache
from io import BytesIO

from matplotlib import font_manager
from matplotlib.figure import Figure

from outerfold.reports.journal_style import PLAIN

WIDTH = 7.2
"""Width in inches: the two-column width of most journals."""


DPI = 300


CLASS_COLOURS = PLAIN.colours

CLASS_HATCHES = ("", "///", "...", "xxx", "---", "+++")
CLASS_LINES = ("-", "--", "-.", ":")
"""Hatches of bars and styles of lines: classes are told apart in grey, too."""


TRAIN, VALIDATION, TEST = "#7F7F7F", "#D55E00", "#0072B2"


INK, QUIET, ALARM = "#1A1A1A", "#6B6B6B", "#B3261E"
GRID, FAINT = "#E3E3E3", "#C9C9C9"


FONT = "DejaVu Sans"
"""It ships with matplotlib: the same figure on every machine."""
OTHER_SCRIPTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Arial Unicode MS",
)
"""Fonts for letters that ``FONT`` lacks, where the machine has them."""


@cache
def font_families(first: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Fonts of all figures: ``FONT``, then those of this machine for the letters that it lacks.

    Args:
        first: fonts that are preferred where the machine has them.
    """
    here = set(font_manager.get_font_names())
    preferred = (name for name in first if name in here)
    return (*preferred, FONT, *(name for name in OTHER_SCRIPTS if name in here))


def encode(fig: Figure, kind: str) -> bytes:
    """File contents of a figure at 300 dots per inch; they hold no date.

    So equal figures give equal files.
    """
    target = BytesIO()
    if kind == "jpg":
        # 4:4:4 chroma and quality 95 keep thin coloured lines sharp.
        options = {"quality": 95, "subsampling": 0}
        fig.savefig(target, format="jpg", dpi=DPI, pil_kwargs=options)
    else:
        undated = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}[kind]
        fig.savefig(target, format=kind, dpi=DPI, metadata={undated: None})
    return target.getvalue()
