"""The searches of a run as its report shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from outerfold.reports.blocks import Heading, Table
from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.figures.style import compose
from outerfold.reports.paper.search import search_section
from outerfold.reports.results.results import gather_evidence
from outerfold.storage.records import DataError, Run, Search, TrialRow
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.runs.search import FILE, read_search, write_search
from outerfold.study.worker.search_record import FEWEST_COMPLETE, describe_search, record_searches
from tests.reports.run_factory import make_run

SPACE = {"rate": FloatDistribution(0.0, 1.0), "idle": FloatDistribution(0.0, 1.0)}


def study(complete: int, pruned: int = 2) -> optuna.Study:
    """A study whose score is its rate alone."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(direction="maximize")
    for at in range(complete + pruned):
        params = {"rate": (at * 37 % 100) / 100, "idle": (at * 61 % 100) / 100}
        ended = at < complete
        made.add_trial(
            create_trial(
                state=TrialState.COMPLETE if ended else TrialState.PRUNED,
                value=params["rate"] if ended else None,
                params=params,
                distributions=SPACE,
                intermediate_values={1: 0.5, 2: 0.6},
            )
        )
    return made


def test_trials_come_back_from_the_file_as_they_were(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    made = study(3)
    record_searches(folder, {"outer-0": made})
    found = read_search(folder)
    assert found == {"outer-0": describe_search(made)}
    assert [one.state for one in found["outer-0"].trials] == ["complete"] * 3 + ["pruned"] * 2
    assert found["outer-0"].trials[0] == TrialRow(0, "complete", 0.0, 2, {"rate": 0.0, "idle": 0.0})
    assert read_search(RunFolder(tmp_path / "older")) == {}
    (tmp_path / FILE).write_text('{"studies": [1]}')
    with pytest.raises(DataError, match="is no list of searches"):
        read_search(folder)


def test_importance_waits_for_enough_complete_trials_and_names_what_mattered() -> None:
    assert describe_search(study(FEWEST_COMPLETE - 1)).importance == {}
    found = describe_search(study(40)).importance
    assert next(iter(found)) == "rate"
    assert found["rate"] > 0.8


def searched(*searches: Search) -> Run:
    named = {f"outer-{at}": search for at, search in enumerate(searches)}
    return replace(make_run(patients=60, folds=2), search=named)


def test_the_report_says_how_far_each_search_came() -> None:
    run = searched(describe_search(study(40)), describe_search(study(1, pruned=9)))
    evidence = gather_evidence(run)
    blocks = list(search_section(evidence.numbers))
    text = " ".join(getattr(block, "text", "") for block in blocks)
    assert "41 of 52 trials were complete" in text
    assert "1 of 2 studies chose their first trial" in text
    assert "outer-1 compared fewer than three complete trials" in text
    assert "outer-0: rate " in text
    assert "outer-1: fewer than 10 complete trials" in text
    table = next(block for block in blocks if isinstance(block, Table))
    best = evidence.numbers["search"]["outer-0"]
    assert table.rows[0][4:6] == (str(best["chosen"]), f"{best['best']:.3f}")
    assert best["best"] == max(one.value or 0.0 for one in run.search["outer-0"].trials)


def test_a_search_whose_first_trial_failed_has_a_dash_for_its_score() -> None:
    numbers = gather_evidence(searched(describe_search(study(3)))).numbers
    numbers["search"]["outer-0"]["first"] = None
    table = next(block for block in search_section(numbers) if isinstance(block, Table))
    assert table.rows[0][6] == "–"


def test_the_figure_marks_trial_zero_and_the_best_so_far() -> None:
    run = searched(describe_search(study(8)))
    axes = compose(FIGURES["Figure_Search_History"].draw, gather_evidence(run)).axes[0]
    best, scores, default, *cut = axes.lines
    assert list(scores.get_xdata()) == list(range(8))
    assert list(default.get_xdata()) == [0]
    assert len(cut) == 2
    assert f"Trial 3: {scores.get_ydata()[3]:.3f}" in scores.get_gid().split("\n")
    values = [one.value or 0.0 for one in run.search["outer-0"].trials[:8]]
    assert list(best.get_ydata())[:8] == [max(values[: at + 1]) for at in range(8)]


def test_a_run_of_an_earlier_version_says_what_was_chosen_and_no_more(tmp_path: Path) -> None:
    run = make_run(patients=60, folds=2)
    evidence = gather_evidence(run)
    heading, table = search_section(evidence.numbers)
    assert heading == Heading("The search")
    assert isinstance(table, Table)
    assert table.header == ("Parameter", "outer-0", "outer-1", "final")
    texts = compose(FIGURES["Figure_Search_History"].draw, evidence).axes[0].texts
    assert texts[0].get_text() == "The trials of this run were not recorded."
    write_search(RunFolder(tmp_path), {})
    assert read_search(RunFolder(tmp_path)) == {}
