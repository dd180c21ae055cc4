from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
from matplotlib import font_manager
from matplotlib.text import Text

from outerfold.reports.figures.catalogue import FIGURES, pictures
from outerfold.reports.figures.style import compose
from outerfold.reports.render import palette
from outerfold.reports.render.legible import legible_blocks, picture_key
from outerfold.reports.render.picture import draw_page
from outerfold.reports.sections.tables import per_class_table


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


def test_a_name_that_no_font_draws_has_a_key_in_pictures_and_stays_in_words(machine, binary):
    machine("DejaVu Sans")
    evidence = binary
    old = evidence.run.classes[1]
    names = (evidence.run.classes[0], "恶性")

    def named(value):
        if isinstance(value, dict):
            return {named(key): named(one) for key, one in value.items()}
        if isinstance(value, list):
            return [named(one) for one in value]
        return "恶性" if value == old else value

    rows = {level: replace(one, classes=names) for level, one in evidence.levels.items()}
    evidence = replace(
        evidence,
        run=replace(evidence.run, classes=names),
        numbers=named(evidence.numbers),
        test=replace(evidence.test, classes=names),
        validation=replace(evidence.validation, classes=names),
        levels=rows,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = compose(FIGURES["Figure_Test_Confusion_Matrix"].draw, evidence)
        figure.canvas.draw()
        draw_page(legible_blocks([per_class_table(evidence.numbers, "test")], evidence.numbers))
    drawn = {text.get_text() for text in figure.findobj(Text)}
    assert any("class 2" in text for text in drawn)
    assert not any("恶性" in text for text in drawn)
    assert all(
        "In the picture, class 2 is 恶性." in one.description
        for one in pictures(evidence.numbers).values()
    )
    assert "恶性" in str(per_class_table(evidence.numbers, "test"))


def test_names_that_are_drawn_have_no_key(machine):
    machine("DejaVu Sans")
    assert picture_key({"dataset": {"classes": {"Злокачественный": 1, "κακοήθης": 2}}}) == {}
    assert picture_key({"dataset": {"classes": {"benign": 1, "悪性": 2}}}) == {"悪性": "class 2"}
