import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outerfold.storage.images.rasters import _require_undamaged
from outerfold.storage.images.read import examine_image, read_image
from outerfold.storage.records import DataError
from tests.storage.images.image_factories import picture

TRUTH = np.clip(picture(3, 64).astype(int), 2, 253)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def tiff(
    path: Path, values: np.ndarray, sample_format: int, photometric: int = 1, turn: int = 1
) -> Path:
    """A TIFF of one channel of any type, which Pillow itself cannot write."""
    high, wide = values.shape
    raw = values.tobytes()
    tags = [(256, wide), (257, high), (258, values.itemsize * 8), (259, 1), (262, photometric)]
    tags += [(273, 8), (274, turn), (277, 1), (278, high), (279, len(raw)), (339, sample_format)]
    directory = struct.pack("<H", len(tags))
    for tag, value in tags:
        directory += struct.pack("<HHII", tag, 4, 1, value)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw + directory + b"\0\0\0\0")
    return path


def colour_tiff(path: Path, values: np.ndarray, sample_format: int, *, separate: bool) -> Path:
    """An RGB TIFF of values (h, w, 3) of any type, with planes apart or pixel by pixel."""
    high, wide, _ = values.shape
    raw = (np.moveaxis(values, 2, 0) if separate else values).tobytes()
    strips = 3 if separate else 1
    each = len(raw) // strips
    lists = {
        258: [values.itemsize * 8] * 3,
        273: [8 + each * at for at in range(strips)],
        279: [each] * strips,
        339: [sample_format] * 3,
    }
    tags: dict[int, int | list[int]] = {256: wide, 257: high, 259: 1, 262: 2, 277: 3, 278: high}
    tags |= {284: 1 + separate, **lists}
    directory, at = struct.pack("<H", len(tags)), 8 + len(raw) + 6 + 12 * len(tags)
    behind = b""
    for tag in sorted(tags):
        value = tags[tag]
        cells = value if isinstance(value, list) else [value]
        packed = struct.pack(f"<{len(cells)}I", *cells)
        directory += struct.pack("<HHI", tag, 4, len(cells))
        directory += packed if len(cells) == 1 else struct.pack("<I", at + len(behind))
        behind += packed if len(cells) > 1 else b""
    head = b"II*\0" + struct.pack("<I", 8 + len(raw))
    path.write_bytes(head + raw + directory + b"\0\0\0\0" + behind)
    return path


def grey_of(path: Path) -> np.ndarray:
    return read_image(path)[..., 0].astype(int)


def full(truth: np.ndarray) -> np.ndarray:
    """What a stretch of the values to 0..255 gives, up to a few clipped pixels."""
    return (truth - truth.min()) / (truth.max() - truth.min()) * 255


@pytest.mark.parametrize(
    ("values", "sample_format"),
    [
        (TRUTH.astype("u2") * 16, UNSIGNED),
        (TRUTH.astype("u4") * 2**24, UNSIGNED),
        ((TRUTH - 128).astype("i1"), SIGNED),
        ((TRUTH * 16 - 2000).astype("i2"), SIGNED),
        (TRUTH.astype("i4") * 2**20 - 2**26, SIGNED),
        (TRUTH.astype("f2") / 255, FLOAT),
        (TRUTH.astype("f4") / 255, FLOAT),
        (TRUTH.astype("f8") * 1e-9, FLOAT),
    ],
    ids=["uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"],
)
def test_values_of_every_type_give_the_same_picture(
    tmp_path: Path, values: np.ndarray, sample_format: int
) -> None:
    grey = grey_of(tiff(tmp_path / "a.tif", values, sample_format))
    np.testing.assert_allclose(grey, full(TRUTH), atol=3)


@pytest.mark.parametrize("separate", [False, True], ids=["pixel by pixel", "planes apart"])
@pytest.mark.parametrize("kind", ["u2", "i2", "f2", "f4", "f8"])
def test_colour_of_every_type_gives_the_same_picture(
    tmp_path: Path, kind: str, separate: bool
) -> None:
    colours = np.stack([TRUTH, 255 - TRUTH, TRUTH[::-1]], axis=-1)
    values = (colours - (128 if kind == "i2" else 0)).astype(kind) * 64
    formats = {"u": UNSIGNED, "i": SIGNED, "f": FLOAT}
    path = colour_tiff(tmp_path / "a.tif", values, formats[kind[0]], separate=separate)
    np.testing.assert_allclose(read_image(path), full(colours), atol=3)


def test_half_floats_are_read_and_what_cannot_be_is_refused_without_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiff(tmp_path / "a.tif", TRUTH.astype("f2"), FLOAT)
    read_image(tmp_path / "a.tif")
    tiff(tmp_path / "b.tif", TRUTH.astype("c16"), 6)
    with pytest.raises(DataError, match=r"b\.tif: cannot be decoded .*no reader knows values"):
        read_image(tmp_path / "b.tif")
    cut = _deep(tmp_path / "c.ppm")
    cut.write_bytes(cut.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"c\.ppm: cannot be decoded as an image \(it is damaged"):
        read_image(cut)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["u2", "f2", "f4", "f8"])
def test_a_tiff_of_every_depth_is_turned_once(tmp_path: Path, kind: str) -> None:
    half = TRUTH[:32]
    form = UNSIGNED if kind == "u2" else FLOAT
    grey = grey_of(tiff(tmp_path / "a.tif", (half * 64).astype(kind), form, turn=6))
    np.testing.assert_allclose(grey, full(np.rot90(half, -1)), atol=3)


@pytest.mark.parametrize("kind", ["u1", "u2", "f2", "f8"])
def test_white_is_zero_at_every_depth(tmp_path: Path, kind: str) -> None:
    scale = 16 if kind == "u2" else 1
    form = FLOAT if kind.startswith("f") else UNSIGNED
    path = tiff(tmp_path / "a.tif", (TRUTH * scale).astype(kind), form, photometric=0)
    np.testing.assert_allclose(full(grey_of(path)), full(255 - TRUTH), atol=3)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -9999.0, -3.4e38, 3.4e38])
def test_values_that_are_missing_leave_the_picture_as_it_is(tmp_path: Path, hole: float) -> None:
    values = TRUTH.astype("f4") / 255
    values[:6] = hole
    grey = grey_of(tiff(tmp_path / "a.tif", values, FLOAT))
    np.testing.assert_allclose(grey[6:], full(TRUTH[6:]), atol=3)
    assert (grey[:6] == (255 if hole == 3.4e38 else 0)).all()


def test_background_far_below_the_tissue_is_no_sentinel(tmp_path: Path) -> None:
    """Tissue has 64 levels of its own here: the picture stays as the percentiles give it."""
    values = (TRUTH * 16 + 12000).astype("u2")
    values[:6] = 0
    grey = grey_of(tiff(tmp_path / "a.tif", values, UNSIGNED))
    np.testing.assert_allclose(grey[6:], values[6:] / values.max() * 255, atol=3)


def _deep(path: Path) -> Path:
    import cv2

    cv2.imwrite(str(path), np.repeat((TRUTH * 16).astype("u2")[..., None], 3, axis=2))
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm", ".jp2"])
def test_twelve_bits_in_colour_of_sixteen_use_the_whole_range(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_allclose(grey_of(_deep(tmp_path / f"a{suffix}")), full(TRUTH), atol=3)


def test_colours_of_sixteen_bits_keep_their_order(tmp_path: Path) -> None:
    import cv2

    blue_first = np.zeros((16, 16, 3), "u2")
    blue_first[..., 0], blue_first[:8, :, 2] = np.arange(16) * 4000, 30000
    cv2.imwrite(str(tmp_path / "a.png"), blue_first)
    image = read_image(tmp_path / "a.png")
    assert image[0, 0].tolist() == [pytest.approx(127, abs=2), 0, 0]
    assert image[-1, -1].tolist() == [0, 0, 255]


def test_a_deep_image_is_turned_as_its_tag_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray((TRUTH * 16).astype("u2")).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(grey_of(tmp_path / "a.png"), full(np.rot90(TRUTH, -1)), atol=3)


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_several_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.fromarray(picture(seed)) for seed in (1, 2))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=rf"a\{suffix}: holds 2 pages or frames"):
        read_image(tmp_path / f"a{suffix}")


def test_a_reduced_copy_is_no_second_page(tmp_path: Path) -> None:
    whole, small = Image.fromarray(picture(1)), Image.fromarray(picture(1, 24))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    whole.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    np.testing.assert_array_equal(grey_of(tmp_path / "a.tif"), picture(1))


def test_a_jpeg_whose_rest_is_zero_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(5, 200)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    for read in (read_image, lambda file: examine_image(file, 64)):
        with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded .*missing or zero"):
            read(path)


@pytest.mark.parametrize(
    "how", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_rows": 1}]
)
@pytest.mark.parametrize(("begin", "end"), [(0.3, 0.9), (0.5, 0.75), (0.5, 0.55)])
def test_a_jpeg_with_zeros_inside_is_refused(
    tmp_path: Path, how: dict[str, bool], begin: float, end: float
) -> None:
    path = tmp_path / "a.jpg"
    black = np.zeros((400, 300), np.uint8)
    black[:, :200] = picture(5, 400)[:, :200]
    Image.fromarray(black).save(path, quality=90, **how)
    examine_image(path, 64)
    data = bytearray(path.read_bytes())
    first, last = int(begin * len(data)), int(end * len(data))
    data[first:last] = bytes(last - first)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded .*part of the JPEG is damaged"):
        examine_image(path, 64)


def test_a_jpeg_whose_scan_is_padded_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(5, 200)).save(path)
    before = examine_image(path, 64)[0]
    data = path.read_bytes()
    for padded in (data[:-2] + bytes(600) + data[-2:], data + bytes(999)):
        path.write_bytes(padded)
        np.testing.assert_array_equal(examine_image(path, 64)[0], before)


def test_a_jpeg_whose_scan_ends_with_a_zero_is_read() -> None:
    """About one JPEG of sixteen does, since 0 follows a last byte of 0xFF."""
    ends, rng = set(), np.random.default_rng(1)
    for _ in range(80):
        target = BytesIO()
        noise = np.clip(rng.normal(100, 30, (64, 48)), 0, 255).astype(np.uint8)
        Image.fromarray(noise).save(target, "JPEG", quality=95)
        data = target.getvalue()
        ends.add(data[-3])
        for file in (data, data[:-2] + bytes(600) + data[-2:], data + bytes(99)):
            _require_undamaged(file)
    assert 0 in ends


def test_the_limit_of_pillow_stays_that_of_the_process(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    Image.fromarray(picture(5, 200)).save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")
    assert before is not None
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_preview_in_a_jpeg_is_not_its_end(tmp_path: Path) -> None:
    """A cut photograph whose EXIF holds a whole small one is cut all the same."""
    small, path, exif = BytesIO(), tmp_path / "a.jpg", Image.Exif()
    Image.fromarray(picture(5)).save(small, "JPEG")
    exif[0x010E] = small.getvalue().decode("latin-1")
    Image.fromarray(picture(5, 200)).save(path, exif=exif)
    data = path.read_bytes()
    assert data.count(b"\xff\xd9") >= 1
    path.write_bytes(data[:-400] + bytes(400))
    with pytest.raises(DataError, match=r"cannot be decoded"):
        read_image(path)


def test_a_black_background_is_no_damage(tmp_path: Path) -> None:
    black = np.zeros((400, 300), np.uint8)
    black[:200, :100] = picture(6, 200)[:, :100]
    Image.fromarray(black).save(tmp_path / "a.jpg", optimize=True)
    assert (grey_of(tmp_path / "a.jpg")[300:] == 0).all()


def test_postscript_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_a, **_k: ran.append(1))
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"a\.jpg: .*its format is not known"):
        read_image(path)
    assert not ran


def test_pixels_are_limited_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    import zlib

    chunk = b"IHDR" + head
    data = data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"2,500,000,000 pixels, .* limit of 200,000,000.*"):
        read_image(tmp_path / "a.png")
    Image.fromarray(picture(1)).save(tmp_path / "b.png")
    monkeypatch.setenv("OUTERFOLD_MAX_PIXELS", "2303")
    with pytest.raises(DataError, match="add --max-pixels 2304"):
        read_image(tmp_path / "b.png")
    monkeypatch.setenv("OUTERFOLD_MAX_PIXELS", "2304")
    np.testing.assert_array_equal(grey_of(tmp_path / "b.png"), picture(1))


def test_a_picture_that_lost_its_levels_is_known(tmp_path: Path) -> None:
    values = (TRUTH * 16).astype("u2")
    values[:6], values[6:12] = 65000, 64000  # two marks, so neither lies apart alone
    assert examine_image(tiff(tmp_path / "a.tif", values, UNSIGNED), 32)[1]
    assert not examine_image(tiff(tmp_path / "b.tif", TRUTH.astype("u2"), UNSIGNED), 32)[1]
    two = np.where(TRUTH > 100, 5, 9).astype("u2")
    assert not examine_image(tiff(tmp_path / "c.tif", two, UNSIGNED), 32)[1]


def test_a_second_page_without_a_width_is_refused_in_a_sentence(tmp_path: Path) -> None:
    page = Image.fromarray(np.zeros((8, 8), np.uint8))
    path = tmp_path / "a.tif"
    page.save(path, save_all=True, append_images=[page])
    width = (256).to_bytes(2, "little") + b"\x04\x00\x01\x00\x00\x00\x08"
    first, second, third = path.read_bytes().split(width)
    path.write_bytes(first + width + second + b"\xff\xfe" + width[2:] + third)
    with pytest.raises(DataError, match=r"a\.tif: .*cannot be decoded .*Missing dimensions"):
        grey_of(path)
