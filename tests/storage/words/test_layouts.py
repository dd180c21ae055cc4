import pytest

from outerfold.storage.records import DataError
from outerfold.storage.words.layouts import find_masks, is_junk, read_layout


def test_splits_are_passed_over_and_said() -> None:
    paths = [f"{s}/{c}/{i}.png" for s in ("train", "test", "val") for c in ("B", "C") for i in "12"]
    for outside in ("", "archive/"):
        layout = read_layout([outside + path for path in paths])
        assert set(layout.labels) == {"B", "C"}
        assert "are splits" in layout.notes[0]


def test_a_folder_around_all_classes_is_passed_over() -> None:
    paths = [f"Dataset_BUSI/{c}/{i}.png" for c in ("benign", "malignant") for i in "12"]
    assert set(read_layout(paths).labels) == {"benign", "malignant"}
    assert set(read_layout([f"benign/{p}/a.png" for p in ("x", "y")]).labels) == {"benign"}


def test_patients_above_classes_are_patients() -> None:
    paths = [f"{p}/{c}/{p}_{i}.png" for p in range(10253, 10269) for c in "01" for i in "12"]
    layout = read_layout(paths)
    assert set(layout.labels) == {"0", "1"}
    assert layout.patients is not None
    assert len(set(layout.patients)) == 16


def test_years_above_classes_are_no_patients() -> None:
    paths = [f"{y}/{c}/{i}.png" for y in range(2010, 2020) for c in ("B", "C") for i in "1"]
    assert read_layout(paths).patients is None


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([f"{s}/{i}.png" for s in ("train", "test") for i in "12"], "names of splits"),
        ([f"{p}/{p}{i}.dcm" for p in range(100, 130) for i in "12"], "look like patients"),
        ([f"D1-{p:04}/1.2.{p}/a.dcm" for p in range(30)], "look like patients"),
    ],
)
def test_layouts_without_classes_are_drawn(paths: list[str], message: str) -> None:
    with pytest.raises(DataError, match=rf"(?s){message}.*/  .*images\).*patient_id"):
        read_layout(paths)


def test_classes_stay_classes() -> None:
    for names in (["BIRADS2", "BIRADS3", "BIRADS4", "BIRADS5"], ["0", "1"], ["Benign", "Cancer"]):
        paths = [f"{c}/P{p}/{s}.png" for c in names for p in range(9) for s in "lr"]
        layout = read_layout(paths)
        assert set(layout.labels) == set(names)
        assert layout.patients is None


def test_masks_need_the_image_beside_them() -> None:
    masks = ["a_seg.png", "a_gt.png", "a_roi.png", "a_mask01.png", "a_mask (1).png", "masks/a.png"]
    assert find_masks(["c/a.png", *(f"c/{name}" for name in masks)]) == {f"c/{n}" for n in masks}
    assert find_masks(["c/b_roi.png", "c/b_gt.png", "c/a.png"]) == set()
    assert find_masks(["benign/a.png", "masks/a.png"]) == {"masks/a.png"}


@pytest.mark.parametrize(
    "other",
    ["a_overlay.png", "a_annotated.png", "a-label.png", "mask_a.png", "heatmaps/a.png", "GT/a.png"],
)
def test_pictures_drawn_from_an_image_are_left_out(other: str) -> None:
    assert find_masks(["c/a.png", f"c/{other}"]) == {f"c/{other}"}
    assert find_masks([f"c/{other}", "c/b.png"]) == set()


@pytest.mark.parametrize(
    "tops", [("fold1", "fold2"), ("cv_1", "cv_2", "cv_3"), [f"Fold {n}" for n in range(1, 6)]]
)
def test_numbered_folds_are_splits_and_no_patients(tops: tuple[str, ...]) -> None:
    layout = read_layout([f"{s}/{c}/{i}.png" for s in tops for c in ("B", "C") for i in "12"])
    assert set(layout.labels) == {"B", "C"}
    assert layout.patients is None
    assert "are splits" in layout.notes[0]


@pytest.mark.parametrize("tops", [("HospitalA", "HospitalB"), ("left", "right"), ("2019", "2020")])
def test_folders_that_each_hold_the_classes_are_joined(tops: tuple[str, ...]) -> None:
    paths = [f"{s}/{c}/{i}.png" for s in tops for c in ("benign", "malignant") for i in "12"]
    layout = read_layout(paths)
    assert set(layout.labels) == {"benign", "malignant"}
    assert "were joined" in layout.notes[0]


def test_subtypes_below_classes_are_no_classes() -> None:
    paths = [f"{c}/{s}/{i}.png" for c in ("benign", "malignant") for s in ("a", "b") for i in "12"]
    assert set(read_layout(paths).labels) == {"benign", "malignant"}


def test_a_folder_that_holds_all_classes_again_is_no_class() -> None:
    paths = [f"{c}/{i}.png" for c in ("benign", "malignant") for i in "12"]
    with pytest.raises(DataError, match="folder 'augmented' holds the folders"):
        read_layout([*paths, *(f"augmented/{path}" for path in paths)])


@pytest.mark.parametrize("tops", [("left", "right"), ("CC", "MLO"), ("L_CC", "R_CC")])
def test_classes_that_may_be_sides_or_views_are_said(tops: tuple[str, ...]) -> None:
    layout = read_layout([f"{top}/{i}.png" for top in tops for i in "123"])
    assert any("they are sides or views" in note for note in layout.notes)
    assert read_layout([f"{top}/1.png" for top in ("benign", *tops)]).notes == ()


@pytest.mark.parametrize(
    "tops", [("imagesTr", "labelsTr"), ("original", "augmented"), ("raw", "CLAHE"), ("256", "512")]
)
def test_editions_that_hold_the_classes_are_not_joined(tops: tuple[str, ...]) -> None:
    paths = [f"{top}/{c}/{i}.png" for top in tops for c in ("benign", "malignant") for i in "12"]
    with pytest.raises(DataError, match="look like editions of one set"):
        read_layout(paths)


@pytest.mark.parametrize("top", ["cancer", "lesion", "abnormal"])
def test_a_class_that_holds_other_classes_is_refused(top: str) -> None:
    paths = [f"{top}/{c}/{i}.png" for c in ("benign", "malignant") for i in "12"]
    with pytest.raises(DataError, match=rf"folder '{top}' holds the folder '(benign|malignant)'"):
        read_layout([*paths, "normal/1.png", "normal/2.png"])


def test_cases_and_subtypes_below_a_class_are_no_classes() -> None:
    below = ("benign/case 1/a", "benign/patient2/b", "normal/c", "malignant/SOB/ductal_carcinoma/d")
    layout = read_layout([f"{name}.png" for name in below])
    assert set(layout.labels) == {"benign", "normal", "malignant"}


def test_folders_of_masks_are_known_by_a_word_and_one_around_all_is_none() -> None:
    images = ["benign/a.png", "malignant/b.png"]
    masks = ["benign_masks/a.png", "malignant masks/b.png", "masks_of_c/b_mask.png"]
    assert find_masks([*images, *masks]) == set(masks)
    inside = [f"Set_with_masks/{name}" for name in (*images, *masks)]
    assert find_masks(inside) == {f"Set_with_masks/{name}" for name in masks}


def test_copies_of_machines_are_junk() -> None:
    assert is_junk("a/.ipynb_checkpoints/x.png")
    assert is_junk("__MACOSX/a/._x.png")
    assert not is_junk("a/b.c/x.png")
