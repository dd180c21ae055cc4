"""Figures that a page holds as SVG, with tooltips on their marks."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from outerfold.reports.figures.catalogue import FIGURES, figures_of
from outerfold.reports.figures.style import render_inline
from outerfold.reports.render.svg import kept_drawings, with_hints
from outerfold.reports.results.predictions import Evidence

INLINE = [plate.name for plate in FIGURES.values() if plate.inline]


def drawn(name: str, evidence: Evidence) -> str:
    plate = FIGURES[name]
    return render_inline(plate.draw, evidence, name=name, rows=plate.rows)[1]


@pytest.fixture(scope="module")
def drawings(binary: Evidence) -> dict[str, str]:
    return {
        plate.name: drawn(plate.name, binary)
        for plate in figures_of(binary.numbers)
        if plate.inline
    }


def test_each_point_of_a_drawing_with_tooltips_has_its_own(drawings: dict[str, str]) -> None:
    asked = ("Figure_Subgroups", "Figure_Search_Parameters")
    assert list(drawings) == [name for name in INLINE if name not in asked]
    for name, svg in drawings.items():
        root = ElementTree.fromstring(svg.replace(" href=", " xhref="))
        for group in root.iter("g"):
            if group.get("class") == "spots":
                titles = [use.findtext("title") for use in group.iter("use")]
                assert len(titles) > 1, name
                assert all(titles), name
    first = drawings["Figure_Performance"]
    assert re.search(r"<title>Decisions made: sensitivity \d\.\d\d \(", first)
    assert len(re.findall(r"<title>outer-\d: (ROC-AUC|Sensitivity|Specificity) ", first)) == 15


def test_drawings_share_no_id_and_run_nothing(drawings: dict[str, str]) -> None:
    ids = [one for svg in drawings.values() for one in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(ids) == len(set(ids)) > 10
    together = "".join(drawings.values())
    assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', together)) <= {
        pair for one in ids for pair in ((one, ""), ("", one))
    }
    assert "<script" not in together
    assert "http" not in together
    assert not re.search(r"\bon\w+=", together)


def test_a_drawing_is_the_same_when_it_is_drawn_again(binary: Evidence) -> None:
    assert drawn("Figure_Training_Loss", binary) == drawn("Figure_Training_Loss", binary)


def test_a_drawing_follows_the_colours_of_the_page(drawings: dict[str, str]) -> None:
    for svg in drawings.values():
        assert "var(--quiet)" in svg
        assert "var(--paper)" in svg
        assert not re.search("#(1a1a1a|ffffff|e3e3e3)", svg)


def test_names_cannot_leave_a_tooltip() -> None:
    told = '<g id="hint:&lt;b&gt; &quot;x&quot;"><path d="M 0 0"/></g><g id="axes_1"/>'
    assert with_hints(told).startswith("<g><title>&lt;b&gt; &quot;x&quot;</title><path")


def test_a_page_gives_its_drawings_back() -> None:
    page = '<figure id="a"><div role="img" aria-label="x"><svg v><g></g></svg></div></figure>'
    assert kept_drawings(page) == {"a": "<svg v><g></g></svg>"}
