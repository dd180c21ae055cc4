"""Checks of a run: files, splits, rows, decisions, trials, and every number of its report.

Points are computed again by scikit-learn. Intervals have no counterpart there and are computed
again by the run's own code. Whoever forges all files of a run alike, its journal included, is not
found; whoever edits one of them is, also if the manifest was written anew.
"""

from __future__ import annotations

import json
import math
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import optuna

from outerfold.objectives.choice import best_candidate
from outerfold.pipelines.fitted.calibration import decide
from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.journal_style import printed_in, style_of
from outerfold.reports.render.docx import document
from outerfold.reports.render.html import INSIDE, with_inside
from outerfold.reports.render.svg import kept_drawings
from outerfold.reports.report_page import page
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.questions import OF_REPORT
from outerfold.reports.results.results import gather_evidence
from outerfold.reports.schema import SCHEMA, Results, Scored, read_results
from outerfold.reports.sections.model_card import model_card_text
from outerfold.reports.submission import submission_texts
from outerfold.reports.write import SUBMISSION, answer_tables, table_blocks
from outerfold.storage.errors import DataError
from outerfold.storage.records import FINAL, Dataset, FoldResult, OuterFold, Predictions, Run
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.forget import Forgotten, read_forgotten
from outerfold.storage.runs.manifest import MANIFEST, verify_files
from outerfold.storage.runs.paper import FILE, read_paper
from outerfold.storage.runs.results import is_finished, predictions_csv, read_finished
from outerfold.storage.runs.search import read_search
from outerfold.storage.trials.journal import check_trials, load_studies, open_trials
from outerfold.study.config.kept_run import read_kept_run
from outerfold.study.schedule.patience import count_trials
from outerfold.study.verify.check import Check, carry_out
from outerfold.study.verify.recompute import TOLERANCE, compare_points, uncounted
from outerfold.study.verify.recompute_answers import OWN, compare_answers
from outerfold.study.worker.search_record import describe_search

NOT_CHECKED = (
    "pictures (JPG, PNG, SVG and PDF) and DOCX files that show them; `outerfold report RUN` draws "
    "them again",
    "what needs training: probabilities from images, temperatures and thresholds from validation "
    "rows; the same command in another --run repeats them",
    "a forgery of all files at once, the journal included",
)
"""What a verification does not show."""


def verify_run(folder: RunFolder) -> list[Check]:
    """All checks of a run, in the order in which they are printed.

    Raises:
        DataError: the folder is no run.
    """
    folder.read_config()
    kept = _Kept(folder)
    checks = _check_kept(kept)
    if not (folder.report / "results.json").exists():
        return [*checks, Check("report", "there is no report yet")]
    return [*checks, *_report_checks(kept)]


def check_kept(folder: RunFolder) -> list[Check]:
    """Checks of what a run keeps besides its report."""
    return _check_kept(_Kept(folder))


def _check_kept(kept: _Kept) -> list[Check]:
    return [
        carry_out("files", lambda: _check_files(kept)),
        carry_out("splits", lambda: _check_splits(kept)),
        carry_out("rows", lambda: _check_studies(kept)),
        carry_out("trials", lambda: _check_trials(kept)),
        *_removed(kept.folder),
    ]


def _removed(folder: RunFolder) -> list[Check]:
    """What was removed from the run; empty if nothing was."""
    found = read_forgotten(folder)
    return [Check("removed", "; ".join(one.describe() for one in found))] if found else []


@dataclass(frozen=True)
class _Kept:
    """Rows, splits and results of a run, each read once for all checks."""

    folder: RunFolder

    @cached_property
    def data(self) -> Dataset:
        return self.folder.read_dataset()

    @cached_property
    def folds(self) -> tuple[OuterFold, ...]:
        return self.folder.read_splits(self.data)

    @cached_property
    def results(self) -> list[FoldResult]:
        """Results of the finished studies, in the order of the splits."""
        return read_finished(self.folder, self.folds, self.data)

    def with_folds(self) -> Iterator[tuple[OuterFold, FoldResult]]:
        """Results of the finished studies with their folds."""
        folds = {fold.name: fold for fold in self.folds}
        return ((folds[result.name], result) for result in self.results)


def _report_checks(kept: _Kept) -> list[Check]:
    folder, found = kept.folder, list[Evidence]()

    def gather() -> tuple[str, Iterable[str]]:
        found.append(gather_evidence(_as_reported(folder, read_kept_run(folder, kept.results))))
        return _compare_numbers(folder, found[0])

    checks = [carry_out("results.json", gather)]
    if not found:
        return checks
    evidence = found[0]
    named: dict[str, Callable[[], tuple[str, Iterable[str]]]] = {
        "points by scikit-learn": lambda: _check_points(folder, evidence),
        "tables of predictions": lambda: _check_tables(folder, evidence),
        "documents": lambda: _check_documents(folder, evidence),
    }
    return [*checks, *(carry_out(name, work) for name, work in named.items())]


def _as_reported(folder: RunFolder, run: Run) -> Run:
    """The run with the level, the aggregation, the style and the questions of its report."""
    stated = _read_numbers(folder)["protocol"]
    own = {name: stated[name] for name in OF_REPORT if name in stated}
    return replace(run, protocol={**run.protocol, **own})


def _read_numbers(folder: RunFolder) -> Results:
    """The numbers as they stand; each wrong value is named by the comparison."""
    return read_results(folder.report / "results.json", checked=False)


def _check_files(kept: _Kept) -> tuple[str, Iterable[str]]:
    folder = kept.folder
    names = dict.fromkeys((*(fold.name for fold in kept.folds), FINAL))
    studies = [name for name in names if is_finished(folder, name)]
    with_manifest = [name for name in studies if (folder.study(name) / MANIFEST).exists()]
    findings = []
    for name in with_manifest:
        try:
            verify_files(folder.study(name))
        except DataError as error:
            findings.append(str(error))
    old = len(studies) - len(with_manifest)
    without = f"; {old} have none, as earlier versions wrote them" if old else ""
    return f"{len(with_manifest)} studies are as their manifests say{without}", findings


def _check_splits(kept: _Kept) -> tuple[str, Iterable[str]]:
    """Reading refuses a patient on two sides; here, each image is tested once a repeat."""
    data, outer = kept.data, [fold for fold in kept.folds if fold.name != FINAL]
    findings = []
    for number in sorted({fold.repeat for fold in outer}):
        tested = [name for fold in outer if fold.repeat == number for name in fold.test]
        once = set(tested)
        if len(tested) != len(once):
            findings.append(f"repeat {number}: an image is tested twice")
        if outer and once != set(data.ids.tolist()):
            findings.append(f"repeat {number}: {len(data) - len(once)} images are never tested")
    told = f"{len(outer)} outer folds, no patient on two sides, each image tested once a repeat"
    return told, findings


def _check_studies(kept: _Kept) -> tuple[str, Iterable[str]]:
    count, findings = 0, list[str]()
    gone = read_forgotten(kept.folder)
    for fold, result in kept.with_folds():
        count += len(fold.test)
        findings += list(_check_decisions(result))
        findings += list(_check_counts(result, fold, gone))
    return f"{count} test rows are those of the splits, decided at the kept thresholds", findings


def _check_decisions(result: FoldResult) -> Iterator[str]:
    for what, rows in (("test", result.test), ("validation", result.validation)):
        if rows is None:
            continue
        other = decide(rows.probabilities, result.threshold) != rows.predicted
        if other.any():
            yield (
                f"{result.name}: {int(other.sum())} {what} rows are decided otherwise than by the "
                f"threshold {result.threshold}, such as {rows.ids[other][0]}"
            )


def _check_counts(result: FoldResult, fold: OuterFold, gone: Sequence[Forgotten]) -> Iterator[str]:
    """Counts of a result that are not those of its folds, with patients that were removed since."""
    trained = [one.images for one in gone if fold.name in one.trained]
    tested = [one.images for one in gone if fold.name in one.tested]
    counts = {
        "train_images": len(fold.train) + sum(trained),
        "test_images": len(fold.test) + sum(tested),
        "train_patients": len(fold.train_patients) + len(trained),
        "test_patients": len(fold.test_patients) + len(tested),
    }
    for name, count in counts.items():
        if getattr(result, name) != count:
            yield f"{result.name}: {name} is {getattr(result, name)}, the splits have {count}"


def _check_trials(kept: _Kept) -> tuple[str, Iterable[str]]:
    folder = kept.folder
    if not folder.journal.exists():
        return "the trials are in a database, which was not read", ()
    bare = check_trials(folder)
    studies = load_studies(open_trials(folder), folder, [fold.name for fold in kept.folds])
    findings: list[str] = []
    recorded = read_search(folder)
    count = 0
    for fold, result in kept.with_folds():
        if fold.name not in studies:
            findings.append(f"{fold.name}: {folder.journal} has none of its trials")
            continue
        study = studies[fold.name]
        trials = study.get_trials(deepcopy=False)
        count += len(trials)
        findings += list(_compare_trials(result, study, trials))
        if recorded and recorded.get(fold.name) != describe_search(study):
            findings.append(f"search.json: the trials of {fold.name} are not those of the journal")
    without = f"; {bare} have no hash, as earlier versions wrote them" if bare else ""
    return f"{count} trials; each study chose its best{without}", findings


def _compare_trials(
    result: FoldResult, study: optuna.Study, trials: list[optuna.trial.FrozenTrial]
) -> Iterator[str]:
    counts = count_trials(trials)
    if result.trials and dict(result.trials) != counts:
        yield f"{result.name}: {dict(result.trials)} trials are kept, the journal has {counts}"
    chosen = best_candidate(study)
    if chosen is None:
        yield f"{result.name}: the journal has no complete trial"
        return
    if abs(chosen.value - result.inner_score) > TOLERANCE:
        yield (
            f"{result.name}: the inner score is {result.inner_score}, the journal's best is "
            f"{chosen.value}"
        )
    params = next(trial.params for trial in trials if trial.number == chosen.number)
    if params != dict(result.params):
        yield f"{result.name}: its parameters are not those of trial {chosen.number}, the best"


def _compare_numbers(folder: RunFolder, evidence: Evidence) -> tuple[str, Iterable[str]]:
    path = folder.report / "results.json"
    schema = _read_numbers(folder)["schema"]
    if schema < SCHEMA:
        again = f"an earlier version wrote it; give: outerfold report {_quoted(folder)}"
        return "", [f"{path}: has schema {schema} in place of {SCHEMA}, as {again}"]
    kept = json.loads(path.read_text(encoding="utf-8"))
    expected = json.loads(json.dumps(evidence.numbers))
    for numbers in (kept, expected):
        numbers.get("provenance", {}).pop("run", None)  # a folder may be renamed
    findings = list(_differences(kept, expected, ""))
    return f"{_count_numbers(expected)} numbers are those of the run's files", findings


def _differences(kept: Any, expected: Any, where: str) -> Iterator[str]:
    """Places at which two JSON values differ, one phrase each."""
    if isinstance(kept, dict) and isinstance(expected, dict):
        for key in dict.fromkeys((*expected, *kept)):
            place = f"{where}.{key}" if where else str(key)
            if key not in kept or key not in expected:
                yield f"{place} is {'missing' if key in expected else 'not a number of this run'}"
            else:
                yield from _differences(kept[key], expected[key], place)
    elif isinstance(kept, list) and isinstance(expected, list) and len(kept) == len(expected):
        for at, (one, other) in enumerate(zip(kept, expected, strict=True)):
            yield from _differences(one, other, f"{where}[{at}]")
    elif not _same(kept, expected):
        yield f"{where} is {_short(kept)}, the run's files give {_short(expected)}"


def _same(kept: Any, expected: Any) -> bool:
    if isinstance(kept, bool) or isinstance(expected, bool):
        return kept is expected
    if isinstance(kept, int | float) and isinstance(expected, int | float):
        return math.isclose(kept, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(kept == expected)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _count_numbers(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count_numbers, value.values()))
    if isinstance(value, list):
        return sum(map(_count_numbers, value))
    return int(isinstance(value, int | float) and not isinstance(value, bool))


def _check_points(folder: RunFolder, evidence: Evidence) -> tuple[str, Iterable[str]]:
    numbers, findings = _read_numbers(folder), []
    sections: dict[str, tuple[Predictions | None, Scored]] = {"overall": (evidence.test, numbers)}
    sections["validation"] = (evidence.validation, numbers["validation"])
    for level, combined in evidence.levels.items():
        sections[level] = (combined, numbers["levels"][level])
    for where, (rows, section) in sections.items():
        if rows is not None:
            findings += list(compare_points(rows, section, where))
    if numbers["questions"] is not None and evidence.test is not None:
        every = {"image": evidence.test, **evidence.levels}
        findings += list(compare_answers(numbers["questions"], every))
    own = ", ".join([*uncounted(), OWN])
    return (
        "estimates, folds and confusions are those of scikit-learn, to 1e-6; it has no "
        f"{own}, which the run's own code computed again"
    ), findings


def _check_tables(folder: RunFolder, evidence: Evidence) -> tuple[str, Iterable[str]]:
    classes, findings = evidence.run.classes, []
    tables = {
        "predictions.csv": evidence.test,
        "predictions_validation.csv": evidence.validation,
        **{f"predictions_{level}.csv": rows for level, rows in evidence.levels.items()},
    }
    texts = {name: predictions_csv(rows, classes) for name, rows in tables.items()}
    texts |= answer_tables(evidence)
    for name, text in texts.items():
        path = folder.report / name
        if not path.exists():
            findings.append(
                f"{path}: the file is missing; give: outerfold report {_quoted(folder)}"
            )
        elif path.read_text(encoding="utf-8") != text:
            findings.append(
                f"{path}: is not the table that the run's files give; "
                f"give: outerfold report {_quoted(folder)}"
            )
    return f"{len(texts)} tables hold the rows of the studies", findings


def _quoted(folder: RunFolder) -> str:
    """Path of a run as a word of a shell."""
    return shlex.quote(str(folder.path))


def _check_documents(folder: RunFolder, evidence: Evidence) -> tuple[str, Iterable[str]]:
    """Texts of the page, of the model card and of the tables' DOCX files, from the numbers."""
    findings = list(_card_findings(folder, evidence))
    with printed_in(style_of(evidence.numbers["protocol"])):
        findings += _page_findings(folder, evidence.numbers)
        tables = dict(table_blocks(evidence.numbers))
        for name, blocks in tables.items():
            path = folder.report / f"{name}.docx"
            if not path.exists() or _body(path.read_bytes()) != _body(document(blocks)):
                findings.append(_other(path, folder))
        held = f"page, model card and {len(tables)} tables in DOCX print these numbers"
        if not (folder.report / SUBMISSION).exists():
            return held, findings
        findings += _submission_findings(folder, evidence.numbers)
    return f"{held}, and so do the tables and checklists of {SUBMISSION}/", findings


def _page_findings(folder: RunFolder, numbers: Results) -> Iterator[str]:
    images = {
        plate.name: (folder.report / plate.file).read_bytes()
        for plate in FIGURES.values()
        if (folder.report / plate.file).exists()
    }
    kept = folder.report / "report.html"
    shown = kept.read_text(encoding="utf-8") if kept.exists() else ""
    text = page(numbers, images, kept_drawings(shown))
    if shown != (with_inside(text) if (folder.report / INSIDE).exists() else text):
        yield _other(kept, folder)


def _card_findings(folder: RunFolder, evidence: Evidence) -> Iterator[str]:
    card = folder.study(FINAL) / "MODEL_CARD.md"
    if not evidence.run.ships or not card.exists():
        return
    if card.read_text(encoding="utf-8") != model_card_text(evidence.numbers):
        yield _other(card, folder)


def _submission_findings(folder: RunFolder, numbers: Results) -> Iterator[str]:
    for name, body in submission_texts(numbers, read_paper(folder.path)):
        path = folder.report / SUBMISSION / name
        if not path.exists() or _parts(path.read_bytes()) != _parts(body):
            changed = f", or {FILE} has changed" if name.startswith("Checklist_") else ""
            yield _other(path, folder, changed)


def _other(path: Path, folder: RunFolder, changed: str = "") -> str:
    return (
        f"{path}: is not what the numbers give, or another version wrote it, or the folder of the "
        f"run has a new name{changed}; give: outerfold report {_quoted(folder)}"
    )


def _body(contents: bytes) -> bytes:
    """Text of a DOCX file; empty if it is none."""
    parts = _parts(contents)
    return parts.get("word/document.xml", b"") if isinstance(parts, dict) else b""


def _parts(contents: bytes) -> dict[str, bytes] | bytes:
    """Parts of a DOCX or XLSX file by name; the contents themselves of another file."""
    try:
        with ZipFile(BytesIO(contents)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (BadZipFile, zlib.error):
        return contents
