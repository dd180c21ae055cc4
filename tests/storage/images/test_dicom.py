from pathlib import Path

import numpy as np
import pytest

from outerfold.storage.images.read import find_identities, read_image, read_thumbnail
from outerfold.storage.records import DataError


def _dicom(path: Path, pixels: np.ndarray, *, signed: bool = False, **tags: object) -> Path:
    """A real file of stored values (rows, columns) or (frames, rows, columns)."""
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, int(signed)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for name, value in tags.items():
        setattr(dataset, name, value)
    kind = pixels.dtype if pixels.dtype.itemsize == 1 else np.int16 if signed else np.uint16
    dataset.PixelData = pixels.astype(kind).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


RAMP = np.linspace(0, 4095, 32 * 32).reshape(32, 32)


def test_dicom_grey_is_read_dark_to_bright(tmp_path: Path) -> None:
    image = read_image(_dicom(tmp_path / "a.dcm", RAMP))
    assert image.shape == (32, 32, 3)
    assert image[0, 0, 0] == 0
    assert image[-1, -1, 0] == 255


def test_dicom_monochrome1_is_inverted(tmp_path: Path) -> None:
    plain = read_image(_dicom(tmp_path / "a.dcm", RAMP))
    path = _dicom(tmp_path / "b.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(path), 255 - plain)


def test_dicom_window_clips_what_lies_outside(tmp_path: Path) -> None:
    path = _dicom(tmp_path / "a.dcm", RAMP, WindowCenter=1000, WindowWidth=200)
    grey = read_image(path)[..., 0]
    assert (grey[RAMP < 890] == 0).all()
    assert (grey[RAMP > 1110] == 255).all()


def test_a_dicom_volume_is_refused_in_words(tmp_path: Path) -> None:
    path = _dicom(tmp_path / "v.dcm", np.stack([RAMP] * 4))
    with pytest.raises(DataError, match=r"v\.dcm: holds 4 frames"):
        read_image(path)


def test_a_broken_dicom_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    (tmp_path / "b.dcm").write_bytes(b"no dicom")
    with pytest.raises(DataError, match=r"b\.dcm: cannot be decoded as DICOM"):
        read_image(tmp_path / "b.dcm")


def test_without_pydicom_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    (tmp_path / "b.dcm").write_bytes(b"no dicom")
    with pytest.raises(DataError, match=r"outerfold\[dicom\]"):
        read_image(tmp_path / "b.dcm")


DEEP = {"BitsStored": 16, "HighBit": 15}


def grey_of(path: Path) -> np.ndarray:
    return read_image(path)[..., 0].astype(int)


def test_sixteen_bits_are_stretched_between_percentiles(tmp_path: Path) -> None:
    ramp = np.linspace(0, 60000, 64 * 64).reshape(64, 64)
    grey = grey_of(_dicom(tmp_path / "a.dcm", ramp, **DEEP))
    assert (grey.min(), grey.max()) == (0, 255)
    assert grey[32, 0] == pytest.approx(128, abs=2)


def test_padding_is_black_and_takes_no_part_in_the_percentiles(tmp_path: Path) -> None:
    """Half a frame of 65535 would leave the breast, at 1000 to 3000, all but black."""
    breast = np.linspace(1000, 3000, 64 * 64).reshape(64, 64)
    framed = np.concatenate([breast, np.full((64, 64), 65535.0)], axis=1)
    grey = grey_of(_dicom(tmp_path / "a.dcm", framed, PixelPaddingValue=65535, **DEEP))
    np.testing.assert_array_equal(grey[:, :64], grey_of(_dicom(tmp_path / "b.dcm", breast, **DEEP)))
    assert (grey[:, 64:] == 0).all()


def test_padding_may_be_a_range(tmp_path: Path) -> None:
    breast = np.linspace(1000, 3000, 64 * 64).reshape(64, 64)
    frame = np.linspace(60000, 65000, 64 * 64).reshape(64, 64)
    tags = {"PixelPaddingValue": 65000, "PixelPaddingRangeLimit": 60000, **DEEP}
    path = _dicom(tmp_path / "a.dcm", np.concatenate([breast, frame], axis=1), **tags)
    assert (grey_of(path)[:, 64:] == 0).all()
    assert grey_of(path)[:, :64].max() == 255


def test_padding_stays_black_where_white_is_dark(tmp_path: Path) -> None:
    breast = np.linspace(1000, 3000, 64 * 64).reshape(64, 64)
    framed = np.concatenate([breast, np.zeros((64, 8))], axis=1)
    path = _dicom(
        tmp_path / "a.dcm",
        framed,
        PixelPaddingValue=0,
        PhotometricInterpretation="MONOCHROME1",
        **DEEP,
    )
    grey = grey_of(path)
    assert (grey[:, 64:] == 0).all()
    assert grey[0, 0] == 255
    assert grey[-1, 63] == 0


def test_an_image_that_is_all_padding_is_black(tmp_path: Path) -> None:
    path = _dicom(tmp_path / "a.dcm", np.full((8, 8), 7.0), PixelPaddingValue=7)
    assert not grey_of(path).any()


def test_signed_values_are_read_below_zero(tmp_path: Path) -> None:
    values = np.linspace(-2000, 2000, 32 * 32).reshape(32, 32)
    tags = {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 0.5, "WindowWidth": 2001}
    grey = grey_of(_dicom(tmp_path / "a.dcm", values, signed=True, **DEEP, **tags))
    assert (grey[values < -1000] == 0).all()
    assert (grey[values > 1001] == 255).all()
    middle = np.abs(values) < 20
    np.testing.assert_allclose(grey[middle], 127.5, atol=3)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [12, 15])
def test_the_high_bit_says_where_a_value_lies(tmp_path: Path, signed: bool, high: int) -> None:
    values = RAMP.astype(int) - (2048 if signed else 0)
    plain = read_image(_dicom(tmp_path / "a.dcm", values, signed=signed))
    moved = (values & 4095) << (high - 11) | 1  # a bit below the value is none of it
    path = _dicom(tmp_path / "b.dcm", moved.astype("u2").view("i2"), signed=signed, HighBit=high)
    np.testing.assert_array_equal(read_image(path), plain)


def test_a_high_bit_above_values_that_fill_the_lowest_bits_is_passed_over(tmp_path: Path) -> None:
    plain = read_image(_dicom(tmp_path / "a.dcm", RAMP))
    np.testing.assert_array_equal(read_image(_dicom(tmp_path / "b.dcm", RAMP, HighBit=15)), plain)


def test_windows_are_in_rescaled_units(tmp_path: Path) -> None:
    """Stored 0..4095 mean -1000..3095 here; the window is of what they mean."""
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 200}
    grey = grey_of(_dicom(tmp_path / "a.dcm", RAMP, **tags))
    assert (grey[RAMP < 895] == 0).all()
    assert (grey[RAMP > 1105] == 255).all()
    assert grey[np.abs(RAMP - 1000) < 3] == pytest.approx(128, abs=4)


def test_of_several_windows_the_first_is_taken(tmp_path: Path) -> None:
    one = _dicom(tmp_path / "a.dcm", RAMP, WindowCenter=1000, WindowWidth=200)
    many = _dicom(tmp_path / "b.dcm", RAMP, WindowCenter=[1000, 3000], WindowWidth=[200, 50])
    np.testing.assert_array_equal(grey_of(one), grey_of(many))


def test_a_window_wider_than_the_image_is_not_stretched_to_it(tmp_path: Path) -> None:
    """The tags say how bright it is to be shown; two views of a patient stay comparable."""
    grey = grey_of(_dicom(tmp_path / "a.dcm", RAMP / 4, WindowCenter=2048, WindowWidth=4096))
    assert grey.max() == pytest.approx(64, abs=1)


def test_a_window_agrees_with_pydicom(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    from pydicom.pixels.processing import apply_windowing

    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        path = _dicom(
            tmp_path / f"{function}.dcm",
            RAMP,
            WindowCenter=1500,
            WindowWidth=900,
            VOILUTFunction=function,
        )
        dataset = pydicom.dcmread(path)
        expected = apply_windowing(dataset.pixel_array, dataset) / 4095 * 255
        np.testing.assert_allclose(grey_of(path), expected, atol=0.51)


@pytest.mark.parametrize("centre", ["", None])
def test_an_empty_window_is_none(tmp_path: Path, centre: object) -> None:
    plain = grey_of(_dicom(tmp_path / "a.dcm", RAMP))
    tags = {"WindowCenter": centre, "WindowWidth": centre}
    np.testing.assert_array_equal(grey_of(_dicom(tmp_path / "b.dcm", RAMP, **tags)), plain)


@pytest.mark.parametrize("width", [0, 0.5, 4096 * 9])
def test_an_impossible_window_is_passed_over(tmp_path: Path, width: float) -> None:
    """No width, or values of 12 bits could take 28 levels of it: viewers stretch such a file."""
    plain = grey_of(_dicom(tmp_path / "a.dcm", RAMP))
    path = _dicom(tmp_path / "b.dcm", RAMP, WindowCenter=1000, WindowWidth=width)
    np.testing.assert_array_equal(grey_of(path), plain)


def test_a_picture_of_eight_bits_with_a_window_of_twelve_is_not_dark(tmp_path: Path) -> None:
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    tags = {"WindowCenter": 2048, "WindowWidth": 4096, **bits}
    grey = grey_of(_dicom(tmp_path / "a.dcm", (RAMP / 16).astype(np.uint8), **tags))
    np.testing.assert_allclose(grey, RAMP / 16, atol=2)


def test_an_empty_voi_sequence_leaves_the_window(tmp_path: Path) -> None:
    tags = {"WindowCenter": 1000, "WindowWidth": 200}
    one = _dicom(tmp_path / "a.dcm", RAMP, **tags)
    two = _dicom(tmp_path / "b.dcm", RAMP, VOILUTSequence=[], **tags)
    np.testing.assert_array_equal(grey_of(one), grey_of(two))


def test_a_voi_table_that_declares_more_bits_than_it_holds_is_not_dark(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = np.arange(4096, dtype=np.uint16).tobytes()
    grey = grey_of(_dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=[table]))
    np.testing.assert_allclose(grey, RAMP / 4095 * 255, atol=1)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_file_without_preamble_is_read(tmp_path: Path, implicit: bool) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    whole = _dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(whole)
    del dataset.file_meta
    dataset.preamble = None
    bare = tmp_path / "b.dcm"
    dataset.save_as(bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert bare.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(grey_of(bare), grey_of(whole))


def test_a_file_that_does_not_name_its_syntax_is_read(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    whole, bare = _dicom(tmp_path / "a.dcm", RAMP), tmp_path / "b.dcm"
    dataset = pydicom.dcmread(whole)
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(bare, implicit_vr=False, little_endian=True, enforce_file_format=False)
    assert "TransferSyntaxUID" not in pydicom.dcmread(bare).file_meta
    np.testing.assert_array_equal(grey_of(bare), grey_of(whole))


COLOUR = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}


def test_deep_colour_uses_the_whole_range(tmp_path: Path) -> None:
    deep = np.repeat(RAMP.astype(np.uint16)[..., None], 3, axis=2)
    path = _dicom(tmp_path / "a.dcm", deep, NumberOfFrames=1, Rows=32, Columns=32, **COLOUR)
    np.testing.assert_allclose(grey_of(path), RAMP / 4095 * 255, atol=2)


def test_a_colour_clip_is_refused_in_words(tmp_path: Path) -> None:
    clip = np.zeros((2, 32, 32, 3), np.uint8)
    tags = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 32, "Columns": 32}
    path = _dicom(tmp_path / "a.dcm", clip, NumberOfFrames=2, **tags, **COLOUR)
    with pytest.raises(DataError, match=r"^\S*a\.dcm: holds 2 frames"):
        read_image(path)


def _own(name: str) -> Path:
    """A test file that pydicom's package holds."""
    data = pytest.importorskip("pydicom.data", reason="the dicom extra is not installed")
    return Path(data.get_testdata_file(name, download=False))


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
    ],
)
def test_compressed_files_give_the_pixels_of_their_twins(name: str, twin: str) -> None:
    """JPEG 2000, JPEG-LS and JPEG Lossless, all without loss; the files are pydicom's own."""
    np.testing.assert_array_equal(read_image(_own(name)), read_image(_own(twin)))


def test_a_codec_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = _own("MR_small_jpeg_ls_lossless.dcm")
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder

    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    with pytest.raises(DataError, match=r"codec of JPEG-LS.*outerfold\[dicom\]"):
        read_image(path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = _dicom(tmp_path / "a.dcm", RAMP, Rows=60_000, Columns=60_000)
    with pytest.raises(DataError, match=r"a\.dcm: its header gives 3,600,000,000 pixels"):
        read_image(path)


def test_a_deflated_file_is_measured_before_it_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    dataset = pydicom.dcmread(_dicom(tmp_path / "a.dcm", np.zeros((1000, 1000))))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert not grey_of(tmp_path / "b.dcm").any()
    monkeypatch.setenv("OUTERFOLD_MAX_PIXELS", "1000")
    monkeypatch.setattr(pydicom, "dcmread", None)
    with pytest.raises(DataError, match=r"b\.dcm: its header gives .* more than the limit"):
        read_image(tmp_path / "b.dcm")


def test_a_voi_table_is_obeyed(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.LUTData = np.arange(4095, -1, -1, dtype=np.uint16).tobytes()
    path = _dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=[table])
    grey = grey_of(path)
    assert grey[0, 0] == 255
    assert grey[-1, -1] == 0


def test_colour_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((16, 20, 3), np.uint8)
    pixels[..., 0], pixels[:8, :, 2] = 200, 90
    path = _dicom(
        tmp_path / "a.dcm",
        pixels,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PhotometricInterpretation="RGB",
        NumberOfFrames=1,
        Rows=16,
        Columns=20,
    )
    np.testing.assert_array_equal(read_image(path), pixels)


def test_the_audit_s_thumbnail_sees_the_windowed_image(tmp_path: Path) -> None:
    path = _dicom(tmp_path / "a.dcm", RAMP, WindowCenter=1000, WindowWidth=200)
    thumbnail = read_thumbnail(path, 32)
    np.testing.assert_allclose(thumbnail.astype(int), grey_of(path), atol=1)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({}, ()),
        ({"PatientName": "Muster^Eva"}, ("PatientName",)),
        ({"PatientName": "ANONYMOUS", "PatientBirthDate": ""}, ()),
        ({"PatientName": "D1-0002", "PatientID": "D1-0002"}, ()),
        (
            {"PatientBirthDate": "19500101", "BurnedInAnnotation": "YES"},
            ("PatientBirthDate", "BurnedInAnnotation"),
        ),
        ({"BurnedInAnnotation": "NO"}, ()),
    ],
)
def test_tags_that_tell_who_is_shown_are_found(
    tmp_path: Path, tags: dict[str, str], found: tuple[str, ...]
) -> None:
    assert find_identities(_dicom(tmp_path / "a.dcm", RAMP, **tags)) == found


def test_a_file_that_is_no_dicom_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "b.dcm").write_bytes(b"no dicom")
    assert find_identities(tmp_path / "b.dcm") == ()
