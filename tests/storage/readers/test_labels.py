from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from outerfold.storage.readers._base import Listing, ReadOptions
from outerfold.storage.readers.labels import contradictions, read_labels
from outerfold.storage.readers.read import read_dataset
from outerfold.storage.records import DataError
from tests.storage.images.image_factories import class_folders, write_metadata, write_picture


def listing(labels: list[str]) -> Listing:
    ids = tuple(f"{i}.png" for i in range(len(labels)))
    return Listing(Path(), ids, tuple(map(Path, ids)), tuple(labels), None)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["Benign", "cancer", "benign", "Cancer", "cancer "], {"Benign": 2, "cancer": 3}),
        (["non cancer", "cancer", "non  cancer", "cancer"], {"non  cancer": 2, "cancer": 2}),
        (["non\vcancer", "cancer", "non cancer"], {"non cancer": 2, "cancer": 1}),
        (["0", "1", "0.0", "1.0", "True", "False"], {"0": 3, "1": 3}),
        (["-", "+", "-"], {"-": 2, "+": 1}),
        (["4A", "4B", "5"], {"4A": 1, "4B": 1, "5": 1}),
        (["NONE", "no finding"], {"no finding": 1}),
    ],
)
def test_spellings_are_one_class(labels: list[str], classes: dict[str, int]) -> None:
    assert Counter(read_labels(listing(labels)).labels) == classes


@pytest.mark.parametrize(
    "word", ["TBD", "pending", "unbekannt", "不明", "excluded", "to_check", "non-diagnostic", "tmp"]
)
def test_a_word_for_no_class_is_no_class(word: str) -> None:
    assert read_labels(listing(["benign", "cancer", word])).labels == ("benign", "cancer")
    assert word in read_labels(listing(["benign", "cancer", word]), [word]).labels


@pytest.mark.parametrize("gap", ["nan", "NA", "unknown", "?", "-", "", "None", "#N/A", "–"])
def test_a_gap_is_no_label_and_is_listed(gap: str) -> None:
    found = read_labels(listing(["benign", "cancer", gap]))
    assert found.labels == ("benign", "cancer")
    assert [row.id for row in found.set_aside] == ["2.png"]


def test_a_gap_that_the_user_names_is_a_class() -> None:
    assert read_labels(listing(["benign", "Unknown"]), ["unknown"]).labels == ("benign", "Unknown")


def test_words_and_numbers_side_by_side_are_refused() -> None:
    with pytest.raises(DataError, match=r"\['Cancer', 'benign'\] and \['1'\] stand side by side"):
        read_labels(listing(["Cancer", "1", "benign"]))


def _sheet(root: Path, labels: list[str]) -> Path:
    for seed in range(len(labels)):
        write_picture(root / f"{seed}.png", seed)
    rows = [f"{i}.png,{label},P{i}" for i, label in enumerate(labels)]
    return write_metadata(root, "file,label,patient_id", rows, "m.csv")


def test_few_rows_without_label_are_set_aside_and_many_are_asked(tmp_path: Path) -> None:
    labels = ["cancer", "benign"] * 8
    data = read_dataset(
        _sheet(tmp_path, [*labels, "nan", "NA", "?"]), task="multimodal", columns=()
    )
    assert data.labels.tolist().count(1) == 8
    assert len(data) == 16
    assert len(data.set_aside) == 3
    assert any("rows set aside" in said and "3 in all" in said for said in data.assumptions)
    source = _sheet(tmp_path, [*labels, "nan", "NA", "?", "unknown"])
    with pytest.raises(DataError, match=r"no label .* add --set-aside"):
        read_dataset(source, task="multimodal", columns=())
    allowed = ReadOptions(set_aside=True)
    assert len(read_dataset(source, task="multimodal", columns=(), options=allowed)) == 16
    with pytest.raises(DataError, match="--strict"):
        read_dataset(source, task="multimodal", columns=(), options=ReadOptions(strict=True))


def test_two_unknown_names_ask_for_the_positive_class_with_the_command(tmp_path: Path) -> None:
    class_folders(tmp_path, {"grp a": 1, "grp b": 1})
    with pytest.raises(DataError, match=r"add --positive 'grp a' or --positive 'grp b'"):
        read_dataset(tmp_path, task="dbt", patient_regex=r"(P\d+)_")


def test_several_classes_of_cancer_are_one_positive_class(tmp_path: Path) -> None:
    class_folders(tmp_path, {"benign": 2, "carcinoma": 2, "malignant": 2})
    read = partial(read_dataset, tmp_path, task="multimodal", patient_regex=r"(P\d+)_")
    with pytest.raises(DataError, match=r"name it with --positive carcinoma,malignant$"):
        read()
    with pytest.raises(DataError, match=r"add --positive malignant,carcinoma, or leave one out"):
        read(positive="malignant")
    data = read(positive="carcinoma,malignant")
    assert data.classes == ("other", "carcinoma, malignant")
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert data.originals.tolist() == ["benign"] * 2 + ["carcinoma"] * 2 + ["malignant"] * 2
    assert read(positive=data.classes[1]).fingerprint == data.fingerprint
    with pytest.raises(DataError, match="names all classes"):
        read(positive="benign,carcinoma,malignant")


def test_a_positive_class_called_other_stands_against_the_rest(tmp_path: Path) -> None:
    class_folders(tmp_path, {"benign": 1, "other": 2})
    data = read_dataset(tmp_path, task="multimodal", positive="other", patient_regex=r"(P\d+)_")
    assert data.classes == ("the rest", "other")
    assert sorted(data.labels.tolist()) == [0, 1, 1]


def test_the_positive_class_is_the_last_and_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cancer": 1, "healthy": 1})
    data = read_dataset(tmp_path, task="dbt", patient_regex=r"(P\d+)_")
    assert data.classes == ("healthy", "cancer")
    assert data.classes[data.labels[0]] == "cancer"
    assert "positive class 'cancer', against 'healthy'" in data.assumptions
    turned = read_dataset(tmp_path, task="dbt", positive="healthy", patient_regex=r"(P\d+)_")
    assert turned.classes == ("cancer", "healthy")


def test_a_second_name_of_cancer_is_not_merged_into_other(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cancer": 1, "malignant": 2, "benign": 1})
    with pytest.raises(DataError, match="count 2 images of 'malignant' as no cancer"):
        read_dataset(tmp_path, task="multimodal", positive="cancer", patient_regex=r"(P\d+)_")


def test_all_questions_come_in_one_message(tmp_path: Path) -> None:
    source = _sheet(tmp_path, ["a", "b"] * 4 + ["?"] * 4)
    with pytest.raises(DataError, match=r"2 questions.*--positive.*--set-aside"):
        read_dataset(source, task="dbt")


@pytest.mark.parametrize(
    ("column", "texts", "said"),
    [
        ("pathology", ["benign", "benign"], "1.png: malignant, benign"),
        ("cancer", ["1", "1"], "0.png: benign, 1"),
        ("pathology", ["benign", "malignant"], ""),
        ("pathology", ["lesion", "unknown"], ""),
        ("site", ["malignant", "benign"], ""),
    ],
)
def test_a_column_that_contradicts_the_label_is_said(
    column: str, texts: list[str], said: str
) -> None:
    notes = contradictions(
        ["0.png", "1.png"], ["benign", "malignant"], "label", {column: tuple(texts)}
    )
    assert bool(notes) == bool(said)
    assert said in "".join(notes)
