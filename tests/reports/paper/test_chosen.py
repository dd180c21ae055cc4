"""What the searches chose: how far apart, at which edges, and the lines of the figure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from outerfold.objectives.spaces import default_ranges
from outerfold.reports.figures.catalogue import FIGURES
from outerfold.reports.figures.style import compose
from outerfold.reports.paper.chosen import edge_notes, parameters_table, stability_words
from outerfold.reports.results.predictions import Evidence
from outerfold.reports.results.worth import stability_entries
from outerfold.storage.records import Search, TrialRow
from outerfold.study.config.search_space import describe_ranges
from tests.reports.run_factory import make_run

SPACE = describe_ranges(default_ranges("multimodal"))
RUN = make_run(patients=60)


def chose(values, *, epochs=None, most=99):
    """The run whose outer fold k chose ``values[k]``."""
    outer = tuple(
        replace(study, params=params, epochs=study.epochs if epochs is None else epochs[at])
        for at, (study, params) in enumerate(zip(RUN.outer, values, strict=True))
    )
    final = replace(RUN.final, params={}, epochs=1)
    made = {**RUN.provenance, "search_space": SPACE}
    protocol = {**RUN.protocol, "epochs": most}
    return replace(RUN, outer=outer, final=final, provenance=made, protocol=protocol)


def numbers_of(run, chosen=()):
    """What the section on the search reads of ``results.json``."""
    return {
        "provenance": run.provenance,
        "synthetic_data": True,
        "complete": True,
        "protocol": run.protocol,
        "dataset": {"classes": dict.fromkeys(run.classes, 1)},
        "outer": [{**vars(study), "fold": study.name} for study in run.outer],
        "final": {**vars(run.final), "made": "refit"},
        "stability": stability_entries(run),
        "worth": {"chosen": list(chosen), "params": {"dropout": 0.3}},
    }


def rates(*powers):
    return [{"learning_rate": 10.0**p, "sampler": "none"} for p in powers]


def test_distance_is_a_share_of_the_range_on_the_scale_of_the_search():
    found = stability_entries(chose(rates(-4, -3, -3, -3, -2.5), epochs=[1, 2, 3, 4, 50]))
    assert found["learning_rate"]["apart"] == pytest.approx(0.75)
    assert found["epochs"]["apart"] == pytest.approx(49 / 98)
    assert found["sampler"] == {"apart": None, "agree": 5, "folds": 5}
    assert found["dropout"] == {"apart": None, "agree": 0, "folds": 0}


def test_listed_values_are_counted_and_absent_ones_are_not():
    values = [{"augmentation": a} for a in ("light", "strong", "light")] + [{}, {}]
    found = stability_entries(chose(values))["augmentation"]
    assert found == {"apart": None, "agree": 2, "folds": 3}


def test_nothing_is_said_of_one_search_or_of_a_space_that_was_not_kept():
    run = chose(rates(-4, -3, -3, -3, -2.5))
    assert stability_entries(RUN) == {}
    assert stability_entries(replace(run, outer=run.outer[:1])) == {}
    assert (
        stability_entries(replace(run, protocol={**run.protocol, "protocol": "non-nested"})) == {}
    )
    assert stability_words({"stability": {}}) == ""


def test_agreement_is_told_against_chance_and_against_a_default_that_all_share():
    close, wide = rates(-3, -3, -3.01, -3, -3), rates(-4, -2, -3, -3, -2.5)
    epochs = [10, 11, 10, 10, 10]
    near = stability_words(numbers_of(chose(close, epochs=epochs)))
    assert "random values would lie 67 % apart" in near
    assert near.endswith("agreed more than chance would.")
    same = numbers_of(chose(close, epochs=epochs), ["outer-0", "outer-3"])
    assert "But 2 of 5 of them chose the default configuration" in stability_words(same)
    far = stability_words(numbers_of(chose(wide, epochs=[1, 20, 40, 60, 90])))
    assert "did not agree more than chance would" in far
    assert "lie 95 % of the searched range apart on average (mean of 2 numbers" in far


def test_the_table_shows_range_choices_and_distance():
    table = parameters_table(numbers_of(chose(rates(-4, -3, -3, -3, -2.5))))
    assert table.header == (
        "Parameter",
        "Searched",
        *(f"outer-{k}" for k in range(5)),
        "final",
        "Apart",
    )
    rows = {row[0]: row for row in table.rows}
    assert rows["learning rate"][1:] == (
        *("0.0001–0.01 (log)", "0.0001", "0.001", "0.001", "0.001", "0.00316", "–", "75 %"),
    )
    assert rows["sampler"][-1] == "5 of 5"
    assert rows["epochs"][1] == "1–99"
    assert rows["threshold"][-1] == "–"
    assert table.caption == "Chosen by each search [SYNTHETIC DATA]"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dropout": 0.59}, "dropout at 0.6 (outer-0)"),
        ({"dropout": 0.57}, ""),
        ({"learning_rate": 1.2e-4}, "learning rate at 0.0001 (outer-0)"),
        ({"learning_rate": 1.4e-4}, ""),
        ({"batch_size": 128}, ""),
    ],
)
def test_a_value_near_the_edge_of_its_range_is_said(values, said):
    run = chose([values, {}, {}, {}, {}])
    notes = edge_notes(numbers_of(run))
    assert (said in notes[0]) if said else notes == ()


def test_the_last_possible_epoch_is_said():
    run = chose([{}] * 5, epochs=[5, 30, 6, 7, 8], most=30)
    (note,) = edge_notes(numbers_of(run))
    assert note.startswith("Edge: outer-1 chose the largest number of epochs (30)")


def searched(run, importance=None) -> Figure:
    trials = (
        TrialRow(0, "complete", 0.7, 9, {"dropout": 0.1, "sampler": "none"}),
        TrialRow(1, "pruned", None, 1, {"dropout": 0.6, "sampler": "over"}),
        TrialRow(2, "complete", 0.9, 9, {"dropout": 0.35, "sampler": "smote_tomek"}),
    )
    search = {name: Search(trials, importance or {}) for name in ("outer-0", "outer-1", "final")}
    numbers = {
        "search": {name: {"chosen": 2} for name in search},
        "worth": {"params": {"dropout": 0.1}},
        "synthetic_data": False,
        "complete": True,
        "protocol": run.protocol,
        "dataset": {"patients": 60, "images": 100, "classes": dict.fromkeys(run.classes, 50)},
    }
    evidence = Evidence(replace(run, search=search), numbers, None, None, {})
    return compose(FIGURES["Figure_Search_Parameters"].draw, evidence)


def test_each_trial_is_a_line_over_the_parameters_and_a_pruned_one_has_no_score():
    (axes,) = searched(chose([{}] * 5)).axes
    lines = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 2 + 2  # trial 0 and the chosen trial of two folds; both have a score
    assert [len(line) for line in lines] == [3] * 4
    named = {text.get_text() for text in axes.texts}
    assert {"outer-0 (0.900)", "outer-1 (0.900)", "0.700", "0.900", "0.6", "smote\ntomek"} <= named
    chosen = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    heights = [line.get_ydata().tolist() for line in chosen]
    assert [line[0] for line in heights] == [pytest.approx(0.5)] * 2
    assert len({line[1] for line in heights}) == 2  # one value, beside each other
    assert all(0.8 < line[1] < 1.0 and line[2] == 1.0 for line in heights)


def test_importance_stands_below_its_parameter():
    run = chose([{}] * 5)
    top, bottom = searched(run, {"sampler": 0.75, "dropout": 0.25}).axes
    names = [tick.get_text() for tick in top.get_xticklabels()]
    bars = {
        names[round(bar.get_x() + bar.get_width() / 2)]: bar.get_height() for bar in bottom.patches
    }
    assert bars == {"sampler": 0.75, "dropout": 0.25}
