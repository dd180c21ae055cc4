import pytest

from outerfold.storage.words.patient_ids import group_spellings, is_no_patient


def groups(*ids: str) -> list[list[str]]:
    found = group_spellings(ids)
    return sorted(sorted(n for n in ids if found[n] == g) for g in set(found.values()))


@pytest.mark.parametrize(
    "ids",
    [
        ("7", "007", "7.0", "P7", "p7"),
        ("P007", "p7"),
        ("12", "PAT012"),
        ("SUBJ-3", "3"),
        ("A-03", "a-3"),
        ("12E4", "12e4"),
        ("\uff17", "7"),
        ("#7", "7"),
        ("sub-007", "SUBJ-7"),
        ("1,007", "1007"),
        ("P7_L", "P7_R"),
        ("12l", "12R"),
        ("P7-left", "P7 right"),
        ("7_L_CC", "7_L_MLO", "7_R_CC"),
        ("P7_V1", "P7_V2"),
        ("P7_visit 1", "P7_visit 2"),
        ("P7_20190101", "P7_20190201"),
        ("P7_2019", "P7_2020"),
        ("P7-baseline", "P7-followup"),
        ("L_P7", "R_P7"),
        ("P7_G", "P7_D"),
        ("P7_CC", "P7_MLO"),
        ("P7_LCC", "P7_RMLO"),
        ("A-00", "A_00"),
        ("Patient 7", "P7"),
        ("Case 1", "case_001"),
        ("10", "\u0661\u0660"),
    ],
)
def test_spellings_of_one_patient_are_grouped(ids: tuple[str, ...]) -> None:
    assert groups(*ids) == [sorted(ids)]


@pytest.mark.parametrize(
    "ids",
    [
        ("P7", "S7"),
        ("P7", "ID7"),
        ("7", "P7", "ID7"),
        ("12e4", "120000"),
        ("7", "70"),
        ("7.1", "7.10"),
        ("1-23", "12-3"),
        ("DBT-P00013", "13"),
        ("a/0234", "0235"),
        ("bra0001", "bra0010"),
        ("P7_L", "P8_R"),
        ("A1L", "A2L"),
        ("P7_V1", "P8_V2"),
        ("P7_2019", "P8_2020"),
        ("1-1", "1-2"),
        ("1,7", "17"),
    ],
)
def test_other_ids_stay_apart(ids: tuple[str, ...]) -> None:
    assert groups(*ids) == sorted([name] for name in ids)


def test_a_letter_of_few_ids_is_no_side() -> None:
    assert groups("1R", "1L", "2", "3", "4") == [["1L"], ["1R"], ["2"], ["3"], ["4"]]


@pytest.mark.parametrize("text", ["", "nan", "None", "unknown", "REMOVED", "1.2E+12", "####", "?"])
def test_words_that_name_no_patient(text: str) -> None:
    assert is_no_patient(text)


@pytest.mark.parametrize("text", ["12e4", "0", "P1", "1E5", "noname"])
def test_ids_are_patients(text: str) -> None:
    assert not is_no_patient(text)
