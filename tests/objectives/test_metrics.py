"""Every metric against scikit-learn, ties and absent classes included."""

import itertools
import math
import timeit
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from outerfold.objectives import metrics
from outerfold.objectives.measures import decisions
from outerfold.objectives.measures.probabilities import ECE_BINS

SAME = {"rel": 1e-12, "abs": 1e-12}


@st.composite
def scored_rows(draw, least_classes=2, most_classes=4):
    """Labels and probabilities; few levels, so that ties and absent classes are common."""
    classes = draw(st.integers(least_classes, most_classes))
    rows = draw(st.integers(1, 40))
    levels = draw(st.sampled_from([2, 5, 1000]))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    cell = st.integers(0, levels)
    raw = np.array(
        draw(
            st.lists(
                st.lists(cell, min_size=classes, max_size=classes), min_size=rows, max_size=rows
            )
        ),
        dtype=float,
    )
    probabilities = (raw + 1e-3) / (raw + 1e-3).sum(axis=1, keepdims=True)
    return np.array(labels), probabilities


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # What another test left open is closed whenever Python collects it.
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def score(name, labels, probabilities):
    return metrics.METRICS[name].score(labels, probabilities)


def present(labels, classes):
    return set(np.unique(labels)) == set(range(classes))


@settings(deadline=None)
@given(scored_rows(most_classes=2))
def test_two_class_rank_metrics_equal_sklearn_and_lack_of_a_class_is_nan(rows):
    labels, p = rows
    if present(labels, 2):
        assert score("roc_auc", labels, p) == pytest.approx(
            reference.roc_auc_score(labels, p[:, 1]), **SAME
        )
    else:
        assert math.isnan(score("roc_auc", labels, p))
    if labels.any():
        assert score("average_precision", labels, p) == pytest.approx(
            reference.average_precision_score(labels, p[:, 1]), **SAME
        )
    else:
        assert math.isnan(score("average_precision", labels, p))


@settings(deadline=None)
@given(scored_rows(least_classes=3))
def test_several_class_rank_metrics_are_sklearns_mean_over_classes(rows):
    labels, p = rows
    classes = p.shape[1]
    if not present(labels, classes):
        assert math.isnan(score("roc_auc", labels, p))
        assert math.isnan(score("average_precision", labels, p))
        return
    assert score("roc_auc", labels, p) == pytest.approx(
        reference.roc_auc_score(labels, p, multi_class="ovr"), **SAME
    )
    truth = labels[:, None] == np.arange(classes)
    assert score("average_precision", labels, p) == pytest.approx(
        reference.average_precision_score(truth, p, average="macro"), **SAME
    )


@settings(deadline=None)
@given(scored_rows(), st.randoms(use_true_random=False))
def test_scores_of_given_decisions_equal_sklearn(rows, random):
    labels, p = rows
    classes = p.shape[1]
    predicted = np.array([random.randrange(classes) for _ in labels])
    found = decisions.decision_scores(labels, predicted, classes)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted), **SAME)
    if not present(labels, classes):
        assert all(math.isnan(found[k]) for k in ("balanced_accuracy", "f1", "precision", "recall"))
        return
    macro = {"average": "macro", "labels": range(classes), "zero_division": 0}
    expected = {
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "f1": reference.f1_score(labels, predicted, **macro),
        "precision": reference.precision_score(labels, predicted, **macro),
        "recall": reference.recall_score(labels, predicted, **macro),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, **SAME), name
    if classes == 2:
        assert found["sensitivity"] == pytest.approx(reference.recall_score(labels, predicted))
        assert found["specificity"] == pytest.approx(
            reference.recall_score(labels, predicted, pos_label=0)
        )


@settings(deadline=None)
@given(scored_rows(), st.randoms(use_true_random=False))
def test_scores_of_each_class_equal_sklearn_one_against_the_rest(rows, random):
    labels, p = rows
    classes = p.shape[1]
    predicted = np.array([random.randrange(classes) for _ in labels])
    counts = decisions.confusion(labels, predicted, classes)
    np.testing.assert_array_equal(
        counts, reference.confusion_matrix(labels, predicted, labels=range(classes))
    )
    found = decisions.class_scores(counts)
    for c in range(classes):
        truth, called = labels == c, predicted == c
        if not truth.any():
            assert all(math.isnan(found[k][c]) for k in ("precision", "recall", "f1"))
            continue
        zero = {"zero_division": 0}
        assert found["precision"][c] == pytest.approx(
            reference.precision_score(truth, called, **zero), **SAME
        )
        assert found["recall"][c] == pytest.approx(reference.recall_score(truth, called), **SAME)
        assert found["f1"][c] == pytest.approx(reference.f1_score(truth, called, **zero), **SAME)
        if not truth.all():
            assert found["specificity"][c] == pytest.approx(
                reference.recall_score(~truth, ~called, **zero), **SAME
            )


@settings(deadline=None)
@given(scored_rows())
def test_brier_equals_sklearn(rows):
    labels, p = rows
    classes = p.shape[1]
    if classes == 2:
        expected = reference.brier_score_loss(labels, p[:, 1], pos_label=1, labels=[0, 1])
    else:
        expected = reference.brier_score_loss(labels, p, labels=range(classes), scale_by_half=False)
    assert score("brier", labels, p) == pytest.approx(expected, **SAME)


@settings(deadline=None)
@given(scored_rows())
def test_ece_equals_the_textbook_loop_over_bins(rows):
    labels, p = rows
    two = p.shape[1] == 2
    sure = p[:, 1] if two else p.max(axis=1)
    right = labels == 1 if two else labels == p.argmax(axis=1)
    edges = np.arange(ECE_BINS + 1) / ECE_BINS
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (sure * 15 > low * 15) & (sure * 15 <= high * 15)
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert score("ece", labels, p) == pytest.approx(expected, abs=1e-9)


@given(scored_rows())
@settings(max_examples=30, deadline=None)
def test_all_scores_is_every_metric_and_obeys_the_decisions_it_is_given(rows):
    labels, p = rows
    usual = metrics.all_scores(labels, p)
    assert list(usual) == list(metrics.METRICS)
    for name, value in usual.items():
        np.testing.assert_equal(value, score(name, labels, p))
    assert metrics.all_scores(labels, p, predicted=labels)["accuracy"] == 1.0


@given(scored_rows())
@settings(max_examples=30, deadline=None)
def test_row_order_changes_no_score(rows):
    labels, p = rows
    order = np.random.default_rng(0).permutation(len(labels))
    for name in metrics.METRICS:
        np.testing.assert_allclose(
            score(name, labels[order], p[order]), score(name, labels, p), rtol=1e-12
        )


def test_many_confusion_tables_are_scored_at_once():
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 9, (5, 2, 3, 3))
    together = decisions.count_scores(tables)
    for at in np.ndindex(5, 2):
        for name, value in decisions.count_scores(tables[at]).items():
            np.testing.assert_equal(together[name][at], value)


def test_a_class_never_predicted_has_precision_zero_not_nan():
    found = decisions.class_scores(decisions.confusion(np.array([0, 1]), np.array([0, 0]), 2))
    assert found["precision"].tolist() == [0.5, 0.0]


def test_no_rows_are_undefined_everywhere():
    found = metrics.all_scores(np.zeros(0, dtype=int), np.zeros((0, 2)))
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("name", metrics.METRICS)
def test_direction_points_from_a_bad_model_to_a_good_one(name):
    labels = np.array([0, 0, 0, 1, 1])
    good = np.where(labels[:, None] == np.arange(2), 0.9, 0.1)
    gain = score(name, labels, good) - score(name, labels, 1 - good)
    assert (gain > 0) == (metrics.METRICS[name].direction == "maximize")


@pytest.mark.parametrize("name", metrics.METRICS)
def test_probabilities_that_diverged_are_refused_with_their_rows(name):
    p = np.full((4, 2), 0.5)
    p[2, 0] = np.nan
    with pytest.raises(ValueError, match=r"1 of 4 rows .* first rows \[2\]: the model diverged"):
        score(name, np.array([0, 1, 0, 1]), p)


def test_probabilities_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"found \(3,\) and \(3,\)"):
        score("roc_auc", np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3]))


def test_roc_auc_of_a_thousand_rows_is_quick():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 1000), rng.random((1000, 2))
    best = min(timeit.repeat(lambda: score("roc_auc", labels, p), number=20, repeat=10)) / 20
    assert best < 3e-4


def test_of_many_diverged_rows_the_first_three_are_named():
    p = np.full((9, 2), 0.5)
    p[[1, 4, 6, 8]] = np.inf
    with pytest.raises(ValueError, match=r"4 of 9 rows .* first rows \[1, 4, 6\]: the model"):
        score("brier", np.array([0, 1] * 4 + [0]), p)
