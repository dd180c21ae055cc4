from __future__ import annotations

import pytest
from matplotlib import font_manager

from outerfold.reports.render import palette


@pytest.fixture
def machine(monkeypatch):
    """Function that says which fonts the machine has."""

    def has(*names):
        monkeypatch.setattr(font_manager, "get_font_names", lambda: list(names))
        palette.font_families.cache_clear()

    yield has
    monkeypatch.undo()
    palette.font_families.cache_clear()


def test_fonts_of_the_machine_follow_the_one_that_is_always_there(machine):
    machine("DejaVu Sans", "SimHei", "Comic Sans MS", "Noto Sans CJK SC")
    assert palette.font_families() == ("DejaVu Sans", "Noto Sans CJK SC", "SimHei")


def test_without_them_figures_are_as_on_every_machine(machine):
    machine("DejaVu Sans")
    assert palette.font_families() == ("DejaVu Sans",)
