import pytest

from outerfold.storage.words.class_names import positive_of_two, severity
from outerfold.storage.words.texts import clean, spelling_key


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("healthy", "cancer"),
        ("non cancer", "cancer"),
        ("Non-Cancer", "Cancer"),
        ("noncancer", "cancer"),
        ("cancer-free", "cancer"),
        ("normal", "abnormal"),
        ("not normal", "malignant"),
        ("normal", "not normal"),
        ("no tumor", "tumor"),
        ("Benign mass", "Malignant mass"),
        ("normal", "pneumonia"),
        ("zz", "carcinoma"),
        ("-", "+"),
        ("negative", "positive"),
        ("BIRADS2", "BIRADS5"),
        ("BI-RADS 4a", "BI-RADS 4C"),
        ("gutartig", "bösartig"),
        ("bénin", "malin"),
        ("良性", "恶性"),
        ("양성", "악성"),
        ("доброкачественная", "злокачественная"),
        ("حميد", "خبيث"),
        ("Lành tính", "Ác tính"),
    ],
)
def test_the_disease_is_positive_whatever_the_alphabet_says(negative: str, positive: str) -> None:
    assert positive_of_two((negative, positive), "") == positive
    assert positive_of_two((positive, negative), "") == positive


@pytest.mark.parametrize(
    "names",
    [("a", "b"), ("0", "1"), ("yes", "no"), ("xyz", "benign"), ("cancer", "malignant"), ("L", "R")],
)
def test_names_that_say_nothing_give_no_positive_class(names: tuple[str, str]) -> None:
    assert positive_of_two(names, "label") is None


@pytest.mark.parametrize("names", [("0", "1"), ("False", "True"), ("no", "yes"), ("0.0", "1.0")])
def test_numbers_are_known_where_the_column_is_called_cancer(names: tuple[str, str]) -> None:
    assert positive_of_two(names, "is_cancer") == names[1]
    assert positive_of_two(names[::-1], "malignant") == names[1]
    assert positive_of_two(names, "healthy") is None


def test_contradictions_have_no_rank() -> None:
    assert severity("benign carcinoma") is None
    assert severity("") is None


def test_spellings_differ_in_case_and_blanks_and_zeros_only() -> None:
    assert spelling_key("1.0") == spelling_key("01") == "1"
    assert spelling_key("4a") != spelling_key("4")
    assert spelling_key("Non\u00a0Cancer") == "noncancer"
    assert clean("non\vcancer\u200b\n") == "non cancer"
    assert clean("恶性") == "恶性"
