"""Styles of journals: numbers, colours and letters of a report."""

from __future__ import annotations

import re
from itertools import combinations, takewhile

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from outerfold.reports.journal_style import (
    LANCET,
    PLAIN,
    RADIOLOGY,
    STYLES,
    JournalStyle,
    printed_in,
    style_of,
    with_style,
)
from outerfold.reports.render.restyle import apply_style
from outerfold.reports.report_page import page
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.submission import submission_texts
from outerfold.reports.wording import cell_value, value
from outerfold.storage.errors import DataError

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# Machado, Oliveira & Fernandes (2009): how linear colours look without one kind of cone.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
    "tritanopia": np.array(
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]
    ),
}
ENTRY = {"estimate": 0.76, "low": 0.70, "high": 0.82}


def lab(colour: str, sight: np.ndarray) -> np.ndarray:
    """CIELAB of a colour as it is seen, of which the first number is its lightness."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(TO_XYZ @ np.clip(sight @ linear, 1e-6, 1) / np.array([0.9505, 1.0, 1.0888]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def csv_files(evidence: Evidence) -> dict[str, bytes]:
    """CSV files of all tables, which come first in a submission."""
    files = submission_texts(evidence.numbers, {})
    return dict(takewhile(lambda file: file[0].endswith(".csv"), files))


@pytest.mark.parametrize("style", STYLES.values(), ids=str)
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart_with_every_colour_blindness(
    style: JournalStyle, sight: str
) -> None:
    seen = [lab(colour, SIGHT[sight]) for colour in style.colours]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 14


@pytest.mark.parametrize("style", [RADIOLOGY, LANCET], ids=str)
def test_colours_of_journals_are_told_apart_in_grey(style: JournalStyle) -> None:
    lightness = sorted(lab(colour, SIGHT["all cones"])[0] for colour in style.colours)
    assert min(np.diff(lightness)) > 7


def test_each_style_prints_an_interval_in_its_own_way() -> None:
    printed = {}
    for style in STYLES.values():
        with printed_in(style):
            printed[style.name] = value(ENTRY)  # type: ignore[arg-type]
            assert cell_value(ENTRY) == style.decimals("0.76 (0.70–0.82)")  # type: ignore[arg-type]
    assert printed == {
        "plain": "0.76 (0.70–0.82)",
        "radiology": "0.76 (95% CI 0.70–0.82)",
        "lancet": "0·76 (0·70–0·82)",
    }
    assert value(ENTRY) == printed["plain"]  # type: ignore[arg-type]


def test_no_number_of_the_lancet_has_a_point_and_its_csv_files_are_the_plain_ones(
    binary: Evidence,
) -> None:
    with printed_in(LANCET):
        text = page(binary.numbers, {})
        tables = csv_files(binary)
    words = re.sub(r"<(style|script)>.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    printed = words[: words.index("Software. ")]  # then versions and references
    assert re.findall(r"\d\.\d", printed) == []
    assert len(re.findall(r"\d·\d", printed)) > 100
    assert 'font-family: "Times New Roman"' in text
    plain = csv_files(binary)
    assert len(tables) > 5
    assert tables == plain


def test_a_figure_takes_the_colours_and_the_decimal_sign() -> None:
    fig = Figure()
    axes = fig.subplots()
    (line,) = axes.plot([0, 1], [0, 0.5], color=PLAIN.colours[0])
    (bar,) = axes.bar([0.5], [0.2], color=PLAIN.colours[1], alpha=0.5)
    band = axes.fill_between([0, 1], [0, 0], [0.1, 0.1], color=PLAIN.colours[0], alpha=0.2)
    (ink,) = axes.plot([0, 1], [0, 0], color="#1A1A1A")
    with printed_in(LANCET):
        apply_style(fig)
    assert line.get_color() == pytest.approx((*to_rgb(LANCET.colours[0]), 1))
    assert bar.get_facecolor() == pytest.approx((*to_rgb(LANCET.colours[1]), 0.5))
    assert band.get_facecolor()[0] == pytest.approx((*to_rgb(LANCET.colours[0]), 0.2))
    assert to_hex(ink.get_color()) == "#1a1a1a"
    assert "0·2" in [label.get_text() for label in axes.get_yticklabels()]


def test_an_unknown_style_is_refused_and_the_plain_one_is_not_stated() -> None:
    with pytest.raises(DataError, match=r"--style: unknown value 'lancett'; did you mean 'lancet'"):
        style_of({"style": "lancett"})
    assert style_of({}) is PLAIN
    assert with_style({"seed": 1, "style": "lancet"}, "plain") == {"seed": 1}
    assert with_style({"seed": 1}, "lancet") == {"seed": 1, "style": "lancet"}
