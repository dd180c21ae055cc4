from pathlib import Path

import pytest

from outerfold.storage.images.named import find_files


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("listed", "files"),
    [
        (["a.png", "b.png"], ["x/a.png", "y/b.png"]),
        (["a", "b"], ["x/a.png", "y/b.png"]),
        (["A.PNG", "b.Png"], ["a.png", "b.png"]),
        (["7", "12"], ["0007.png", "0012.png"]),
        (["20586908", "20586934"], ["d/20586908_6c_MG_R_CC.dcm", "d/20586934_7d_MG_L_CC.dcm"]),
        (["/home/x/data/s/a.png", "/home/x/data/b.png"], ["s/a.png", "b.png"]),
        (["C:\\data\\s\\a.png", "C:\\data\\b.png"], ["s/a.png", "b.png"]),
        (["file:///d/a%20b.png", "file:///d/c.png"], ["a b.png", "c.png"]),
        ([".\\a.png", "s\\b.png"], ["a.png", "s/b.png"]),
    ],
)
def test_a_file_is_found_by_what_the_sheet_gives_of_it(
    tmp_path: Path, listed: list[str], files: list[str]
) -> None:
    assert find_files(_touch(tmp_path, *files), listed)[0] == tuple(files)


@pytest.mark.parametrize(
    ("listed", "files"),
    [
        (["a.png"], ["x/a.png", "y/a.png"]),  # two files of the name
        (["7"], ["07.png", "007.png"]),
        (["2058"], ["20586908_6c.dcm"]),
        (["a_1.png"], ["a_2.png"]),
        (["x/a.png", "y/b.png"], ["x/a.png", "b.png"]),  # the other path is right as it is
        (["x/a.png", "y/b.png"], ["a.png"]),
        ([""], ["a.png"]),
    ],
)
def test_what_fits_no_file_or_several_stays_as_it_is(
    tmp_path: Path, listed: list[str], files: list[str]
) -> None:
    assert find_files(_touch(tmp_path, *files), listed) == (tuple(listed), ())


def test_what_was_completed_is_said(tmp_path: Path) -> None:
    root = _touch(tmp_path, "d/20586908_6c.dcm", "s/a.png")
    assert find_files(root, ["20586908"])[1] == (
        "file names were completed: ['20586908 is d/20586908_6c.dcm'] (1 in all)",
    )
    assert find_files(root, ["/d/e/s/a.png"])[1] == (
        "paths were read without their folders ['/d/e'] (1 in all)",
    )
