"""A run's report and model card, written again from the files of the run."""

from __future__ import annotations

from collections.abc import Mapping

from outerfold.reports.journal_style import STYLES
from outerfold.reports.schema import read_results
from outerfold.reports.sections.model_card import model_card
from outerfold.reports.submission import write_whole_report
from outerfold.reports.write import Step
from outerfold.storage.cores import count_cores
from outerfold.storage.errors import DataError
from outerfold.storage.processes import processes_beside
from outerfold.storage.records import Run
from outerfold.storage.runs.folder import RunFolder


def rewrite_report(
    run: Run,
    folder: RunFolder,
    paper: Mapping[str, str],
    step: Step | None = None,
    template: bytes = b"",
) -> None:
    """Write the model card and the whole report into the run's directory, whose lock is held.

    Args:
        run: the run.
        folder: its directory.
        paper: contents of ``paper.toml``.
        step: is told of each part of the report before it is made.
        template: Word file in whose styles ``Report.docx`` is set; empty for none.
    """
    if run.ships:
        folder.write_card(model_card(run))
    with processes_beside(count_cores(), "outerfold.reports.drawing") as beside:
        write_whole_report(run, folder.report, paper, step, template, beside)


def kept_style(folder: RunFolder) -> str:
    """Style of the report that lies there, which a new one keeps; empty for the plain one."""
    try:
        found = read_results(folder.report / "results.json", checked=False)["protocol"]
    except DataError:
        return ""
    kept = found.get("style", "") if isinstance(found, dict) else ""
    return str(kept) if kept in STYLES else ""
