"""`outerfold verify FILE.csv`: what other people's predictions show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from outerfold.objectives.metrics import all_scores
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
        (table(p_cancer="high"), "probabilities that are no numbers"),
        (table().head(0), "and a row"),
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
    assert set(read_table(path).predicted.tolist()) == {1}
