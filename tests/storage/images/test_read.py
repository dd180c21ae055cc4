import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outerfold.storage.images.read import (
    content_hash,
    is_image,
    read_image,
    read_thumbnail,
    require_readable,
)
from outerfold.storage.records import DataError
from tests.storage.images.image_factories import picture, write_picture


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".pgm", ".tif", ".tiff"])
def test_lossless_grey_comes_back_as_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    path = write_picture(tmp_path / f"a{suffix}", 1)
    image = read_image(path)
    assert image.shape == (48, 48, 3)
    assert image.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], picture(1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(picture(2)).convert("RGB").convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (48, 48, 3)
    assert image.max() > 100


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_uses_the_whole_range_and_keeps_order(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(1000, 1000 + 64 * 64, dtype=np.uint16).reshape(64, 64)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(ramp).save(path)
    grey = read_image(path)[..., 0]
    assert grey.min() == 0
    assert grey.max() == 255
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_one_hot_pixel_does_not_darken_a_sixteen_bit_image(tmp_path: Path) -> None:
    deep = np.linspace(0, 4095, 64 * 64).astype(np.uint16).reshape(64, 64)
    deep[0, 0] = 65535
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.median(read_image(tmp_path / "deep.png")) == pytest.approx(127, abs=3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".pgm"])
def test_an_unreadable_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"this is no image at all")
    with pytest.raises(DataError, match=rf"broken\{suffix}: cannot be decoded"):
        read_image(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "none.jpg").touch()
    with pytest.raises(DataError, match=r"none\.jpg: the image file is empty"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_truncated_file_is_an_error_for_image_and_thumbnail(tmp_path: Path, suffix: str) -> None:
    path = write_picture(tmp_path / f"cut{suffix}", 3, side=200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (read_image, read_thumbnail):
        with pytest.raises(DataError, match=rf"cut\{suffix}: cannot be decoded"):
            read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        content_hash(tmp_path / "gone.png")


def test_thumbnail_of_a_jpeg_shows_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(4, 600)).save(path, quality=95)
    direct = Image.fromarray(picture(4, 600)).resize((64, 64), Image.Resampling.BOX)
    assert np.abs(read_thumbnail(path).astype(int) - np.asarray(direct).astype(int)).max() < 8


def test_content_hash_is_of_bytes_not_of_names(tmp_path: Path) -> None:
    one, two = write_picture(tmp_path / "a.png", 5), write_picture(tmp_path / "b.png", 5)
    other = write_picture(tmp_path / "c.png", 6)
    assert content_hash(one) == content_hash(two) != content_hash(other)
    assert len(content_hash(one)) == 64


def test_suffixes_count_in_any_case_and_hidden_files_do_not() -> None:
    assert is_image(Path("A.JPG"))
    assert is_image(Path("a.Dcm"))
    assert not is_image(Path("._a.jpg"))
    assert not is_image(Path("a.txt"))


@pytest.mark.parametrize(
    ("name", "why"),
    [("none.png", "does not exist"), ("none/none.txt", "does not exist"), ("", "is no image file")],
)
def test_a_path_without_a_file_is_said(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(DataError, match=f"{re.escape(str(tmp_path / name))}: {why}"):
        require_readable(tmp_path / name)
