import numpy as np
import pytest
from PIL import Image

from outerfold.storage.images.breast_crop import breast_box, otsu
from outerfold.storage.images.framing import Framing
from outerfold.storage.images.read import read_image
from outerfold.storage.records import DataError
from tests.storage.images.image_factories import real_data

BREAST = 200


def mammogram(height: int, width: int, *, side: str = "left") -> np.ndarray:
    """(height, width, 3): a half disc at one side, film grain, a label and a bright film edge."""
    down, across = np.mgrid[:height, :width]
    if side == "right":
        across = width - 1 - across
    reach = np.hypot((down - height / 2) / (0.36 * height), across / (0.62 * width))
    grey = np.random.default_rng(0).integers(0, 12, (height, width))
    grey = np.where(reach < 1, BREAST - 120 * reach, grey)
    grey[: max(1, height // 120)] = 255
    label = slice(height // 12, height // 8), slice(width // 12, width // 4)
    grey[label if side == "right" else (label[0], slice(-width // 4, -width // 12))] = 255
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def test_a_tall_mammogram_keeps_its_shape_when_padded() -> None:
    """2368 x 1120 squeezed to a square would be twice as wide as it is."""
    image = np.full((2368, 1120, 3), BREAST, np.uint8)
    square = Framing("pad").square(image, 224)
    rows, columns = (np.flatnonzero(square[..., 0].any(axis=axis)) for axis in (1, 0))
    assert square.shape == (224, 224, 3)
    assert (len(rows), len(columns)) == (224, 106)
    assert columns[0] == 59
    assert 224 - 1 - columns[-1] == 59


def test_a_wide_image_is_padded_above_and_below() -> None:
    square = Framing("pad").square(np.full((30, 120, 3), BREAST, np.uint8), 64)
    assert np.flatnonzero(square[:, 0, 0]).tolist() == list(range(24, 40))


def test_stretched_images_fill_the_square() -> None:
    square = Framing("stretch").square(np.full((2368, 1120, 3), BREAST, np.uint8), 224)
    assert (square == BREAST).all()


def test_a_square_image_is_the_same_padded_or_stretched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        Framing("pad").square(image, 32), Framing("stretch").square(image, 32)
    )


def test_an_image_of_one_row_can_be_padded() -> None:
    assert Framing("pad").square(np.full((1, 500, 3), 9, np.uint8), 32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("fit", "crop", "said"),
    [
        ("padd", "none", "--fit: unknown value 'padd'; did you mean 'pad'"),
        ("pad", "brest", "--crop: unknown value 'brest'; did you mean 'breast'"),
    ],
)
def test_unknown_ways_are_refused_with_the_nearest(fit: str, crop: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Framing(fit, crop)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_crop_holds_the_breast_at_either_side_and_little_else(side: str) -> None:
    image = mammogram(2368, 1120, side=side)
    top, bottom, left, right = breast_box(image)
    breast = (0.14 * 2368, 0.86 * 2368, 0.62 * 1120)
    assert breast[0] - 90 < top < breast[0]
    assert breast[1] < bottom < breast[1] + 90
    if side == "left":
        assert left == 0
        assert breast[2] < right < breast[2] + 90
    else:
        assert right == 1120
        assert 1120 - breast[2] - 90 < left < 1120 - breast[2]


def test_the_crop_leaves_what_fills_its_width_alone() -> None:
    """An ultrasound: tissue above, the dark of its depth below, all across."""
    image = np.random.default_rng(0).integers(60, 160, (300, 400, 3), dtype=np.uint8)
    image[180:] //= 16
    assert breast_box(image) == (0, 300, 0, 400)


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_the_crop_leaves_a_constant_image_alone(grey: int) -> None:
    assert breast_box(np.full((60, 40, 3), grey, np.uint8)) == (0, 60, 0, 40)


def test_the_crop_does_not_cut_into_a_bright_background() -> None:
    """White paper around a dark film is no background that can be told from tissue."""
    image = 255 - mammogram(400, 300)
    assert breast_box(image) == (0, 400, 0, 300)


def test_otsu_parts_two_classes() -> None:
    grey = np.repeat(np.array([3, 5, 90, 200], np.uint8), 50)
    assert 5 <= otsu(grey) < 90


def test_the_crop_then_fills_more_of_the_square() -> None:
    image = mammogram(2368, 1120)
    shares = {
        crop: (Framing("pad", crop).square(image, 224)[..., 0] > 60).mean()
        for crop in ("none", "breast")
    }
    assert shares["breast"] > 1.5 * shares["none"]


def test_real_mammograms_lose_background_and_keep_what_is_bright() -> None:
    folder = real_data("mini-ddsm")
    for path in sorted(folder.glob("Benign/*/*.jpg"))[:16]:
        if "mask" in path.name.lower():
            continue
        image = read_image(path)
        top, bottom, left, right = breast_box(image)
        height, width = image.shape[:2]
        assert (bottom - top) * (right - left) < 0.9 * height * width, path
        # A breast hangs at one side of the film: the crop ends there and not at the other.
        assert (left == 0) != (right == width), path
        tissue = np.asarray(Image.fromarray(image).convert("L")) > 60
        tissue[: height // 20] = tissue[-height // 20 :] = False  # film edges
        assert tissue[top:bottom, left:right].sum() > 0.9 * tissue.sum(), path


def test_real_ultrasounds_are_hardly_ever_cropped() -> None:
    folder = real_data("breast-usg")
    images = [read_image(path) for path in sorted(folder.glob("*/*.jpg"))[::4]]
    left_alone = [breast_box(i) == (0, i.shape[0], 0, i.shape[1]) for i in images]
    assert np.mean(left_alone) > 0.95
