"""`outerfold verify FILE.csv`: what other people's predictions show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from outerfold.objectives.metrics import all_scores
from outerfold.storage.errors import DataError
from outerfold.study.cli.main import main
from outerfold.study.verify.recompute import SCORES, scores_of
from outerfold.study.verify.verify_table import read_table, verify_table
from tests.reports.run_factory import FOUR, make_run


def table(**changes: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    cancer = rng.random(40).round(3)
    frame = pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(40)],
            "patient": [f"p{n // 2}" for n in range(40)],
            "fold": [f"fold-{n // 2 % 4}" for n in range(40)],
            "label": ["cancer" if n // 2 % 3 == 0 else "other" for n in range(40)],
            "p_other": 1 - cancer,
            "p_cancer": cancer,
        }
    )
    return frame.assign(**changes)


def found(frame: pd.DataFrame, folder: Path) -> dict[str, str]:
    path = folder / "theirs.csv"
    frame.to_csv(path, index=False)
    return {check.name: "; ".join(check.findings) for check in verify_table(path)}


def test_sound_predictions_hold_and_their_scores_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(found(table(), tmp_path).values()) == {""}
    assert main(["verify", str(tmp_path / "theirs.csv")]) == 0
    said = capsys.readouterr().out
    assert "20 patients, each in one fold" in said
    assert "ROC-AUC 0." in said
    assert "whether the folds chose epochs" in said


def test_faults_of_other_peoples_predictions_are_named(tmp_path: Path) -> None:
    by_image = table(fold=[f"fold-{n % 4}" for n in range(40)])
    assert "are in several folds" in found(by_image, tmp_path)["patients"]
    assert "(100% of rows)" in found(by_image, tmp_path)["patients"]
    twice = pd.concat([table(), table().head(1)])
    assert found(twice, tmp_path)["rows"] == "['i0'] (1 in all) are listed twice"
    assert "do not sum to 1" in found(table(p_cancer=0.5), tmp_path)["probabilities"]
    assert "outside 0..1" in found(table(p_cancer=7.0, p_other=-6.0), tmp_path)["probabilities"]
    sure = table(p_cancer=0.1, p_other=0.9)
    assert "calls every image other" in found(sure, tmp_path)["folds"]
    alone = table(label=["cancer"] * 40)
    assert "fold fold-0 lacks a class" in found(alone, tmp_path)["folds"]


@pytest.mark.parametrize(
    ("frame", "refusal"),
    [
        (table().drop(columns="patient"), "needs the columns id, patient, fold, label"),
        (table().drop(columns="p_other"), "at least two classes"),
        (table(label="benign"), r"column label has \['benign'\]"),
        (
            table(p_cancer="high"),
            r"column p_cancer has probabilities that are no numbers .*\['high'\]",
        ),
        (table().head(0), "has no rows"),
        (table(predicted="maybe"), "column predicted has"),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused(
    frame: pd.DataFrame,
    refusal: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "theirs.csv"
    frame.to_csv(path, index=False)
    assert main(["verify", str(path)]) == 2
    assert re.search(refusal, capsys.readouterr().err)


@pytest.mark.parametrize("classes", [("other", "cancer"), FOUR])
def test_scikit_learns_scores_are_our_own(classes: tuple[str, ...], tmp_path: Path) -> None:
    rows = make_run(classes, patients=60, folds=2).outer[0].test
    assert rows is not None
    own = all_scores(rows.labels, rows.probabilities, rows.predicted)
    for name, value in scores_of(rows).items():
        assert value == pytest.approx(own[name], abs=1e-9), name
    assert set(own) - set(SCORES) == {"ece"}


def test_a_table_with_decisions_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    table(predicted=["cancer"] * 40).to_csv(path, index=False)
    rows, told = read_table(path)
    assert set(rows.predicted.tolist()) == {1}
    assert told.endswith("decisions are those of the column predicted")


def test_the_order_of_the_columns_changes_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, said = tmp_path / "theirs.csv", []
    for columns in (list(table()), list(table())[::-1]):
        table()[columns].to_csv(path, index=False)
        assert main(["verify", str(path)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "positive class 'cancer', against 'other'" in said[0]


def test_two_classes_of_unknown_meaning_are_asked_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs.csv"
    numbers = {"cancer": "1.0", "other": "0.0"}
    frame = table().rename(columns={"p_other": "p_0", "p_cancer": "p_1"})
    frame.assign(label=frame["label"].map(numbers)).to_csv(path, index=False)
    assert main(["verify", str(path)]) == 2
    assert "add --positive 0 or --positive 1" in capsys.readouterr().err
    assert main(["verify", str(path), "--positive", "9"]) == 2
    assert "class '9' is not in the data" in capsys.readouterr().err
    shares = {}
    for positive in ("0", "1.0"):
        assert main(["verify", str(path), "--positive", positive]) == 0
        found = re.search(r"sensitivity (\S+), specificity (\S+),", capsys.readouterr().out)
        assert found
        shares[positive] = found.groups()
    assert shares["0"] == shares["1.0"][::-1]
    assert len(set(shares["0"])) == 2
    frame.rename(columns={"label": "Cancer"}).assign(Cancer=frame["label"].map(numbers)).to_csv(
        path, index=False
    )
    assert read_table(path)[1].startswith("positive class '1', against '0'")


def test_positive_without_effect_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path), "--positive", "cancer"]) == 2
    assert "--positive has no effect on a run" in capsys.readouterr().err
    table(p_third=0.0).to_csv(tmp_path / "theirs.csv", index=False)
    assert main(["verify", str(tmp_path / "theirs.csv"), "--positive", "cancer"]) == 0
    third = table(p_third=0.0, label=["cancer", "other", "third", "other"] * 10)
    third.to_csv(tmp_path / "theirs.csv", index=False)
    assert main(["verify", str(tmp_path / "theirs.csv"), "--positive", "cancer"]) == 2
    assert "no effect with 3 classes" in capsys.readouterr().err


def test_rows_without_a_patient_are_not_one_patient(tmp_path: Path) -> None:
    names = table()["patient"]
    said = found(table(patient=["" if n < 8 else names[n] for n in range(40)]), tmp_path)
    assert said["patients"].startswith("8 of 40 rows name no patient")
    assert "in several folds, so" not in said["patients"]
    unknown = table(patient="unknown", fold=[f"fold-{n % 4}" for n in range(40)])
    assert found(unknown, tmp_path)["patients"].startswith("40 of 40 rows name no patient")


def test_a_column_of_no_class_is_left_out_or_named(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    for value in (0.03, 0.0001, "n.s."):
        table(p_value=value).to_csv(path, index=False)
        rows, told = read_table(path)
        assert rows.classes == ("other", "cancer")
        assert "['p_value'] (1 in all) left out" in told
    rare = table(p_cancer=0.3, p_other=0.5, p_rare=0.2)
    rare.to_csv(path, index=False)
    assert set(read_table(path)[0].classes) == {"other", "cancer", "rare"}
    rare.assign(p_rare=0.9).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"\['p_rare'\] .* is no class of the column label"):
        read_table(path)
    table(**{"p_Cancer": 0.1}).to_csv(path, index=False)
    with pytest.raises(DataError, match="p_cancer and p_Cancer are of one class"):
        read_table(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_are_read_as_spreadsheets_write_them(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    names = {"id": "Image_ID", "patient": "PATIENT ID", "fold": "FOLD", "label": "Diagnosis"}
    frame = table(label=[name.title() for name in table()["label"]]).rename(columns=names)
    frame = frame.rename(columns={"p_other": "P_OTHER", "p_cancer": "Prob_Cancer"})
    decimal = "," if separator == ";" else "."
    frame.to_csv(path, index=False, sep=separator, decimal=decimal, encoding="utf-8-sig")
    theirs, _ = read_table(path)
    table().to_csv(path, index=False)
    rows, _ = read_table(path)
    assert np.array_equal(theirs.labels, rows.labels)
    assert np.array_equal(theirs.probabilities, rows.probabilities)
    assert np.array_equal(theirs.patients, rows.patients)


def test_signs_and_words_with_a_dash_name_classes(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    for one, other in (("+", "-"), ("cancer", "non cancer")):
        frame = table(label=table()["label"].map({"cancer": one, "other": other}))
        names = {"p_cancer": f"p_{one}", "p_other": f"p_{other.replace(' ', '-')}"}
        frame.rename(columns=names).to_csv(path, index=False)
        assert read_table(path)[1].startswith(f"positive class '{one}'")


@pytest.mark.parametrize("name", ["fold", "label", "id"])
def test_gaps_in_a_needed_column_are_counted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    table(**{name: ["", *table()[name][1:]]}).to_csv(path, index=False)
    with pytest.raises(DataError, match=f"1 of 40 rows have no {name}"):
        read_table(path)


def test_a_path_that_does_not_exist_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path / "none.csv")]) == 2
    assert "none.csv: does not exist" in capsys.readouterr().err
