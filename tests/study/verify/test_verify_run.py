"""`outerfold verify`: an honest run holds, and each edit of one file is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from outerfold.reports.journal_style import with_style
from outerfold.reports.schema import read_results
from outerfold.reports.sections.model_card import model_card
from outerfold.reports.submission import submission_texts
from outerfold.reports.write import SUBMISSION, write_report
from outerfold.storage.cache.files import read_json, write_json
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.manifest import write_manifest
from outerfold.study.cli.main import main
from outerfold.study.cli.rewrite import kept_style
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.verify.verify_run import verify_run
from outerfold.study.worker.jobs import Job, run_and_keep_job
from outerfold.study.worker.session import open_session
from tests.factories import begin_run, make_config, make_rows
from tests.reports.small_pictures import draw_small

STUDIES = ("outer-0", "outer-1", "final")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("verify") / "run")


def finished(
    where: Path, task: str = "multimodal", classes: tuple[str, ...] = ("other", "cancer")
) -> Path:
    """A finished run of two outer folds, with its report."""
    open_session.cache_clear()
    quiet_optuna()
    data, source = make_rows(patients=32, signal=0.5, classes=classes)
    data = replace(data, facts={"site": np.array(["north", "south"])[np.arange(len(data)) % 2]})
    config = make_config(task, trials=2, outer_folds=2, inner_folds=2, networks=1, epochs=2)
    prepared, context = begin_run(where, data, source, config)
    for name in STUDIES:
        for number in (0, 1, None):
            run_and_keep_job(Job(context, name, number, "cpu"))
    folder = prepared.folder
    write_json(folder.path / "provenance.json", {"timing": {"wall_seconds": 3.5}, "provenance": {}})
    run = read_kept_run(folder)
    folder.write_card(model_card(run))
    with pytest.MonkeyPatch.context() as patch:
        draw_small(patch)
        write_report(run, folder.report)
    return folder.path


def broken(run: Path) -> dict[str, tuple[str, ...]]:
    return {check.name: check.findings for check in verify_run(RunFolder(run)) if check.findings}


def test_an_honest_run_holds_wherever_its_folder_lies(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(honest, moved)
    assert broken(honest) == {}
    assert {name for name in broken(moved)} <= {"documents"}, "they print the folder's name"
    assert main(["verify", str(honest)]) == 0
    assert "8 of 8 checks hold" in capsys.readouterr().out


def test_an_honest_run_of_several_classes_holds(tmp_path: Path) -> None:
    assert broken(finished(tmp_path / "run", "dbt", ("a", "b", "c", "d"))) == {}


def test_a_report_in_a_journals_style_holds_and_a_later_report_keeps_the_style(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / honest.name)
    shutil.copytree(honest, folder.path)
    run = read_kept_run(folder)
    draw_small(monkeypatch)
    write_report(replace(run, protocol=with_style(run.protocol, "lancet")), folder.report)
    assert "0·" in (folder.report / "report.html").read_text(encoding="utf-8")
    assert broken(folder.path) == {}
    assert kept_style(folder) == "lancet"
    assert kept_style(RunFolder(honest)) == ""


def numbers(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Edit of results.json."""

    def edit(path: Path) -> None:
        kept = json.loads(path.read_text(encoding="utf-8"))
        change(kept)
        path.write_text(json.dumps(kept), encoding="utf-8")

    return edit


def cell(row: int, column: int, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Edit of one cell of a CSV file."""

    def edit(path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        cells = lines[row].split(",")
        cells[column] = change(cells[column])
        lines[row] = ",".join(cells)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return edit


def turned(path: Path) -> None:
    """Both probabilities of the first row change places."""
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = lines[1].split(",")
    cells[5], cells[6] = cells[6], cells[5]
    lines[1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def words(old: str, new: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def docx(path: Path) -> None:
    """A digit of the text of a DOCX file."""
    with ZipFile(BytesIO(path.read_bytes())) as parts:
        kept = {name: parts.read(name) for name in parts.namelist()}
    kept["word/document.xml"] = kept["word/document.xml"].replace(b"0.", b"1.", 1)
    with ZipFile(path, "w") as parts:
        for name, contents in kept.items():
            parts.writestr(name, contents)


def other(text: str) -> str:
    return {"other": "cancer", "cancer": "other"}[text]


def journal(path: Path) -> None:
    """The value of a trial, in valid JSON."""
    lines = path.read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if '"state":1,"value":0' in line)
    entry = json.loads(lines[at])
    entry["value"] += 0.3
    lines[at] = json.dumps(entry)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def exchanged(kept: dict[str, Any]) -> None:
    one, two = (study["test"] for study in kept["studies"][:2])
    one[0], two[0] = two[0], one[0]


def shift(entry: dict[str, Any], key: str) -> None:
    entry[key] = entry[key] + 0.01


NUMBERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "overall.roc_auc.estimate": lambda n: shift(n["overall"]["roc_auc"], "estimate"),
    "overall.brier.low": lambda n: shift(n["overall"]["brier"], "low"),
    "overall.accuracy.by_fold[0]": lambda n: n["overall"]["accuracy"]["by_fold"].reverse(),
    "per_class.cancer.f1.estimate": lambda n: shift(n["per_class"]["cancer"]["f1"], "estimate"),
    "confusion[0][0]": lambda n: n["confusion"].reverse(),
    "dataset.patients": lambda n: shift(n["dataset"], "patients"),
    "outer[0].params.dropout": lambda n: shift(n["outer"][0]["params"], "dropout"),
    "trials.outer-0.complete": lambda n: shift(n["trials"]["outer-0"], "complete"),
    "optimism.estimate": lambda n: shift(n["optimism"], "estimate"),
    "levels.patient.overall.roc_auc.estimate": lambda n: shift(
        n["levels"]["patient"]["overall"]["roc_auc"], "estimate"
    ),
    "timing.wall_seconds": lambda n: shift(n["timing"], "wall_seconds"),
}
"""Edits of results.json by the place that must be named."""


def test_each_changed_number_is_named(honest: Path, tmp_path: Path) -> None:
    run = tmp_path / honest.name
    shutil.copytree(honest, run)
    for change in NUMBERS.values():
        numbers(change)(run / "report" / "results.json")
    found = broken(run)
    named = [finding.split(" is ")[0] for finding in found["results.json"]]
    assert set(NUMBERS) <= set(named)
    assert any("overall: roc_auc is" in text for text in found["points by scikit-learn"])


EDITS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "predictions of the report": ("report/predictions.csv", turned),
    "validation of the report": ("report/predictions_validation.csv", turned),
    "the page": ("report/report.html", words("0.", "1.")),
    "a document": ("report/Table_Test_Overall_Metrics.docx", docx),
    "the model card": ("final/MODEL_CARD.md", words("0.", "1.")),
    "a fold's predictions": ("outer-0/predictions.csv", turned),
    "a fold's decision": ("outer-0/predictions.csv", cell(1, 7, other)),
    "a fold's label": ("outer-0/predictions.csv", cell(1, 4, other)),
    "a fold's validation": ("outer-1/validation.csv", turned),
    "inner models": ("outer-1/variation.csv", turned),
    "chosen parameters": ("outer-0/best.json", numbers(lambda n: shift(n["params"], "dropout"))),
    "inner score": ("outer-1/best.json", numbers(lambda n: shift(n, "inner_score"))),
    "threshold": ("outer-1/best.json", numbers(lambda n: n.update(threshold=0.999))),
    "weights": ("outer-0/model.pt", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")),
    "splits": ("splits.json", numbers(exchanged)),
    "labels": ("dataset.json", numbers(lambda n: n["labels"].reverse())),
    "journal": ("trials.journal", journal),
}
"""Edits of one file each, which are found also if the study's manifest is written anew."""
ONLY_BY_MANIFEST = {"weights"}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_one_file_is_found(honest: Path, tmp_path: Path, name: str) -> None:
    """The folder keeps its name, which documents print."""
    run = tmp_path / honest.name
    shutil.copytree(honest, run, ignore=shutil.ignore_patterns("*.jpg"))
    for picture in honest.glob("report/*.jpg"):
        (run / "report" / picture.name).symlink_to(picture)
    file, edit = EDITS[name]
    before = (run / file).read_bytes()
    edit(run / file)
    assert (run / file).read_bytes() != before
    study = (run / file).parent
    if (study / "manifest.json").exists() and name not in ONLY_BY_MANIFEST:
        write_manifest(study, {})
    found = broken(run)
    assert found, name
    assert all(finding for findings in found.values() for finding in findings)


def test_an_edit_of_a_file_for_a_submission_is_found(honest: Path, tmp_path: Path) -> None:
    run = tmp_path / honest.name
    shutil.copytree(honest, run)
    folder = run / "report" / SUBMISSION
    folder.mkdir()
    for name, body in submission_texts(read_results(run / "report" / "results.json"), {}):
        (folder / name).write_bytes(body)
    assert broken(run) == {}
    files = [
        folder / name
        for name in ("Table_Search_Choices.csv", "Tables.xlsx", "Checklist_STARD_AI.docx")
    ]
    before = [path.read_bytes() for path in files]
    for damage in (lambda _: b"", lambda body: b"x" + body[1:], None):
        for path, body in zip(files, before, strict=True):
            path.unlink() if damage is None else path.write_bytes(damage(body))
        findings = broken(run)["documents"]
        assert len(findings) == len(files)
        assert all(str(path) in " ".join(findings) for path in files)
    for path, body in zip(files, before, strict=True):
        path.write_bytes(body)
    (run / "paper.toml").write_text('ethics = "Waived."')
    assert all("or paper.toml has changed" in text for text in broken(run)["documents"])


def test_files_that_are_no_longer_readable_are_findings_and_no_tracebacks(
    honest: Path, tmp_path: Path
) -> None:
    run = tmp_path / honest.name
    shutil.copytree(honest, run)
    for name in ("report/results.json", "outer-0/predictions.csv", "splits.json", "dataset.json"):
        before = (run / name).read_bytes()
        for damage in (b"", b"[1, 2]", b"\xff\xfe\x00", b'{"studies": 3}'):
            (run / name).write_bytes(damage)
            assert broken(run), (name, damage)
        (run / name).write_bytes(before)
    assert broken(run) == {}


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err


def test_an_edit_gives_exit_code_one_and_names_the_file(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / honest.name
    shutil.copytree(honest, run)
    turned(run / "outer-0" / "predictions.csv")
    assert main(["verify", str(run)]) == 1
    said = capsys.readouterr().out
    assert "DOES NOT HOLD files" in said
    assert "outer-0/predictions.csv: is not the file that was written" in said
    assert read_json(run / "report" / "results.json")["complete"]


def all_text(folder: Path) -> str:
    """Everything in a folder's files, with the contents of DOCX files."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".docx":
            with ZipFile(path) as file:
                parts += [file.read(name).decode("utf-8", "replace") for name in file.namelist()]
        elif path.is_file():
            parts.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(parts)


def test_a_copy_to_share_holds_no_name_and_the_same_numbers(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    shutil.copytree(honest, run)
    draw_small(monkeypatch)
    assert main(["report", str(run), "--pseudonymise", str(copy)]) == 0
    text = all_text(copy)
    data = RunFolder(run).read_dataset()
    assert not [name for name in (*data.ids, *set(data.patients)) if name in text]
    assert str(tmp_path) not in text
    kept, own = read_json(copy / "results.json"), read_json(run / "report" / "results.json")
    assert kept["overall"] == own["overall"]
    rows = (copy / "predictions.csv").read_text(encoding="utf-8")
    assert "image-01,patient-" in rows
    key = (run / "pseudonyms.csv").read_text(encoding="utf-8")
    assert main(["report", str(run), "--pseudonymise", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "predictions.csv").read_text(encoding="utf-8") == rows
    assert (run / "pseudonyms.csv").read_text(encoding="utf-8") == key


def test_a_copy_to_share_is_refused_where_it_would_mix_or_has_no_pictures(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("")
    for words, said in {
        ("--pseudonymise", str(tmp_path)): "is not empty; name a new folder",
        ("--pseudonymise", str(honest / "copy")): "lies within the run",
        (
            "--pseudonymise",
            str(tmp_path / "new"),
            "--pictures",
        ): "holds no pictures; give outerfold",
        ("--pictures",): "--pictures has no effect without --pseudonymise",
    }.items():
        assert main(["report", str(honest), *words]) == 2
        assert said in capsys.readouterr().err
    assert not (honest / "copy").exists()


def test_a_forgotten_patient_leaves_rows_and_names_and_is_told_by_verify(
    honest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    folder = RunFolder(run)
    data = folder.read_dataset()
    patient = str(data.patients[3])
    (run / "run.log").write_text(f"looked at {data.ids[3]}\nthe rest\n", encoding="utf-8")
    draw_small(monkeypatch)
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    (run / "paper.toml").write_text("ethic = 'a misspelt key'\n", encoding="utf-8")
    assert main(["forget", patient, str(run)]) == 2  # before anything is removed
    assert len(folder.read_dataset()) == len(data)
    (run / "paper.toml").unlink()
    assert main(["forget", patient, str(run)]) == 0
    said = capsys.readouterr().out
    assert "a patient with 2 images was removed" in said
    assert patient not in all_text(run)
    assert "the rest" in (run / "run.log").read_text(encoding="utf-8")
    assert len(folder.read_dataset()) == len(data) - 2
    assert main(["verify", str(run)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "these studies trained on it: outer-" in said
    assert "final" in said
    assert main(["forget", patient, str(run)]) == 2
    assert "has no patient" in capsys.readouterr().err
