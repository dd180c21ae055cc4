"""Patients from images: combined as said, decided by thresholds that no test row has touched."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import accuracy_score, roc_auc_score

from outerfold.reports.report_page import page
from outerfold.reports.results.level_entries import ONE_IMAGE, refuse_without_effect
from outerfold.reports.results.levels import NO_SIDES, by_level, combine, units_of
from outerfold.reports.results.results import gather_evidence, results
from outerfold.reports.sections.level_tables import level_class_table, level_table
from outerfold.reports.sections.page_one import headline
from outerfold.reports.sections.terminal import closing_table
from outerfold.reports.wording import COVERAGE, NO_COVERAGE, value
from outerfold.reports.write import write_report
from outerfold.storage.records import DataError
from tests.reports.prediction_factory import make, take
from tests.reports.run_factory import BINARY, FOUR, make_run, without_defaults
from tests.reports.small_pictures import draw_small

PATIENT = units_of("patient", {})
RULES = [("mean", 2), ("max", 2), ("noisy-or", 2), ("mean", 4), ("max", 4)]


def at(run, **protocol):
    return replace(run, protocol={**run.protocol, **protocol})


def scrambled(run, seed=0):
    """The same run, every probability and label of its test rows shuffled."""
    rng = np.random.default_rng(seed)

    def shuffled(rows):
        order = rng.permutation(len(rows))
        return replace(
            rows,
            probabilities=rows.probabilities[order],
            predicted=rows.predicted[order],
            labels=rng.permutation(rows.labels),
        )

    return replace(run, outer=tuple(replace(s, test=shuffled(s.test)) for s in run.outer))


def by_hand(rows, rule):
    """{(repeat, patient): (label, probabilities)} image by image."""
    groups = defaultdict(list)
    for i in range(len(rows)):
        groups[int(rows.repeat[i]), str(rows.patients[i])].append(i)
    found = {}
    for key, images in groups.items():
        p = [rows.probabilities[i].tolist() for i in images]
        if len(p) == 1:
            made = p[0]
        elif rule == "mean":
            made = [sum(column) / len(p) for column in zip(*p, strict=True)]
        elif len(rows.classes) == 2:
            positive = [one[1] for one in p]
            hit = max(positive) if rule == "max" else 1 - math.prod(1 - one for one in positive)
            made = [1 - hit, hit]
        else:
            top = [max(column) for column in zip(*p, strict=True)]
            made = [one / sum(top) for one in top]
        found[key] = max(int(rows.labels[i]) for i in images), made
    return found


@pytest.mark.parametrize(("rule", "classes"), RULES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), repeats=st.integers(1, 3))
def test_combining_equals_a_loop_whatever_the_order_of_rows(rule, classes, seed, repeats):
    rows = make(patients=25, classes=classes, repeats=repeats, seed=seed, mixed=True, rarest=2)
    order = np.random.default_rng(seed).permutation(len(rows))
    found, shuffled = (combine(one, rule, units=PATIENT) for one in (rows, take(rows, order)))
    assert (found.probabilities == shuffled.probabilities).all()
    assert (found.ids == shuffled.ids).all()
    hand = by_hand(rows, rule)
    assert len(found) == len(hand)
    for i in range(len(found)):
        label, p = hand[int(found.repeat[i]), str(found.patients[i])]
        assert found.labels[i] == label
        assert found.probabilities[i] == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize(("rule", "classes"), RULES)
def test_a_patient_of_one_image_keeps_its_probabilities_to_the_last_bit(rule, classes):
    rows = make(patients=30, classes=classes)
    first = take(rows, np.unique(rows.patients, return_index=True)[1])
    order = np.lexsort((first.patients, first.fold))
    found = combine(first, rule, units=PATIENT)
    assert (found.probabilities == first.probabilities[order]).all()
    assert (found.labels == first.labels[order]).all()


@pytest.mark.parametrize("rule", ["mean", "max", "noisy-or"])
def test_no_threshold_by_patient_depends_on_a_test_row(rule):
    run = make_run(BINARY)
    before, after = (by_level(one, "patient", rule) for one in (run, scrambled(run)))
    assert before.decisions == after.decisions
    assert (before.test.probabilities != after.test.probabilities).any()


def test_no_threshold_by_patient_depends_on_another_folds_rows():
    run = make_run(BINARY)
    second = run.outer[1]
    noise = np.random.default_rng(1).random(len(second.validation))
    changed = replace(
        second,
        validation=replace(second.validation, probabilities=np.stack([1 - noise, noise], axis=1)),
    )
    before = by_level(run, "patient", "mean").decisions
    other = replace(run, outer=(run.outer[0], changed, *run.outer[2:]))
    after = by_level(other, "patient", "mean").decisions
    assert [name for name in before if before[name] != after[name]] == ["outer-1"]


def test_a_threshold_by_patient_reaches_the_runs_own_target_on_the_inner_folds():
    run = at(make_run(BINARY), threshold="sensitivity", threshold_target=0.95)
    study = run.outer[0]
    found = by_level(run, "patient", "max").decisions[study.name]
    rows = combine(study.validation, "max", units=PATIENT, decision=found)
    assert rows.predicted[rows.labels == 1].mean() >= 0.95
    higher = replace(found, threshold=found.threshold + 0.05)
    missed = combine(study.validation, "max", units=PATIENT, decision=higher)
    assert missed.predicted[missed.labels == 1].mean() < 0.95


def test_numbers_by_patient_are_recomputed_from_the_file_and_the_thresholds(binary):
    found, rows = binary.numbers["levels"]["patient"], binary.levels["patient"]
    assert found["overall"]["accuracy"]["estimate"] == pytest.approx(
        accuracy_score(rows.labels, rows.predicted)
    )
    areas = [
        roc_auc_score(rows.labels[rows.fold == f], rows.probabilities[rows.fold == f, 1])
        for f in sorted(set(rows.fold))
    ]
    assert found["overall"]["roc_auc"]["estimate"] == pytest.approx(np.mean(areas))
    cuts = np.array([found["thresholds"][f] for f in rows.fold.tolist()])
    assert (rows.predicted == (rows.probabilities[:, 1] >= cuts)).all()
    assert sum(map(sum, found["confusion"])) == found["units"] == len(rows) == 110
    assert set(found["thresholds"]) == {*(s.name for s in binary.run.outer), "final"}
    assert all(entry["low"] is not None for entry in found["overall"].values())


@pytest.mark.parametrize("rule", ["mean", "max", "noisy-or"])
def test_probabilities_by_patient_are_calibrated_on_the_inner_folds(rule):
    """The largest of a patient's probabilities is too high; calibrated, it fits the patients."""
    run = at(make_run(BINARY), threshold="prevalence")
    study = run.outer[0]
    found = by_level(run, "patient", rule)
    decision = found.decisions[study.name]
    combined = combine(study.validation, rule, units=PATIENT)
    calibrated = combine(study.validation, rule, units=PATIENT, decision=decision)
    share = combined.labels.mean()
    assert decision.threshold == share
    assert calibrated.probabilities[:, 1].mean() == pytest.approx(share, abs=1e-6)
    if rule != "mean":
        assert abs(combined.probabilities[:, 1].mean() - share) > 0.02
    test = combine(study.test, rule, units=PATIENT)
    mine = found.test.fold == study.name
    assert (
        found.test.probabilities[mine].tolist() == decision.calibrate(test.probabilities).tolist()
    )


def test_several_classes_have_no_threshold(four):
    assert set(four.numbers["levels"]["patient"]["thresholds"].values()) == {None}


def test_repeats_are_combined_apart():
    found = gather_evidence(make_run(BINARY, repeats=2))
    assert len(found.levels["patient"]) == 2 * 110
    assert found.numbers["levels"]["patient"]["units"] == 110


def test_images_stand_as_they_were_whatever_the_level_and_rule():
    run = make_run(BINARY)
    plain, other = results(run), results(at(run, level="patient", aggregate="max"))
    for key in ("overall", "per_class", "confusion", "outer", "validation", "optimism"):
        assert plain[key] == other[key]
    assert plain["levels"] != other["levels"]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (BINARY, "1 patient has images of several classes and counts as cancer."),
        (
            FOUR,
            "1 patient has images of several classes; the last of these classes in the order "
            "Normal, Actionable, Benign, Cancer counts.",
        ),
    ],
)
def test_patients_of_several_classes_are_counted_and_the_rule_is_said(classes, said):
    run = without_defaults(make_run(classes))
    first = run.outer[0]
    rows = first.test
    who, counts = np.unique(rows.patients, return_counts=True)
    one = np.flatnonzero(rows.patients == who[counts > 1][0])
    labels = rows.labels.copy()
    labels[one[0]] = (labels[one[1]] + 1) % len(classes)
    mixed = replace(run, outer=(replace(first, test=replace(rows, labels=labels)), *run.outer[1:]))
    assert said in results(mixed)["levels"]["patient"]["notes"]
    assert "several classes" not in str(results(run)["levels"]["patient"]["notes"])


def one_image_each(run):
    def first(rows):
        return take(rows, np.unique(rows.patients, return_index=True)[1])

    return replace(
        run,
        outer=tuple(
            replace(s, test=first(s.test), validation=first(s.validation)) for s in run.outer
        ),
        final=None,
    )


def test_one_image_a_patient_leaves_a_sentence_in_place_of_the_table(tmp_path, monkeypatch):
    draw_small(monkeypatch)
    run = one_image_each(without_defaults(make_run(BINARY)))
    write_report(run, tmp_path)
    assert ONE_IMAGE in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*Patient*"))
    assert gather_evidence(run).levels == {}


def test_breasts_are_combined_apart_and_the_patient_stays_the_unit_of_the_intervals():
    run = make_run(BINARY)
    images = np.unique(np.concatenate([s.test.ids for s in run.outer])).tolist()
    sides = {name: "left" if i % 2 else "right" for i, name in enumerate(images)}
    numbers = results(at(replace(run, sides=sides), level="breast"))
    found = numbers["levels"]["breast"]
    assert found["patients"] == 110 < found["units"] < 275
    assert "breasts" in level_table(numbers, "breast").notes[0]
    assert any("ROC-AUC by breast 0." in block.text for block in headline(numbers))


def test_a_report_at_another_level_leaves_no_file_of_the_one_before(tmp_path, monkeypatch):
    draw_small(monkeypatch)
    run = make_run(BINARY)
    names = np.unique(np.concatenate([s.test.ids for s in run.outer])).tolist()
    run = replace(run, sides=dict.fromkeys(names, "left"))
    write_report(at(run, level="breast"), tmp_path)
    assert {path.suffix for path in tmp_path.glob("*[Bb]reast*")} == {".csv", ".docx", ".jpg"}
    write_report(run, tmp_path)
    assert not list(tmp_path.glob("*[Bb]reast*"))
    assert (tmp_path / "predictions_patient.csv").exists()


@pytest.mark.parametrize(
    ("protocol", "classes", "patients", "message"),
    [
        (
            {"aggregate": "noisy-or"},
            FOUR,
            ["a", "a", "b"],
            "--aggregate noisy-or needs two classes",
        ),
        ({"level": "breast"}, BINARY, ["a", "a", "b"], NO_SIDES),
        ({"level": "patient"}, BINARY, ["a", "b"], f"--level patient has no effect: {ONE_IMAGE}"),
        ({"aggregate": "max"}, BINARY, ["a", "b"], f"--aggregate max has no effect: {ONE_IMAGE}"),
    ],
)
def test_what_cannot_be_had_or_has_no_effect_is_refused(protocol, classes, patients, message):
    with pytest.raises(DataError) as refusal:
        refuse_without_effect(protocol, classes, patients, sides=False)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("level", ["image", "patient"])
def test_the_level_asked_for_leads_and_the_other_stands_beside_it(level):
    run = at(make_run(BINARY), level=level)
    numbers = results(run)
    console = Console(file=io.StringIO(), width=140)
    console.print(closing_table(run))
    shown = console.file.getvalue()
    assert ("own score, by image," in " ".join(shown.split())) == (level == "patient")
    by = {"image": numbers["overall"], "patient": numbers["levels"]["patient"]["overall"]}
    for entry in by[level].values():
        assert value(entry) in shown
    other = "patient" if level == "image" else "image"
    (line,) = [line for line in shown.splitlines() if line.startswith(f"By {other}")]
    assert value(by[other]["roc_auc"]) in line


def test_page_and_tables_show_images_and_patients(binary):
    html = page(binary.numbers, {})
    assert "Overall metrics: outer test rows" in html
    for table in (level_table, level_class_table):
        assert table(binary.numbers, "patient").caption in html


@pytest.mark.parametrize("table", [level_table, level_class_table])
def test_the_tables_by_patient_of_a_biased_run_claim_no_coverage(table):
    honest = results(make_run(BINARY))
    claimed = results(at(make_run(BINARY), protocol="non-nested"))
    assert COVERAGE in table(honest, "patient").notes
    assert NO_COVERAGE in table(claimed, "patient").notes
    assert COVERAGE not in table(claimed, "patient").notes
