from __future__ import annotations

from pathlib import Path

import pytest

from outerfold.storage.datasets.demo import write_demo
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.readers.sides import find_sides


@pytest.mark.parametrize(
    ("names", "sides"),
    [
        (
            ("Benign/0234/C_0234_1.LEFT_CC.jpg", "Benign/0234/C_0234_1.RIGHT_MLO.jpg"),
            ("left", "right"),
        ),
        (("B2/bus_0148-l.jpg", "B2/bus_0148-r.jpg"), ("left", "right")),
        (("Normal/P001/left.png", "Normal/P001/right.png"), ("left", "right")),
        (("Normal/P001/left.png", "Normal/P001/3.png"), ()),
        (("left/a.png", "right/b.png"), ()),
        (("a/bright.png", "a/cleft.png"), ()),
        (("a/left_right.png",), ()),
        ((), ()),
    ],
)
def test_sides_are_read_from_names_that_tell_of_every_image(
    names: tuple[str, ...], sides: tuple[str, ...]
) -> None:
    assert find_sides(names) == sides


def test_a_column_wins_over_names_and_a_gap_in_it_leaves_sides_unknown() -> None:
    names = ("a-l.jpg", "b-l.jpg")
    assert find_sides(names, {"Laterality": ("R", "Left")}) == ("right", "left")
    assert find_sides(names, {"side": ("R", "")}) == ()


def test_sides_follow_their_rows(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", task="multimodal", seed=0, patients=8)
    data = read_dataset(tmp_path / "demo", task="multimodal")
    assert set(data.sides.tolist()) == {"left", "right"}
    some = data.ids[::-3].tolist()
    expected = ["left" if "LEFT" in name else "right" for name in some]
    assert data.select(some).sides.tolist() == expected
