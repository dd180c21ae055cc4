import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from outerfold.storage.readers._base import ReadOptions
from outerfold.storage.readers.columns import encode_value
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import Column, DataError
from tests.storage.images.image_factories import (
    ROOT,
    class_folders,
    real_data,
    write_metadata,
    write_picture,
)

REGEX = r"(P\d+)_"


def test_labels_are_folders_and_ids_are_paths_below_the_root(tmp_path: Path) -> None:
    class_folders(tmp_path, {"b": 2, "a": 1}, views=2)
    data = read_dataset(tmp_path, task="dbt", positive="b", patient_regex=REGEX)
    assert data.classes == ("a", "b")
    assert data.ids.tolist()[0] == "a/P003_0.png"
    assert [data.classes[label] for label in data.labels] == ["a", "a", "b", "b", "b", "b"]
    assert data.patients.tolist() == ["P003"] * 2 + ["P001"] * 2 + ["P002"] * 2
    assert data.features.columns == ()
    assert data.patients_known
    assert not data.synthetic


def test_clinical_classes_are_in_order_of_severity(tmp_path: Path) -> None:
    class_folders(tmp_path, dict.fromkeys(["Cancer", "Benign", "Actionable", "Normal"], 1))
    data = read_dataset(tmp_path, task="dbt", patient_regex=REGEX)
    assert data.classes == ("Normal", "Actionable", "Benign", "Cancer")


def test_multimodal_target_is_other_against_cancer_and_says_what_was_merged(tmp_path: Path) -> None:
    class_folders(tmp_path, {"CANCER": 2, "benign": 3, "normal": 1})
    data = read_dataset(tmp_path, task="multimodal", patient_regex=REGEX)
    assert data.classes == ("other", "CANCER")
    assert data.labels.sum() == 2
    assert any("benign (3 images)" in said and "'other'" in said for said in data.assumptions)
    assert any("absent: age, density, family_history" in said for said in data.assumptions)


def test_positive_names_another_class(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 2})
    data = read_dataset(tmp_path, task="multimodal", positive="B", patient_regex=REGEX)
    assert data.classes == ("other", "b")


def test_a_multimodal_target_without_cancer_asks_for_positive(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(DataError, match=r"found none among \['a', 'b'\]; name it with --positive"):
        read_dataset(tmp_path, task="multimodal", patient_regex=REGEX)


def test_positive_is_refused_where_it_has_no_effect(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1, "c": 1})
    with pytest.raises(DataError, match="--positive has no effect with 3 classes"):
        read_dataset(tmp_path, task="dbt", positive="a", patient_regex=REGEX)


def test_classes_keeps_only_those(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 1, "c": 3})
    data = read_dataset(tmp_path, task="dbt", classes=["C", "a"], positive="c", patient_regex=REGEX)
    assert data.classes == ("a", "c")
    assert len(data) == 5


def test_an_unknown_class_is_named_with_its_nearest(tmp_path: Path) -> None:
    class_folders(tmp_path, {"benign": 1, "malignant": 1})
    with pytest.raises(
        DataError, match=r"'malignent' is not in the data; did you mean 'malignant'"
    ):
        read_dataset(tmp_path, task="dbt", classes=["benign", "malignent"], patient_regex=REGEX)


def test_one_class_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3})
    with pytest.raises(DataError, match="at least two classes"):
        read_dataset(tmp_path, task="dbt", patient_regex=REGEX)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match=r"c: the class folder holds no image"):
        read_dataset(tmp_path, task="dbt", patient_regex=REGEX)


def test_a_missing_folder_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: does not exist"):
        read_dataset(tmp_path / "nowhere", task="dbt")
    (tmp_path / "set.zip").touch()
    with pytest.raises(
        DataError, match=r"a folder or a \.csv or \.xlsx manifest, found a \.zip file"
    ):
        read_dataset(tmp_path / "set.zip", task="dbt")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        read_dataset(tmp_path / "bare", task="dbt")


def test_mask_files_and_stray_images_are_left_out_and_told(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    write_picture(tmp_path / "a" / "P001_0_mask.png", 7)
    write_picture(tmp_path / "b" / "x_MASK2.png", 8)
    write_picture(tmp_path / "stray.png", 9)
    data = read_dataset(tmp_path, task="dbt", positive="b", patient_regex=REGEX)
    assert len(data) == 2
    assert any("2 mask images" in said for said in data.assumptions)
    assert any("1 images directly in the data folder" in said for said in data.assumptions)


def test_broken_images_do_not_stop_the_reader(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "P009_0.png").write_bytes(b"broken")
    assert len(read_dataset(tmp_path, task="dbt", positive="b", patient_regex=REGEX)) == 5


def test_a_regex_that_misses_files_names_three(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 4, "b": 4})
    with pytest.raises(DataError, match=r"'a/P001_0.png', 'a/P003_0.png'.*\(7 in all\)"):
        read_dataset(tmp_path, task="dbt", patient_regex="(P002)")


@pytest.mark.parametrize(
    ("regex", "message"),
    [("P\\d+", "exactly one group"), ("(a)(b)", "found 2"), ("(", "no regular expression")],
)
def test_a_bad_regex_is_explained(tmp_path: Path, regex: str, message: str) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path, task="dbt", patient_regex=regex)


@pytest.mark.parametrize(
    ("files", "patients"),
    [
        (
            ["Normal/DBT-P00013_1.png", "Cancer/sub/DBT-P00777-lcc.png"],
            ["DBT-P00777", "DBT-P00013"],
        ),
        (["a/C_0234_1.LEFT_CC.png", "b/A_0012_1.LEFT_CC.png"], ["C_0234", "A_0012"]),
        (["a/0234/left.png", "b/0234/left.png"], ["a/0234", "b/0234"]),
    ],
)
def test_known_naming_schemes_name_the_patients(
    tmp_path: Path, files: list[str], patients: list[str]
) -> None:
    for seed, name in enumerate(files):
        write_picture(tmp_path / name, seed)
    data = read_dataset(tmp_path, task="dbt", positive="Cancer" if "Cancer" in files[1] else "b")
    assert data.patients.tolist() == patients
    assert data.patients_known


def test_without_patients_near_duplicates_are_grouped_and_it_is_said(tmp_path: Path) -> None:
    for seed in range(6):
        write_picture(tmp_path / "ab"[seed % 2] / f"x{seed}.png", seed, side=64)
        write_picture(tmp_path / "ab"[seed % 2] / f"y{seed}.png", seed, side=96)
    data = read_dataset(tmp_path, task="dbt", positive="b")
    assert not data.patients_known
    assert len(set(data.patients.tolist())) == 6
    assert data.patients[data.ids == "a/x0.png"] == data.patients[data.ids == "a/y0.png"]
    assert any("could not be verified" in said for said in data.assumptions)


def _with_metadata(root: Path, header: str, cells: list[str]) -> Path:
    class_folders(root, {"benign": 2, "malignant": 2})
    files = [f"benign/P00{i}_0.png" for i in (1, 2)] + [f"malignant/P00{i}_0.png" for i in (3, 4)]
    write_metadata(root, header, [f"{f},{c}" for f, c in zip(files, cells, strict=True)])
    return root


def test_metadata_gives_patients_and_columns_of_every_kind(tmp_path: Path) -> None:
    _with_metadata(
        tmp_path,
        "file,patient_id,Age,smoker,site,Family History",
        ["p1,50,yes,left,Y", "p1,?,No,Right,n", "p2,61.5,unknown,left,y", "p3,NA,TRUE,,"],
    )
    data = read_dataset(
        tmp_path, task="multimodal", columns=["age", "Smoker", "site", "family_history"]
    )
    age, smoker, site, family = data.features.columns
    assert (age.name, age.kind, age.levels) == ("age", "numeric", ())
    assert (smoker.name, smoker.kind, smoker.levels) == ("smoker", "binary", ("no", "yes"))
    assert (site.kind, site.levels) == ("categorical", ("left", "Right"))
    assert family.name == "family_history"
    nan = np.nan
    np.testing.assert_array_equal(
        data.features.tabular,
        [[50, 1, 0, 1], [nan, 0, 1, 0], [61.5, nan, 0, 1], [nan, 1, nan, nan]],
    )
    assert data.patients.tolist() == ["p1", "p1", "p2", "p3"]


def test_dbt_takes_no_columns_and_multimodal_the_defaults_that_exist(tmp_path: Path) -> None:
    _with_metadata(tmp_path, "file,patient_id,Age,other", ["a,1,2", "b,1,2", "c,1,2", "d,1,2"])
    assert read_dataset(tmp_path, task="dbt").features.columns == ()
    data = read_dataset(tmp_path, task="multimodal")
    assert [column.name for column in data.features.columns] == ["age"]
    assert "tabular columns found: age; absent: density, family_history" in data.assumptions
    assert read_dataset(tmp_path, task="multimodal", columns=[]).features.columns == ()


def test_an_unknown_column_is_named_with_its_nearest_and_the_available(tmp_path: Path) -> None:
    _with_metadata(tmp_path, "file,patient_id,Age", ["a,1", "b,1", "c,1", "d,1"])
    with pytest.raises(DataError, match=r"'agee' .* did you mean 'Age'\?; available: \['Age'"):
        read_dataset(tmp_path, task="multimodal", columns=["agee"])
    with pytest.raises(DataError, match="named twice"):
        read_dataset(tmp_path, task="multimodal", columns=["age", "Age"])


def test_numbers_with_typing_errors_are_refused_not_made_categories(tmp_path: Path) -> None:
    class_folders(tmp_path, {"benign": 5, "malignant": 5})
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    rows = [f"{name},p{i},{'5O' if i == 3 else 40 + i}" for i, name in enumerate(files)]
    write_metadata(tmp_path, "file,patient_id,age", rows)
    with pytest.raises(DataError, match=r"9 of 10 values are numbers, but not \['5O'\]"):
        read_dataset(tmp_path, task="multimodal")


def test_one_value_is_encoded_as_the_column_was() -> None:
    assert encode_value(Column("age"), "61") == 61
    assert np.isnan(encode_value(Column("age"), "unknown"))
    assert encode_value(Column("smoker", "binary", ("no", "yes")), "Y") == 1
    assert encode_value(Column("site", "categorical", ("left", "right")), "Right") == 1
    with pytest.raises(
        DataError, match=r"'site' has the levels \['left', 'right'\], found 'rihgt'; did"
    ):
        encode_value(Column("site", "categorical", ("left", "right")), "rihgt")
    with pytest.raises(DataError, match="'age' holds numbers, found 'inf'"):
        encode_value(Column("age"), "inf")


def test_metadata_that_does_not_fit_the_images_is_refused(tmp_path: Path) -> None:
    _with_metadata(tmp_path, "file,patient_id", ["a", "b", "c", ""])
    with pytest.raises(DataError, match=r"'malignant/P004_0.png: no patient .*--set-aside"):
        read_dataset(tmp_path, task="dbt")
    write_picture(tmp_path / "benign" / "new.png", 77)
    with pytest.raises(DataError, match=r"benign/new.png: no row in metadata.csv.*--set-aside"):
        read_dataset(tmp_path, task="dbt")
    data = read_dataset(tmp_path, task="dbt", options=ReadOptions(set_aside=True))
    assert {row.id for row in data.set_aside} == {"benign/new.png", "malignant/P004_0.png"}
    for seed in range(5):
        write_picture(tmp_path / "benign" / f"n{seed}.png", 80 + seed)
    with pytest.raises(DataError, match=r"'benign/n0.png'.* have no row"):
        read_dataset(tmp_path, task="dbt")


def test_a_dead_link_is_set_aside_like_every_file_that_cannot_be_read(tmp_path: Path) -> None:
    class_folders(tmp_path, {"benign": 2, "malignant": 2})
    (tmp_path / "benign" / "P009_0.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(
        DataError, match=r"P009_0\.png: cannot be read \(it is a link .*--set-aside"
    ):
        read_dataset(tmp_path, task="dbt", patient_regex=REGEX)
    options = ReadOptions(set_aside=True)
    data = read_dataset(tmp_path, task="dbt", patient_regex=REGEX, options=options)
    assert [(row.id, row.label) for row in data.set_aside] == [("benign/P009_0.png", "benign")]
    assert len(data.ids) == 4
    for file in tmp_path.glob("*/P00[1-4]*"):
        file.unlink()
        file.symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_dataset(tmp_path, task="dbt", patient_regex=REGEX, options=options)


def test_metadata_may_name_files_without_their_folders(tmp_path: Path) -> None:
    _with_metadata(tmp_path, "file,patient_id", ["a", "b", "c", "d"])
    text = (tmp_path / "metadata.csv").read_text()
    plain = read_dataset(tmp_path, task="dbt")
    (tmp_path / "metadata.csv").write_text(re.sub(r"^(benign|malignant)/", "", text, flags=re.M))
    assert read_dataset(tmp_path, task="dbt").fingerprint == plain.fingerprint


def test_metadata_rows_without_image_are_left_out_and_told(tmp_path: Path) -> None:
    _with_metadata(tmp_path, "file,patient_id", ["a", "b", "c", "d"])
    (tmp_path / "benign" / "P002_0.png").unlink()
    data = read_dataset(tmp_path, task="dbt")
    assert len(data) == 3
    assert any("1 rows of metadata.csv have no image" in said for said in data.assumptions)


def test_a_label_column_that_contradicts_the_folder_is_refused(tmp_path: Path) -> None:
    _with_metadata(
        tmp_path, "file,patient_id,label", ["a,benign", "b,malignant", "c,malignant", "d,malignant"]
    )
    with pytest.raises(DataError, match="contradicts the class folder"):
        read_dataset(tmp_path, task="dbt")


def test_patient_regex_is_refused_where_metadata_names_patients(tmp_path: Path) -> None:
    _with_metadata(tmp_path, "file,patient_id", ["a", "b", "c", "d"])
    with pytest.raises(DataError, match=r"--patient-regex has no effect: metadata\.csv"):
        read_dataset(tmp_path, task="dbt", patient_regex=REGEX)


def test_fingerprint_changes_with_content_and_label_and_column_but_not_with_place(
    tmp_path: Path,
) -> None:
    def built(name: str, cells: list[str]) -> Path:
        return _with_metadata(tmp_path / name, "file,patient_id,age", cells)

    cells = ["a,1", "b,2", "c,3", "d,4"]
    first = read_dataset(built("one", cells), task="multimodal").fingerprint
    assert read_dataset(built("two", cells), task="multimodal").fingerprint == first
    assert (
        read_dataset(built("three", ["a,1", "b,2", "c,3", "d,5"]), task="multimodal").fingerprint
        != first
    )
    assert (
        read_dataset(built("four", ["a,1", "a,2", "c,3", "d,4"]), task="multimodal").fingerprint
        != first
    )
    assert read_dataset(tmp_path / "one", task="dbt").fingerprint != first
    write_picture(tmp_path / "two" / "benign" / "P001_0.png", 5)
    assert read_dataset(tmp_path / "two", task="multimodal").fingerprint != first


def test_bus_bra_keeps_its_1064_patients() -> None:
    data = read_dataset(real_data("bus-bra"), task="dbt")
    assert np.bincount(data.labels).tolist() == [562, 463, 693, 157]
    assert len(set(data.patients.tolist())) == 1064


def test_breast_usg_reads_missing_values_and_merges_normals() -> None:
    data = read_dataset(real_data("breast-usg"), task="multimodal")
    assert [column.name for column in data.features.columns] == ["age", "family_history"]
    assert np.isnan(data.features.tabular).sum(axis=0).tolist() == [42, 98]
    assert data.labels.sum() == 98
    assert any("normal (4 images)" in said for said in data.assumptions)


def test_importing_records_and_readers_stays_light() -> None:
    code = (
        "import sys, outerfold.storage.records, outerfold.storage.readers.read;"
        "import outerfold.storage.audit.audit, outerfold.storage.datasets.kaggle;"
        "heavy = {'pandas','PIL','openpyxl','imagehash','pydicom','cv2','torch','scipy','joblib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_is_no_image_is_left_out_and_said_and_links_are_followed_once(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", {"benign": 2, "cancer": 2})
    root = tmp_path / "set"
    write_picture(root / "benign" / ".ipynb_checkpoints" / "P001_0.png", 1)
    write_picture(root / "benign" / "P001_0_seg.png", 2)
    write_picture(root / "cancer" / "more.bmp", 3)
    (root / "cancer" / "notes.npy").write_bytes(b"x")
    write_picture(tmp_path / "elsewhere" / "P009_0.png", 4)
    (root / "cancer" / "link").symlink_to(tmp_path / "elsewhere")
    (root / "cancer" / "loop").symlink_to(root / "cancer")
    data = read_dataset(root, task="dbt", options=ReadOptions(patients_unknown=True))
    assert len(data) == 6
    said = " ".join(data.assumptions)
    assert "1 mask images" in said
    assert "1 hidden files or copies of machines" in said
    assert "(1 .npy)" in said


@pytest.mark.parametrize("name", [b"gr\xfc\xdfe.png", b"a\x0bb.png"])
def test_a_name_that_no_report_can_show_is_refused(tmp_path: Path, name: bytes) -> None:
    class_folders(tmp_path, {"benign": 1, "cancer": 1})
    (tmp_path / "benign" / "P001_0.png").rename(tmp_path / "benign" / os.fsdecode(name))
    with pytest.raises(DataError, match="no report can show; rename them"):
        read_dataset(tmp_path, task="dbt")
