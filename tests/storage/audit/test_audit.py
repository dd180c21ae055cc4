import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outerfold.storage.audit.audit import Audit, audit_dataset
from outerfold.storage.audit.leaking_columns import column_warnings, is_verdict, rank_auc
from outerfold.storage.audit.near_duplicates import compute_signatures, find_pairs, group_lookalikes
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import Column, DataError, Dataset, Features
from tests.storage.images.image_factories import class_folders, picture, real_data, write_picture


def _data(root: Path, sizes: dict[str, int] | None = None, views: int = 2) -> Dataset:
    if not root.exists():
        class_folders(root, sizes or {"benign": 6, "malignant": 6}, views)
    return read_dataset(root, task="dbt", patient_regex=r"(P\d+)_")


def _audit(data: Dataset) -> Audit:
    return audit_dataset(data, outer_folds=3, inner_folds=2)


def _with_column(data: Dataset, column: Column, values: object) -> Dataset:
    table = np.asarray(values, dtype=np.float64)[:, None]
    return replace(data, features=replace(data.features, tabular=table, columns=(column,)))


def _found(sentences: tuple[str, ...], *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in sentences)


def test_clean_data_pass_in_silence(tmp_path: Path) -> None:
    assert _audit(_data(tmp_path / "d")) == Audit((), ())


def test_one_image_of_two_patients_is_an_error(tmp_path: Path) -> None:
    _data(tmp_path / "d")
    shutil.copy(tmp_path / "d/benign/P001_0.png", tmp_path / "d/benign/P002_9.png")
    errors = _audit(_data(tmp_path / "d")).errors
    assert len(errors) == 1
    assert _found(errors, "one patient", "benign/P001_0.png = benign/P002_9.png", "(1 in all)")


def test_one_image_under_two_labels_is_an_error(tmp_path: Path) -> None:
    _data(tmp_path / "d")
    shutil.copy(tmp_path / "d/benign/P001_0.png", tmp_path / "d/malignant/P001_9.png")
    result = _audit(_data(tmp_path / "d"))
    assert _found(result.errors, "one label", "benign/P001_0.png = malignant/P001_9.png")
    assert _found(result.warnings, "['P001'] (1 in all) have images of more than one class")


def test_one_image_twice_within_a_patient_is_a_warning(tmp_path: Path) -> None:
    _data(tmp_path / "d")
    shutil.copy(tmp_path / "d/benign/P001_0.png", tmp_path / "d/benign/P001_9.png")
    result = _audit(_data(tmp_path / "d"))
    assert result.errors == ()
    assert _found(result.warnings, "identical files within a patient", "P001_9.png")


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_recompressed_copy_of_another_patient_is_a_warning(
    tmp_path: Path, mirrored: bool
) -> None:
    _data(tmp_path / "d")
    pixels = picture(100)[:, ::-1] if mirrored else picture(100)
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize((60, 60))
    image.save(tmp_path / "d/benign/P002_9.jpg", quality=60)
    result = _audit(_data(tmp_path / "d"))
    assert result.errors == ()
    said = "benign/P001_0.png ~ benign/P002_9.jpg" + (" (mirrored)" if mirrored else "")
    assert _found(result.warnings, "near-identical images of different patients", said)


def _recompressed(image: Image.Image) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


def _brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: min(255, round(0.8 * value + 40)))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": _recompressed,
    "saved in another format": lambda image: image,
    "resized": lambda image: image.resize((image.width // 2, image.height // 2)),
    "squeezed": lambda image: image.resize((image.width, image.height * 4 // 5)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": _brighter,
    "of less contrast": lambda image: image.point(lambda value: value // 2 + 60),
    "of another gamma": lambda image: image.point(lambda value: 255 * (value / 255) ** 0.8),
    "all at once": lambda image: _recompressed(
        _brighter(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((120, 120)))
    ),
}


@pytest.mark.parametrize("how", COPIES)
def test_every_kind_of_near_duplicate_under_two_patients_is_a_warning(
    tmp_path: Path, how: str
) -> None:
    _data(tmp_path / "d")
    source = Image.fromarray(picture(100, side=160))
    source.save(tmp_path / "d/benign/P001_0.png")
    COPIES[how](source).save(tmp_path / "d/benign/P002_9.png")
    if how == "saved in another format":
        (tmp_path / "d/benign/P002_9.png").unlink()
        source.save(tmp_path / "d/benign/P002_9.tif")
    warnings = _audit(_data(tmp_path / "d")).warnings
    assert _found(warnings, "near-identical images of different patients", "benign/P002_9")


@pytest.mark.parametrize("how", COPIES)
def test_every_kind_of_near_duplicate_of_a_real_scan_is_found(tmp_path: Path, how: str) -> None:
    """Ten ultrasounds and their copies: each copy is a pair with its own original alone."""
    folder = real_data("breast-usg")
    originals = sorted((folder / "malignant").glob("*.jpg"))[:10]
    copies = [tmp_path / f"{i}.png" for i in range(10)]
    for original, copy in zip(originals, copies, strict=True):
        COPIES[how](Image.open(original).convert("L")).save(copy)
    pairs = find_pairs(compute_signatures([str(path) for path in (*originals, *copies)]))
    assert [(pair.first, pair.second) for pair in pairs] == [(i, i + 10) for i in range(10)]


def test_unreadable_and_empty_images_are_errors_that_name_them(tmp_path: Path) -> None:
    _data(tmp_path / "d")
    (tmp_path / "d/benign/P001_0.png").write_bytes(b"broken")
    Image.fromarray(np.full((40, 40), 7, dtype=np.uint8)).save(tmp_path / "d/benign/P002_0.png")
    errors = _audit(_data(tmp_path / "d")).errors
    assert _found(errors, "must be readable", "['benign/P001_0.png'] (1 in all)")
    assert _found(errors, "must show something", "['benign/P002_0.png'] (1 in all)")


def test_classes_too_small_for_the_folds_are_refused_with_the_numbers(tmp_path: Path) -> None:
    data = _data(tmp_path / "d", {"a": 8, "b": 2, "c": 1}, views=1)
    result = audit_dataset(data, outer_folds=5, inner_folds=4)
    assert _found(result.errors, "class 'b' has 2 patients (2 images) for 5 outer folds")
    assert _found(result.errors, "class 'c' has 1 image;")
    assert _found(result.warnings, "class 'a' has 8 patients for 5 outer x 4 inner", "below 20")


def test_guessed_patients_and_patients_of_one_image_are_told(tmp_path: Path) -> None:
    data = _data(tmp_path / "d", views=1)
    assert _found(_audit(data).warnings, "each of the 12 images has a different patient")
    guessed = replace(data, patients_known=False)
    assert _found(_audit(guessed).warnings, "patients are not known")


@pytest.mark.parametrize(
    "name",
    [
        "shape_LEAKY",
        "BI-RADS",
        "pathology",
        "Diagnosis",
        "verification",
        "Tumour_Contour",
        "label",
        "fileName",
        "fullPath",
    ],
)
def test_columns_of_the_verdict_are_errors(tmp_path: Path, name: str) -> None:
    data = _data(tmp_path / "d")
    noise = np.random.default_rng(0).random(len(data))
    assert _found(_audit(_with_column(data, Column(name), noise)).errors, repr(name), "verdict")


def test_a_number_that_tells_the_label_is_an_error_and_one_that_nearly_does_a_warning(
    tmp_path: Path,
) -> None:
    data = _data(tmp_path / "d")
    rank = np.arange(len(data), dtype=float)
    errors = _audit(_with_column(data, Column("size"), -rank)).errors
    assert _found(errors, "column 'size' alone separates", "AUC 1.00")
    swapped = rank.copy()
    swapped[[8, 9, 12, 13]] = swapped[[14, 15, 9, 8]]
    result = _audit(_with_column(data, Column("size"), swapped))
    assert result.errors == ()
    assert _found(result.warnings, "column 'size' alone nearly separates")


def test_a_category_whose_levels_together_tell_the_label_is_an_error(tmp_path: Path) -> None:
    data = _data(tmp_path / "d", {"benign": 18, "malignant": 18}, views=1)
    codes = 3 * data.labels + np.arange(len(data)) % 3
    column = Column("type", "categorical", tuple("abcdef"))
    assert _found(_audit(_with_column(data, column, codes)).errors, "column 'type' alone separates")


def test_a_category_with_a_level_a_patient_does_not_predict_itself(tmp_path: Path) -> None:
    data = _data(tmp_path / "d")
    column = Column("name", "categorical", tuple(f"n{i:02d}" for i in range(12)))
    result = _audit(_with_column(data, column, np.repeat(np.arange(12), 2)))
    assert result.errors == ()


def test_values_that_name_their_class_are_an_error_and_other_mentions_are_not(
    tmp_path: Path,
) -> None:
    data = _data(tmp_path / "d")
    leak = Column("origin", "categorical", ("scan/malignant/7.png", "x", "y"))
    codes = np.where(np.arange(len(data)) >= 22, 0, 1 + np.arange(len(data)) % 2)
    errors = _audit(_with_column(data, leak, codes)).errors
    assert _found(errors, "column 'origin'", "name the class", "scan/malignant/7.png")
    mention = Column("symptom", "categorical", ("mother had malignant tumour", "none"))
    codes = np.arange(len(data)) % 2
    assert _audit(_with_column(data, mention, codes)).errors == ()


def test_missingness_that_tells_the_label_is_a_warning(tmp_path: Path) -> None:
    data = _data(tmp_path / "d")
    values = np.random.default_rng(1).random(len(data))
    values[data.labels == 0] = np.where(np.arange(12) % 4 == 0, 0.5, np.nan)
    warnings = _audit(_with_column(data, Column("age"), values)).warnings
    assert _found(warnings, "column 'age': missing values alone separate", "AUC 0.88")


def test_a_column_known_for_one_class_only_is_an_error(tmp_path: Path) -> None:
    data = _data(class_folders(tmp_path, {"benign": 6, "malignant": 6}))
    values = np.where(data.labels == 1, 0.0, np.nan)
    errors = _audit(_with_column(data, Column("severity"), values)).errors
    assert _found(errors, "column 'severity': missing values alone separate", "AUC 1.00")


def test_a_level_of_one_class_only_is_a_warning() -> None:
    people = np.array([f"P{i}" for i in range(200)])
    features = Features(people, people, np.zeros((200, 1)), (Column("site", "binary", ("a", "b")),))
    labels = (np.arange(200) % 2).astype(np.int64)
    data = Dataset(features, labels, people, ("benign", "cancer"), "f")
    values = np.where((labels == 1) & (np.arange(200) < 60), 1.0, 0.0)
    found = tuple(column_warnings(_with_column(data, Column("site", "binary", ("a", "b")), values)))
    assert _found(found, "the value 'b' of 30 patients occurs in class 'cancer' only")
    few = np.where((labels == 1) & (np.arange(200) < 30), 1.0, 0.0)
    assert not any(
        "occurs in class" in text
        for text in column_warnings(_with_column(data, Column("site", "binary", ("a", "b")), few))
    )


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("assessment", True),
        ("BI-RADS", True),
        ("Invasive", True),
        ("BI-RADS density", False),
        ("biopsy_history", False),
        ("age_at_diagnosis", False),
        ("family history of cancer", False),
    ],
)
def test_verdicts_are_known_by_their_whole_name(name: str, verdict: bool) -> None:
    assert is_verdict(name) == verdict


@pytest.mark.parametrize(("value", "said"), [(np.nan, "always missing"), (3.0, "the same")])
def test_useless_columns_are_warnings(tmp_path: Path, value: float, said: str) -> None:
    data = _data(tmp_path / "d")
    result = _audit(_with_column(data, Column("age"), np.full(len(data), value)))
    assert _found(result.warnings, "column 'age' is", said)
    assert result.errors == ()


def test_require_raises_all_errors_at_once() -> None:
    Audit((), ("mind",)).require()
    with pytest.raises(DataError, match="first; second"):
        Audit(("first", "second"), ()).require()


def test_rank_auc_equals_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 200).astype(float)
    hit = rng.random(200) < 0.3
    assert rank_auc(scores, hit, fold=False) == pytest.approx(roc_auc_score(hit, scores))


def test_lookalikes_do_not_depend_on_the_order_of_images(tmp_path: Path) -> None:
    paths = [
        str(write_picture(tmp_path / f"{s}_{n}.png", s, n)) for s in range(8) for n in (48, 90)
    ]
    names = [Path(path).name for path in paths]
    forward = group_lookalikes(names, paths)
    backward = group_lookalikes(names[::-1], paths[::-1])[::-1]
    assert len(set(forward)) == 8
    for one in range(16):
        for two in range(16):
            assert (forward[one] == forward[two]) == (backward[one] == backward[two])


def test_flat_images_are_no_lookalikes_and_crowds_stay_near_linear(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(tmp_path / "flat.png")
    write_picture(tmp_path / "one.png", 1)
    paths = [str(tmp_path / "flat.png")] * 50 + [str(tmp_path / "one.png")] * 2
    signatures = compute_signatures(paths)
    assert [(pair.first, pair.second) for pair in find_pairs(signatures)] == [(50, 51)]
    crowd = replace(
        signatures,
        **{
            name: np.repeat(getattr(signatures, name)[50:51], 200, axis=0)
            for name in ("thumbnails", "hashes", "mirrored", "spread")
        },
    )
    assert len(find_pairs(crowd)) <= 200 * 64


def test_twenty_thousand_hashes_are_compared_in_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    template = compute_signatures([str(write_picture(tmp_path / "one.png", 1))])
    many = replace(
        template,
        thumbnails=np.zeros((20_000, 32, 32), dtype=np.uint8),
        hashes=rng.integers(0, 256, (20_000, 32), dtype=np.uint8),
        mirrored=rng.integers(0, 256, (20_000, 32), dtype=np.uint8),
        spread=np.full(20_000, 200),
    )
    start = time.perf_counter()
    assert find_pairs(many) == ()
    assert time.perf_counter() - start < 30


@pytest.mark.parametrize(("name", "task"), [("bus-bra", "dbt"), ("breast-usg", "multimodal")])
def test_real_ultrasounds_raise_no_false_alarm(name: str, task: str) -> None:
    folder = real_data(name)
    positive = {"classes": ["benign", "malignant"]} if task == "multimodal" else {}
    data = read_dataset(folder, task=task, **positive)  # type: ignore[arg-type]
    result = audit_dataset(data, outer_folds=5, inner_folds=4)
    assert result.errors == ()
    assert not _found(result.warnings, "near-identical")
    assert not _found(result.warnings, "identical files")


def test_leaky_columns_of_real_data_are_refused() -> None:
    asked = ["age", "shape_LEAKY", "margin_LEAKY", "birads_LEAKY", "verification", "label"]
    data = read_dataset(real_data("breast-usg"), task="multimodal", columns=asked)
    errors = audit_dataset(data, outer_folds=5, inner_folds=4).errors
    for name in asked[1:]:
        assert _found(errors, f"column {name!r}")
    assert not _found(errors, "'age'")


def _losing(root: Path, count: int) -> Dataset:
    """Twenty patients; ``count`` files of one class hold marks that leave no levels to tissue."""
    class_folders(root, {"benign": 10, "cancer": 10})
    for path in sorted((root / "cancer").iterdir())[:count]:
        deep = picture(int(path.stem[1:4])).astype("u2") * 16
        deep[:4], deep[4:8] = 65000, 64000
        Image.fromarray(deep).save(path)
    return read_dataset(root, task="dbt", patient_regex=r"(P\d+)")


def test_images_that_lost_their_levels_are_an_error(tmp_path: Path) -> None:
    found = _audit(_losing(tmp_path, 1))
    assert _found(found.errors, "images must keep their grey levels", "cancer/P011_0.png")


def test_few_images_that_lost_their_levels_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outerfold.storage.audit.audit.CRUSHED_SHARE", 0.9)
    found = _audit(_losing(tmp_path, 1))
    assert not _found(found.errors, "images must keep their grey levels")
    assert _found(found.warnings, "images must keep their grey levels", "cancer/P011_0.png")
    whole = _audit(_losing(tmp_path / "all", 10))
    assert _found(whole.errors, "images must keep their grey levels")


def test_the_mirrored_hash_is_that_of_the_mirror_image_from_left_to_right(tmp_path: Path) -> None:
    whole = picture(7, 64)
    names = []
    for name, pixels in (("a", whole), ("b", whole[:, ::-1]), ("c", whole[::-1])):
        names.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(np.ascontiguousarray(pixels)).save(names[-1])
    found = compute_signatures(names)
    np.testing.assert_array_equal(found.mirrored[0], found.hashes[1])
    np.testing.assert_array_equal(found.mirrored[1], found.hashes[0])
    assert (found.mirrored[0] != found.hashes[2]).any()
    assert found.spread[0] == int(whole.max()) - int(whole.min())
